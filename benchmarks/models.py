"""Evaluation of all shipped models on all test sets, with an oracle and classical methods: ``make benchmark``.

``python -m benchmarks models [models=[mos2,best.ckpt]] [views=24] [decisions=6] [output=benchmark]``; all settings
are in ``conf/benchmark.yaml``. Test sets are simulated from fixed seeds that are not used in training, and their
checksums are compared with those in ``checksums.json`` in the same folder as this file.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from omegaconf import OmegaConf

from benchmarks import classical, mixture, oracle, real, tables
from benchmarks.evaluation import Answer, answers, false_vacancies, pair_error, scores
from benchmarks.joint import interval, view_limits
from hrtem import models
from hrtem.commandline import quote_words
from hrtem.errors import InputError
from hrtem.inference import Predictor
from hrtem.matching import match_counts
from hrtem.micrograph import Micrograph
from hrtem.recipes import compose
from hrtem.training.testsets import SEED, TestSet, simulate_test_set

#: File with the checksums of the test sets of the shipped models.
CHECKSUMS = Path(__file__).with_name("checksums.json")
#: Width of the ignored border of an image, and largest distance of a matched pair, Å.
BORDER, TOLERANCE = 1.0, 0.5
#: Relative difference up to which image contrasts count as equal; differences between processors are much smaller.
SAME = 5e-3
#: Name of the test set with a perfect lattice, which is used to count false vacancies.
PERFECT = "perfect"


def main(*words: str) -> None:
    """Write ``benchmark.md``, ``benchmark.json`` and a figure for each model into a folder.

    Raises:
        InputError: a word is unknown or invalid, a model does not exist, or a test set has changed.
    """
    config: Any = OmegaConf.to_container(
        compose(*quote_words(words, keys=("models", "output")), name="benchmark"), resolve=True
    )
    for name, least in (("views", 1), ("decisions", 0), ("joint", 0), ("processes", 1)):
        if not isinstance(config[name], int) or config[name] < least:
            raise InputError(f"{name} must be a whole number of at least {least}, got {config[name]}.")
    chosen = config["models"] or models.names()
    chosen = [chosen] if isinstance(chosen, str) else [str(one) for one in chosen]
    for name in chosen:
        models.load(name)  # refuses a missing model before hours of work
    folder = Path(config["output"])
    folder.mkdir(parents=True, exist_ok=True)
    command = "python -m benchmarks models" + "".join(f" {word}" for word in words)
    results: dict[str, Any] = {"command": command, "seed": SEED, "views": config["views"], "models": {}}
    for name, found in measure_models(chosen, config):
        results["models"][name] = found
        results["models"] = {one: results["models"][one] for one in chosen if one in results["models"]}
        # Written after each model, so that an interrupted benchmark keeps its results.
        (folder / "benchmark.json").write_text(json.dumps(results, indent=1) + "\n")
        (folder / "benchmark.md").write_text(tables.markdown(results))
        tables.figure(name, found).savefig(folder / f"{Path(name).stem}.png")
    print((folder / "benchmark.md").read_text())
    print(f"Tables, numbers and figures are in {folder}")


def measure_models(names: Sequence[str], config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each model and its results when they are there, from ``processes`` processes at once."""
    if config["processes"] == 1:
        yield from ((name, measure_model(name, config)) for name in names)
        return
    # Fresh processes: a copy of a process whose threads have computed may wait for them without end.
    with ProcessPoolExecutor(config["processes"], multiprocessing.get_context("spawn")) as pool:
        jobs = {pool.submit(measure_model, name, config): name for name in names}
        for job in as_completed(jobs):
            yield jobs[job], job.result()


def measure_model(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Score a model on all its test sets and on real micrographs."""
    if config["processes"] > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // config["processes"]))
    predictor = models.load(name)
    sample = predictor.network.settings["sample"]["name"]
    sets = {"own": {}, **(config["sets"].get(name) or config["sets"].get(sample) or {})}
    headline, found = config["headline"].get(name, {}), {}
    for set_name, changes in sets.items():
        views = max(config["views"], headline.get(set_name, 0) if config["many"] else 0)
        print(f"{name}, {set_name}, {views} views", flush=True)
        test_set = simulate_test_set(predictor.network, set_name, views, changes)
        joint = min(config["joint"], views) if set_name in headline else 0
        found[set_name] = measured(predictor, test_set, min(config["decisions"], views), joint)
        # Another process may save a checksum at the same time.
        with FileLock(Path(tempfile.gettempdir()) / "hrtem-checksums.lock"):
            found[set_name]["verified"] = verified(name, test_set, views, config["record"])
        found[set_name]["views"] = views
    return {
        "sha256": models.checksum(name),
        "sample": sample,
        "classes": list(predictor.network.classes),
        "focal": predictor.network.optics.num_images,
        "sets": found,
        "real": on_real_micrographs(predictor),
    }


def measured(predictor: Predictor, test_set: TestSet, decisions: int, joint: int = 0) -> dict[str, Any]:
    """Score a model on a test set, and classical methods and an oracle on a part of it.

    Args:
        predictor: the model.
        test_set: the images.
        decisions: number of views for the oracle's decisions and for the tuned classical methods.
        joint: number of views for the limit of counts with all parameters unknown, see :mod:`hrtem.limits.joint`.
    """
    classes = predictor.network.classes
    given = list(answers(predictor, test_set))
    counts = bool(len(given)) and any(one.candidates.count_probabilities.shape[1] for one in given)
    rows = scores(predictor, test_set, given)
    names = pairs(classes)
    some = given[: decisions * len(test_set.doses)]
    errors, limits = oracle.decided(test_set, decisions, counts) if decisions else ({}, [])
    bounds = joint_counts(test_set, joint) if counts and joint else []
    control = by_mixture(predictor, test_set, some) if counts and decisions else {}
    blobs = by_laplacian(predictor, test_set, some) if decisions else {}
    for number, row in enumerate(rows):
        if test_set.name == PERFECT:
            row["per_1000_sites"] = false_vacancies(classes, row["confusion"])
        row["pairs"] = {name: pair_error(row["confusion"], *places) for name, places in names.items()}
        row["limits"] = {name: float(np.mean([one[number] for one in each])) for name, each in errors.items()}
        row["limits"]["sites"] = {name: len(each) for name, each in errors.items()}
        if limits:
            row["limits"]["position_pm"] = float(np.median([one[number] for one in limits]))
        if counts and joint:
            row["limits"]["count_joint"] = bounds[number]
        row["mixture"], row["laplacian"] = control.get(number), blobs.get(number)
    return {"checksum": test_set.checksum, "doses": rows}


def joint_counts(test_set: TestSet, views: int) -> list[list[float]]:
    """Calculate the limit of exact counts at each dose with all parameters unknown: mean over views, 95 % interval."""
    images = test_set.images
    doses = [images.imaging.optics.image_dose(dose) for dose in test_set.doses]
    shares = np.array([[one.exact.mean() for one in view_limits(images, n, doses)] for n in range(views)])
    rng = np.random.default_rng(0)
    return [[float(each.mean()), *interval(each, rng)] for each in shares.T]


def pairs(classes: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return the decisions of :mod:`benchmarks.oracle` between two classes, as class indices; -1 is "nothing"."""
    answer = {}
    for first, name in enumerate(classes):
        if name.endswith(" vacancy") or (name + "2") in classes:
            continue
        vacancy = f"{name} vacancy"
        other = vacancy if vacancy in classes else "nothing"
        answer[f"{name} | {other}"] = first, classes.index(vacancy) if vacancy in classes else -1
        if name[:-1] in classes:
            answer[f"{name} | {name[:-1]}"] = first, classes.index(name[:-1])
            metal = next(one for one in classes if f"{one} vacancy" in classes and one != name)
            answer[f"{metal} | {name}"] = classes.index(metal), first
    return answer


def by_mixture(predictor: Predictor, test_set: TestSet, given: Sequence[Answer]) -> dict[int, dict[str, float]]:
    """Count atoms with the mixture model and return the fractions of correct counts, by index of the dose."""
    largest = max(one.candidates.count_probabilities.shape[1] for one in given)
    wrong: dict[int, list[np.ndarray]] = {}
    for one in given:
        inside = one.true.inside(test_set.extent, test_set.extent, BORDER)
        if inside.sum() < 2:
            continue
        said = mixture.counted(one.counts, one.true.positions, one.true.counts, predictor.network.sampling, largest)
        wrong.setdefault(one.group, []).append(np.abs(said - one.true.counts)[inside])
    return {
        group: {
            "exact": float(np.mean(np.concatenate(all_) == 0)),
            "within_one": float(np.mean(np.concatenate(all_) <= 1)),
        }
        for group, all_ in wrong.items()
    }


def by_laplacian(predictor: Predictor, test_set: TestSet, given: Sequence[Answer]) -> dict[int, dict[str, float]]:
    """Calculate F1 of a Laplacian of Gaussian on the middle image, tuned on each image, by index of the dose."""
    task, side = predictor.network, test_set.extent
    totals: dict[int, np.ndarray] = {}
    for one in given:
        real_sites = one.true[one.true.counts > 0] if one.true.counts.any() else one.true
        contrast = task.normalise(torch.from_numpy(one.counts[None]), task.sampling)[0, len(one.counts) // 2].numpy()

        def numbers(found: np.ndarray, truth=real_sites) -> tuple[int, int, int]:  # type: ignore[no-untyped-def]
            answer = truth[np.zeros(len(found), int)].moved(found) if len(truth) else truth
            i, _, invented, missed = match_counts(answer, truth, side, side, TOLERANCE, BORDER)
            return len(i), int(invented.sum()), int(missed.sum())

        def rate(found: np.ndarray) -> float:
            right, invented, missed = numbers(found)
            return 2.0 * right / max(1, 2 * right + invented + missed)

        tries = [classical.tuned_laplacian(contrast, task.sampling, sign, rate)[0] for sign in (-1, 1)]
        best = max((method(contrast, task.sampling) for method in tries), key=rate)
        totals.setdefault(one.group, np.zeros(3))
        totals[one.group] += numbers(best)
    return {group: {"f1": float(2 * r / max(1.0, 2 * r + i + m))} for group, (r, i, m) in totals.items()}


def verified(name: str, test_set: TestSet, views: int, record: bool) -> bool | None:
    """Check a test set against its saved checksum and contrasts; None if nothing is saved.

    With ``record``, the checksum of a new test set of a shipped model is saved.

    Raises:
        InputError: the test set differs from the saved one.
    """
    known = json.loads(CHECKSUMS.read_text()) if CHECKSUMS.is_file() else {}
    key = f"{name}, {test_set.name}, {views} views"
    if key not in known:
        if record and name in models.names():
            known[key] = {"checksum": test_set.checksum, "contrasts": test_set.contrasts}
            lines = (f" {json.dumps(one)}: {json.dumps(known[one])}" for one in sorted(known))
            CHECKSUMS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
            return True
        return None
    if known[key]["checksum"] != test_set.checksum:
        raise InputError(
            f"the test set {key} must have the checksum {known[key]['checksum'][:12]}… of {CHECKSUMS.name}, and has "
            f"{test_set.checksum[:12]}…; take its line out of that file where it was changed on purpose."
        )
    mine, theirs = np.array(test_set.contrasts), np.array(known[key]["contrasts"])
    change = np.abs(mine - theirs) / theirs.clip(1e-3)
    if change.max() > SAME:
        view = int(change.argmax())
        raise InputError(
            f"the test set {key} must have the images of {CHECKSUMS.name}, and the contrast of view {view} is "
            f"{mine[view]:g} where it was {theirs[view]:g}."
        )
    return True


def on_real_micrographs(predictor: Predictor) -> dict[str, Any]:
    """Score a graphene model on real micrographs if the variable ``HRTEM_REAL_DATA`` contains their folder."""
    place, task = os.environ.get("HRTEM_REAL_DATA"), predictor.network
    if not place or task.classes != ("C",) or task.optics.num_images != 1:
        return {}
    answer = {}
    for case in (real.read_case(Path(place), name) for name in real.CASES):
        found = predictor.find(Micrograph(case.image, case.sampling, case.name, Path(case.name))).columns.positions
        answer[case.name] = asdict(case.score(found))
    return answer

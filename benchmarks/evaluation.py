"""Evaluation of a trained model on a test set: predictions for each image, and scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from hrtem.calibration import CANDIDATE
from hrtem.calibration.measurement import Reliability
from hrtem.columns import Columns
from hrtem.inference import Predictor
from hrtem.matching import match_counts
from hrtem.metrics import ColumnMetrics
from hrtem.training.data import Example
from hrtem.training.testsets import TestSet

#: Number of bootstrap samples for an interval.
RESAMPLES = 2000
#: Largest number of atoms in the statistics; columns with more atoms are counted as columns with this number.
MOST_ATOMS = 24
#: Upper limit of the distance between nearest sites of a 1H sheet, Å.
BOND = 2.5

#: Function that simulates the counts ``(1, F, Y, X)`` of an example.
Exposure = Callable[[TestSet, Example], Tensor]


@dataclass(frozen=True)
class Answer:
    """One image and the prediction of the model.

    Attributes:
        number: index of the example.
        counts: detector counts, ``(F, Y, X)``.
        candidates: found columns with a probability of at least :data:`hrtem.calibration.CANDIDATE`.
        true: true columns.
        group: index of the dose.
    """

    number: int
    counts: np.ndarray
    candidates: Columns
    true: Columns
    group: int


def exposed(test_set: TestSet, example: Example) -> Tensor:
    """Simulate the counts ``(1, F, Y, X)`` of an example of a test set; this is the default :data:`Exposure`."""
    return test_set.images.expose(example)


def answers(predictor: Predictor, test_set: TestSet, expose: Exposure = exposed) -> Iterator[Answer]:
    """Yield the prediction of a model for each image of a test set, with the model's numerical precision."""
    task = predictor.network
    for number, example in enumerate(test_set):
        counts = expose(test_set, example)
        with torch.inference_mode():
            maps = predictor.maps(task.normalise(counts, task.sampling))
            (found,) = task.find(maps, threshold=CANDIDATE)
        yield Answer(number, counts[0].numpy(), found, example["columns"], example["group"])


def scores(predictor: Predictor, test_set: TestSet, given: Iterable[Answer]) -> list[dict[str, Any]]:
    """Calculate all scores of the predictions for a test set, for each dose.

    Returns:
        For each dose a dictionary with

        * ``dose_image`` and ``dose_total``: dose of an image and of the series, e/Å²;
        * ``all`` and ``classes``: scores of all columns regardless of class, and of each class, see
          :class:`hrtem.metrics.Score`;
        * ``intervals``: see :func:`intervals`;
        * ``confusion``: confusion matrix, true by found class; the last row and column are "nothing";
        * ``by_count``: for columns of 0, 1, 2, … atoms, the number of found columns and the number of exact counts;
        * ``antisites``: for each class of antisites, see :func:`antisites`, the number of all and of correctly
          classified antisites;
        * ``ece`` and ``count_ece``: expected calibration errors of the probabilities of columns and of counts;
        * ``sigma_ratio``: standard deviation of position errors along an axis in units of the predicted one.
    """
    threshold, classes, doses = predictor.network.find_peaks.threshold, predictor.network.classes, test_set.doses
    # Each view is a separate group, so that views can be resampled.
    columns = ColumnMetrics(classes, groups=len(test_set.images))
    reliability = Reliability(threshold, groups=len(doses))
    by_count = np.zeros((len(doses), 2, MOST_ATOMS + 1), int)
    misplaced: list[dict[str, list[int]]] = [{} for _ in doses]
    size = (test_set.extent, test_set.extent)
    ordered = on_a_lattice(test_set)
    for one in given:
        found = one.candidates[one.candidates.probabilities >= threshold]
        columns.update([found], [one.true], *size, groups=[one.number])
        reliability.update([one.candidates], [one.true], *size, groups=[one.group])
        i, j, _, missed = match_counts(found, one.true, *size, columns.tolerance, columns.border)
        true = one.true.counts[j].clip(0, MOST_ATOMS)
        by_count[one.group, 0] += np.bincount(true, minlength=MOST_ATOMS + 1)
        by_count[one.group, 1] += np.bincount(true[found.counts[i] == true], minlength=MOST_ATOMS + 1)
        if ordered:
            named = np.full(len(one.true), -1)
            named[j] = found.labels[i]
            seen = missed.copy()
            seen[j] = True
            for column in np.flatnonzero(antisites(one.true) & seen):
                name = classes[one.true.labels[column]]
                right = int(named[column] == one.true.labels[column])
                misplaced[one.group].setdefault(name, []).append(right)
    shapes = {"confusion": (len(classes) + 1, len(classes) + 1), "counts": (3,), "error2": ()}
    totals = columns.compute()
    tables = {name: totals[name].cpu().numpy().reshape(-1, len(doses), *shape) for name, shape in shapes.items()}
    answer = []
    for number, diagram in enumerate(reliability.diagrams()[1:]):
        confusion, counts, error2 = (tables[name][:, number] for name in ("confusion", "counts", "error2"))
        total = columns.scored(confusion.sum(axis=0), float(error2.sum()), *counts.sum(axis=0).tolist())
        answer.append(
            {
                "dose_image": test_set.totals[number] / test_set.images.imaging.optics.num_images,
                "dose_total": test_set.totals[number],
                "all": _finite(asdict(total["all"])),
                "classes": {name: _finite(asdict(total[name])) for name in classes},
                "intervals": intervals(classes, confusion, counts),
                "confusion": confusion.sum(axis=0).astype(int).tolist(),
                "by_count": by_count[number].tolist() if counts[:, 0].any() else None,
                "antisites": {name: [len(all_), sum(all_)] for name, all_ in misplaced[number].items()},
                "ece": diagram.ece,
                "count_ece": diagram.count_ece,
                "sigma_ratio": diagram.sigma_ratio,
            }
        )
    return answer


def intervals(classes: Sequence[str], confusion: np.ndarray, counts: np.ndarray) -> dict[str, list[float]]:
    """Calculate 95 % intervals of scores by a bootstrap over views with :data:`RESAMPLES` samples.

    Views are resampled because they are independent, whereas the columns in a view share a particle, a microscope and
    a tilt.

    Args:
        classes: names of the classes.
        confusion: confusion matrix of each view, true by found class, ``(V, C + 1, C + 1)``.
        counts: number of pairs in each view with known counts, with equal counts, and with counts that differ by at
            most 1, ``(V, 3)``.

    Returns:
        Lower and upper end of ``f1``, of ``f1 CLASS`` for each class if there are several, and of ``count_exact``
        and ``count_within_one`` if atoms are counted.
    """
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(confusion), np.full(len(confusion), 1.0 / len(confusion)), size=RESAMPLES)
    tables, numbers = np.tensordot(drawn, confusion, 1), drawn @ counts
    true, found = tables[:, :-1].sum(axis=(1, 2)), tables[..., :-1].sum(axis=(1, 2))
    values = {"f1": 2.0 * tables[:, :-1, :-1].sum(axis=(1, 2)) / (true + found).clip(1.0)}
    if len(classes) > 1:
        for number, name in enumerate(classes):
            whole = tables[:, number].sum(axis=1) + tables[..., number].sum(axis=1)
            values[f"f1 {name}"] = 2.0 * tables[:, number, number] / whole.clip(1.0)
    if numbers[:, 0].all():
        values["count_exact"] = numbers[:, 1] / numbers[:, 0]
        values["count_within_one"] = numbers[:, 2] / numbers[:, 0]
    return {name: np.quantile(each, (0.025, 0.975)).tolist() for name, each in values.items()}


def on_a_lattice(test_set: TestSet) -> bool:
    """Whether the compound is ordered in all views, so that antisites can be identified."""
    sample = test_set.images.cache.recipe.get("sample", {})
    return "metal_antisite" in sample and not np.any(sample.get("disorder", 0.0))


def antisites(columns: Columns) -> np.ndarray:
    """Find the columns of a 1H sheet on the sublattice of the other element, bool ``(N,)``.

    The three sites around a column belong to the other sublattice: a metal atom has chalcogen neighbours, and a metal
    atom on a chalcogen site has metal at two or three of these sites. A vacancy counts as the missing element.
    """
    names = [name.removesuffix(" vacancy") for name in columns.classes]
    pair = next((name for name in names if name[:-1] in names and name.endswith("2")), None)
    metal = np.array([name not in (pair, (pair or "")[:-1]) for name in names])[columns.labels]
    empty = np.array([name.endswith(" vacancy") for name in columns.classes])[columns.labels]
    answer = np.zeros(len(columns), bool)
    if pair is None or len(columns) < 4:
        return answer
    distance, near = cKDTree(columns.positions).query(columns.positions, k=4)
    bonded = distance[:, 1:] < BOND
    same = (metal[near[:, 1:]] == metal[:, None]) & bonded
    return ~empty & (bonded.sum(axis=1) >= 2) & (2 * same.sum(axis=1) > bonded.sum(axis=1))


def false_vacancies(classes: tuple[str, ...], confusion: list[list[int]]) -> dict[str, float]:
    """Count the false vacancies that are found in a perfect lattice, per 1000 sites.

    Args:
        classes: names of the classes; names that end with ``vacancy`` are empty sites, and ``S`` lacks one atom if
            there is also ``S2``.
        confusion: confusion matrix, true by found class; the last row and column are "nothing".

    Returns:
        ``vacancy``: sites classified as a vacancy; ``one_atom``: sites classified as a column that lacks one atom;
        ``missed``: sites that are not found; ``invented``: columns found at a place without a site.
    """
    table = np.array(confusion, float)
    sites = max(1.0, table[:-1].sum())
    vacant = [number for number, name in enumerate(classes) if name.endswith("vacancy")]
    single = [number for number, name in enumerate(classes) if f"{name}2" in classes]
    numbers = {
        "vacancy": table[:-1, vacant].sum(),
        "one_atom": table[:-1, single].sum(),
        "missed": table[:-1, -1].sum(),
        "invented": table[-1, :-1].sum(),
    }
    return {name: 1000.0 * float(number) / sites for name, number in numbers.items()}


def pair_error(confusion: list[list[int]], first: int, second: int) -> float | None:
    """Calculate the confusion rate of two equally frequent classes, among columns that are assigned to either.

    None if one of the true classes has no such column. If ``second`` is -1 (nothing), the result is 1 - F1 of the
    first class.
    """
    table = np.array(confusion, float)
    if second == -1:
        found, true, right = table[:, first].sum(), table[first].sum(), table[first, first]
        return float(1.0 - 2.0 * right / (found + true)) if found + true else None
    pair = table[np.ix_([first, second], [first, second])]
    total = pair.sum(axis=1)
    return float(0.5 * (pair[0, 1] / total[0] + pair[1, 0] / total[1])) if total.all() else None


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Replace infinite numbers and NaN by None, because JSON has only null for unknown values."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in values.items()
    }

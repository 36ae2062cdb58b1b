"""Answers of a network, and of the fit that starts from them: ``python -m benchmarks fit model=gold views=8``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import hrtem
from benchmarks.evaluation import exposed
from benchmarks.joint import interval
from hrtem.columns import Columns
from hrtem.commandline import split_words
from hrtem.errors import InputError
from hrtem.folders import replace_file
from hrtem.matching import TOLERANCE, match_counts
from hrtem.micrograph import Micrograph
from hrtem.ranges import parse_number, parse_whole
from hrtem.training.testsets import simulate_test_set

WORDS = {"model": "gold", "views": "8", "dose": "1000", "support": "vacuum", "seed": "2026", "output": ""}
#: Columns nearer to the border than this do not count, Å.
BORDER = 3.0


def score(found: Columns, true: Columns, extent: float) -> dict[str, float]:
    """Share of columns with the right class and number of atoms, and root mean square error of x and of y, pm."""
    i, j, spurious, missed = match_counts(found, true, extent, extent, TOLERANCE, BORDER)
    right = (found.labels[i] == true.labels[j]) & ((found.counts[i] == true.counts[j]) | (found.counts[i] == 0))
    error = 100.0 * (found.positions[i] - true.positions[j])
    return {
        "exact": float(right.sum() / max(1, len(i) + int(missed.sum()) + int(spurious.sum()))),
        "error_pm": float(np.sqrt(np.mean(error**2))) if len(i) else float("nan"),
    }


def measure(words: dict[str, str], console: Console) -> list[dict[str, Any]]:
    """Fit each view of a fresh test set of the model."""
    model = hrtem.load(words["model"])
    network = model.predictor.network
    changes = {"sample": {"support": [words["support"]]}} if "support" in network.settings["sample"] else {}
    views = simulate_test_set(
        network,
        views=parse_whole("views", words["views"], minimum=1, maximum=10_000),
        doses=(parse_number("dose", words["dose"], unit="e/Å²", minimum=1.0, maximum=1e7),),
        changes=changes,
        seed=parse_whole("seed", words["seed"], minimum=0),
    )
    answer = []
    for number, example in enumerate(views):
        counts = exposed(views, example)[0].numpy()
        table = model.find_in(Micrograph(counts, network.sampling, f"view-{number}", Path(f"view-{number}")))
        if not len(table):
            continue
        start = time.perf_counter()
        fitted = model.fit(table)
        assert fitted.fit is not None
        true, drawn = example["columns"], example["settings"]
        settings = {one.name: one for one in fitted.fit.settings}
        held, off = [], []
        for image, defocus in enumerate(np.atleast_1d(np.asarray(drawn["defocus"], dtype=float)), start=1):
            one = settings[f"defocus_{image}"]
            held.append(bool(one.low <= defocus <= one.high))
            off.append(abs(one.value - defocus))
        row: dict[str, Any] = {
            "view": number,
            "columns": len(true),
            "network": score(table.columns, true, views.extent),
            "fit": score(fitted.columns, true, views.extent),
            "better": fitted.fit.better,
            "chi_squared": fitted.fit.misfit,
            "defocus_error": float(np.median(off)),
            "defocus_held": float(np.mean(held)),
            "seconds": time.perf_counter() - start,
        }
        answer.append(row)
        console.print(
            f"view {number}: {len(true)} columns, exact {row['network']['exact']:.3f} → {row['fit']['exact']:.3f}, "
            f"{row['network']['error_pm']:.1f} → {row['fit']['error_pm']:.1f} pm, χ² {row['chi_squared']:.3f}, "
            f"{row['seconds']:.0f} s{'' if row['better'] else ', network kept'}"
        )
    return answer


def mean(values: list[float]) -> str:
    """Mean with a 95 % bootstrap interval over views."""
    low, high = interval(np.array(values), np.random.default_rng(0))
    return f"{np.mean(values):.3f} ({low:.3f} to {high:.3f})"


def main(*words: str) -> None:
    """Print the scores of each view, and their means."""
    said, others = split_words(words, WORDS)
    if others:
        raise InputError(f"fit has the words {', '.join(WORDS)}, got {others[0]}.")
    console = Console()
    rows = measure(said, console)
    table = Table(title=f"{said['model']}, {said['support']}, {said['dose']} e/Å² an image, {len(rows)} views")
    for title in ("", "network", "fit"):
        table.add_column(title)
    for title, key in (("right numbers and classes", "exact"), ("error of x and y (pm)", "error_pm")):
        table.add_row(title, *(mean([row[who][key] for row in rows]) for who in ("network", "fit")))
    table.add_row("error of the defocus (Å), median", "", f"{np.median([row['defocus_error'] for row in rows]):.1f}")
    table.add_row("defocus within its 90 % interval", "", mean([row["defocus_held"] for row in rows]))
    table.add_row("seconds a view, median", "", f"{np.median([row['seconds'] for row in rows]):.0f}")
    console.print(table)
    if said["output"]:
        with replace_file(Path(said["output"])) as partial:
            partial.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")

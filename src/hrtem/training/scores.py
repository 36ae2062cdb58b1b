"""Test scores of a training: a printed table against dose, and ``metrics.json`` in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hrtem.folders import replace_file
from hrtem.matching import Score


def print_scores(scores: Mapping[float, Mapping[str, Score]]) -> None:
    """Print a table of the test scores against dose."""
    table = Table(title="Test on simulated images")
    for name in ("dose (e/Å²)", "class", "precision", "recall", "F1", "error (pm)", "columns"):
        table.add_column(name, justify="left" if name == "class" else "right")
    counted = any(score.count_exact is not None for classes in scores.values() for score in classes.values())
    if counted:
        table.add_column("count (± 1)", justify="right")
    for dose, classes in scores.items():
        for number, (name, score) in enumerate(classes.items()):
            if name != "all" and len(classes) == 2:
                continue
            error = f"{score.error_pm:.1f}" if name == "all" else ""
            values = (f"{value:.3f}" for value in (score.precision, score.recall, score.f1))
            row = [f"{dose:,.0f}" if number == 0 else "", name, *values, error, str(score.true)]
            if counted and score.count_exact is not None:
                row.append(f"{score.count_exact:.3f} ({score.count_within_one:.3f})")
            table.add_row(*row)
    Console().print(table)


def save_scores(scores: Mapping[float, Mapping[str, Score]], path: Path) -> None:
    """Write the test scores as JSON: ``{dose: {class: {precision, recall, f1, error_pm, found, true}}}``.

    If atoms were counted, the shares of correct counts are added.
    """
    plain = {
        f"{dose:g}": {
            name: {quantity: value for quantity, value in asdict(score).items() if value is not None}
            for name, score in classes.items()
        }
        for dose, classes in scores.items()
    }
    with replace_file(path) as partial:
        partial.write_text(json.dumps(plain, indent=2) + "\n")

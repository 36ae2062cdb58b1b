"""Tables of scores and of what was found."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hrtem.columns import Columns
from hrtem.metrics import Score

#: Header of a table of columns.
HEADER = ("x_A", "y_A", "x_px", "y_px", "class", "probability", "sigma_pm", "in_domain")


def print_scores(scores: Mapping[float, Mapping[str, Score]]) -> None:
    """Print a table of the test's scores against dose."""
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
    """Write the test's scores as JSON: ``{dose: {class: {precision, recall, f1, error_pm, found, true}}}``.

    Shares of right counts stand beside these where atoms were counted.
    """
    plain = {
        f"{dose:g}": {
            name: {quantity: value for quantity, value in asdict(score).items() if value is not None}
            for name, score in classes.items()
        }
        for dose, classes in scores.items()
    }
    path.write_text(json.dumps(plain, indent=2) + "\n")


def write_table(columns: Columns, sampling: float, path: Path, in_domain: bool | None = None) -> None:
    """Write columns as CSV: x and y in Å and in pixels of the input image, class, probability, the standard
    deviation of x or y in pm, whether the image is in the domain; then the number of atoms, if the model counts them.

    Args:
        columns: positions in Å from the centre of pixel ``[0, 0]``.
        sampling: Å/px of the input image.
        path: the file; it appears complete or not at all.
        in_domain: whether the image looks like those of the training, written as 1, 0 or nothing.
    """
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.writer(file)
        counted = columns.counts.any()
        writer.writerow([*HEADER, *(["atoms"] if counted else [])])
        domain = "" if in_domain is None else int(in_domain)
        facts = zip(
            columns.positions, columns.labels, columns.probabilities, columns.sigmas, columns.counts, strict=True
        )
        for (x, y), label, probability, sigma, atoms in facts:
            lengths = (f"{x:.4f}", f"{y:.4f}", f"{x / sampling:.3f}", f"{y / sampling:.3f}")
            sure = (f"{probability:.4f}", f"{100.0 * sigma:.2f}", domain)
            writer.writerow([*lengths, columns.classes[label], *sure, *([atoms] if counted else [])])
    os.replace(partial, path)

"""Tables and pictures of what was found."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rich.console import Console
from rich.table import Table

from hrtem.columns import Columns
from hrtem.data import WaveDataModule, collate, columns_of
from hrtem.metrics import Score
from hrtem.task import ColumnFinder

#: Header of a table of columns.
HEADER = ("x_A", "y_A", "x_px", "y_px", "class", "probability")


def print_scores(scores: Mapping[float, Mapping[str, Score]]) -> None:
    """Print a table of the test's scores against dose."""
    table = Table(title="Test on simulated images")
    for name in ("dose (e/Å²)", "class", "precision", "recall", "F1", "error (pm)", "columns"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for dose, classes in scores.items():
        for number, (name, score) in enumerate(classes.items()):
            if name != "all" and len(classes) == 2:
                continue
            error = f"{score.error_pm:.1f}" if name == "all" else ""
            values = (f"{value:.3f}" for value in (score.precision, score.recall, score.f1))
            table.add_row(f"{dose:,.0f}" if number == 0 else "", name, *values, error, str(score.true))
    Console().print(table)


def save_scores(scores: Mapping[float, Mapping[str, Score]], path: Path) -> None:
    """Write the test's scores as JSON: ``{dose: {class: {precision, recall, f1, error_pm, found, true}}}``."""
    plain = {f"{dose:g}": {name: asdict(score) for name, score in classes.items()} for dose, classes in scores.items()}
    path.write_text(json.dumps(plain, indent=2) + "\n")


def write_table(columns: Columns, sampling: float, path: Path) -> None:
    """Write columns as CSV: x and y in Å and in pixels of the input image, class, probability.

    Args:
        columns: positions in Å from the centre of pixel ``[0, 0]``.
        sampling: Å/px of the input image.
        path: the file; it appears complete or not at all.
    """
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for (x, y), label, probability in zip(columns.positions, columns.labels, columns.probabilities, strict=True):
            lengths = (f"{x:.4f}", f"{y:.4f}", f"{x / sampling:.3f}", f"{y / sampling:.3f}")
            writer.writerow([*lengths, columns.classes[label], f"{probability:.4f}"])
    os.replace(partial, path)


def overlay(image: np.ndarray, columns: Columns, sampling: float, path: Path) -> Path:
    """Write a PNG of ``image`` ``(Y, X)`` with a circle on each column, at least two screen pixels a pixel.

    Args:
        image: the micrograph as it was read.
        columns: positions in Å.
        sampling: Å/px of ``image``.
        path: the file.

    Returns:
        ``path``.
    """
    rows, width = image.shape
    scale = max(2, round(1000 / max(rows, width)))
    figure = Figure(figsize=(width * scale / 100, rows * scale / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    _show_image(axes, image)
    _circle(axes, columns, sampling, radius=0.35)
    _save(figure, path)
    return path


def examples_figure(task: ColumnFinder, data: WaveDataModule, path: Path, views: int = 2) -> Path:
    """Draw test images, the network's output, and the columns found over the image, at a low and a high dose.

    Args:
        task: the trained task.
        data: where the test images come from.
        path: of the PNG.
        views: how many test views to show at each dose.

    Returns:
        ``path``.
    """
    order = sorted(data.optics.test_doses)
    doses = (order[min(1, len(order) - 1)], order[max(0, len(order) - 2)])
    images = data.images("test", 2 * views, doses=doses)
    batch = collate([images[number] for number in range(2 * views)])
    was_training = task.training
    task.eval()
    with torch.inference_mode():
        scene = task.simulate({name: _to(value, task.device) for name, value in batch.items()})
        maps = task(scene["images"])
    task.train(was_training)
    found = task.find(maps)
    true = columns_of(scene["positions"], scene["labels"], task.classes)
    figure = Figure(figsize=(3.2 * 2 * views, 10.2), layout="constrained")
    grid = figure.subplots(3, 2 * views, squeeze=False)
    for number in range(2 * views):
        column = grid[:, (number % 2) * views + number // 2]
        counts = scene["counts"][number].cpu().numpy()
        middle = counts[len(counts) // 2]
        defocus = float(batch["settings"]["defocus"][number].mean())
        column[0].set_title(f"{doses[number % 2]:,.0f} e/Å², defocus {defocus:.0f} Å", fontsize=9)
        _show_image(column[0], middle)
        _show_maps(column[1], maps[number].float().cpu().numpy())
        _show_image(column[2], middle)
        _circle(column[2], true[number], task.sampling, radius=0.2, filled=True)
        _circle(column[2], found[number], task.sampling, radius=0.45)
    for axes, name in zip(grid[:, 0], ("image", "network output", "found (rings), true (dots)"), strict=True):
        axes.set_ylabel(name)
    _legend(figure, task.classes)
    _save(figure, path)
    return path


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {name: _to(inner, device) for name, inner in value.items()}
    return value.to(device)


def _colour(label: int) -> tuple[float, float, float, float]:
    return colormaps["Set1"](label % 9)


def _show_image(axes: Axes, image: np.ndarray) -> None:
    low, high = np.percentile(image, (0.5, 99.5))
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _show_maps(axes: Axes, maps: np.ndarray) -> None:
    """All class maps ``(C, Y, X)`` in one picture, each in its colour."""
    colours = np.array([_colour(label)[:3] for label in range(len(maps))])
    axes.imshow(np.clip(np.einsum("cyx,ck->yxk", maps, colours), 0.0, 1.0), interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _circle(axes: Axes, columns: Columns, sampling: float, radius: float, filled: bool = False) -> None:
    """Rings, or filled dots, of ``radius`` Å around the columns, in the colours of their classes."""
    for label in np.unique(columns.labels):
        diameter = np.full(int((columns.labels == label).sum()), 2.0 * radius / sampling)
        rings = EllipseCollection(
            diameter,
            diameter,
            np.zeros(len(diameter)),
            units="xy",
            offsets=columns.positions[columns.labels == label] / sampling,
            offset_transform=axes.transData,
            facecolors=_colour(int(label)) if filled else "none",
            edgecolors=_colour(int(label)),
            linewidths=0.0 if filled else 1.0,
            alpha=0.9,
        )
        # The rings at the border must not widen the picture.
        axes.add_collection(rings, autolim=False)


def _legend(figure: Figure, classes: Sequence[str]) -> None:
    handles = [Patch(facecolor=_colour(label), label=name) for label, name in enumerate(classes)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def _save(figure: Figure, path: Path) -> None:
    """Draw without a display and without touching pyplot's global state."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=100)

"""Images of a series, the true structure, and the probability of each class, as in Schiøtz et al. 2018."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hrtem.gallery.scene import AnsweredView, Words, show_series
from hrtem.report.drawing import circle, legend, save

#: Side of the view, px.
PATCH = 128


def draw(words: Sequence[str]) -> Path:
    """Write the figure for the words of a command line and return its path; an existing file is overwritten.

    Raises:
        InputError: a word is invalid, or the view cannot be simulated.
    """
    said = Words.parse(words, "probabilities.png")
    save(figure(said.scene(PATCH), said.name), said.output)
    return said.output


def figure(scene: AnsweredView, name: str) -> Figure:
    """Draw the images and the true structure (first row), and the probabilities of classes and background (second)."""
    classes = scene.true.classes
    above, below = len(scene.images) + 1, len(classes) + 1
    canvas = Figure(figsize=(2.6 * max(above, below), 6.4), layout="constrained")
    parts: Any = canvas.subfigures(2, 1)
    top, bottom = parts
    first, second = top.subplots(1, above), bottom.subplots(1, below)
    show_series(first, scene, fontsize=9)
    _model(first[-1], scene)
    nothing = np.clip(1.0 - scene.maps.sum(axis=0), 0.0, 1.0)
    for axes, values, title in zip(second, [*scene.maps, nothing], [*classes, "background"], strict=True):
        shown = axes.imshow(values, cmap="magma", vmin=0.0, vmax=1.0, interpolation="nearest")
        axes.set_title(title, fontsize=9)
    for axes in (*first, *second):
        axes.set(xticks=[], yticks=[])
    bottom.colorbar(shown, ax=list(second), shrink=0.7, pad=0.01, label="probability")
    canvas.suptitle(
        f"{name}: simulated view of {scene.extent[0]:.1f} Å that it has never seen", fontsize=10, parse_math=False
    )
    legend(top, classes, fontsize=8, frameon=False)
    return canvas


def _model(axes: Axes, scene: AnsweredView) -> None:
    """Draw true columns as dots and found columns as rings, in the colours of their classes."""
    rows, width = scene.images.shape[-2:]
    axes.set(xlim=(-0.5, width - 0.5), ylim=(rows - 0.5, -0.5), aspect="equal")
    circle(axes, scene.true, scene.sampling, radius=0.45, filled=True)
    circle(axes, scene.found, scene.sampling, radius=0.75)
    axes.set_title("model: true (dots), found (rings)", fontsize=9)

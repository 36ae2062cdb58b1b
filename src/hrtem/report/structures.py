"""Figures of the structure: rings over the image, with displacements and strain beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from hrtem.columns import Columns
from hrtem.report.drawing import circle, save, show_image
from hrtem.structure import Structure

#: Magnification of the displacement arrows.
MAGNIFICATION = 10.0
#: Minimum half range of the strain colours.
STRAIN = 0.02


def structure_figure(image: np.ndarray, columns: Columns, structure: Structure, sampling: float, path: Path) -> Path:
    """Write a PNG with bonds, rings and defects over the image, and with a strain map beside it if there is a lattice.

    Args:
        image: the micrograph as read from the file, ``(Y, X)``.
        columns: columns found in the image.
        structure: structure of these columns.
        sampling: pixel size of ``image``, Å/px.
        path: path of the PNG.

    Returns:
        ``path``.
    """
    rows, width = image.shape
    panels = 1 if structure.lattice is None else 2
    figure = Figure(figsize=(10.0 * panels, 10.0 * rows / width), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for one in axes:
        show_image(one, image)
    network(axes[0], columns, structure, sampling)
    if structure.lattice is not None:
        strain(figure, axes[1], columns, structure, sampling)
    save(figure, path)
    return path


def network(axes: Axes, columns: Columns, structure: Structure, sampling: float) -> None:
    """Draw columns as rings, bonds as lines, and all marks in their colours with a legend."""
    circle(axes, columns, sampling, radius=0.35, linewidth=0.6)
    place = columns.positions / sampling
    axes.add_collection(LineCollection(list(place[structure.bonds.pairs]), colors="c", linewidths=0.8), autolim=False)
    handles: dict[str, Patch] = {}
    numbers: dict[str, int] = {}
    for mark in structure.marks:
        points = mark.points / sampling
        if len(points) > 2:
            axes.add_collection(PolyCollection([points], facecolors=mark.colour, alpha=0.45), autolim=False)
        else:
            axes.plot(*points.T, "o-", color=mark.colour, mfc="none", markersize=5, scalex=False, scaley=False)
        handles[mark.kind] = Patch(facecolor=mark.colour)
        numbers[mark.kind] = numbers.get(mark.kind, 0) + 1
    if handles:
        labels = [f"{number} × {kind}" for kind, number in numbers.items()]
        axes.legend(list(handles.values()), labels, loc="lower right", framealpha=0.9)


def strain(figure: Figure, axes: Axes, columns: Columns, structure: Structure, sampling: float) -> None:
    """Draw each column in the colour of its dilatation e_xx + e_yy, and its displacement as an arrow."""
    place = columns.positions / sampling
    dilatation = structure.fields["e_xx"] + structure.fields["e_yy"]
    known = np.isfinite(dilatation)
    reach = max(STRAIN, float(np.percentile(np.abs(dilatation[known]), 98))) if known.any() else STRAIN
    x, y = place[known].T
    dots = axes.scatter(x, y, c=dilatation[known], cmap="coolwarm", vmin=-reach, vmax=reach, s=18, linewidths=0)
    shift = np.column_stack([structure.fields["u_x_A"], structure.fields["u_y_A"]]) / sampling
    moved = np.isfinite(shift).all(axis=1)
    axes.quiver(
        *place[moved].T, *shift[moved].T, angles="xy", scale_units="xy", scale=1.0 / MAGNIFICATION, width=1.5e-3
    )
    axes.set_title(f"dilatation of the fitted lattice, displacements × {MAGNIFICATION:g}", fontsize=9)
    figure.colorbar(dots, ax=axes, shrink=0.6)

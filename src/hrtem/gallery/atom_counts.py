"""A particle coloured by the number of atoms in each column, and the 3D model built from these counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import write
from ase.visualize.plot import plot_atoms
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.gallery.scene import AnsweredView, Words, show_series
from hrtem.matching import match_counts
from hrtem.report.drawing import save
from hrtem.report.files import element
from hrtem.structure import Solid, build_solid

#: Side of the view, px; large enough for a whole particle.
PATCH = 256
#: Vacuum above and below a model, Å.
VACUUM = 5.0
#: Largest distance between matched found and true columns, Å, and width of the ignored border, Å (no border).
TOLERANCE, BORDER = 0.5, 0.0
#: Viewing directions of a model as ASE rotations: along the beam, and tilted so that the height is visible.
VIEWS = {"along the beam": "0x,180y,180z", "from the side": "-75x,20y,0z"}


def draw(words: Sequence[str]) -> list[Path]:
    """Write the figure and the 3D model for the words of a command line; existing files are overwritten.

    Returns:
        Paths of the PNG figure and of the 3D model of the found counts as XYZ and as CIF.

    Raises:
        InputError: a word is invalid, the network counts no atoms, or the columns lie on no known lattice.
    """
    said = Words.parse(words, "counts.png")
    scene = said.scene(PATCH)
    if not scene.found.counts.any():
        raise InputError(f"{said.name} must be a model that counts atoms and finds some, and it counted none.")
    constant = said.predictor.network.settings["sample"].get("lattice_constant")
    known = float(np.mean(constant)) if constant is not None else None
    metal = element(scene.true.classes[0])
    rebuilt, true = (build_solid(columns, metal, known) for columns in (scene.found, scene.true))
    paths = [said.output, said.output.with_suffix(".xyz"), said.output.with_suffix(".cif")]
    save(figure(scene, rebuilt, true, said.name), said.output)
    boxed = in_box(rebuilt.atoms, scene.extent)
    write(paths[1], boxed, format="extxyz")
    write(paths[2], boxed)
    return paths


def in_box(atoms: Atoms, extent: tuple[float, float]) -> Atoms:
    """Put the atoms into a cell as large as the field of view, with unchanged x and y and vacuum above and below."""
    atoms = atoms.copy()
    low, high = atoms.positions[:, 2].min(), atoms.positions[:, 2].max()
    atoms.positions[:, 2] += VACUUM - low
    atoms.cell = [*extent, high - low + 2.0 * VACUUM]
    return atoms


def figure(scene: AnsweredView, rebuilt: Solid, true: Solid, name: str) -> Figure:
    """Draw the images (first row), and found and true counts with both models from the side (second row)."""
    number = max(4, len(scene.images))
    canvas = Figure(figsize=(3.6 * number, 7.6), layout="constrained")
    grid = canvas.subplots(2, number, squeeze=False)
    for axes in grid.ravel():
        axes.set(xticks=[], yticks=[])
        axes.set_axis_off()
    x, y = scene.true.positions.T / scene.sampling
    rim = 4.0 / scene.sampling
    window = {"xlim": (x.min() - rim, x.max() + rim), "ylim": (y.max() + rim, y.min() - rim)}
    show_series(grid[0], scene, fontsize=10)
    for axes in grid[0, : len(scene.images)]:
        axes.set(**window)
    largest = int(max(scene.found.counts.max(), scene.true.counts.max()))
    colours = {"cmap": colormaps["viridis"], "norm": BoundaryNorm(np.arange(0.5, largest + 1), 256)}
    i, j, invented, missed = match_counts(scene.found, scene.true, *scene.extent, TOLERANCE, BORDER)
    wrong = np.abs(scene.found.counts[i] - scene.true.counts[j])
    shares = f"{np.mean(wrong == 0):.0%} exact, {np.mean(wrong <= 1):.0%} within 1" if len(wrong) else "none found"
    dots = _coloured(grid[1, 0], scene.found, scene.sampling, colours)
    grid[1, 0].set(**window)
    grid[1, 0].set_title(f"found: {scene.found.counts.sum()} atoms, {shares}", fontsize=10)
    _coloured(grid[1, 1], scene.true, scene.sampling, colours)
    grid[1, 1].set(**window)
    grid[1, 1].set_title(f"true: {scene.true.counts.sum()} atoms", fontsize=10)
    bar: dict[str, Any] = {
        "orientation": "horizontal",
        "shrink": 0.8,
        "pad": 0.01,
        "ticks": range(1, largest + 1, 1 + largest // 12),
    }
    canvas.colorbar(dots, ax=list(grid[1]), label="atoms in the column", aspect=60, **bar)
    _seen(grid[1, 2], rebuilt, VIEWS["from the side"], colours, "model of the found counts, from the side")
    _seen(grid[1, 3], true, VIEWS["from the side"], colours, "model of the true counts, from the side")
    if len(scene.images) < number:
        _seen(grid[0, -1], rebuilt, VIEWS["along the beam"], colours, "model of the found counts, along the beam")
    # Both models are drawn at the same scale.
    limits = [(one.get_xlim(), one.get_ylim()) for one in grid[1, 2:4]]
    reach = [max(abs(end[1] - end[0]) for end in ends) / 2 for ends in zip(*limits, strict=True)]
    for one, ((left, right), (low, high)) in zip(grid[1, 2:4], limits, strict=True):
        middle, level = (left + right) / 2, (low + high) / 2
        one.set(xlim=(middle - reach[0], middle + reach[0]), ylim=(level - reach[1], level + reach[1]))
    axis = "".join(map(str, rebuilt.axis))
    lost = f"missed {missed.sum()} columns, invented {invented.sum()}"
    canvas.suptitle(
        f"{name}: a simulated particle that it has never seen, near [{axis}]; {lost}", fontsize=11, parse_math=False
    )
    return canvas


def _coloured(axes: Axes, columns: Columns, sampling: float, colours: dict[str, Any]) -> Any:
    """Draw the columns as dots whose colours show their counts."""
    x, y = columns.positions.T / sampling
    axes.set_aspect("equal")
    return axes.scatter(x, y, c=columns.counts, s=45, linewidths=0.3, edgecolors="black", **colours)


def _seen(axes: Axes, model: Solid, rotation: str, colours: dict[str, Any], title: str) -> None:
    """Draw the atoms of a model as spheres whose colours show the counts of their columns."""
    column = model.atoms.get_array("column")
    height = np.bincount(column)[column]
    shades = colours["cmap"](colours["norm"](height))
    plot_atoms(model.atoms, axes, radii=1.3, rotation=rotation, colors=shades, show_unit_cell=0)
    axes.set_title(title, fontsize=10)

"""Limit of exact counts if structure and microscope are unknown: ``python -m benchmarks joint``.

The views are a test set of gold particles in vacuum, imaged as focal series of three images. :mod:`hrtem.limits.joint`
describes the unknown parameters and the meaning of the limits. ``views=`` sets the number of views,
``doses=1000,10000`` the doses of each image in e/Å²; other words, such as ``sample.longest=null`` or
``noise=counting``, change the recipe.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from hydra.utils import instantiate
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.detection import settings_of
from hrtem.errors import InputError
from hrtem.limits import Exposure, JointLimits, Window, compute_joint_limits, differentiate_series
from hrtem.recipes import compose
from hrtem.training.data import SimulatedImages, View, WaveDataModule
from hrtem.training.testsets import SEED
from hrtem.waves.cache import SPLITS

RECIPE = ("sample=gold", "focal=3", "sample.support=vacuum")
#: Number of bootstrap samples for the intervals of means over views.
RESAMPLED = 10_000


def view_limits(images: SimulatedImages, number: int, doses: Sequence[float]) -> list[JointLimits]:
    """Calculate the limits of one view at each of ``doses``, in e/Å² per image."""
    sample, wave = images.cache.sample, images.cache.wave
    atoms, _ = sample(np.random.default_rng([images.seed, SPLITS[images.split], number % images.waves]))
    pixels = round(sample.extent / images.imaging.sampling)
    view, settings, _ = settings_of(images, number, (pixels, pixels))
    atoms, frame = turned(atoms, view, images)
    exposure = Exposure(images.imaging, settings)
    return compute_joint_limits(differentiate_series(exposure, wave, atoms, frame), doses)


def turned(atoms: Atoms, view: View, images: SimulatedImages) -> tuple[Atoms, Window]:
    """Transform the atoms to the orientation of a view, and return them with the window of the view."""
    moved = atoms.copy()
    pixels = np.rint(atoms.cell.lengths()[:2] / images.imaging.sampling).astype(int)
    start = np.array([view.column, view.row])
    if view.transpose:
        moved.positions[:, :2] = moved.positions[:, 1::-1]
        start, pixels = start[::-1].copy(), pixels[::-1]
    for axis, flip in enumerate((view.flip_x, view.flip_y)):
        if flip:
            # The reflection maps pixel centres to pixel centres.
            moved.positions[:, axis] = (pixels[axis] - 1) * images.imaging.sampling - moved.positions[:, axis]
            start[axis] = pixels[axis] - images.side - start[axis]
    moved.wrap()
    return moved, Window(int(start[1]), int(start[0]), images.side, images.imaging.margin, images.imaging.sampling)


def interval(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Calculate the 95 % bootstrap interval of the mean of ``values`` ``(N,)``."""
    means = values[rng.integers(len(values), size=(RESAMPLED, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def main(*words: str) -> None:
    """Print a table with the limits of each view and their means."""
    own = {"views": "6", "doses": "1000,10000"}
    recipe = []
    for word in words:
        name, _, value = word.partition("=")
        if name in own:
            own[name] = value
        else:
            recipe.append(word)
    if not own["views"].isdecimal() or int(own["views"]) < 1:
        raise InputError(f"views must be a whole number, at least 1, got {own['views']}.")
    try:
        doses = [float(one) for one in own["doses"].split(",")]
    except ValueError:
        doses = []
    if not doses or not all(0.0 < dose < np.inf for dose in doses):
        raise InputError(f"doses must be numbers in e/Å² with commas between them, got {own['doses']}.")
    views = int(own["views"])
    numbers = f"data.numbers={{train: 1, val: 1, test: {views}}}"
    data: WaveDataModule = instantiate(compose(*RECIPE, numbers, f"seed={SEED}", *recipe).data)
    images = data.images("test", views)
    console = Console()
    console = console if console.is_terminal else Console(width=140)
    table = Table(title="Columns that could be counted exactly; all is unknown (joint), or all but one column is known")
    for title in (
        "view",
        "columns",
        "dose (e/Å²)",
        "exact, joint",
        "exact, known",
        "σ count",
        "σ x, y (pm)",
        "σ tilt (°)",
    ):
        table.add_column(title, justify="right")
    rows = []
    progress = Console(stderr=True)
    for number in track(range(views), "views", console=progress):
        for dose, one in zip(doses, view_limits(images, number, doses), strict=True):
            numbers_of = _row(one)
            rows.append((dose, *numbers_of))
            table.add_row(str(number), str(len(one.columns)), f"{dose:,.0f}", *_told(numbers_of))
            # A view takes a minute, and the table is printed only at the end.
            progress.print(f"view {number}, {dose:,.0f} e/Å²: {numbers_of[0]:.4f} of {len(one.columns)} columns exact")
    rng = np.random.default_rng(SEED)
    for dose in doses:
        values = np.array([row[1:] for row in rows if row[0] == dose and np.isfinite(row[1:]).all()])
        if not len(values):
            continue
        low, high = zip(*(interval(column, rng) for column in values.T), strict=True)
        texts = (
            f"{mean} [{a} {b}]"
            for mean, a, b in zip(_told(values.mean(axis=0)), _told(np.array(low)), _told(np.array(high)), strict=True)
        )
        table.add_row("mean", f"{len(values)} views", f"{dose:,.0f}", *texts)
    console.print(table)


def _row(one: JointLimits) -> np.ndarray:
    """Collect the fractions of exact counts (joint, single), RMS of count and position, and tilt; NaN if no columns."""
    if not len(one.columns):
        return np.full(5, np.nan)
    return np.array(
        [
            one.exact.mean(),
            one.exact_single.mean(),
            np.sqrt(np.mean(one.count**2)),
            np.sqrt(np.mean(one.position**2)),
            one.tilt,
        ]
    )


def _told(values: np.ndarray) -> list[str]:
    return [f"{value:.{digits}f}" for value, digits in zip(values, (4, 4, 3, 2, 3), strict=True)]

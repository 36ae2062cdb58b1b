"""Comparison of networks with the detection limit: ``python -m benchmarks detection NAME=CHECKPOINT …``.

The images are the test split of ``experiment=madsen2018_graphene``: random carbon networks, imaged with the microscopes
and the camera of arXiv 1802.03008. Other words, such as ``sample=graphene``, change the recipe as in a training.
``images=`` sets the number of views and ``output=`` the file of the figure. Each network finds columns as in
``predict.py``, with images resampled to its own pixel size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hrtem.errors import InputError
from hrtem.inference import Predictor
from hrtem.limits import Exposure, compute_confusion
from hrtem.matching import Score
from hrtem.metrics import ColumnMetrics
from hrtem.micrograph import Micrograph
from hrtem.recipes import compose
from hrtem.training.data import SimulatedImages, View, WaveDataModule
from hrtem.waves.cache import SPLITS
from hrtem.waves.multislice import find_exit_surface

#: Number of sites in each view for the decisions of the oracle.
SITES = 4
#: Minimum distance of these sites from the border of a view, Å: the image of an atom extends this far.
INNER = 6.0
RECIPE = "experiment=madsen2018_graphene"
#: Lattice contrast relative to the ideal contrast that an operator would accept; see :class:`hrtem.optics.Optics`.
CONTRAST = 0.2


def clear(images: SimulatedImages, number: int) -> bool:
    """Whether an operator would accept this image: fringes with :data:`CONTRAST` and one sign in all directions."""
    return images.imaging.optics.visibility(settings_of(images, number)[1]) >= CONTRAST


def limit(images: SimulatedImages, number: int) -> np.ndarray:
    """Calculate the largest possible F1 at each dose for one view and a known microscope.

    An oracle decides at each site whether an atom is present, with a prior probability of one half and an error
    probability e. It finds a fraction 1 - e of the atoms and has as many false positives as missed atoms, so that F1 is
    1 - e. The result is the mean over the sites.
    """
    seed, cache = [images.seed, SPLITS[images.split]], images.cache
    atoms, columns = cache.sample(np.random.default_rng([*seed, number % images.waves]))
    plane = find_exit_surface(atoms)
    whole = cache.wave(atoms, plane=plane)
    view, settings, rng = settings_of(images, number, whole.shape)
    rows, width = (slice(start, start + images.side) for start in (view.row, view.column))
    imaging, sampling = images.imaging, images.imaging.sampling
    exposure = Exposure(imaging, settings).with_dose(1.0)
    corner = np.array([view.column, view.row]) * sampling
    rim, side = INNER + images.imaging.margin * sampling, images.side * sampling
    inside = columns.moved(columns.positions - corner).inside(side, side, rim)
    first, errors = view.turned(whole[rows, width]), []
    for site in rng.permutation(np.flatnonzero(inside))[:SITES]:
        without = cache.wave(atoms[atoms.get_array("column") != site], plane=plane)
        apart = exposure.separation(first, view.turned(without[rows, width]))
        errors.append([compute_confusion(apart * np.sqrt(dose)) for dose in images.doses])
    return 1.0 - np.mean(errors, axis=0)


def settings_of(
    images: SimulatedImages, number: int, shape: tuple[int, ...] | None = None
) -> tuple[View, dict[str, np.ndarray], np.random.Generator]:
    """Draw the geometry and the settings of one view as in the data set, and return them with the random generator."""
    rng = np.random.default_rng([images.seed, SPLITS[images.split], number])
    view = images.draw_view(shape or images.record(number % images.waves)[0].shape[-2:], rng)
    return view, images.imaging.draw(rng), rng


def scored(
    images: SimulatedImages, finders: Mapping[str, Predictor], kept: Sequence[bool]
) -> tuple[dict[str, list[Score]], dict[str, list[Score]]]:
    """Score all columns for each network and dose, in all views and in the ``kept`` views."""
    sampling, margin, doses = images.imaging.sampling, images.imaging.margin, len(images.doses)
    extent = (images.side - 2 * margin - 1) * sampling
    metrics = [
        {name: ColumnMetrics(one.network.classes, groups=doses) for name, one in finders.items()} for _ in range(2)
    ]
    for number in track(range(len(images)), "images"):
        example = images[number]
        counts = images.expose(example)
        micrograph = Micrograph(counts[0].numpy(), sampling, f"view {number}", Path("simulated"))
        for name, predictor in finders.items():
            found = predictor.find(micrograph).columns
            for metric in metrics[: 1 + kept[number // doses]]:
                metric[name].update([found], [example["columns"]], extent, extent, [example["group"]])
    everything, some = ({name: [one["all"] for one in m.scores()] for name, m in part.items()} for part in metrics)
    return everything, some


def figure(doses: Sequence[float], sets: Mapping[str, tuple[Mapping[str, Sequence[Score]], np.ndarray]]) -> Figure:
    """Plot F1 and position error against dose for each set of views, with the limit of F1."""
    canvas = Figure(figsize=(11, 4.5 * len(sets)), dpi=100, layout="constrained")
    for (title, (scores, bound)), (left, right) in zip(
        sets.items(), canvas.subplots(len(sets), 2, squeeze=False), strict=True
    ):
        for name, values in scores.items():
            left.plot(doses, [one.f1 for one in values], "o-", label=name)
            right.plot(doses, [one.error_pm for one in values], "o-", label=name)
        if len(bound):
            left.plot(doses, bound.mean(axis=0), "k-.", label="limit, known microscope")
        left.set(xscale="log", xlabel="dose (e/Å²)", ylabel="F1", title=title)
        right.set(xscale="log", yscale="log", xlabel="dose (e/Å²)", ylabel="position error (pm)")
        # Errors span less than a decade, so ticks at powers of ten alone are too few.
        right.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
        right.yaxis.set_major_formatter(ScalarFormatter())
        right.yaxis.set_minor_formatter(NullFormatter())
        for axes in (left, right):
            axes.grid(alpha=0.3)
        left.legend()
    FigureCanvasAgg(canvas)
    return canvas


def main(*words: str) -> None:
    """Score the checkpoints in the words on a test set, calculate its limit, print a table and save a figure."""
    own = {"images": "48", "output": "detection.png"}
    checkpoints: dict[str, Path] = {}
    recipe = []
    for word in words:
        name, _, value = word.rpartition("=")
        if value.endswith(".ckpt"):
            checkpoints[name or Path(value).stem] = Path(value)
        elif name in own:
            own[name] = value
        else:
            recipe.append(word)
    if not own["images"].isdecimal() or int(own["images"]) < 1:
        raise InputError(f"images must be a whole number of views, at least 1, got {own['images']}.")
    views = int(own["images"])
    numbers = f"data.numbers={{train: 1, val: 1, test: {views}}}"
    data: WaveDataModule = instantiate(compose(RECIPE, numbers, *recipe).data)
    finders = {name: Predictor.load(path) for name, path in checkpoints.items()}
    data.prepare_data()
    doses = data.optics.test_doses
    images = data.images("test", views * len(doses), doses=doses)
    best = np.stack([limit(images, number) for number in track(range(views), "limits")])
    kept = [clear(images, number) for number in range(views)]
    everything, some = scored(images, finders, kept)
    console = Console()
    console = console if console.is_terminal else Console(width=140)
    sets = {
        f"all {views} views": (everything, best),
        f"the {sum(kept)} views of a clear lattice contrast": (some, best[kept]),
    }
    for title, (scores, bound) in sets.items():
        table = Table(title=f"{data.cache.sample.name}, {title}: F1 and position error (pm) at doses in e/Å²")
        table.add_column("")
        for dose in doses:
            table.add_column(f"{dose:,.0f}", justify="right")
        for name, values in scores.items():
            table.add_row(name, *(f"{one.f1:.3f}  {one.error_pm:5.1f}" for one in values))
        if len(bound):
            table.add_row("limit, known microscope", *(f"{value:.3f}       " for value in bound.mean(axis=0)))
        console.print(table)
    figure(doses, sets).savefig(own["output"])
    print(f"The figure is in {own['output']}")

"""Networks beside the detection limit of the same images: ``python -m hrtem.benchmark detection NAME=CHECKPOINT …``.

The images are those of the test split of ``experiment=madsen2018_graphene``: random networks of carbon, seen by the
microscopes and the camera of arXiv 1802.03008. Other words change them as they would change a training, such as
``sample=graphene``; ``images=`` says how many views there are, ``output=`` where the figure goes. Each network finds
its columns as ``predict.py`` does, resampling the images to its own pixel size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hrtem.data import SimulatedImages, WaveDataModule, collate, detected
from hrtem.errors import InputError
from hrtem.inference import Finder
from hrtem.limits import Exposure, confusion
from hrtem.metrics import ColumnMetrics, Score
from hrtem.micrograph import Micrograph
from hrtem.recipes import composed
from hrtem.wavecache import SPLITS

#: Sites of each view at which the oracle decides.
SITES = 4
#: Only sites this far from the border of a view are asked for, Å: what an atom does to an image reaches that far.
INNER = 6.0
RECIPE = "experiment=madsen2018_graphene"


@dataclass(frozen=True)
class Limit:
    """Mean probabilities, for each dose, to take an atom for a void where both are equally likely.

    Attributes:
        oracle: with the microscope known.
        lattice: with the microscope unknown, for a lattice without a defect: where astigmatism gives its fringes
            opposite signs in different directions, it looks like itself shifted by half a cell under a microscope
            without astigmatism, which is the likelier of the two. All atoms are then missed.
    """

    oracle: list[float]
    lattice: list[float]


def limit(images: SimulatedImages, views: int) -> Limit:
    """The limits of the first views of a test split, mean over views and sites."""
    cache, doses = images.cache, np.array(images.doses)
    errors: list[np.ndarray] = []
    placed: list[np.ndarray] = []
    for number in track(range(views), "limits"):
        rng = np.random.default_rng([images.seed, SPLITS[images.split], number])
        atoms, columns = cache.sample(np.random.default_rng([images.seed, SPLITS[images.split], number % images.waves]))
        whole = cache.wave(atoms)
        view = images.draw_view(whole.shape, rng)
        rows, width = (slice(start, start + images.side) for start in (view.row, view.column))
        settings = images.optics.draw(rng) | images.noise.draw(rng)
        exposure = Exposure(images.optics, images.noise, settings, images.sampling).at(dose=1.0)
        corner = np.array([view.column, view.row]) * images.sampling
        rim = INNER + images.margin * images.sampling
        side = images.side * images.sampling
        inside = columns.moved(columns.positions - corner).inside(side, side, rim)
        first = view.turned(whole[rows, width])
        for site in rng.permutation(np.flatnonzero(inside))[:SITES]:
            without = cache.wave(atoms[atoms.get_array("column") != site])
            apart = exposure.separation(first, view.turned(without[rows, width]))
            wrong = np.array([confusion(apart * np.sqrt(dose)) for dose in doses])
            errors.append(wrong)
            placed.append(wrong if images.optics.visibility(settings) > 0.0 else np.ones_like(wrong))
    return Limit(*(np.mean(values, axis=0).tolist() for values in (errors, placed)))


def scored(images: SimulatedImages, finders: Mapping[str, Finder]) -> dict[str, list[Score]]:
    """Scores of all columns for each network and dose."""
    sampling, margin = images.sampling, images.margin
    extent = (images.side - 2 * margin - 1) * sampling
    metrics = {name: ColumnMetrics(finder.task.classes, groups=len(images.doses)) for name, finder in finders.items()}
    for number in track(range(len(images)), "images"):
        batch = collate([images[number]])
        with torch.no_grad():
            counts = detected(images.optics, images.noise, batch["wave"], batch["settings"], sampling, margin)
        micrograph = Micrograph(counts[0].numpy(), sampling, f"view {number}", Path("simulated"))
        for name, finder in finders.items():
            found = finder.find(micrograph).columns
            metrics[name].update([found], [images[number]["columns"]], extent, extent, groups=batch["group"].tolist())
    return {name: [scores["all"] for scores in metric.scores()] for name, metric in metrics.items()}


def figure(doses: Sequence[float], scores: Mapping[str, Sequence[Score]], bound: Mapping[str, list[float]]) -> Figure:
    """F1 and position error against dose, with the limits of F1."""
    canvas = Figure(figsize=(11, 4.5), dpi=100, layout="constrained")
    left, right = canvas.subplots(1, 2)
    for name, values in scores.items():
        left.plot(doses, [one.f1 for one in values], "o-", label=name)
        right.plot(doses, [one.error_pm for one in values], "o-", label=name)
    for style, (name, limits) in zip(("k-.", "k:"), bound.items(), strict=False):
        left.plot(doses, limits, style, label=name)
    left.set(xscale="log", xlabel="dose (e/Å²)", ylabel="F1")
    right.set(xscale="log", yscale="log", xlabel="dose (e/Å²)", ylabel="position error (pm)")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend()
    FigureCanvasAgg(canvas)
    return canvas


def main(*words: str) -> None:
    """Score the checkpoints among the words on one test set, beside its limit; print a table and save a figure."""
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
    if not own["images"].isdigit() or int(own["images"]) < 1:
        raise InputError(f"images must be a whole number of views, at least 1, got {own['images']}.")
    views = int(own["images"])
    numbers = f"data.numbers={{train: 1, val: 1, test: {views}}}"
    data: WaveDataModule = instantiate(composed(RECIPE, numbers, *recipe).data)
    finders = {name: Finder.load(path) for name, path in checkpoints.items()}
    data.prepare_data()
    doses = data.optics.test_doses
    images = data.images("test", views * len(doses), doses=doses)
    known = limit(images, views)
    bound = {"limit, known microscope": [1.0 - error for error in known.oracle]}
    if data.cache.sample.name == "graphene":
        bound["limit, unknown microscope, perfect lattice"] = [1.0 - error for error in known.lattice]
    scores = scored(images, finders)
    table = Table(title=f"{data.cache.sample.name}, {views} views: F1 and position error (pm) at doses in e/Å²")
    table.add_column("")
    for dose in doses:
        table.add_column(f"{dose:,.0f}", justify="right")
    for name, values in scores.items():
        table.add_row(name, *(f"{one.f1:.3f}  {one.error_pm:5.1f}" for one in values))
    for name, limits in bound.items():
        table.add_row(name, *(f"{value:.3f}       " for value in limits))
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)
    figure(doses, scores, bound).savefig(own["output"])
    print(f"The figure is in {own['output']}")

"""Comparison of a micrograph with training examples: spectra, histograms and the settings of the nearest examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table

from hrtem.errors import InputError
from hrtem.gallery.spectra import EDGES, Statistics
from hrtem.inference.preparation import Prepared
from hrtem.micrograph import Micrograph, require_calibration
from hrtem.training.task import Task

#: Fraction of the examples that counts as near to a micrograph.
NEAR = 0.05
#: Percentiles of the examples: lower limit of the band, median, upper limit.
BAND = (10.0, 50.0, 90.0)
#: Colours of the micrograph, of all examples and of the nearest one.
REAL, ALL, NEAREST = "black", "tab:blue", "tab:orange"


@dataclass(frozen=True)
class Pieces:
    """Square pieces of one size.

    Attributes:
        images: normalised, as the network sees them, ``(B, F, Y, X)``.
        counts: detector counts, of the same shape.
        sampling: Å/px.
    """

    images: np.ndarray
    counts: np.ndarray
    sampling: float

    @cached_property
    def statistics(self) -> Statistics:
        """Spectra, histograms and moments of the pieces."""
        return Statistics.of(self.images, self.counts, self.sampling)


def cut(micrograph: Micrograph, task: Task, side: int) -> Pieces:
    """Cut a micrograph into a grid of squares of ``side`` px at the pixel size of ``task``.

    The grid is centred; strips at the borders are left out. Each square is normalised separately, like a simulated
    image.

    Raises:
        InputError: the pixel size is unknown, the number of images differs from the task's, or they are too small.
    """
    sampling, number = require_calibration(micrograph).sampling, task.optics.num_images
    assert sampling is not None
    if len(micrograph.images) != number:
        raise InputError(
            f"micrograph must hold as many images as focal = {number} says, and {micrograph.source} holds "
            f"{len(micrograph.images)}."
        )
    series = Prepared(micrograph.images, sampling, task.sampling, task.normalise).counts()
    rows, columns = series.shape[-2:]
    if min(rows, columns) < side:
        raise InputError(
            f"micrograph must be at least {side * task.sampling:g} Å a side, which is data.patch, and "
            f"{micrograph.source} has {columns * task.sampling:g} x {rows * task.sampling:g} Å."
        )
    corners = product(*(range(length % side // 2, length - side + 1, side) for length in (rows, columns)))
    counts = np.stack([series[:, top : top + side, left : left + side] for top, left in corners])
    images = task.normalise(torch.from_numpy(counts), task.sampling).numpy()
    return Pieces(images, counts, task.sampling)


@dataclass(frozen=True)
class Comparison:
    """Statistics of a micrograph and of simulated examples.

    Attributes:
        name: name of the micrograph.
        real: statistics of the micrograph's pieces.
        simulated: statistics of the examples.
        settings: settings of the examples, ``(B,)``, or ``(B, F)`` if they differ between the images of a series.
    """

    name: str
    real: Statistics
    simulated: Statistics
    settings: Mapping[str, np.ndarray]

    @cached_property
    def distances(self) -> np.ndarray:
        """Distances between the examples' spectra and the micrograph's median spectrum, dB, ``(B,)``."""
        return self.simulated.distances(np.median(self.real.spectra, axis=0))

    @cached_property
    def nearest(self) -> np.ndarray:
        """Indices of the examples nearest to the micrograph, in order of distance."""
        number = max(1, round(NEAR * len(self.distances)))
        return np.argsort(self.distances)[:number]

    @cached_property
    def typical(self) -> int:
        """Index of the micrograph's piece whose spectrum is nearest to the median spectrum of all pieces."""
        return int(np.argmin(self.real.distances(np.median(self.real.spectra, axis=0))))

    def figures_table(self) -> Table:
        """Make a table of the image statistics of the micrograph and of the examples."""
        table = Table(title=f"{self.name} beside {len(self.distances)} training examples")
        heads = (
            "quantity",
            "micrograph",
            *(f"{percentile:g} %" for percentile in BAND),
            f"nearest {len(self.nearest)}",
        )
        for number, head in enumerate(heads):
            table.add_column(head, justify="right" if number else "left")
        real = self.real.figures()
        for name, values in self.simulated.figures().items():
            near = np.median(values[self.nearest])
            numbers = (np.median(real[name]), *np.percentile(values, BAND), near)
            table.add_row(name, *(f"{number:.2f}" for number in numbers))
        distances = (*np.percentile(self.distances, BAND), np.median(self.distances[self.nearest]))
        table.add_row("spectral distance (dB)", "", *(f"{number:.1f}" for number in distances))
        return table

    def settings_table(self) -> Table:
        """Make a table of the settings of all examples and of the nearest examples, 10th to 90th percentile."""
        table = Table(title="Settings of the examples in their recipes' units, 10 to 90 %")
        for number, head in enumerate(("setting", "all", f"nearest {len(self.nearest)}")):
            table.add_column(head, justify="right" if number else "left")
        for name, values in varied(self.settings).items():
            ranges = (np.percentile(some, (BAND[0], BAND[-1])) for some in (values, values[self.nearest]))
            table.add_row(name, *(f"{low:.3g} … {high:.3g}" for low, high in ranges))
        return table

    def show(self) -> None:
        """Print both tables."""
        for table in (self.figures_table(), self.settings_table()):
            Console().print(table)

    def plot_spectra(self, axes: Axes) -> None:
        """Plot the power spectra of the normalised images."""
        frequencies = self.real.frequencies
        self._plot(axes, frequencies, self.real.spectra, self.simulated.spectra)
        axes.set(yscale="log", xlim=(0.0, frequencies[-1]))
        axes.set_xlabel("spatial frequency (1/Å)", fontsize=8)
        axes.set_title("power spectrum, radial average (Å²)", fontsize=9)

    def plot_histograms(self, axes: Axes) -> None:
        """Plot the intensity histograms of the normalised images."""
        middles = 0.5 * (EDGES[:-1] + EDGES[1:])
        self._plot(axes, middles, self.real.histograms, self.simulated.histograms)
        axes.set(yscale="log", xlim=(-5.0, 5.0), ylim=(1e-4, 1.0))
        axes.set_xlabel("normalised intensity", fontsize=8)
        axes.set_title("histogram (density)", fontsize=9)
        axes.legend(fontsize=7, frameon=False, loc="lower center")

    def _plot(self, axes: Axes, x: np.ndarray, real: np.ndarray, simulated: np.ndarray) -> None:
        low, middle, high = np.percentile(simulated, BAND, axis=0)
        axes.fill_between(x, low, high, color=ALL, alpha=0.2, linewidth=0.0, label="examples, 10 to 90 %")
        axes.plot(x, middle, color=ALL, linewidth=1.0, label="examples, median")
        axes.plot(x, simulated[self.nearest[0]], color=NEAREST, linewidth=1.0, label="nearest example")
        axes.plot(x, np.median(real, axis=0), color=REAL, linewidth=1.2, label="micrograph")
        axes.tick_params(labelsize=7)


def varied(settings: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Select the settings ``(B,)`` that differ between examples, without directions and seeds.

    For a setting that differs between the images of a series, the value of the middle image is taken.
    """
    answer = {}
    for name, values in settings.items():
        values = values if values.ndim == 1 else values[:, values.shape[1] // 2]
        if values.ndim == 1 and not name.endswith(("_angle", "seed")) and np.ptp(values) > 0:
            answer[name] = values
    return answer

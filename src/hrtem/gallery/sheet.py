"""A sheet of image series in rows, laid out to the pixel so that no image is resampled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from hrtem.columns import Columns
from hrtem.report.drawing import circle, legend, save

#: About the side of an image, the space between images of a series, and between series, px.
SIDE, NARROW, GAP = 256, 2, 8
#: Heights of the headline, of the titles above a row and of the small print below it, px.
HEADLINE, TITLE, PRINT = 32, 20, 32
#: Smallest width of a plot, and what its tick labels take on the left and below, px.
PLOT, TICKS, LABELS = 360, 40, 12
#: Grey levels run from black to white over this many standard deviations to either side of the mean.
REACH = 3.0
#: Screen pixels an inch, to which Matplotlib relates sizes of type.
DPI = 100


class ContactSheet:
    """Rows of series, each of ``focal`` images side by side.

    Args:
        patch: side of an image, px.
        focal: images in a series.
        groups: series in a row.
        rows: how many rows.
        plots: plots beside two series in one of the rows.
    """

    def __init__(self, patch: int, focal: int, groups: int, rows: int, plots: int = 0) -> None:
        self.side = patch * max(1, round(SIDE / patch))
        self.group = focal * (self.side + NARROW) - NARROW
        self.pitch = TITLE + self.side + PRINT
        beside_plots = 2 * self.group + GAP + plots * (PLOT + GAP) if plots else 0
        self.width = 2 * GAP + max(groups * (self.group + GAP) - GAP, beside_plots)
        self.height = HEADLINE + rows * self.pitch
        self.figure = Figure((self.width / DPI, self.height / DPI), dpi=DPI)

    def headline(self, text: str, classes: Sequence[str]) -> None:
        """Text over the sheet, and the colours of the classes."""
        self.figure.text(GAP / self.width, 1.0 - 10 / self.height, text, fontsize=11, va="top")
        legend(self.figure, classes, loc="upper right", frameon=False, fontsize=9, borderaxespad=0.3)

    def series(
        self,
        row: int,
        group: int,
        images: np.ndarray,
        titles: Sequence[str],
        small_print: str = "",
        columns: Columns | None = None,
        sampling: float = 1.0,
    ) -> None:
        """Draw one series.

        Args:
            row, group: its place.
            images: normalised, ``(F, Y, X)``.
            titles: above each image.
            small_print: below the first.
            columns: ringed on the right half of each image; the left half stays as it is.
            sampling: Å/px.
        """
        for number, (image, title) in enumerate(zip(images, titles, strict=True)):
            axes = self._panel(row, group, number)
            axes.imshow(image, cmap="gray", vmin=-REACH, vmax=REACH, interpolation="nearest")
            axes.set_title(title, fontsize=9, pad=4)
            if columns is not None:
                right = columns.positions[:, 0] > 0.5 * sampling * (image.shape[1] - 1)
                circle(axes, columns[right], sampling, radius=0.45, linewidth=0.8)
            if number == 0:
                axes.set_xlabel(small_print, fontsize=7, labelpad=2, loc="left")

    def nothing(self, row: int, group: int, text: str) -> None:
        """Say why the place of a series is empty."""
        axes = self._panel(row, group, 0)
        axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=8, transform=axes.transAxes)

    def plots(self, row: int, number: int) -> list[Axes]:
        """Axes of plots that share what two series leave of a row."""
        start = GAP + 2 * (self.group + GAP)
        width = (self.width - start - GAP) / number
        top, height = self._top(row), self.side - LABELS
        return [self._axes(start + n * width + TICKS, top, width - TICKS, height) for n in range(number)]

    def save(self, path: Path) -> None:
        """Write a PNG; it appears complete or not at all."""
        partial = path.with_suffix(".partial.png")
        save(self.figure, partial)
        with Image.open(partial) as picture:
            # Noise cannot be compressed: a palette takes a third of the space and looks the same.
            palette = picture.convert("RGB").quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        palette.save(partial, optimize=True)
        os.replace(partial, path)

    def _panel(self, row: int, group: int, number: int) -> Axes:
        left = GAP + group * (self.group + GAP) + number * (self.side + NARROW)
        axes = self._axes(left, self._top(row), self.side, self.side)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes

    def _top(self, row: int) -> int:
        return HEADLINE + row * self.pitch + TITLE

    def _axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes at pixels from the sheet's upper left corner."""
        bottom = self.height - top - height
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

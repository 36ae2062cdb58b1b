"""A sheet of image series in rows, with a layout in whole pixels so that no image is resampled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from hrtem.columns import Columns
from hrtem.folders import replace_file
from hrtem.report.drawing import circle, legend, save

#: Approximate side of an image, space between the images of a series, and space between series, px.
SIDE, NARROW, GAP = 256, 2, 8
#: Heights of the headline, of the titles above a row and of the small print below it, px.
HEADLINE, TITLE, PRINT = 32, 20, 32
#: Smallest width of a plot, and space for the tick labels on the left and below, px.
PLOT, TICKS, LABELS = 360, 40, 12
#: Black and white are this many standard deviations below and above the mean.
REACH = 3.0
#: Pixels per inch, which set the font sizes of Matplotlib.
DPI = 100


class ContactSheet:
    """Rows of series, each with ``focal`` images side by side.

    Args:
        patch: side of an image, px.
        focal: number of images in a series.
        groups: number of series in a row.
        rows: number of rows.
        plots: number of plots in a row that has two series.
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
        """Write a text above the sheet, and a legend with the colours of the classes."""
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
            row, group: position of the series in the sheet.
            images: normalised images, ``(F, Y, X)``.
            titles: titles above the images.
            small_print: text below the first image.
            columns: columns to mark with rings on the right half of each image; the left half has no marks.
            sampling: pixel size, Å/px.
        """
        for number, (image, title) in enumerate(zip(images, titles, strict=True)):
            axes = self._panel(row, group, number)
            axes.imshow(image, cmap="gray", vmin=-REACH, vmax=REACH, interpolation="nearest")
            axes.set_title(title, fontsize=9, pad=4, parse_math=False)  # a file name may contain $
            if columns is not None:
                right = columns.positions[:, 0] > 0.5 * sampling * (image.shape[1] - 1)
                circle(axes, columns[right], sampling, radius=0.45, linewidth=0.8)
            if number == 0:
                axes.set_xlabel(small_print, fontsize=7, labelpad=2, loc="left")

    def nothing(self, row: int, group: int, text: str) -> None:
        """Write a text into the empty place of a series."""
        axes = self._panel(row, group, 0)
        axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=8, transform=axes.transAxes)

    def plots(self, row: int, number: int) -> list[Axes]:
        """Add axes for plots, which share the space of a row beside two series."""
        start = GAP + 2 * (self.group + GAP)
        width = (self.width - start - GAP) / number
        top, height = self._top(row), self.side - LABELS
        return [self._axes(start + n * width + TICKS, top, width - TICKS, height) for n in range(number)]

    def save(self, path: Path) -> None:
        """Write a PNG file atomically, so that an incomplete file never appears under its name."""
        with replace_file(path) as partial:
            save(self.figure, partial)
            with Image.open(partial) as picture:
                # Noise does not compress well: a colour palette needs a third of the space and looks the same.
                palette = picture.convert("RGB").quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            palette.save(partial, optimize=True)

    def _panel(self, row: int, group: int, number: int) -> Axes:
        left = GAP + group * (self.group + GAP) + number * (self.side + NARROW)
        axes = self._axes(left, self._top(row), self.side, self.side)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes

    def _top(self, row: int) -> int:
        return HEADLINE + row * self.pitch + TITLE

    def _axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes at a position in pixels from the upper left corner of the sheet."""
        bottom = self.height - top - height
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

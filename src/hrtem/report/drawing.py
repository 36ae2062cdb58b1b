"""Drawing of images, maps and columns on Matplotlib axes, in one style for all pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure, FigureBase
from matplotlib.patches import Patch

from hrtem.columns import Columns


def colour(label: int) -> tuple[float, float, float, float]:
    """Colour of a class, RGBA."""
    return colormaps["Set1"](label % 9)


def hexadecimal(label: int) -> str:
    """Colour of a class as ``#rrggbb``."""
    return to_hex(colour(label))


def grey(image: np.ndarray) -> np.ndarray:
    """Convert an image ``(Y, X)`` to uint8, with black at the 0.5 and white at the 99.5 percentile."""
    # About a million pixels on a regular grid give the percentiles of a large image well enough.
    step = max(1, int(np.sqrt(image.size / 1e6)))
    low, high = np.percentile(image[::step, ::step], (0.5, 99.5))
    answer = np.empty(image.shape, np.uint8)
    for row in range(0, len(image), 512):
        part = (image[row : row + 512].astype(np.float32) - low) * (255.0 / max(high - low, 1e-12))
        answer[row : row + 512] = np.clip(np.rint(part), 0, 255)
    return answer


def show_image(axes: Axes, image: np.ndarray) -> None:
    """Draw an image ``(Y, X)`` in grey, between its 0.5 and 99.5 percentiles."""
    low, high = np.percentile(image, (0.5, 99.5))
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def show_maps(axes: Axes, maps: np.ndarray) -> None:
    """Draw all class maps ``(C, Y, X)`` in one picture, each in its colour."""
    colours = np.array([colour(label)[:3] for label in range(len(maps))])
    axes.imshow(np.clip(np.einsum("cyx,ck->yxk", maps, colours), 0.0, 1.0), interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def circle(
    axes: Axes,
    columns: Columns,
    sampling: float,
    radius: float,
    filled: bool = False,
    linewidth: float = 1.0,
) -> None:
    """Draw rings or filled dots of ``radius`` Å around the columns, in the colours of their classes."""
    for label in np.unique(columns.labels):
        circles(
            axes,
            columns.positions[columns.labels == label] / sampling,
            2.0 * radius / sampling,
            facecolors=colour(int(label)) if filled else "none",
            edgecolors=colour(int(label)),
            linewidths=0.0 if filled else linewidth,
            alpha=0.9,
        )


def circles(axes: Axes, places: np.ndarray, diameter: float, **style: Any) -> None:
    """Draw circles of one ``diameter`` at ``places`` ``(N, 2)``, both in px, in a style of Matplotlib's collections."""
    size = np.full(len(places), diameter)
    collection = EllipseCollection(
        size, size, np.zeros(len(size)), units="xy", offsets=places, offset_transform=axes.transData, **style
    )
    # Circles at the border must not enlarge the picture.
    axes.add_collection(collection, autolim=False)


def legend(figure: FigureBase, classes: Sequence[str], loc: Any = "outside lower center", **style: Any) -> None:
    """Draw a legend of the classes and their colours, below the picture or at another location of Matplotlib."""
    handles = [Patch(facecolor=colour(label), label=name) for label, name in enumerate(classes)]
    figure.legend(handles=handles, loc=loc, ncols=len(handles), **style)


def save(figure: Figure, path: Path) -> None:
    """Save a figure without a display and without changing pyplot's global state."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=100)

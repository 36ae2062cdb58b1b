"""Overlays of columns and marks on the image at full resolution, as PNG and SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection, LineCollection, PolyCollection
from matplotlib.figure import Figure
from PIL import Image

from hrtem.columns import Columns
from hrtem.report.drawing import circle, grey, hexadecimal
from hrtem.structure import Mark

#: Radius of the ring around a column and of the ring around a marked point, Å.
RADIUS, POINT = 0.35, 0.6
#: Number of picture rows drawn at a time; limits the memory.
STRIP = 512
#: Opacity of polygons.
OPACITY = 0.4


def overlay(image: np.ndarray, columns: Columns, sampling: float, path: Path, marks: Sequence[Mark] = ()) -> Path:
    """Write a PNG of ``image`` ``(Y, X)`` with a ring on each column and all marks.

    Images with sides up to 2048 px are drawn with at least two picture pixels per image pixel, larger images with one.

    Args:
        image: the micrograph as read from the file.
        columns: columns, with positions in Å.
        sampling: pixel size of ``image``, Å/px.
        path: path of the PNG.
        marks: further shapes from an analysis.

    Returns:
        ``path``.
    """
    rows, width = image.shape
    scale = 1 if max(rows, width) > 2048 else max(2, round(1000 / max(rows, width)))
    pixels = grey(image)
    picture = np.empty((rows * scale, width * scale, 3), np.uint8)
    reach = (RADIUS / sampling) + 2.0
    step = max(1, STRIP // scale)
    for top in range(0, rows, step):
        bottom = min(rows, top + step)
        y = columns.positions[:, 1] / sampling
        near = columns[(y > top - reach) & (y < bottom + reach)]
        # Figure sizes are in inches; the additional hundredth of a pixel prevents the loss of a pixel by rounding.
        size = ((width * scale + 0.01) / 100, ((bottom - top) * scale + 0.01) / 100)
        figure = Figure(figsize=size, dpi=100)
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.imshow(
            pixels[top:bottom],
            cmap="gray",
            vmin=0,
            vmax=255,
            interpolation="nearest",
            aspect="auto",
            extent=(-0.5, width - 0.5, bottom - 0.5, top - 0.5),
        )
        for collection in _collections(marks, sampling):
            axes.add_collection(collection, autolim=False)
            if isinstance(collection, EllipseCollection):
                collection.set_offset_transform(axes.transData)
        circle(axes, near, sampling, radius=RADIUS)
        canvas.draw()
        picture[top * scale : bottom * scale] = np.asarray(canvas.buffer_rgba())[..., :3]
    Image.fromarray(picture).save(path, compress_level=3)
    return path


def _collections(marks: Iterable[Mark], sampling: float) -> list[PolyCollection | LineCollection | EllipseCollection]:
    """Matplotlib collections of all marks, with polygons at the bottom."""
    points: list[list[Mark]] = [[], [], []]
    for mark in marks:
        points[min(len(mark.points), 3) - 1].append(mark)
    rings, lines, polygons = points
    answer: list[PolyCollection | LineCollection | EllipseCollection] = []
    if polygons:
        shapes = [mark.points / sampling for mark in polygons]
        colours = [mark.colour for mark in polygons]
        answer.append(PolyCollection(shapes, facecolors=colours, alpha=OPACITY, linewidths=0.0))
    if lines:
        shapes = [mark.points / sampling for mark in lines]
        answer.append(LineCollection(shapes, colors=[mark.colour for mark in lines], linewidths=1.2))
    if rings:
        diameter = np.full(len(rings), 2.0 * POINT / sampling)
        places = np.concatenate([mark.points for mark in rings]) / sampling
        colours = [mark.colour for mark in rings]
        answer.append(
            EllipseCollection(
                diameter,
                diameter,
                np.zeros(len(rings)),
                units="xy",
                offsets=places,
                facecolors="none",
                edgecolors=colours,
                linewidths=1.6,
            )
        )
    return answer


def overlay_svg(image: np.ndarray, columns: Columns, sampling: float, path: Path, marks: Sequence[Mark] = ()) -> Path:
    """Write the overlay as SVG: the image at full resolution, a group of circles per class and of shapes per kind.

    One unit is one pixel of the image, and (0, 0) is the centre of the first pixel.

    Args:
        image, columns, sampling, path, marks: see :func:`overlay`.

    Returns:
        ``path``.
    """
    rows, width = image.shape
    stroke = 0.06 / sampling
    with path.open("w", encoding="utf-8") as file:
        file.write(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-0.5 -0.5 {width} {rows}" width="{width}" '
            f'height="{rows}">\n<image x="-0.5" y="-0.5" width="{width}" height="{rows}" preserveAspectRatio="none" '
            f'style="image-rendering:pixelated" href="{data_address(grey(image))}"/>\n'
        )
        for kind in dict.fromkeys(mark.kind for mark in marks):
            file.write(f'<g id="{_escaped(kind)}">\n')
            for mark in marks:
                if mark.kind == kind:
                    file.write(_shape(mark, sampling, stroke))
            file.write("</g>\n")
        for label, name in enumerate(columns.classes):
            places = columns.positions[columns.labels == label] / sampling
            file.write(
                f'<g id="{_escaped(name)}" fill="none" stroke="{hexadecimal(label)}" stroke-width="{stroke:.3f}">\n'
            )
            file.writelines(f'<circle cx="{x:.3f}" cy="{y:.3f}" r="{RADIUS / sampling:.3f}"/>\n' for x, y in places)
            file.write("</g>\n")
        file.write("</svg>\n")
    return path


def _shape(mark: Mark, sampling: float, stroke: float) -> str:
    """SVG element of a mark with its text."""
    title = f"<title>{_escaped(mark.text)}</title>"
    places = mark.points / sampling
    if len(places) == 1:
        (x, y), radius = places[0], POINT / sampling
        return (
            f'<circle cx="{x:.3f}" cy="{y:.3f}" r="{radius:.3f}" fill="none" stroke="{mark.colour}" '
            f'stroke-width="{1.5 * stroke:.3f}">{title}</circle>\n'
        )
    points = " ".join(f"{x:.3f},{y:.3f}" for x, y in places)
    if len(places) == 2:
        return (
            f'<polyline points="{points}" fill="none" stroke="{mark.colour}" stroke-width="{stroke:.3f}">{title}'
            "</polyline>\n"
        )
    return f'<polygon points="{points}" fill="{mark.colour}" fill-opacity="{OPACITY}">{title}</polygon>\n'


def _escaped(text: str) -> str:
    """Escape a text for XML, which cannot contain control characters."""
    return escape("".join(letter if letter.isprintable() else " " for letter in text))


def data_address(pixels: np.ndarray, quality: int | None = None) -> str:
    """Encode uint8 pixels ``(Y, X)``, ``(Y, X, 3)`` or ``(Y, X, 4)`` as a ``data:`` URL.

    The format is PNG, or JPEG if ``quality`` is given.
    """
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    if quality is None:
        picture.save(buffer, "PNG", compress_level=6)
    else:
        picture.save(buffer, "JPEG", quality=quality)
    kind = "png" if quality is None else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"

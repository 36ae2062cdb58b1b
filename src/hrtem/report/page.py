"""Self-contained HTML page of the results, which works from disk without a network connection."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import hrtem
from hrtem import folders
from hrtem.report.drawing import colour, grey, hexadecimal
from hrtem.report.frame import Frame, frame_numbers
from hrtem.report.overlay import data_address
from hrtem.report.tables import Field
from hrtem.structure import Mark

#: Longest side of a picture on the page, px; limited by browsers and memory.
LONGEST = 4096
#: Longest side of lossless pictures, px, and the JPEG quality of larger pictures.
LOSSLESS, QUALITY = 2048, 90
#: Largest number of pixels and of frames on a page.
PIXELS, FRAMES = 8 * LONGEST**2, 200
#: Code of an unknown value among integers.
MISSING = -(2**31)


@dataclass(frozen=True, eq=False)
class Movie:
    """Movie data for a page, in addition to a selection of its frames.

    Attributes:
        length: length of the movie, frames.
        curve: one value per frame of the movie, ``(length,)``, drawn against time.
        about: meaning of that value.
    """

    length: int
    curve: np.ndarray
    about: str

    def packed(self) -> dict[str, Any]:
        """Data for the script of the page, averaged over equal times if the movie has more than 1000 frames."""
        step = -(-self.length // 1000)
        means = [float(np.mean(self.curve[start : start + step])) for start in range(0, self.length, step)]
        return {"about": self.about, "step": step, "values": [round(value, 3) for value in means]}


def write_page(
    frames: Sequence[Frame],
    fields: Sequence[Field],
    path: Path,
    title: str,
    settings: Mapping[str, Any],
    movie: Movie | None = None,
) -> None:
    """Write an HTML page with the image, the network's output and the columns found.

    Images with a side above 4096 px are reduced, and a long movie is shown as evenly spaced frames; the page
    states both. The file appears complete or not at all.

    Args:
        frames: at least one frame.
        fields: result of :func:`hrtem.report.tables.fields_of` for the frames.
        path: path of the page.
        title: name of the micrograph.
        settings: settings to list; the names in nested mappings are joined with dots.
        movie: movie data, if the frames are a selection from a longer movie.
    """
    chosen, numbers = _shown(frames), frame_numbers(frames)
    ends = np.cumsum([0] + [len(frame.columns) for frame in frames])
    rows = np.concatenate([np.arange(ends[number], ends[number + 1]) for number in chosen])
    starts = np.cumsum([0] + [len(frames[number].columns) for number in chosen])
    data = {
        "title": title,
        "made": f"hrtem {hrtem.__version__}, {datetime.now().strftime('%Y-%m-%d %H:%M')}",
        "classes": [
            {"name": name, "colour": hexadecimal(label)} for label, name in enumerate(frames[0].columns.classes)
        ],
        "fields": [_packed_field(field, rows) for field in fields],
        "frames": [
            {
                "number": numbers[chosen_frame],
                "rows": [int(starts[place]), int(starts[place + 1])],
                **_picture(frames[chosen_frame]),
            }
            for place, chosen_frame in enumerate(chosen)
        ],
        "allFrames": max(numbers) + 1 if movie is None else movie.length,
        "curve": None if movie is None else movie.packed(),
        "settings": _flat(settings),
    }
    place = files("hrtem.report")
    style, script, page = (place.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js", "html"))
    # Without "<", the data cannot close the element that contains it.
    packed = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    parts = {
        "title": escape(title),
        # The page can neither load nor send data, and runs only this script.
        "policy": f"default-src 'none'; img-src data:; script-src '{_digest(script)}'; style-src '{_digest(style)}'",
        "style": style,
        "data": packed,
        "script": script,
    }
    # A file name that is not UTF-8 may be among the settings.
    with (
        folders.replace_file(path) as partial,
        partial.open("w", encoding="utf-8", errors="replace", newline="") as file,
    ):
        for piece in page.split("{{"):
            name, closing, rest = piece.partition("}}")
            file.write(parts[name] + rest if closing else piece)


def _shown(frames: Sequence[Frame]) -> list[int]:
    """Numbers of the frames that fit on a page, evenly spaced."""
    pixels = min(LONGEST**2, frames[0].image.size)
    room = max(1, min(FRAMES, PIXELS // pixels))
    if len(frames) <= room:
        return list(range(len(frames)))
    return np.unique(np.linspace(0, len(frames) - 1, room).round().astype(int)).tolist()


def _picture(frame: Frame) -> dict[str, Any]:
    """Page data of a frame: image, network output and marks."""
    rows, width = frame.image.shape
    pixels = grey(frame.image)
    step = -(-max(pixels.shape) // LONGEST)
    if step > 1:
        pixels = _smaller(pixels, step)
    answer: dict[str, Any] = {
        "image": data_address(pixels, QUALITY if max(pixels.shape) > LOSSLESS else None),
        "size": [width, rows],
        "sampling": frame.sampling,
        "shrunk": step,
        "inDomain": frame.in_domain,
        "marks": [_packed_mark(mark) for mark in frame.marks],
    }
    if frame.maps is not None:
        maps = frame.class_maps()
        step = -(-max(maps.shape[1:]) // LONGEST)
        picture = _coloured(maps)
        answer["output"] = data_address(_smaller(picture, step) if step > 1 else picture)
        answer["outputSize"] = [maps.shape[2], maps.shape[1]]
        answer["outputSampling"] = frame.map_sampling
    return answer


def _smaller(pixels: np.ndarray, step: int) -> np.ndarray:
    """Reduce a picture to means over squares of ``step`` px."""
    return np.asarray(Image.fromarray(pixels).reduce(step))


def _coloured(maps: np.ndarray) -> np.ndarray:
    """Draw maps ``(C, Y, X)`` in [0, 1] as RGBA uint8: mean colour of the classes, with their sum as opacity."""
    total = maps.sum(axis=0)
    answer = np.empty((*total.shape, 4), np.uint8)
    for channel in range(3):
        part = sum(colour(label)[channel] * one for label, one in enumerate(maps))
        answer[..., channel] = np.rint(255.0 * np.clip(part / np.maximum(total, 1e-6), 0.0, 1.0))
    answer[..., 3] = np.rint(255.0 * np.clip(total, 0.0, 1.0))
    return np.where(answer[..., 3:] > 0, answer, np.uint8(0))


def _packed_field(field: Field, rows: np.ndarray) -> dict[str, Any]:
    """Data of a field for the script: integers in units of the last digit, real numbers, or indices of texts."""
    values = field.values[rows]
    if field.digits is None:
        texts, codes = np.unique(values.astype(str), return_inverse=True) if len(values) else (np.empty(0, str), values)
        return {
            "name": field.name, "about": field.about, "kind": "text", "texts": texts.tolist(),
            "data": _packed(codes.astype("<i4")),
        }  # fmt: skip
    values = values.astype(np.float64)
    scaled = np.rint(values * 10.0**field.digits)
    small = bool(np.all(np.isnan(scaled) | (np.abs(scaled) < -MISSING)))
    packed = np.where(np.isnan(scaled), MISSING, scaled).astype("<i4") if small else values.astype("<f8")
    return {
        "name": field.name, "about": field.about, "kind": "whole" if small else "real", "digits": field.digits,
        "data": _packed(packed),
    }  # fmt: skip


def _packed_mark(mark: Mark) -> dict[str, Any]:
    points = np.round(np.asarray(mark.points, dtype=np.float64), 3).tolist()
    return {"kind": mark.kind, "text": mark.text, "colour": mark.colour, "points": points}


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _digest(text: str) -> str:
    """Hash of an inline script or style for a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and values in order; the names in nested mappings are joined with dots."""
    answer: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            answer += _flat(value, f"{prefix}{name}.")
        else:
            answer.append((f"{prefix}{name}", "–" if value is None else str(value)))
    return answer

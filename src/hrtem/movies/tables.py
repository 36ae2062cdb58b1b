"""Tables of the history of a movie: columns, occupancy, sites, events, frames and rates."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from hrtem import csv_files, folders
from hrtem.movies.tracking import Detections, History, Rate
from hrtem.movies.tracking.motion import OCCUPIED
from hrtem.movies.tracking.rates import LEVEL
from hrtem.movies.tracking.sites import KINDS, link_nearest
from hrtem.report.tables import Field

#: Number of frames converted to table rows at a time.
FRAMES_AT_ONCE = 50


def write_tables(history: History, frames: Sequence[Detections], folder: Path, unit: str) -> None:
    """Write ``columns``, ``occupancy``, ``sites``, ``events``, ``frames`` and ``rates`` as CSV and Parquet.

    Args:
        history: history of the movie.
        frames: detections in each frame.
        folder: an existing folder.
        unit: unit of time, ``s`` or ``frame``.
    """
    pieces = [range(start, min(start + FRAMES_AT_ONCE, len(frames))) for start in range(0, len(frames), FRAMES_AT_ONCE)]
    _write(folder / "columns", (_columns(history, frames, piece) for piece in pieces))
    _write(folder / "occupancy", (_occupancy(history, piece) for piece in pieces))
    _write(folder / "sites", [_sites(history)])
    _write(folder / "events", [_events(history, unit)])
    _write(folder / "frames", [_frames(history, frames, unit)])
    _write(folder / "rates", [_rates(history, unit)])
    path = folder / "rates.json"
    said = {"time_unit": unit, "frame_time": history.frame_time, "level": LEVEL}
    said |= {rate.what: _plain(rate) for rate in (history.rates.leave, history.rates.arrive)}
    _replace(path, json.dumps(said, indent=2) + "\n")


def _columns(history: History, frames: Sequence[Detections], piece: range) -> list[Field]:
    rows: list[tuple[np.ndarray, ...]] = []
    for number in piece:
        found, pose = frames[number], history.poses[number]
        home = pose.home(found.positions.astype(float))
        site = np.full(len(found), -1)
        if pose.known:
            mine, theirs = link_nearest(home, history.sites)
            site[mine] = theirs
        column = np.where(site >= 0, history.numbers[number][site], -1)
        rows.append((np.full(len(found), number), found.positions, found.probabilities, site, column, home))
    frame, place, chance, site, column, home = (np.concatenate(part) for part in zip(*rows, strict=True))
    return [
        Field("frame", frame, 0, "number of the frame, from 0"),
        _real("x_A", place[:, 0], 4, "Å to the right of the first pixel"),
        _real("y_A", place[:, 1], 4, "Å below the first pixel"),
        _real("probability", chance, 4, "that there is a column, by this frame alone"),
        Field("site", site, 0, "row of sites.csv; -1 on none"),
        Field("column", column, 0, "number of the column, which it keeps when it hops; -1 unknown"),
        _real("home_x_A", home[:, 0], 4, "x without drift and turn, Å"),
        _real("home_y_A", home[:, 1], 4, "y without drift and turn, Å"),
    ]


def _occupancy(history: History, piece: range) -> list[Field]:
    sites, rows = len(history.sites), slice(piece.start, piece.stop)
    there = history.occupancy.probability[rows]
    places = np.array([history.poses[number].away(history.sites.positions) for number in piece]).reshape(-1, 2)
    kinds = np.array(KINDS, dtype=object)[history.occupancy.kinds]
    return [
        Field("frame", np.repeat(np.array(piece), sites), 0, "number of the frame, from 0"),
        Field("site", np.tile(np.arange(sites), len(piece)), 0, "row of sites.csv"),
        Field("kind", np.tile(kinds, len(piece)), None, "bulk, surface or support"),
        _real("x_A", places[:, 0], 3, "where the site lies in this frame, Å to the right of the first pixel"),
        _real("y_A", places[:, 1], 3, "and below it"),
        _real("seen", history.seen[rows].ravel(), 4, "probability of a column by this frame alone; empty where unseen"),
        _real("probability", there.ravel(), 4, "that the site is occupied, by all frames"),
        Field("occupied", (there.ravel() >= OCCUPIED).astype(int), 0, "1 where that is more likely"),
        Field("column", history.numbers[rows].ravel(), 0, "number of the column that stands there; -1 none"),
    ]


def _sites(history: History) -> list[Field]:
    sites, events = history.sites, history.events
    number = len(sites)
    came = np.bincount([event.site for event in events if event.appears], minlength=number)
    went = np.bincount([event.site for event in events if not event.appears], minlength=number)
    on = sites.on_lattice
    return [
        Field("site", np.arange(number), 0, "its number"),
        _real("x_A", sites.positions[:, 0], 4, "x without drift, Å"),
        _real("y_A", sites.positions[:, 1], 4, "y without drift, Å"),
        Field("kind", np.array(KINDS, dtype=object)[history.occupancy.kinds], None, "bulk, surface or support"),
        _real("cell_a", np.where(on, sites.indices[:, 0], np.nan), 0, "index along the first lattice vector"),
        _real("cell_b", np.where(on, sites.indices[:, 1], np.nan), 0, "index along the second"),
        _real("occupied_share", history.occupancy.probability.mean(axis=0), 4, "mean occupancy"),
        Field("appearances", came, 0, "times that a column appeared"),
        Field("disappearances", went, 0, "times that one vanished"),
        _real("vibration_pm", 100.0 * history.vibration, 1, "standard deviation along x or y, pm, with its error"),
    ]


def _events(history: History, unit: str) -> list[Field]:
    events, time = history.events, history.frame_time

    def listed(values: Iterable[Any], dtype: Any = float) -> np.ndarray:
        return np.array(list(values), dtype)

    lifetime = listed(event.lifetime * time if event.lifetime > 0 else np.nan for event in events)
    return [
        Field("frame", listed((event.frame for event in events), int), 0, "first frame after the change"),
        _real(f"time_{unit}", listed(event.frame * time for event in events), 4, f"when that frame begins, {unit}"),
        Field("site", listed((event.site for event in events), int), 0, "row of sites.csv"),
        Field("event", listed(("appears" if e.appears else "vanishes" for e in events), object), None, "what happens"),
        _real("probability", listed(event.probability for event in events), 4, "that it happens in this very frame"),
        Field("partner", listed((e.partner for e in events), int), 0, "site it came from or went to; -1 unknown"),
        _real(f"lifetime_{unit}", lifetime, 4, f"of a column that vanishes, {unit}; empty if its beginning is unseen"),
    ]


def _frames(history: History, frames: Sequence[Detections], unit: str) -> list[Field]:
    number, drift = np.arange(len(frames)), history.drift
    there = history.occupancy.probability >= OCCUPIED
    fields = [
        Field("frame", number, 0, "its number, from 0"),
        _real(f"time_{unit}", number * history.frame_time, 4, f"when it begins, {unit}"),
        _real(
            "found",
            np.array([len(found) if found.usable else np.nan for found in frames]),
            0,
            "columns found in it alone; empty if it cannot be read",
        ),
        _real("drift_x_A", drift[:, 0], 3, "Å against the first frame"),
        _real("drift_y_A", drift[:, 1], 3, "Å"),
        _real("turn_deg", np.degrees([pose.angle for pose in history.poses]), 4, "degrees against the first frame"),
        Field("registered", np.array([pose.known for pose in history.poses]).astype(int), 0, "1 where it was laid"),
        _real("quality", history.occupancy.quality, 3, "how often bulk columns were found, against the mean frame"),
    ]
    for kind, name in enumerate(KINDS):
        here = there[:, history.occupancy.kinds == kind].sum(axis=1)
        fields.append(Field(f"occupied_{name}", here, 0, f"occupied sites of the {name}"))
    for column, name in enumerate(("e_xx", "e_yy", "e_xy")):
        fields.append(_real(name, history.strain[:, column], 5, "strain against the mean of the movie"))
    return fields


def _rates(history: History, unit: str) -> list[Field]:
    rates = history.rates.all()

    def each(name: str) -> np.ndarray:
        return np.array([getattr(rate, name) for rate in rates], float)

    neighbours = np.array([np.nan if rate.neighbours is None else rate.neighbours for rate in rates])
    return [
        Field("event", np.array([rate.what for rate in rates], object), None, "leave, of columns; arrive, at sites"),
        _real("neighbours", neighbours, 0, "of the site; empty for all of the surface"),
        _real(f"rate_per_{unit}", each("value"), 6, f"a column or vacant site, 1/{unit}; the median"),
        _real("low", each("low"), 6, f"end of the interval of {LEVEL:.0%}"),
        _real("high", each("high"), 6, f"end of the interval of {LEVEL:.0%}"),
        _real("events", each("events"), 2, "number of events, the mean of what is possible"),
        _real(f"exposure_{unit}", each("exposure"), 2, f"time of all columns, or vacant sites, together, {unit}"),
    ]


def _real(name: str, values: np.ndarray, digits: int, about: str) -> Field:
    # Adding 0 turns −0 into 0.
    return Field(name, np.round(np.asarray(values, float), digits) + 0.0, digits, about)


def _plain(rate: Rate) -> dict[str, float]:
    return {name: float(getattr(rate, name)) for name in ("value", "low", "high", "events", "exposure")}


def _write(stem: Path, pieces: Iterable[list[Field]]) -> None:
    """Write a table in pieces, as ``stem.csv`` and ``stem.parquet``; each file appears complete or not at all."""
    pieces = iter(pieces)
    first = next(pieces)
    schema = pa.schema([pa.field(field.name, _array(field).type, metadata={"about": field.about}) for field in first])
    with (
        folders.replace_file(stem.with_suffix(".parquet")) as partial,
        parquet.ParquetWriter(partial, schema, compression="zstd") as sink,
    ):

        def rows() -> Iterator[tuple[str, ...]]:
            for fields in chain([first], pieces):
                sink.write_table(pa.Table.from_arrays([_array(field) for field in fields], schema=schema))
                yield from zip(*(field.texts(slice(None)) for field in fields), strict=True)

        csv_files.write_rows(stem.with_suffix(".csv"), [field.name for field in first], rows())


def _array(field: Field) -> pa.Array:
    if field.digits is None:
        return pa.array(field.values.tolist(), pa.string())
    if field.values.dtype.kind in "iub":
        return pa.array(field.values.astype(np.int64))
    return pa.array(field.values.astype(np.float64), from_pandas=True)


def _replace(path: Path, text: str) -> None:
    with folders.replace_file(path) as partial:
        partial.write_text(text, encoding="utf-8")

"""Tables of the columns found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from hrtem import csv_files, folders
from hrtem.columns import Columns
from hrtem.report.frame import Frame, frame_numbers

#: Number of rows converted to text at a time.
CHUNK = 50_000


@dataclass(frozen=True, eq=False)
class Field:
    """One field of a table: a table column with a value for each atomic column.

    Attributes:
        name: table header.
        values: ``(N,)`` integers, rounded real numbers, or texts; NaN and "" are unknown values.
        digits: number of decimal places; None for texts.
        about: description, with the unit.
    """

    name: str
    values: np.ndarray
    digits: int | None
    about: str

    def texts(self, rows: slice) -> list[str]:
        """Format the values of some rows for a file."""
        if self.digits is None:
            return [str(value) for value in self.values[rows]]
        form = f"%.{self.digits}f"
        return ["" if value != value else form % value for value in self.values[rows].tolist()]


def fields_of(frames: Sequence[Frame]) -> list[Field]:
    """Make the table of all columns of some frames, in the order of the frames.

    The fields are ``frame``, ``id``, positions in Å and in pixels of the input image, the class, the probability of a
    column and of each class, the number of atoms if the model counts them, the standard deviation of x or y, whether
    the image is in the training domain, and the extras of the frames.

    Raises:
        ValueError: an extra has the name of another field.
    """
    classes = frames[0].columns.classes if frames else ()

    def joined(part: Callable[[Frame], np.ndarray | Sequence[float]]) -> np.ndarray:
        parts = [np.asarray(part(frame)) for frame in frames]
        return np.concatenate(parts) if parts else np.empty(0)

    def rounded(part: Callable[[Frame], np.ndarray], digits: int) -> np.ndarray:
        # Adding 0 turns −0 into 0.
        return np.round(joined(part).astype(np.float64), digits) + 0.0

    number = sum(len(frame.columns) for frame in frames)
    names = np.array(classes or ("",), dtype=object)
    counts = joined(lambda frame: frame.columns.counts)
    sizes = [len(frame.columns) for frame in frames]
    place, numbered = np.repeat(np.arange(len(frames)), sizes), np.repeat(np.array(frame_numbers(frames), int), sizes)
    known = [float("nan") if frame.in_domain is None else float(frame.in_domain) for frame in frames]
    fields = [
        Field("frame", numbered, 0, "number of the image in its stack, from 0"),
        Field("id", np.arange(number), 0, "number of the column in this table, from 0"),
        Field("x_A", rounded(lambda frame: frame.columns.positions[:, 0], 4), 4, "Å to the right of the first pixel"),
        Field("y_A", rounded(lambda frame: frame.columns.positions[:, 1], 4), 4, "Å below the first pixel"),
        Field(
            "x_px",
            rounded(lambda frame: frame.columns.positions[:, 0] / frame.sampling, 3),
            3,
            "pixels of the input image",
        ),
        Field(
            "y_px",
            rounded(lambda frame: frame.columns.positions[:, 1] / frame.sampling, 3),
            3,
            "pixels of the input image",
        ),
        Field("class", names[joined(lambda frame: frame.columns.labels).astype(int)], None, "most probable class"),
        Field("probability", rounded(lambda frame: frame.columns.probabilities, 4), 4, "that there is a column"),
    ]
    for label, name in enumerate(classes):
        share = rounded(lambda frame, label=label: frame.columns.class_probabilities[:, label], 4)  # type: ignore[misc]
        fields.append(Field(f"p_{name}", share, 4, f"probability of {name}"))
    if counts.any():
        fields.append(Field("count", counts, 0, "atoms in the column"))
        sure = rounded(lambda frame: chance_of_count(frame.columns), 4)
        fields.append(Field("p_count", sure, 4, "probability of that number, given that there is a column"))
    fields.append(
        Field("sigma_pm", rounded(lambda frame: 100.0 * frame.columns.sigmas, 2), 2, "standard deviation of x or y, pm")
    )
    domain = np.array(known)[place] if len(frames) else np.empty(0)
    fields.append(Field("in_domain", domain, 0, "1 where the image looks like those of the training"))
    return fields + list(_extras(frames, {field.name for field in fields}))


def chance_of_count(columns: Columns) -> np.ndarray:
    """Probability ``(N,)`` of the reported number of atoms, given that there is a column; NaN without atom counts."""
    chances = columns.count_probabilities
    if not chances.shape[1]:
        return np.full(len(columns), np.nan)
    return chances[np.arange(len(columns)), np.maximum(columns.counts, 1) - 1]


def _extras(frames: Sequence[Frame], taken: set[str]) -> Iterator[Field]:
    for name in dict.fromkeys(name for frame in frames for name in frame.extras):
        if name in taken:
            raise ValueError(f"{name} is a column of every table already and cannot be an extra one")
        given = [np.asarray(frame.extras[name]) for frame in frames if name in frame.extras]
        textual = any(values.dtype.kind in "OUS" for values in given)
        whole = all(values.dtype.kind in "biu" for values in given)
        parts = [
            np.asarray(frame.extras[name])
            if name in frame.extras
            else np.full(len(frame.columns), "" if textual else np.nan)
            for frame in frames
        ]
        values = np.concatenate([part.astype(object if textual else np.float64) for part in parts])
        digits = 0 if whole else 4
        yield Field(name, values if textual else np.round(values, digits) + 0.0, None if textual else digits, name)


def write_csv(fields: Sequence[Field], path: Path) -> None:
    """Write a table as CSV; the file appears complete or not at all."""
    chunks = (slice(start, start + CHUNK) for start in range(0, len(fields[0].values), CHUNK))
    rows = (row for chunk in chunks for row in zip(*(field.texts(chunk) for field in fields), strict=True))
    csv_files.write_rows(path, [field.name for field in fields], rows)


def write_parquet(fields: Sequence[Field], path: Path) -> None:
    """Write a table as Parquet, with field descriptions as metadata; the file appears complete or not at all."""
    schema, arrays = [], []
    for field in fields:
        if field.digits is None:
            array: pa.Array = pa.array(field.values, pa.string()).dictionary_encode()
        elif field.name == "in_domain":
            array = pa.array([None if value != value else bool(value) for value in field.values.tolist()], pa.bool_())
        elif field.digits == 0 and not np.isnan(field.values.astype(np.float64)).any():
            array = pa.array(field.values.astype(np.int64))
        else:
            array = pa.array(field.values.astype(np.float64))
        arrays.append(array)
        schema.append(pa.field(field.name, array.type, metadata={"about": field.about}))
    with folders.replace_file(path) as partial:
        parquet.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(schema)), partial, compression="zstd")

"""Reported data of one image: its columns, the network's output, and the results of an analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from hrtem.columns import Columns
from hrtem.structure import Mark


class Answered(Protocol):
    """The part of a prediction by :class:`hrtem.inference.Predictor` that a report needs."""

    @property
    def columns(self) -> Columns:
        """Columns found, positions in Å from the centre of pixel ``[0, 0]``."""
        ...

    @property
    def middle_image(self) -> np.ndarray:
        """Image ``(Y, X)`` to draw, the middle image of a series."""
        ...

    @property
    def micrograph(self) -> Any:
        """Micrograph with its name and source."""
        ...

    @property
    def maps(self) -> np.ndarray | None:
        """Network output ``(C, Y, X)``, or None if it was not kept."""
        ...

    @property
    def sampling(self) -> float:
        """Pixel size of ``maps``, Å/px."""
        ...

    @property
    def in_domain(self) -> bool | None:
        """True for an image similar to the training images, None if unknown."""
        ...

    @property
    def shown(self) -> int | None:
        """Number of first maps that show where columns are; None means one map per class."""
        ...


@dataclass(frozen=True, eq=False)
class Frame:
    """One image and the columns found in it.

    Attributes:
        image: ``(Y, X)``, as read from the file.
        columns: N columns, positions in Å from the centre of pixel ``[0, 0]``.
        sampling: pixel size of ``image``, Å/px.
        maps: network output ``(C, Y, X)``, or None if it was not kept.
        map_sampling: pixel size of ``maps``, Å/px.
        in_domain: whether the image is similar to the training images; None if unknown.
        extras: further properties of the columns, ``(N,)`` numbers or texts, by their table header.
        marks: shapes to draw over the image.
        shown: number of first ``maps`` that show where columns are; None means one map per class.
        number: number of the image in its stack, from 0; None means its place in the list of frames.

    Raises:
        ValueError: an extra does not have one value per column.
    """

    image: np.ndarray
    columns: Columns
    sampling: float
    maps: np.ndarray | None = None
    map_sampling: float = 0.0
    in_domain: bool | None = None
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    marks: Sequence[Mark] = ()
    shown: int | None = None
    number: int | None = None

    def __post_init__(self) -> None:
        for name, values in self.extras.items():
            if np.shape(values) != (len(self.columns),):
                raise ValueError(f"{name} has the shape {np.shape(values)} for {len(self.columns)} columns")

    @classmethod
    def of(
        cls, prediction: Answered, extras: Mapping[str, np.ndarray] | None = None, marks: Sequence[Mark] = ()
    ) -> Frame:
        """Construct the frame from a prediction of :class:`hrtem.inference.Predictor`."""
        return cls(
            prediction.middle_image,
            prediction.columns,
            prediction.micrograph.sampling,
            maps=prediction.maps,
            map_sampling=prediction.sampling,
            in_domain=prediction.in_domain,
            extras=extras or {},
            marks=marks,
            shown=prediction.shown,
        )

    def class_maps(self) -> np.ndarray:
        """Maps that show where columns are, ``(classes, Y, X)`` in [0, 1], without offsets and numbers of atoms."""
        assert self.maps is not None
        shown = len(self.columns.classes) if self.shown is None else self.shown
        return np.clip(self.maps[:shown], 0.0, 1.0)


def frame_numbers(frames: Sequence[Frame]) -> list[int]:
    """Numbers of the images in their stack, from 0."""
    return [place if frame.number is None else frame.number for place, frame in enumerate(frames)]

"""What is reported of one image: its columns, the network's output, and what an analysis adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from hrtem.columns import Columns
from hrtem.structure import Mark


class Answered(Protocol):
    """What :class:`hrtem.inference.Predictor` answers, as far as a report needs it."""

    @property
    def columns(self) -> Columns:
        """Columns found, positions in Å from the centre of pixel ``[0, 0]``."""
        ...

    @property
    def middle_image(self) -> np.ndarray:
        """Image ``(Y, X)`` to draw, the middle one of a series."""
        ...

    @property
    def micrograph(self) -> Any:
        """Micrograph with its name and source."""
        ...

    @property
    def maps(self) -> np.ndarray | None:
        """Output of the network ``(C, Y, X)``, or None if it was not kept."""
        ...

    @property
    def sampling(self) -> float:
        """Pixel size of ``maps``, Å/px."""
        ...

    @property
    def in_domain(self) -> bool | None:
        """True for an image like those of the training, None if this is unknown."""
        ...


@dataclass(frozen=True, eq=False)
class Frame:
    """One image and what was found in it.

    Attributes:
        image: ``(Y, X)`` as it was read.
        columns: N columns, positions in Å from the centre of pixel ``[0, 0]``.
        sampling: Å/px of ``image``.
        maps: the network's answer ``(C, Y, X)``, or None where it was not kept.
        map_sampling: Å/px of ``maps``.
        in_domain: whether the image looks like those of the training; None where that is unknown.
        extras: further facts of the columns, each ``(N,)`` numbers or texts, by the name of their column in tables.
        marks: shapes to draw over the image.

    Raises:
        ValueError: an extra has not one value a column.
    """

    image: np.ndarray
    columns: Columns
    sampling: float
    maps: np.ndarray | None = None
    map_sampling: float = 0.0
    in_domain: bool | None = None
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    marks: Sequence[Mark] = ()

    def __post_init__(self) -> None:
        for name, values in self.extras.items():
            if np.shape(values) != (len(self.columns),):
                raise ValueError(f"{name} has the shape {np.shape(values)} for {len(self.columns)} columns")

    @classmethod
    def of(
        cls, prediction: Answered, extras: Mapping[str, np.ndarray] | None = None, marks: Sequence[Mark] = ()
    ) -> Frame:
        """From what a :class:`hrtem.inference.Predictor` found."""
        return cls(
            prediction.middle_image,
            prediction.columns,
            prediction.micrograph.sampling,
            maps=prediction.maps,
            map_sampling=prediction.sampling,
            in_domain=prediction.in_domain,
            extras=extras or {},
            marks=marks,
        )

    def class_maps(self) -> np.ndarray:
        """The maps of the classes, ``(classes, Y, X)`` in [0, 1].

        Offsets, two more channels than classes, are left out; of maps that count atoms the highest stands for all.
        """
        assert self.maps is not None
        classes = len(self.columns.classes)
        if len(self.maps) == classes + 2:
            maps = self.maps[:classes]
        elif len(self.maps) != classes:
            maps = self.maps.max(axis=0, keepdims=True)
        else:
            maps = self.maps
        return np.clip(maps, 0.0, 1.0)

"""Finding atoms from Python: ``hrtem.load("graphene").find("image.dm4")``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from hrtem import models, report
from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.inference import Finder, Prediction
from hrtem.micrograph import Micrograph, calibrated, read
from hrtem.structure import Structure, analyse


@dataclass(frozen=True, slots=True)
class Atom:
    """One row of a table; x and y in Å from the centre of the first pixel, the standard deviation of each in pm."""

    x: float
    y: float
    name: str
    probability: float
    sigma_pm: float
    count: int


@dataclass(frozen=True, eq=False)
class AtomTable:
    """The atoms, or atomic columns, that were found in an image; the arrays have one entry each.

    Attributes:
        prediction: the columns with the micrograph and what the network saw and answered.
    """

    prediction: Prediction

    @property
    def columns(self) -> Columns:
        """Positions, labels, probabilities …, as all of the package passes them on."""
        return self.prediction.columns

    @property
    def sampling(self) -> float:
        """Pixel size of the image, Å/px."""
        sampling = calibrated(self.prediction.micrograph).sampling
        assert sampling is not None
        return sampling

    @property
    def x(self) -> np.ndarray:
        """Å to the right of the centre of the first pixel."""
        return self.columns.positions[:, 0]

    @property
    def y(self) -> np.ndarray:
        """Å down from the centre of the first pixel."""
        return self.columns.positions[:, 1]

    @property
    def x_px(self) -> np.ndarray:
        """Column of the image, 0 at the centre of the first one."""
        return self.x / self.sampling

    @property
    def y_px(self) -> np.ndarray:
        """Row of the image, 0 at the centre of the first one."""
        return self.y / self.sampling

    @property
    def classes(self) -> np.ndarray:
        """Names of the classes, such as C."""
        return np.array(self.columns.classes)[self.columns.labels]

    @property
    def probability(self) -> np.ndarray:
        """How probable each is, 0 to 1."""
        return self.columns.probabilities

    @property
    def sigma_pm(self) -> np.ndarray:
        """Standard deviation of x or y, pm."""
        return 100.0 * self.columns.sigmas

    @property
    def count(self) -> np.ndarray:
        """Atoms in each column; 0 where the model does not count them."""
        return self.columns.counts

    @property
    def in_domain(self) -> bool | None:
        """Whether the image looks like those of the training; where it does not, nothing here should be trusted."""
        return self.prediction.in_domain

    @cached_property
    def structure(self) -> Structure:
        """Neighbours, rings, defects, lattice and strain."""
        return analyse(self.columns, self.prediction.extent)

    def to_csv(self, path: str | Path) -> Path:
        """Write the table that ``predict.py`` writes."""
        path = Path(path)
        try:
            report.write_csv(report.fields_of([report.Frame.of(self.prediction)]), path)
        except OSError as error:
            raise InputError(
                f"a table must be a file that can be written, and {path} cannot: {error.strerror}."
            ) from None
        return path

    def __len__(self) -> int:
        return len(self.columns)

    def __iter__(self) -> Iterator[Atom]:
        facts = (self.x, self.y, self.classes, self.probability, self.sigma_pm, self.count)
        return (Atom(*row) for row in zip(*(values.tolist() for values in facts), strict=True))

    def __repr__(self) -> str:
        return f"AtomTable({self.prediction.summary()}; {self.prediction.micrograph.source})"


class Model:
    """A trained model.

    Args:
        finder: the network with all that belongs to it.
    """

    def __init__(self, finder: Finder) -> None:
        self.finder = finder

    @property
    def classes(self) -> tuple[str, ...]:
        """What it tells apart."""
        return self.finder.task.classes

    @property
    def focal(self) -> int:
        """How many images of a focal series it takes."""
        return int(self.finder.task.optics.num_images)

    def find(self, image: str | Path | np.ndarray | Micrograph, sampling: float | None = None) -> AtomTable:
        """Find the atoms in an image, or in a focal series.

        Args:
            image: a file that :func:`hrtem.micrograph.read` reads, an array ``(Y, X)`` or ``(F, Y, X)``, or a
                micrograph.
            sampling: pixel size in Å/px, where the file does not know it.

        Raises:
            InputError: the image cannot be read, its pixel size is unknown, or the model takes another number of
                images.
        """
        if isinstance(image, Micrograph):
            micrograph = image if sampling is None else replace(image, sampling=sampling)
        elif isinstance(image, np.ndarray):
            micrograph = Micrograph(image, sampling, name="array", source=Path("array"))
        else:
            micrograph = read(image, sampling=sampling)
        return AtomTable(self.finder.find(micrograph))


def load(model: str | Path, device: str = "cpu", symmetric: bool = False, precision: str = "auto") -> Model:
    """A model by the name of a shipped one, or from a model's folder or a checkpoint; see :func:`hrtem.models.load`."""
    return Model(models.load(model, device=device, symmetric=symmetric, precision=precision))

"""Python interface for finding atoms: ``hrtem.load("graphene").find("image.dm4")``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hrtem import models, report
from hrtem.columns import Columns
from hrtem.errors import Failures, InputError
from hrtem.inference import Prediction, Predictor
from hrtem.micrograph import (
    Item,
    Micrograph,
    Recording,
    Region,
    check_lattice,
    is_folder,
    lattice_spacings,
    open_recordings,
    order_series,
    register_series,
    require_calibration,
)
from hrtem.micrograph.image import check_shape
from hrtem.structure import Structure, analyse

if TYPE_CHECKING:
    import pandas

#: Accepted forms of images: a file or folder, an array, a micrograph, or a list of files, folders and lists.
Images = str | Path | np.ndarray | Micrograph | Sequence[Any]


@dataclass(frozen=True, slots=True)
class Atom:
    """One row of an atom table.

    Attributes:
        x, y: position in Å from the centre of the first pixel.
        name: name of the class.
        probability: probability of the atom, 0 to 1.
        sigma_pm: standard deviation of x and of y, pm.
        count: number of atoms in the column; 0 if the model does not count atoms.
    """

    x: float
    y: float
    name: str
    probability: float
    sigma_pm: float
    count: int


@dataclass(frozen=True, eq=False)
class AtomTable:
    """Table of the atoms, or atomic columns, found in an image; each array has one entry per atom.

    Attributes:
        prediction: the columns with the micrograph, and input and output of the network.
        warnings: sentences about problems of the image; empty if there are none.
    """

    prediction: Prediction
    warnings: tuple[str, ...] = ()

    @property
    def columns(self) -> Columns:
        """Positions, labels, probabilities … as the common data type of the package."""
        return self.prediction.columns

    @property
    def sampling(self) -> float:
        """Pixel size of the image, Å/px."""
        sampling = require_calibration(self.prediction.micrograph).sampling
        assert sampling is not None
        return sampling

    @property
    def x(self) -> np.ndarray:
        """Distance to the right of the centre of the first pixel, Å."""
        return self.columns.positions[:, 0]

    @property
    def y(self) -> np.ndarray:
        """Distance below the centre of the first pixel, Å."""
        return self.columns.positions[:, 1]

    @property
    def x_px(self) -> np.ndarray:
        """Position along the image columns, px; 0 at the centre of the first column."""
        return self.x / self.sampling

    @property
    def y_px(self) -> np.ndarray:
        """Position along the image rows, px; 0 at the centre of the first row."""
        return self.y / self.sampling

    @property
    def classes(self) -> np.ndarray:
        """Name of the class of each atom, such as C."""
        return np.array(self.columns.classes)[self.columns.labels]

    @property
    def probability(self) -> np.ndarray:
        """Probability of each atom, 0 to 1."""
        return self.columns.probabilities

    @property
    def sigma_pm(self) -> np.ndarray:
        """Standard deviation of x and of y of each atom, pm."""
        return 100.0 * self.columns.sigmas

    @property
    def count(self) -> np.ndarray:
        """Number of atoms in each column; 0 if the model does not count atoms."""
        return self.columns.counts

    @property
    def left_out(self) -> float:
        """Share of the image that holds no image and in which nothing is found, 0 to 1; the warnings have reasons."""
        return self.prediction.micrograph.share_left_out

    @property
    def in_domain(self) -> bool | None:
        """Whether the image resembles the training images; if not, the results should not be trusted."""
        return self.prediction.in_domain

    @cached_property
    def structure(self) -> Structure:
        """Neighbours, rings, defects, lattice and strain."""
        return analyse(self.columns, self.prediction.extent)

    def report(self) -> report.Frame:
        """Return the image with all data for tables, overlays and pages."""
        return report.Frame.of(self.prediction, self.structure.fields, self.structure.marks)

    def to_pandas(self) -> pandas.DataFrame:
        """Return the table as a data frame with the columns of ``atoms.csv``, see ``hrtem find``."""
        import pandas

        return pandas.DataFrame({field.name: field.values for field in report.fields_of([self.report()])})

    def write(self, folder: str | Path) -> Path:
        """Write all files of ``hrtem find`` into a new folder: tables, structures, page ….

        Raises:
            InputError: the folder exists or cannot be made.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise InputError(f"a result is written into a new folder, and {folder}: {error.strerror}.") from None
        report.write_files([self.report()], folder, self.prediction.micrograph.name)
        return folder

    def to_csv(self, path: str | Path) -> Path:
        """Write the table as CSV, with the columns of ``atoms.csv``; see ``hrtem find``.

        Raises:
            InputError: the file cannot be written.
        """
        path = Path(path)
        try:
            report.write_csv(report.fields_of([self.report()]), path)
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

    def summary(self) -> str:
        """Number of columns of each class, and their structure, as text."""
        found = self.prediction.summary()
        return f"{found} {self.structure.summary()}" if len(self) else found

    def __repr__(self) -> str:
        return f"AtomTable({self.prediction.summary()}; {self.prediction.micrograph.source})"


class Model:
    """A trained model that finds atoms; ``hrtem find`` and ``predict.py`` use this class as well.

    Args:
        predictor: the network with its preparation of images and its search for columns.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that the model distinguishes."""
        return self.predictor.network.classes

    @property
    def focal(self) -> int:
        """Number of images in the focal series that the model needs."""
        return int(self.predictor.network.optics.num_images)

    def find(
        self,
        images: Images,
        sampling: float | None = None,
        defocus: Sequence[float] | None = None,
        register: bool = True,
        mask: str | Path | np.ndarray | None = None,
        crop: Sequence[int] | None = None,
        item: Item = None,
        frame: int | None = None,
    ) -> AtomTable | list[AtomTable]:
        """Find the atoms in an image, a focal series, a movie, or in several of these.

        Args:
            images: a file, an array ``(Y, X)`` or ``(F, Y, X)``, or a :class:`hrtem.micrograph.Micrograph`; a folder
                or a pattern such as ``*.dm4``; or a list of files, folders and lists, see
                :func:`hrtem.micrograph.open_recordings`.
            sampling: pixel size in Å/px; None uses the value in the file.
            defocus: defocus of each image of a focal series, Å, positive is underfocus; None uses the values in the
                files.
            register: align the images of a focal series.
            mask: an image file or an array of the shape of the images, not zero in the pixels that hold an image; it
                replaces the detection of borders and apertures.
            crop: [x0, y0, x1, y1], pixels of the images: nothing is found outside, and positions keep their origin.
            item: name or number, from 0, of the image in files that hold several.
            frame: number, from 0, of the only image to use of a stack.

        Returns:
            One table for an image or a focal series. A list of tables for a movie (one per frame), a folder or a list,
            in the order of the files; a list that contains one focal series gives one table.

        Raises:
            InputError: an image cannot be read, its pixel size is unknown, or it does not fit the model.
        """
        if isinstance(images, np.ndarray | Micrograph):
            region = Region.parse(mask, crop)
            tables = [self.find_in(one) for one in self._given(images, sampling, defocus, register, region)]
            return tables[0] if len(tables) == 1 else tables
        given = open_recordings(images, self.focal, sampling, defocus, register, Region.parse(mask, crop), item, frame)
        tables = [self.find_in(frame) for recording in given for frame in recording]
        file = isinstance(images, str | os.PathLike) and Path(images).exists() and not is_folder(Path(images))
        return tables[0] if len(tables) == 1 and (file or self.focal > 1) else tables

    def open(
        self,
        images: Any,
        sampling: float | None = None,
        defocus: Sequence[float] | None = None,
        register: bool = True,
        mask: str | Path | np.ndarray | None = None,
        crop: Sequence[int] | None = None,
        item: Item = None,
        frame: int | None = None,
        failures: Failures | None = None,
    ) -> list[Recording]:
        """Open images, focal series and movies without keeping them in memory; for the arguments see :meth:`find`.

        Args:
            failures: collects the images that cannot be used; None raises the first error.

        Raises:
            InputError: an image cannot be read, its pixel size is unknown, or it does not fit the model.
        """
        failures = failures or Failures("stop")
        region, usable = Region.parse(mask, crop), []
        given = open_recordings(images, self.focal, sampling, defocus, register, region, item, frame, failures)
        for recording in given:
            with failures.collect(recording.name):
                if recording.is_movie:  # a frame that cannot be used is left out later
                    require_calibration(recording)
                else:
                    self.predictor.check(recording.look())
                usable.append(recording)
        return usable

    def find_in(self, micrograph: Micrograph) -> AtomTable:
        """Find the atoms in one image or focal series, and collect all warnings.

        The images of a focal series must already be ordered and registered.

        Raises:
            InputError: the pixel size is unknown, or the number of images differs from the model's.
        """
        prediction = self.predictor.find(micrograph)
        unlike = () if prediction.warning is None else (prediction.warning,)
        return AtomTable(prediction, (*self.doubts(micrograph), *unlike))

    def doubts(self, micrograph: Micrograph) -> tuple[str, ...]:
        """Describe problems of an image before the search for atoms, one sentence per problem.

        Problems are a series that could not be registered, hot lines, pixels that hold no image, or a pixel size that
        does not fit the lattice of the model's sample.
        """
        settings = self.predictor.network.settings
        size = check_lattice(micrograph, lattice_spacings(settings["sample"], settings["optics"]))
        return (*micrograph.remarks, *(doubt for doubt in (micrograph.warning, size) if doubt is not None))

    def _given(
        self,
        images: np.ndarray | Micrograph,
        sampling: float | None,
        defocus: Sequence[float] | None,
        register: bool,
        region: Region,
    ) -> list[Micrograph]:
        """Convert an array or a micrograph into input of the model: frames of a movie, or an ordered focal series."""
        if isinstance(images, Micrograph):
            sampling = images.sampling if sampling is None else sampling
            whole = region.cropped(replace(images, sampling=sampling, **region.marks()))
            if self.focal == 1 and len(whole.images) > 1:
                return [
                    replace(whole, images=image, name=f"{whole.name}-{number:05d}", frame=number)
                    for number, image in enumerate(whole.images)
                ]
        else:
            source, marks = Path("array"), region.marks()
            number, rows, columns = check_shape("array", images.shape, images.dtype)
            if self.focal == 1 and number > 1:
                return [
                    region.cropped(Micrograph(image, sampling, f"array-{place:05d}", source, place, **marks))
                    for place, image in enumerate(images.reshape(number, rows, columns))
                ]
            whole = region.cropped(Micrograph(images, sampling, name="array", source=source, **marks))
        self.predictor.check(whole)
        if self.focal == 1:
            return [whole]
        whole = order_series(whole, defocus)
        # A series with known shifts was already registered while it was read.
        return [register_series(whole) if register and whole.shifts is None else whole]


def load(
    model: str | Path | Sequence[str | Path], device: str = "cpu", symmetric: bool = False, precision: str = "auto"
) -> Model:
    """Load a shipped model by name, or a model from a folder or a checkpoint; see :func:`hrtem.models.load`."""
    return Model(models.load(model, device=device, symmetric=symmetric, precision=precision))

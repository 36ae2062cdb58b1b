"""A trained model that finds atoms, and fits what it has found to the image."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hydra.utils import instantiate

from hrtem import models
from hrtem.api.table import AtomTable
from hrtem.errors import Failures
from hrtem.inference import Predictor
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

if TYPE_CHECKING:
    from hrtem.refinement.stacking import Stacking

#: Accepted forms of images: a file or folder, an array, a micrograph, or a list of files, folders and lists.
Images = str | Path | np.ndarray | Micrograph | Sequence[Any]


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

    def fit(
        self,
        table: AtomTable,
        known: Mapping[str, Any] | None = None,
        log: Callable[[str], None] = lambda text: None,
    ) -> AtomTable:
        """Fit atoms, tilt and microscope to the image in which the atoms of a table were found.

        Args:
            table: atoms that this model has found.
            known: settings of the microscope that are known, by name, see :mod:`hrtem.refinement.instrument`.
            log: is told the progress.

        Returns:
            The table with the fitted atoms and ``fit``, which has the microscope, the expected image and the residual.
            If the fit does not explain pixels that it has not seen better than the atoms of the table do, these stay,
            and a warning says so.

        Raises:
            InputError: no atom was found, a known setting does not exist, or the model is of a sample without a fit.
        """
        from hrtem.refinement import refine

        network, micrograph = self.predictor.network, table.prediction.micrograph
        stack = self.check_fit(known)
        result = refine(
            micrograph.images,
            table.sampling,
            table.columns,
            stack,
            network.optics,
            instantiate(network.settings["noise"], _convert_="all"),
            known,
            log,
            micrograph.valid,
        )
        prediction = replace(table.prediction, columns=result.columns)
        return AtomTable(prediction, (*table.warnings, *result.warnings), result)

    def check_fit(self, known: Mapping[str, Any] | None = None) -> Stacking:
        """Return how columns of the model's sample are stacked.

        Raises:
            InputError: a known setting does not exist, or the model is of a sample without a fit.
        """
        from hrtem.refinement import choose_stack
        from hrtem.refinement.instrument import parse_known

        parse_known(known, self.focal)
        return choose_stack(instantiate(self.predictor.network.settings["sample"], _convert_="all"))

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

"""The atom table: what was found in an image, in arrays with one entry per atom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hrtem import report
from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.inference import Prediction
from hrtem.micrograph import require_calibration
from hrtem.structure import Structure, analyse

if TYPE_CHECKING:
    import pandas

    from hrtem.refinement import Refinement


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
        fit: result of :meth:`Model.fit`, or None; its columns are those of the table.
    """

    prediction: Prediction
    warnings: tuple[str, ...] = ()
    fit: Refinement | None = None

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
        self.write_into(folder)
        return folder

    def write_into(self, folder: Path, settings: Mapping[str, Any] | None = None) -> None:
        """Write all files into an empty folder; the page lists ``settings``."""
        settings = dict(settings or {})
        if self.fit is not None:
            from hrtem.refinement.files import list_settings, write_fit

            write_fit(self.fit, folder)
            settings["fit"] = list_settings(self.fit)
        report.write_files([self.report()], folder, self.prediction.micrograph.name, settings)

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

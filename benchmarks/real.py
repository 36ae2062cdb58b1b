"""Models and classical methods on real micrographs: graphene with known atoms, and soot without visible atoms.

``python -m benchmarks real MODEL … [atomap=PYTHON] [output=FOLDER]``. The classical methods get the sign of the
contrast, and their settings are tuned on the same image on which they are scored; the models get no such information.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from skimage.io import imread

from benchmarks import classical
from hrtem import csv_files, folders, models
from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.matching import Score, match, score
from hrtem.micrograph import Micrograph, read
from hrtem.normalisation import LocalContrast
from hrtem.report.structures import structure_figure
from hrtem.structure import Structure, analyse

#: Pixel size, Å/px, and sign of the contrast: 1 for bright atoms, -1 for dark atoms.
CASES = {"graphene_dtu": (0.1185, 1), "graphene_flower": (0.2188, -1)}
#: Name of the micrograph with the loop of five- and seven-membered rings.
LOOP = "graphene_flower"
#: Pixel size of the micrograph of soot, Å/px.
SOOT = 0.555
#: Largest distance between the centres of matched rings, Å.
RING_TOLERANCE = 0.7
#: Gaussian width of the local contrast for the classical methods, Å; the same as for the networks.
CONTRAST = 12.0


@dataclass(frozen=True)
class Case:
    """A real micrograph with known atoms.

    Attributes:
        name: name of the folder.
        image: image ``(Y, X)``.
        sampling: pixel size, Å/px.
        sign: sign of the contrast.
        true: true positions ``(M, 2)`` Å.
        trusted: whether a true position is certain, bool ``(M,)``.
        mask: pixels in which atoms are scored, bool ``(Y, X)``.
    """

    name: str
    image: np.ndarray
    sampling: float
    sign: int
    true: np.ndarray
    trusted: np.ndarray
    mask: np.ndarray

    def score(self, found: np.ndarray) -> Score:
        """Score found positions with :func:`hrtem.metrics.score`."""
        return score(found, self.true, trusted=self.trusted, mask=self.mask, sampling=self.sampling)

    def rate(self, found: np.ndarray) -> float:
        """Rate found positions by F1 and, if that is equal, by the smaller position error."""
        result = self.score(found)
        return 0.0 if np.isnan(result.error_pm) else result.f1 - 1e-6 * result.error_pm

    def structure(self, positions: np.ndarray) -> Structure:
        """Analyse the structure of positions ``(N, 2)`` Å in this image."""
        rows, width = self.image.shape
        return analyse(_columns(positions), ((width - 1) * self.sampling, (rows - 1) * self.sampling))


@dataclass(frozen=True)
class Row:
    """Result of one method on one micrograph."""

    micrograph: str
    method: str
    settings: str
    score: Score
    rings: str
    soot: float

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the table, see :data:`HEADER`."""
        s = self.score
        shares = (f"{value:.3f}" for value in (s.precision, s.recall, s.f1))
        return self.micrograph, self.method, *shares, f"{s.error_pm:.1f}", self.rings, f"{self.soot:.1f}", self.settings


HEADER = (
    "micrograph", "method", "precision", "recall", "F1", "error (pm)", "rings of 5 / 7 found, false",
    "false atoms on soot per 100 nm²", "settings",
)  # fmt: skip


def read_case(folder: Path, name: str) -> Case:
    """Read a micrograph and its true atoms."""
    sampling, sign = CASES[name]
    place = folder / "real" / name
    try:
        with (place / "atoms.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        mask = imread(place / "evalmask.png") > 0
    except OSError as error:
        raise InputError(
            f"HRTEM_REAL_DATA must hold real/{name} with its truth, and {error.filename} is missing."
        ) from None
    image = read(place / "image.tif", sampling=sampling).images[0].astype(float)
    true = np.array([[float(row["x_px"]), float(row["y_px"])] for row in rows]) * sampling
    return Case(name, image, sampling, sign, true, np.array([row["trusted"] == "1" for row in rows]), mask)


def rings_found(case: Case, found: np.ndarray) -> str:
    """Count the found pentagons and heptagons of the loop, and the false non-hexagonal rings inside the mask."""
    truth = case.structure(case.true)
    answer = case.structure(found)
    if truth.rings is None or answer.rings is None:
        return "none"
    loop = truth.defects[0].rings
    parts, right = [], np.zeros(len(answer.rings), bool)
    for size in (5, 7):
        true = loop[truth.rings.sizes[loop] == size]
        mine = np.flatnonzero((answer.rings.sizes == size) & answer.rings.whole)
        i, _ = match(answer.rings.centres[mine], truth.rings.centres[true], RING_TOLERANCE)
        right[mine[i]] = True
        parts.append(f"{len(i)} of {len(true)}")
    column, row = np.round(answer.rings.centres / case.sampling).astype(int).T
    wrong = (answer.rings.sizes != 6) & ~right & case.mask[row, column]
    return f"{parts[0]} / {parts[1]}, {wrong.sum()}"


def main(*words: str) -> None:
    """Print the table, and write table and overlays into a new folder.

    Raises:
        InputError: ``HRTEM_REAL_DATA`` is unset, its folder lacks a file, or a word is invalid.
    """
    where = os.environ.get("HRTEM_REAL_DATA")
    if not where:
        raise InputError("HRTEM_REAL_DATA must name the folder of the real micrographs, and it is unset.")
    said = dict(word.split("=", 1) for word in words if word.partition("=")[0] in ("atomap", "output"))
    names = [word for word in words if word.partition("=")[0] not in ("atomap", "output")]
    cases = [read_case(Path(where), name) for name in CASES]
    soot = read(Path(where) / "real" / "negative" / "soot.tif", sampling=SOOT).images[0].astype(float)
    labels = folders.number_duplicates([Path(name).stem for name in names])
    finders = {label: models.load(name) for label, name in zip(labels, names, strict=True)}
    folder = folders.new_folder(said.get("output"), "real")
    python = said.get("atomap") or (sys.executable if find_spec("atomap") else None)
    rows: list[Row] = []

    def told(row: Row) -> None:
        rows.append(row)
        print(f"{row.micrograph}, {row.method}: F1 {row.score.f1:.3f}", flush=True)

    with classical.atomap(python) if python else nullcontext() as worker:
        for case in cases:
            for name, predictor in finders.items():

                def answer(image: np.ndarray, sampling: float, predictor=predictor) -> np.ndarray:  # type: ignore[no-untyped-def]
                    return predictor.find(Micrograph(image, sampling, "image", Path("image"))).columns.positions

                told(measured(case, soot, f"model {name}", "", answer, folder))
            contrast = _contrast(case.image, case.sampling)
            method, settings = classical.tuned_laplacian(contrast, case.sampling, case.sign, case.rate)
            told(measured(case, soot, "LoG", settings, _on_contrast(method), folder))
            if worker is not None:
                method, settings = worker.tuned(contrast, case.sampling, case.sign, case.rate)
                told(measured(case, soot, "Atomap", settings, _on_contrast(method), folder))
    table = Table(*HEADER, title="Real micrographs; the settings of LoG and Atomap are tuned on the image itself")
    for row in rows:
        table.add_row(*row.cells())
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    csv_files.write_rows(folder / "scores.csv", HEADER, [row.cells() for row in rows])
    print(f"The table and overlays are in {folder}.")


def measured(case: Case, soot: np.ndarray, name: str, settings: str, method: classical.Method, folder: Path) -> Row:
    """Run a method on a micrograph and on soot, and draw the found atoms."""
    found = method(case.image, case.sampling)
    stem = name.replace(" ", "-")
    structure_figure(
        case.image, _columns(found), case.structure(found), case.sampling, folder / f"{case.name}-{stem}.png"
    )
    false = method(soot, SOOT)
    area = soot.size * SOOT**2 / 1e4  # 100 nm²
    structure_figure(
        soot, _columns(false), analyse(_columns(false), (0.0, 0.0)), SOOT, folder / f"soot-{case.name}-{stem}.png"
    )
    rings = rings_found(case, found) if case.name == LOOP else ""
    return Row(case.name, name, settings, case.score(found), rings, len(false) / area)


def _columns(positions: np.ndarray) -> Columns:
    return Columns(positions, np.zeros(len(positions), int), ("C",))


def _contrast(image: np.ndarray, sampling: float) -> np.ndarray:
    """Calculate the local contrast as for the networks."""
    return LocalContrast(CONTRAST)(torch.from_numpy(image)[None, None], sampling)[0, 0].numpy()


def _on_contrast(method: classical.Method) -> Callable[[np.ndarray, float], np.ndarray]:
    return lambda image, sampling: method(_contrast(image, sampling), sampling)

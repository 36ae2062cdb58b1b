"""Decisions of an oracle at sites of a test set; the oracle knows the microscope and all other columns.

Each decision is a likelihood-ratio test between two equally probable occupations of a site, with the noise of the
detector, see :mod:`hrtem.limits`: an atom or a vacancy, two chalcogen atoms or one, metal or two chalcogen atoms, n
atoms or n + 1. The position limit is the Cramér-Rao bound.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms

from benchmarks.detection import settings_of
from hrtem.columns import Columns
from hrtem.limits import Exposure, compute_confusion, move_columns
from hrtem.training.data import View
from hrtem.training.testsets import TestSet
from hrtem.waves.cache import SPLITS
from hrtem.waves.multislice import find_exit_surface

#: Number of sites in each view for the oracle's decisions; the position limit is calculated at the first site.
SITES = 3
#: Half the side of the window around a site that is used for a decision, Å.
WINDOW = 8.0
#: Radius around a site, Å, within which the positions of all columns are unknown; columns outside are known.
TOGETHER = 3.0
#: Distance between atoms along a metal column, Å, for columns of one atom.
STEP = 2.88

Decisions = dict[str, list[list[float]]]


def decided(test_set: TestSet, views: int, counts: bool) -> tuple[Decisions, list[list[float]]]:
    """Calculate error probabilities of each decision, and position limits, in the first views of a test set.

    Args:
        test_set: the images.
        views: number of views.
        counts: whether decisions between numbers of atoms are included.

    Returns:
        Error probabilities of each decision, such as ``Mo | Mo vacancy``, for each site at each dose; the decision
        ``count`` is the probability that a count is confused with n - 1 or n + 1. Then, for each view, the smallest
        possible root mean square distance from the true position at each dose, pm.
    """
    decisions: Decisions = {}
    limits = []
    for number in range(views):
        for name, errors in _view(test_set, number, counts):
            if name == "position":
                limits.append(errors)
            else:
                decisions.setdefault(name, []).append(errors)
    return decisions, limits


def _view(test_set: TestSet, number: int, counts: bool) -> Iterator[tuple[str, list[float]]]:
    """Yield the error probabilities at some sites of a view, and the position limit at the first site."""
    images = test_set.images
    cache = images.cache
    atoms, columns = cache.sample(np.random.default_rng([images.seed, SPLITS[images.split], number % images.waves]))
    # All compared structures use the same exit plane, so that a change at the exit surface does not change the defocus.
    plane = find_exit_surface(atoms)
    whole = cache.wave(atoms, plane=plane)
    view, settings, rng = settings_of(images, number, whole.shape)
    seen = _Window(test_set, view)
    inside = columns.moved(columns.positions - seen.corner).inside(seen.side, seen.side, seen.rim)
    exposure = Exposure(images.imaging, settings)
    for count, site in enumerate(rng.permutation(np.flatnonzero(inside))[:SITES]):
        window = seen.around(columns.positions[site] - seen.corner)
        options = alternatives(atoms, columns, int(site), counts)
        waves = [seen.cut(cache.wave(one, plane=plane)) for one in options.values()]
        expected = exposure.expected(np.stack([seen.cut(whole), *waves]))[..., *window]
        apart: dict[str, list[float]] = {}
        for name, other in zip(options, expected[1:], strict=True):
            apart[name] = []
            for dose in test_set.doses:
                one = exposure.with_dose(dose)
                information = one.information((other - expected[0])[None], 0.5 * (other + expected[0]))
                apart[name].append(compute_confusion(float(np.sqrt(information[0, 0]))))
        beside = [apart.pop(name) for name in ("count - 1", "count + 1") if name in apart]
        if beside:
            yield "count", np.minimum(1.0, np.sum(beside, axis=0)).tolist()
        yield from apart.items()
        if count == 0 and columns.counts[site] > 0:
            near = np.linalg.norm(columns.positions - columns.positions[site], axis=1) <= TOGETHER
            sought = np.flatnonzero(near & (columns.counts > 0))
            moved = move_columns(cache.wave, atoms, sought.tolist())
            changes = exposure.changes(seen.cut(moved))[..., *window]
            mine = int(np.flatnonzero(sought == site)[0])
            bounds = [
                exposure.with_dose(dose).position_limits(expected[0], changes).joint[mine] for dose in test_set.doses
            ]
            yield "position", [float(bound) for bound in bounds]


class _Window:
    """The part of a wave in a view, including its margin, in the orientation of the view."""

    def __init__(self, test_set: TestSet, view: View) -> None:
        images, sampling = test_set.images, test_set.images.imaging.sampling
        self.view, self.sampling = view, sampling
        self.rows, self.columns = (slice(start, start + images.side) for start in (view.row, view.column))
        self.corner = np.array([view.column, view.row]) * sampling
        self.side = images.side * sampling
        self.rim = images.imaging.margin * sampling + 1.0
        self.shape = (images.side, images.side)

    def cut(self, wave: np.ndarray) -> np.ndarray:
        """Crop a wave to the window and rotate it like the image."""
        return np.ascontiguousarray(self.view.turned(wave[..., self.rows, self.columns]))

    def around(self, place: np.ndarray) -> tuple[slice, slice]:
        """Rows and columns up to :data:`WINDOW` around a ``place``, ``(x, y)`` Å before the rotation."""
        last = self.side - self.sampling
        x, y = place[::-1] if self.view.transpose else place
        x, y = (last - x if self.view.flip_x else x), (last - y if self.view.flip_y else y)
        half = round(WINDOW / self.sampling)
        starts = [int(np.clip(round(one / self.sampling) - half, 0, self.shape[0] - 2 * half)) for one in (y, x)]
        rows, columns = (slice(start, start + 2 * half) for start in starts)
        return rows, columns


def alternatives(atoms: Atoms, columns: Columns, site: int, counts: bool) -> dict[str, Atoms]:
    """Make structures with other occupations of a site, by the name of the decision.

    Args:
        atoms: the structure; the array ``column`` contains the column index of each atom.
        columns: columns of the structure.
        site: index of the column.
        counts: whether structures with one atom more and one atom less are included.

    Returns:
        Structures by name: ``A | B`` for two classes, or for a class and ``nothing``; ``count - 1`` and ``count + 1``.
    """
    member = atoms.get_array("column") == site
    name, classes = columns.classes[columns.labels[site]], columns.classes
    answer: dict[str, Atoms] = {}
    if not member.any():
        return answer
    vacancy = f"{name} vacancy"
    answer[f"{name} | {vacancy if vacancy in classes else 'nothing'}"] = atoms[~member]
    height = atoms.positions[member, 2]
    if name.endswith("2") and name[:-1] in classes:
        answer[f"{name} | {name[:-1]}"] = atoms[np.flatnonzero(~member | (np.arange(len(atoms)) == member.argmax()))]
    metal = next(
        (one.removesuffix(" vacancy") for one in classes if f"{one} vacancy" in classes and one[-1] != "2"), None
    )
    pair = next((one for one in classes if one[-1] == "2" and one[:-1] in classes), None)
    if metal and pair and name in (metal, pair):
        other = _nearest(columns, site, pair if name == metal else metal)
        if other is not None:
            answer[f"{metal} | {pair}"] = _replaced(atoms, member, atoms.get_array("column") == other)
    if counts:
        if len(height) > 1:
            top = np.flatnonzero(member)[height.argmax()]
            answer["count - 1"] = atoms[np.arange(len(atoms)) != top]
        answer["count + 1"] = _with_one_more(atoms, member)
    return answer


def _nearest(columns: Columns, site: int, name: str) -> int | None:
    """Find the nearest column of a class; None if the class has no columns."""
    members = np.flatnonzero(columns.labels == columns.classes.index(name))
    if not len(members):
        return None
    return int(members[np.linalg.norm(columns.positions[members] - columns.positions[site], axis=1).argmin()])


def _replaced(atoms: Atoms, member: np.ndarray, other: np.ndarray) -> Atoms:
    """Replace the atoms of a column by a displaced copy of the atoms of another column."""
    guests = atoms[other]
    guests.positions += atoms.positions[member].mean(axis=0) - guests.positions.mean(axis=0)
    return atoms[~member] + guests


def _with_one_more(atoms: Atoms, member: np.ndarray) -> Atoms:
    """Add one atom to a column, at the end with more free space in the cell."""
    places = atoms.positions[member]
    places = places[np.argsort(places[:, 2])]
    step = np.diff(places, axis=0).mean(axis=0) if len(places) > 1 else np.array([0.0, 0.0, STEP])
    guest = atoms[[int(member.argmax())]]
    up = atoms.cell.array[2, 2] - places[-1, 2] >= places[0, 2]
    guest.positions[:] = places[-1] + step if up else places[0] - step
    return atoms + guest

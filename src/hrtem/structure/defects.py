"""Site types of the atoms of a three-bonded sheet, and defects formed by rings other than hexagons."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from hrtem.structure.network import Bonds, Rings

#: Largest number of missing atoms in a vacancy; a ring with more missing atoms is a hole.
LARGEST_VACANCY = 6
#: Names of known defects by their ring sizes.
NAMES = {
    (5, 7): "dislocation",
    (5, 5, 7, 7): "rotated bond",
    (5, 5, 8): "divacancy",
    (5, 5, 5, 7, 7, 7): "divacancy 555-777",
    (5, 5, 5, 5, 7, 7, 7, 7): "divacancy 5555-6-7777",
    (5,) * 6 + (7,) * 6: "flower",
}


@dataclass(frozen=True)
class Defect:
    """A defect: complete rings other than hexagons that share bonds.

    Attributes:
        name: a name from :data:`NAMES`, or ``rings:`` followed by the number of rings of each size, such as
            ``rings: 12 of 5, 12 of 7``.
        rings: indices of the rings, ``(K,)``.
        centre: mean of the ring centres, ``(2,)`` Å.
        charge: sum of 6 − size; 0 for a defect that causes no curvature elsewhere in the sheet.
    """

    name: str
    rings: np.ndarray
    centre: np.ndarray
    charge: int


def find_defects(rings: Rings) -> list[Defect]:
    """Find the defects of a sheet, the largest first; vacancies with open bonds count as rings with missing atoms."""
    sizes = rings.sizes
    odd = np.flatnonzero((sizes != 6) & rings.whole)
    owner: dict[tuple[int, int], int] = {}
    shared = []
    for index, ring in enumerate(odd):
        for one, other in zip(rings.members[ring], np.roll(rings.members[ring], -1), strict=True):
            bond = (min(one, other), max(one, other))
            if bond in owner:
                shared.append((owner[bond], index))
            owner[bond] = index
    first, second = np.array(shared, int).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(first)), (first, second)), shape=(len(odd), len(odd)))
    _, group = connected_components(graph, directed=False)
    order = np.argsort(group, kind="stable")
    answer = []
    for mine in np.split(odd[order], np.flatnonzero(np.diff(group[order])) + 1) if len(odd) else ():
        kinds = tuple(sorted(sizes[mine].tolist()))
        named = ", ".join(f"{count} of {size}" for size, count in Counter(kinds).items())
        name = NAMES.get(kinds, f"rings: {named}")
        answer.append(Defect(name, mine, rings.centres[mine].mean(axis=0), int((6 - sizes[mine]).sum())))
    return sorted(answer, key=lambda defect: -len(defect.rings))


def rings_of(rings: Rings, number: int) -> list[list[int]]:
    """Indices of the rings around each of the ``number`` columns."""
    answer: list[list[int]] = [[] for _ in range(number)]
    for index, ring in enumerate(rings.members):
        for column in ring.tolist():
            answer[column].append(index)
    return answer


def sites(positions: np.ndarray, graph: Bonds, rings: Rings, extent: tuple[float, float]) -> np.ndarray:
    """Site type of each atom of a three-bonded sheet, str ``(N,)``.

    ``bulk``: three bonds and hexagons only; ``defect``: beside a complete ring of another size; ``vacancy``: on the rim
    of a ring with few missing atoms; ``edge``: on the rim of a hole or of the sheet; ``border``: fewer than three
    bonds, with the missing bonds pointing out of the image; ``crowded``: more than three bonds.

    Args:
        positions: ``(N, 2)`` Å.
        graph: bonds.
        rings: closed rings.
        extent: x and y of the centre of the last pixel, Å.
    """
    coordination = graph.coordination
    towards = np.zeros_like(positions)
    for side in (0, 1):
        here, there = graph.pairs[:, side], graph.pairs[:, 1 - side]
        np.add.at(towards, here, positions[there] - positions[here])
    reach = np.linalg.norm(towards, axis=1, keepdims=True)
    # The bond vectors of a complete atom add up to zero, so a missing bond points against the sum of the others.
    outside = positions - graph.length * towards / np.where(reach > 0.0, reach, np.inf)
    # An atom directly at the border may be missing because it is half outside the image.
    border = 0.5 * graph.length
    inside = np.all((outside > border) & (outside < np.asarray(extent) - border), axis=1)
    size, missing = rings.sizes, rings.missing
    answer = []
    for column, mine in enumerate(rings_of(rings, len(positions))):
        if coordination[column] > 3:
            site = "crowded"
        elif any(missing[ring] > LARGEST_VACANCY for ring in mine):
            site = "edge"
        elif any(missing[ring] > 0 for ring in mine):
            site = "vacancy"
        elif coordination[column] < 3:
            site = "edge" if inside[column] else "border"
        else:
            site = "defect" if any(size[ring] != 6 for ring in mine) else "bulk"
        answer.append(site)
    return np.array(answer, dtype=str) if answer else np.empty(0, "<U8")

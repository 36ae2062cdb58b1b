"""What each atom of a three-bonded sheet is part of, and the defects that rings other than hexagons make together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from hrtem.structure.network import Bonds, Rings

#: A ring that more atoms than this would fill is a hole.
LARGEST_VACANCY = 6
#: Defects with a name of their own, by the sizes of their rings.
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
    """Whole rings other than hexagons that share bonds.

    Attributes:
        name: one of :data:`NAMES`, or its rings, as ``12 rings of 5, 12 of 7``.
        rings: their indices, ``(K,)``.
        centre: ``(2,)`` Å.
        charge: sum of 6 − size; 0 for a defect that curves the sheet nowhere else.
    """

    name: str
    rings: np.ndarray
    centre: np.ndarray
    charge: int


def find_defects(rings: Rings) -> list[Defect]:
    """The defects of a sheet, the largest first; vacancies with open bonds are rings that miss atoms instead."""
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
    number, group = connected_components(graph, directed=False)
    answer = []
    for one in range(number):
        mine = odd[group == one]
        kinds = tuple(sorted(sizes[mine].tolist()))
        named = ", ".join(f"{count} of {size}" for size, count in Counter(kinds).items())
        name = NAMES.get(kinds, f"rings: {named}")
        answer.append(Defect(name, mine, rings.centres[mine].mean(axis=0), int((6 - sizes[mine]).sum())))
    return sorted(answer, key=lambda defect: -len(defect.rings))


def rings_of(rings: Rings, number: int) -> list[list[int]]:
    """Of each of the ``number`` columns the indices of its rings."""
    answer: list[list[int]] = [[] for _ in range(number)]
    for index, ring in enumerate(rings.members):
        for column in ring.tolist():
            answer[column].append(index)
    return answer


def sites(positions: np.ndarray, graph: Bonds, rings: Rings, extent: tuple[float, float]) -> np.ndarray:
    """What each atom of a three-bonded sheet is part of, str ``(N,)``.

    ``bulk``: three bonds, and hexagons only; ``defect``: beside a whole ring of another size; ``vacancy``: on the rim
    of a ring that few atoms would fill; ``edge``: on the rim of a hole or of the sheet; ``border``: fewer than three
    bonds, and the missing ones reach out of the image; ``crowded``: more than three bonds.

    Args:
        positions: ``(N, 2)`` Å.
        graph: bonds.
        rings: closed rings.
        extent: largest x and y of a pixel's centre, Å.
    """
    coordination = graph.coordination
    towards = np.zeros_like(positions)
    for side in (0, 1):
        here, there = graph.pairs[:, side], graph.pairs[:, 1 - side]
        np.add.at(towards, here, positions[there] - positions[here])
    reach = np.linalg.norm(towards, axis=1, keepdims=True)
    # The bonds of an atom add up to nothing, so what is missing points against the rest.
    outside = positions - graph.length * towards / np.where(reach > 0.0, reach, np.inf)
    # An atom right at the border may be missed for being half outside.
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

"""Random networks of carbon: graphene-like sheets without a lattice that would predict the positions of atoms."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from hrtem.errors import InputError
from hrtem.ranges import Range
from hrtem.samples.graphene import CarbonSheet
from hrtem.samples.rings import RingNetwork, even_out
from hrtem.samples.sheet import RIM


class GrapheneVoronoi(CarbonSheet):
    """The training structures of Madsen et al. (Adv. Theory Simul. 1, 1800037, 2018, arXiv 1802.03008).

    Lloyd's algorithm evens out random points with a minimum distance. These points are the ring centres, and the
    vertices of their Voronoi cells are the atoms. The original moves the atoms by one more step of Lloyd's algorithm;
    here they relax elastically, which gives the bond lengths of graphene.

    Args:
        least_distance: smallest distance of two random points, in units of the lattice constant, a number or a range.
        lloyd: number of steps of Lloyd's algorithm, a whole number or a range. Without any steps, rings have 4 to 9
            sides; many steps give grains.
        sheet: see :class:`CarbonSheet`.
    """

    def __init__(self, *arguments: Any, least_distance: Any = 0.77, lloyd: Any = 3, **sheet: Any) -> None:
        super().__init__(*arguments, **sheet)
        self.least_distance = Range.parse("sample.least_distance", least_distance, minimum=0.0, maximum=0.8)
        self.lloyd = Range.parse("sample.lloyd", lloyd, minimum=0.0, maximum=100.0)
        if self.lloyd.low % 1 or self.lloyd.high % 1:
            raise InputError(f"sample.lloyd must be a whole number of steps or a range of two, got {lloyd}.")

    def _rings(self, a: float, rng: np.random.Generator) -> tuple[RingNetwork, None]:
        side = self.extent + 2.0 * RIM
        number = round(side**2 / (np.sqrt(0.75) * a**2))
        centres = _apart(number, side, self.least_distance.draw(rng) * a, rng) - RIM
        for _ in range(int(rng.integers(int(self.lloyd.low), int(self.lloyd.high) + 1))):
            centres = even_out(centres)
        return RingNetwork(centres, a), None


def _apart(number: int, side: float, distance: float, rng: np.random.Generator) -> np.ndarray:
    """Draw ``number`` random points ``(N, 2)`` in a square, at least ``distance`` apart, by random sequential addition.

    The result has fewer points if no more fit.
    """
    tries = rng.uniform(0.0, side, size=(30 * number, 2))
    blocked = np.zeros(len(tries), bool)
    chosen: list[int] = []
    tree = cKDTree(tries)
    for index in range(len(tries)):
        if not blocked[index]:
            chosen.append(index)
            blocked[tree.query_ball_point(tries[index], distance)] = True
            if len(chosen) == number:
                break
    return tries[chosen]

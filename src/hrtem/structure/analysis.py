"""Structure analysis of columns, with results as fields of a table and as marks to draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hrtem.columns import Columns
from hrtem.structure.defects import LARGEST_VACANCY, Defect, find_defects, rings_of, sites
from hrtem.structure.lattice import Lattice, fit_lattice
from hrtem.structure.network import Bonds, Rings, find_bonds, find_rings, three_bonded

#: Minimum share of columns with three bonds, among columns with at least two bonds, in a three-bonded sheet.
SHEET = 0.5
#: Colours of rings by size, of vacancies, of holes and of edge atoms.
COLOURS = {4: "#984ea3", 5: "#377eb8", 7: "#e41a1c", 8: "#ff7f00"}
OTHER_RING, VACANCY, HOLE, EDGE = "#a65628", "#ffff33", "#999999", "#4daf4a"
RING_NAMES = {3: "triangle", 4: "square", 5: "pentagon", 6: "hexagon", 7: "heptagon", 8: "octagon"}


@dataclass(frozen=True)
class Mark:
    """A shape to draw over the image.

    Attributes:
        kind: group in the legend, for instance ``pentagon``.
        points: ``(K, 2)`` Å; one point marks a position, two points a line, more points a polygon.
        text: short description.
        colour: ``#rrggbb``.
    """

    kind: str
    points: np.ndarray
    text: str
    colour: str


@dataclass(frozen=True)
class Structure:
    """Arrangement of N columns.

    Attributes:
        bonds: neighbour graph.
        lattice: lattice of the largest crystal, or None without a lattice.
        rings: closed rings of a three-bonded sheet, or None for any other structure.
        defects: defects formed by rings other than hexagons, the largest first.
        fields: properties of the columns, ``(N,)`` arrays by name; lattice properties are NaN where unknown.
        marks: shapes to draw.
    """

    bonds: Bonds
    lattice: Lattice | None
    rings: Rings | None
    defects: list[Defect]
    fields: dict[str, np.ndarray]
    marks: list[Mark]

    def summary(self) -> str:
        """Summarise rings, vacancies and lattice in one sentence."""
        parts = []
        if self.rings is not None:
            counts = self.rings.counts().items()
            parts.append(", ".join(f"{number} rings of {size}" for size, number in counts) or "no closed ring")
            missing = self.rings.missing
            for name, those in (
                ("vacancies", missing[(missing > 0) & (missing <= LARGEST_VACANCY)]),
                ("holes", missing[missing > LARGEST_VACANCY]),
            ):
                if len(those):
                    parts.append(f"{len(those)} {name}")
        if self.lattice is not None:
            a, b, angle = self.lattice.lengths()
            parts.append(f"lattice {a:.3f} × {b:.3f} Å, {angle:.1f}°")
        return "; ".join(parts) or "no structure"


def analyse(columns: Columns, extent: tuple[float, float]) -> Structure:
    """Analyse the structure of columns: neighbours, lattice, and rings and defects of a three-bonded sheet.

    Args:
        columns: N columns of one image.
        extent: x and y of the centre of the last pixel, Å.
    """
    positions = columns.positions
    graph = find_bonds(positions)
    crystal = fit_lattice(columns)
    coordination = graph.coordination
    inner = coordination[coordination >= 2]
    sheet = len(inner) > 0 and float(np.mean(inner == 3)) >= SHEET
    if sheet:
        graph = three_bonded(positions, graph)
        coordination = graph.coordination
    closed = find_rings(positions, graph) if sheet else None
    fields: dict[str, np.ndarray] = {}
    found: list[Defect] = []
    marks: list[Mark] = []
    if closed is not None:
        sizes = closed.sizes
        around = ["-".join(str(sizes[ring]) for ring in mine) for mine in rings_of(closed, len(positions))]
        found = find_defects(closed)
        site = sites(positions, graph, closed, extent)
        fields |= {"bonds": coordination, "rings": np.array(around, dtype=str), "site": site}
        marks = [*_ring_marks(closed), *(Mark("edge", positions[[one]], "edge", EDGE) for one in _at(site, "edge"))]
    fields |= _lattice_fields(crystal, len(positions))
    return Structure(graph, crystal, closed, found, fields, marks)


def _at(site: np.ndarray, name: str) -> np.ndarray:
    return np.flatnonzero(site == name)


def _ring_marks(rings: Rings) -> list[Mark]:
    """Marks of all rings except complete hexagons."""
    marks = []
    for corners, missing in zip(rings.corners, rings.missing, strict=True):
        size = len(corners)
        if missing > LARGEST_VACANCY:
            marks.append(Mark("hole", corners, f"hole, about {missing} atoms", HOLE))
        elif missing:
            text = f"vacancy, {missing} missing, ring of {size}"
            marks.append(Mark("vacancy", corners, text, VACANCY))
        elif size != 6:
            name = RING_NAMES.get(size, f"ring of {size}")
            marks.append(Mark(name, corners, name, COLOURS.get(size, OTHER_RING)))
    return marks


def _lattice_fields(crystal: Lattice | None, number: int) -> dict[str, np.ndarray]:
    """Indices, displacement in Å, strain and rotation in degrees; NaN where unknown."""
    names = ("cell_a", "cell_b", "motif", "u_x_A", "u_y_A", "e_xx", "e_yy", "e_xy", "rotation_deg")
    if crystal is None:
        return {name: np.full(number, np.nan) for name in names}
    known = crystal.motif >= 0
    whole = np.column_stack([crystal.indices, crystal.motif]).astype(float)
    whole[~known] = np.nan
    values = (*whole.T, *crystal.displacements.T, *crystal.strains.T, np.degrees(crystal.rotations))
    return dict(zip(names, values, strict=True))

"""Arrangement of columns: neighbours, rings and defects of a sheet; lattice, strain and 3D model of a crystal."""

from hrtem.structure.analysis import Mark, Structure, analyse
from hrtem.structure.defects import Defect, find_defects, sites
from hrtem.structure.lattice import Lattice, fit_lattice
from hrtem.structure.network import Bonds, Rings, find_bonds, find_rings, three_bonded
from hrtem.structure.solid import Solid, build_solid

__all__ = [
    "Bonds",
    "Defect",
    "Lattice",
    "Mark",
    "Rings",
    "Solid",
    "Structure",
    "analyse",
    "build_solid",
    "find_bonds",
    "find_defects",
    "find_rings",
    "fit_lattice",
    "sites",
    "three_bonded",
]  # fmt: skip

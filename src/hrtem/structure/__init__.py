"""How columns are arranged: neighbours, rings and defects of a sheet, lattice, strain and solid of a crystal."""

from hrtem.structure.analysis import Mark, Structure, analyse
from hrtem.structure.defects import Defect, defects, sites
from hrtem.structure.lattice import Lattice, lattice
from hrtem.structure.network import Bonds, Rings, bonds, rings, three_bonded
from hrtem.structure.solid import Solid, solid

__all__ = [
    "Bonds", "Defect", "Lattice", "Mark", "Rings", "Solid", "Structure",
    "analyse", "bonds", "defects", "lattice", "rings", "sites", "solid", "three_bonded",
]  # fmt: skip

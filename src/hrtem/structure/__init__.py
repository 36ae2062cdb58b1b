"""How columns are arranged: neighbours, rings and defects of a sheet, lattice, displacement and strain of a crystal."""

from hrtem.structure.analysis import Mark, Structure, analyse
from hrtem.structure.defects import Defect, defects, sites
from hrtem.structure.lattice import Lattice, lattice
from hrtem.structure.network import Bonds, Rings, bonds, rings, three_bonded

__all__ = [
    "Bonds", "Defect", "Lattice", "Mark", "Rings", "Structure",
    "analyse", "bonds", "defects", "lattice", "rings", "sites", "three_bonded",
]  # fmt: skip

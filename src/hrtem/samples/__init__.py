"""Structures to simulate: each sample draws atoms and their columns from a random generator."""

from hrtem.samples.base import Sample
from hrtem.samples.file import StructureFile
from hrtem.samples.gold import Gold
from hrtem.samples.graphene import Graphene
from hrtem.samples.mos2 import MoS2
from hrtem.samples.voronoi import GrapheneVoronoi

__all__ = ["Gold", "Graphene", "GrapheneVoronoi", "MoS2", "Sample", "StructureFile"]

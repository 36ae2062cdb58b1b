"""Python interface for finding atoms: ``hrtem.load("graphene").find("image.dm4")``."""

from hrtem.api.model import Images, Model, load
from hrtem.api.table import Atom, AtomTable

__all__ = ["Atom", "AtomTable", "Images", "Model", "load"]

"""Fit of structure, microscope and camera to what was recorded, starting from a network's answer."""

from hrtem.refinement.stacking import choose_stack
from hrtem.refinement.strategy import Refinement, Setting, refine

__all__ = ["Refinement", "Setting", "choose_stack", "refine"]

"""Trained networks on images and movies of any size: what is kept in memory does not grow with them."""

from hrtem.inference.ensemble import Ensemble
from hrtem.inference.finder import Finder
from hrtem.inference.movie import Frame, claim, follow, found
from hrtem.inference.prediction import Prediction

__all__ = ["Ensemble", "Finder", "Frame", "Prediction", "claim", "follow", "found"]

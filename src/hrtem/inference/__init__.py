"""Trained networks on images of any size: what is kept in memory does not grow with them."""

from hrtem.inference.ensemble import Ensemble
from hrtem.inference.prediction import Prediction
from hrtem.inference.predictor import Predictor

__all__ = ["Ensemble", "Prediction", "Predictor"]

"""Inference with trained networks on images of any size; the memory does not grow with the size of an image."""

from hrtem.inference.ensemble import Ensemble
from hrtem.inference.prediction import Prediction
from hrtem.inference.predictor import Predictor

__all__ = ["Ensemble", "Prediction", "Predictor"]

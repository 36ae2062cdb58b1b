"""Calibration of a network: probabilities of columns, uncertainties of positions, reliability, training domain."""

from hrtem.calibration.evidence import AROUND, Peaks
from hrtem.calibration.presence import MASS, probabilities
from hrtem.calibration.reliability import CANDIDATE, Diagram
from hrtem.calibration.uncertainty import AS_DRAWN, COEFFICIENTS, UNKNOWN, variances
from hrtem.calibration.widening import UNCORRECTED, position_variance

__all__ = [
    "AROUND", "AS_DRAWN", "CANDIDATE", "COEFFICIENTS", "MASS", "UNCORRECTED", "UNKNOWN", "Diagram", "Peaks",
    "position_variance", "probabilities", "variances",
]  # fmt: skip

"""Whether a network knows how sure it is, and what its peaks mean: probabilities and uncertainties that hold."""

from hrtem.calibration.presence import MASS, Presence, probabilities
from hrtem.calibration.reliability import CANDIDATE, Diagram, Reliability
from hrtem.calibration.widening import KNOTS, UNCORRECTED, Widening, position_variance

__all__ = [
    "CANDIDATE", "KNOTS", "MASS", "UNCORRECTED", "Diagram", "Presence", "Reliability", "Widening",
    "position_variance", "probabilities",
]  # fmt: skip

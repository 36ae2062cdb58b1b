"""What no method can beat: bounds on positions, decisions and numbers of atoms, from the forward model of the images.

Two kinds of bound. An oracle knows the microscope and all columns but those in question, see
:mod:`hrtem.limits.exposure`. An experimenter knows neither, see :mod:`hrtem.limits.joint`. Counts of electrons are
Gaussian about their mean with the covariance of the detector.
"""

from hrtem.limits.changes import Changes, Window, series_changes
from hrtem.limits.exposure import (
    BATCH,
    RESIDUAL,
    STEP,
    Exposure,
    PositionLimits,
    confusion,
    dose_for,
    moved_waves,
)
from hrtem.limits.joint import INSIDE, PRIORS, JointLimits, exact_chance, joint_limits

__all__ = [
    "BATCH",
    "INSIDE",
    "PRIORS",
    "RESIDUAL",
    "STEP",
    "Changes",
    "Exposure",
    "JointLimits",
    "PositionLimits",
    "Window",
    "confusion",
    "dose_for",
    "exact_chance",
    "joint_limits",
    "moved_waves",
    "series_changes",
]

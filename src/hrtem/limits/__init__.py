"""What no method can beat: bounds on positions, decisions and numbers of atoms, from the forward model of the images.

Two kinds of bound. An oracle knows the microscope and all columns but those in question, see
:mod:`hrtem.limits.exposure`. An experimenter knows neither, see :mod:`hrtem.limits.joint`. Counts of electrons are
Gaussian about their mean with the covariance of the detector.
"""

from hrtem.limits.changes import Changes, Window, differentiate_series
from hrtem.limits.exposure import (
    BATCH,
    RESIDUAL,
    STEP,
    Exposure,
    PositionLimits,
    compute_confusion,
    find_dose,
    move_columns,
)
from hrtem.limits.joint import INSIDE, PRIORS, JointLimits, compute_joint_limits, exact_chance

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
    "compute_confusion",
    "compute_joint_limits",
    "differentiate_series",
    "exact_chance",
    "find_dose",
    "move_columns",
]

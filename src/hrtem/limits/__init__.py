"""Lower bounds for any method on errors of positions, decisions and numbers of atoms, from the forward model.

There are two kinds of bounds. For an oracle, the microscope and all other columns are known, see
:mod:`hrtem.limits.exposure`. For an experimenter, neither is known, see :mod:`hrtem.limits.joint`. Electron counts are
Gaussian with the expected image as mean and with the covariance of the detector.
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

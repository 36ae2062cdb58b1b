"""Best precision of counting the atoms of each column for an experimenter without knowledge of structure or microscope.

The Fisher information of a focal series about all unknown parameters together is ``F = Jᵀ C⁻¹ J`` (Kay 1993, section
3.9, for the mean of Gaussian counts; the information in their covariance is neglected). With a prior of precision Λ,
``(F + Λ)⁻¹`` bounds the covariance of estimates (van Trees 1968, section 2.4). Numbers of atoms are treated as
continuous: the unknowns are the occupancies of both end atoms of each column, and their sum gives the change of the
number. An unbiased estimate that reaches this bound and is rounded to the nearest whole number is correct if its
Gaussian error stays below one half. The bound does not use that numbers of atoms are whole, that the columns of a
particle form a crystal, or any knowledge of its surface; methods with this knowledge may do better. On the other hand,
the information is local: it assumes that no structure is confused with another that differs strongly from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import erf

from hrtem.errors import InputError
from hrtem.limits.changes import Changes
from hrtem.limits.particle import OF_COLUMN

#: Prior knowledge of an experimenter, as standard deviations of independent Gaussians: Å for positions, defocus and
#: aberrations, atoms for the ends of columns, degrees, relative strain, scale and offset in units of the intensity in
#: vacuum. Nearly all priors are much wider than the uncertainty from images of 1,000 e/Å² and only make the information
#: invertible: a rotation or strain of the particle is equivalent to displacements of all its columns. 0 means that a
#: parameter is known, infinity that nothing is known about it.
PRIORS: Mapping[str, float] = {
    "x": 0.5,
    "y": 0.5,
    "top": 3.0,
    "bottom": 3.0,
    "tilt": 2.5,
    "rotation": 2.5,
    "strain": 0.02,
    "defocus": 200.0,
    "shift": 0.5,
    "Cs": 30e4,
    "C5": 4e7,
    "focal_spread": 20.0,
    "vibration": 0.3,
    "astigmatism": 30.0,
    "coma": 200.0,
    "threefold": 300.0,
    "drift": 0.3,
    "scale": 0.1,
    "offset": 0.1,
    "half": 0.3,
    "power": 1.0,
}

#: Relative residual at which the conjugate gradients stop; standard deviations are then accurate to about 10⁻⁴.
RESIDUAL = 1e-3

#: Smallest distance of evaluated columns from the border of the visible area, Å; see :class:`JointLimits`.
INSIDE = 4.0


@dataclass(frozen=True)
class JointLimits:
    """Smallest standard deviations of unbiased estimates from one focal series.

    Attributes:
        columns: ``(N,)``, values of the atoms' array ``column`` for columns at least :data:`INSIDE` from the border.
        count: ``(N,)``, standard deviation of the number of atoms, if all parameters are unknown.
        single: ``(N,)``, standard deviation of the number of atoms, if all but the column's two ends is known.
        position: ``(N, 2)``, standard deviation of x and y, pm, if all parameters are unknown.
        others: standard deviations of parameters that do not belong to columns, by name, in the units of
            :data:`PRIORS`; a parameter of each image or with two components has several values.
    """

    columns: np.ndarray
    count: np.ndarray
    single: np.ndarray
    position: np.ndarray
    others: dict[str, np.ndarray]

    @property
    def exact(self) -> np.ndarray:
        """Probability that the number of atoms of each column is exact, ``(N,)``, if all parameters are unknown."""
        return exact_chance(self.count)

    @property
    def exact_single(self) -> np.ndarray:
        """Probability that the number of atoms of each column is exact, ``(N,)``, if all but its ends is known."""
        return exact_chance(self.single)

    @property
    def tilt(self) -> float:
        """Standard deviation of the tilt, degrees, root mean square over x and y; NaN if the tilt is known."""
        return float(np.sqrt(np.mean(np.square(self.others["tilt"])))) if "tilt" in self.others else math.nan


def exact_chance(deviation: np.ndarray) -> np.ndarray:
    """Probability that a Gaussian error of standard ``deviation`` σ stays below one half: ``erf(1 / (2 √2 σ))``."""
    return erf(0.5 / (math.sqrt(2.0) * np.asarray(deviation)))


def compute_joint_limits(
    changes: Changes, doses: Sequence[float] = (), priors: Mapping[str, float] | None = None
) -> list[JointLimits]:
    """Compute the limits for each of the given doses.

    Args:
        changes: derivatives from :func:`hrtem.limits.differentiate_series`.
        doses: doses of each image, e/Å²; the default is the dose of the exposure.
        priors: standard deviations that replace entries of :data:`PRIORS`.

    Raises:
        InputError: the name of a prior is unknown, its value is negative, the ends of columns are fixed, or the images
            do not determine all parameters with these priors.
    """
    for name, value in (priors or {}).items():
        if name not in PRIORS or not value >= 0.0:
            raise InputError(
                f"a prior must be a standard deviation, 0 or more, of one of {', '.join(PRIORS)}; got {name}: {value}."
            )
    if not all((priors or {}).get(end, 1.0) > 0.0 for end in ("top", "bottom")):
        raise InputError("the ends of columns, top and bottom, must not be known where atoms are to be counted.")
    deviations = np.array([{**PRIORS, **(priors or {})}[name] for name in changes.names])
    doses = tuple(doses) or (float(changes.exposure.settings["dose"]),)
    answers = []
    information: np.ndarray | None = None
    for dose in doses:
        exposure = changes.exposure.at(dose=dose)
        if information is None or exposure.readout > 0.0:
            information = exposure.information(changes.images, changes.expected, RESIDUAL) / dose
        answers.append(_limits(changes, 0.5 * dose * (information + information.T), deviations))
    return answers


def _limits(changes: Changes, information: np.ndarray, deviations: np.ndarray) -> JointLimits:
    """Limits for a Fisher ``information`` ``(P, P)`` and priors with the standard ``deviations``."""
    sought = np.flatnonzero(deviations > 0.0)
    total = information[np.ix_(sought, sought)] + np.diag(deviations[sought] ** -2.0)
    # Scales the diagonal to 1, independent of the units.
    scale = np.sqrt(total.diagonal())
    if not (scale > 0.0).all():
        raise InputError("the images tell nothing about some of the parameters, which need a prior.")
    try:
        factor = np.linalg.inv(np.linalg.cholesky(total / np.outer(scale, scale)))
    except np.linalg.LinAlgError:
        raise InputError("the images do not tell all of the parameters apart, which need narrower priors.") from None
    covariance = np.full((len(deviations), len(deviations)), 0.0)
    covariance[np.ix_(sought, sought)] = factor.T @ factor / np.outer(scale, scale)
    counted = np.flatnonzero(changes.depth >= INSIDE)
    ends = len(OF_COLUMN) * counted[:, None] + [OF_COLUMN.index("top"), OF_COLUMN.index("bottom")]
    count = covariance[ends[:, :, None], ends[:, None, :]].sum(axis=(1, 2))
    prior = np.eye(2) * deviations[ends][:, :, None] ** -2.0
    alone = np.linalg.inv(information[ends[:, :, None], ends[:, None, :]] + prior).sum(axis=(1, 2))
    spread = np.sqrt(covariance.diagonal())
    places = len(OF_COLUMN) * counted[:, None] + [OF_COLUMN.index("x"), OF_COLUMN.index("y")]
    names = np.array(changes.names)
    others = {
        name: spread[names == name]
        for name in dict.fromkeys(changes.names[len(OF_COLUMN) * len(changes.columns) :])
        if (deviations[names == name] > 0.0).all()
    }
    return JointLimits(changes.columns[counted], np.sqrt(count), np.sqrt(alone), 100.0 * spread[places], others)

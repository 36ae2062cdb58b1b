"""How well an experimenter, who knows neither structure nor microscope, could count the atoms of each column.

The Fisher information of a focal series about all that is unknown at once is ``F = Jᵀ C⁻¹ J`` (Kay 1993, section 3.9,
for the mean of Gaussian counts; what their covariance tells by itself is left out). With a prior of precision Λ,
``(F + Λ)⁻¹`` bounds the covariance of estimates (van Trees 1968, section 2.4). Counts are taken as continuous: the
occupancies of both end atoms of each column are sought, and their sum is what counts. One who estimates without bias
and as well as this bound, and takes the nearest whole number, is right where the Gaussian error stays below one half.
It is not used that counts are whole numbers, that the columns of a particle form a crystal, or what its surface may
look like; who uses these may do better. On the other hand the information is that beside the truth: it supposes that
nobody takes one structure for another that is far from it.
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

#: What an experimenter knows before, as standard deviations of independent Gaussians: Å for positions, defocus and
#: aberrations, atoms for the ends of columns, degrees, relative strain, scale and offset in units of the intensity in
#: vacuum. Nearly all are much wider than what images of 1,000 e/Å² tell, and only make the information invertible: a
#: rotation or a strain of the particle cannot be told from moves of all its columns. 0 would mean known, infinity
#: nothing known.
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

#: Relative residual at which the conjugate gradients stop; standard deviations are then right to about 10⁻⁴.
RESIDUAL = 1e-3

#: Only columns at least this far inside the border of what is seen count, Å; see :class:`JointLimits`.
INSIDE = 4.0


@dataclass(frozen=True)
class JointLimits:
    """Smallest standard deviations of unbiased estimates from one focal series.

    Attributes:
        columns: ``(N,)``, values of the atoms' array ``column``, of those that lie at least :data:`INSIDE` inside.
        count: ``(N,)``, of the number of atoms, if all is sought at once.
        single: ``(N,)``, of the number of atoms, if all but the column's two ends is known.
        position: ``(N, 2)``, of x and y, pm, if all is sought at once.
        others: of all that is not of a column, by its name, in the units of :data:`PRIORS`; what each image or each
            component has of its own has as many.
    """

    columns: np.ndarray
    count: np.ndarray
    single: np.ndarray
    position: np.ndarray
    others: dict[str, np.ndarray]

    @property
    def exact(self) -> np.ndarray:
        """Chance that the number of each column is exact, ``(N,)``, if all is sought at once."""
        return exact_chance(self.count)

    @property
    def exact_single(self) -> np.ndarray:
        """Chance that the number of each column is exact, ``(N,)``, if all but its ends is known."""
        return exact_chance(self.single)

    @property
    def tilt(self) -> float:
        """Standard deviation of the tilt about x or y, degrees, root mean square of both; NaN if it was known."""
        return float(np.sqrt(np.mean(np.square(self.others["tilt"])))) if "tilt" in self.others else math.nan


def exact_chance(deviation: np.ndarray) -> np.ndarray:
    """Chance that a Gaussian error of this standard ``deviation`` stays below one half: ``erf(1 / (2 √2 σ))``."""
    return erf(0.5 / (math.sqrt(2.0) * np.asarray(deviation)))


def compute_joint_limits(
    changes: Changes, doses: Sequence[float] = (), priors: Mapping[str, float] | None = None
) -> list[JointLimits]:
    """Limits at each of some doses.

    Args:
        changes: as :func:`hrtem.limits.differentiate_series` gives them.
        doses: of each image, e/Å²; that of the exposure if none are given.
        priors: standard deviations that differ from :data:`PRIORS`.

    Raises:
        InputError: a prior is of nothing that is unknown, or negative; or without priors the images do not tell all.
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
    """Limits where images tell ``information`` ``(P, P)`` and there are priors of the standard ``deviations``."""
    sought = np.flatnonzero(deviations > 0.0)
    total = information[np.ix_(sought, sought)] + np.diag(deviations[sought] ** -2.0)
    # Of the order of one, whatever the units are.
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

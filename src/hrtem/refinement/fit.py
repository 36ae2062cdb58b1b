"""Levenberg-Marquardt fit of a crystal and an instrument to a focal series."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hrtem.refinement.derivatives import OF_COLUMN, differentiate_columns, imaged_size
from hrtem.refinement.forward import ForwardModel
from hrtem.refinement.instrument import Instrument, Unknown
from hrtem.refinement.observation import Observation
from hrtem.refinement.specimen import Specimen
from hrtem.waves.differentiable import Passage

#: Step of the tilt in central differences, radians, and of the numbers of atoms of all columns together.
TILT_STEP, GROWTH_STEP = math.radians(0.05), 0.25
#: Parameters that all columns share: tilt along x and y, and a number of atoms that is added to all columns.
OF_ALL = ("tilt x", "tilt y", "growth")
#: Prior standard deviation of the tilt along x and y, radians.
TILT = math.radians(1.5)
#: Smallest decrease of the misfit for which another step is taken.
ENOUGH = 2.0


@dataclass(frozen=True)
class Prior:
    """What is known before the fit.

    Attributes:
        places: of the network, Å, ``(N, 2)``; standard deviation, Å.
        counts: of the network, ``(N,)``.
        middles: heights of the middles of columns, in periods, ``(N,)``.
        deviations: standard deviations of x and y, Å, of the number of atoms, of the middle in periods, and scale of
            the density, whose prior is a Cauchy distribution, ``(N, 4)``.
        growth: standard deviation of the common error of all numbers of atoms.
        unknowns: settings of the instrument.
        steps: mean and standard deviation of the difference of the defocus of successive images, Å; None for an image.
    """

    places: Tensor
    counts: Tensor
    middles: Tensor
    deviations: Tensor
    growth: float
    unknowns: Sequence[Unknown]
    steps: tuple[float, float] | None = None

    def terms(
        self, crystal: Specimen, instrument: Instrument, columns: bool
    ) -> Iterator[tuple[list[int], list[float], float, float]]:
        """Yield parameters, their factors, the distance of the sum from its mean, and its standard deviation."""
        number = len(crystal)
        first = len(OF_COLUMN) * number if columns else 0
        for axis in (0, 1):
            yield [first + axis], [1.0], float(crystal.tilt[axis]), TILT
        more = (crystal.counts - self.counts).numpy()
        if not columns:
            yield [first + 2], [1.0], float(more.mean()), self.growth
        for place, one in enumerate(self.unknowns, start=first + len(OF_ALL)):
            yield [place], [1.0], instrument.value(one) - one.mean, one.deviation
        foci = [place for place, one in enumerate(self.unknowns, first + len(OF_ALL)) if one.name == "defocus"]
        if self.steps and foci:
            mean, deviation = self.steps
            differences = (instrument.values["defocus"].diff() - mean).tolist()
            for before, after, distance in zip(foci, foci[1:], differences, strict=False):
                yield [before, after], [-1.0, 1.0], distance, deviation
        if not columns:
            return
        # The common error of the network's numbers is the most probable one.
        weights = self.deviations[:, 1].numpy() ** -2.0
        growth = float((weights * more).sum() / (weights.sum() + self.growth**-2.0))
        per_count = crystal.per_count().numpy()
        away = (crystal.positions - self.places).numpy()
        middle = (0.5 * (crystal.top + crystal.bottom) + crystal.phase - self.middles).numpy()
        for column in range(number):
            place, count, height, density = self.deviations[column].tolist()
            x, y, top, bottom, inner = range(len(OF_COLUMN) * column, len(OF_COLUMN) * (column + 1))
            yield [x], [1.0], float(away[column, 0]), place
            yield [y], [1.0], float(away[column, 1]), place
            yield [top, bottom, inner], per_count[column].tolist(), float(more[column]) - growth, count
            yield [top, bottom], [0.5, -0.5], float(middle[column]), height
            lack = float(crystal.density[column]) - 1.0
            yield [inner], [1.0], lack, math.sqrt(0.5 * (density**2 + lack**2))


@dataclass(frozen=True)
class Estimate:
    """A point of the fit with its linearisation.

    Attributes:
        crystal, instrument: the point.
        misfit: sum of squared residuals.
        cost: the misfit with the squared distances from the means of the prior.
        pixels: number of residuals.
        information: ``(P, P)``, Fisher information with the prior.
        slope: ``(P,)``, half the negative gradient of the cost.
        unknowns: settings of the instrument that are fitted.
        columns: whether the first ``5 N`` parameters are those of the columns; then follow :data:`OF_ALL` and the
            unknowns.
    """

    crystal: Specimen
    instrument: Instrument
    misfit: float
    cost: float
    pixels: int
    information: np.ndarray
    slope: np.ndarray
    unknowns: Sequence[Unknown]
    columns: bool

    @property
    def covariance(self) -> np.ndarray:
        """Covariance ``(P, P)`` of all parameters."""
        scale = np.sqrt(self.information.diagonal())
        return np.linalg.inv(self.information / np.outer(scale, scale)) / np.outer(scale, scale)

    @property
    def count_covariance(self) -> np.ndarray:
        """Covariance ``(N, N)`` of the numbers of atoms of the columns."""
        number, each = len(self.crystal), len(OF_COLUMN)
        parts = self.covariance[: each * number, : each * number].reshape(number, each, number, each)[:, 2:, :, 2:]
        factors = self.crystal.per_count().numpy()
        return np.einsum("ia,iajb,jb->ij", factors, parts, factors)


class Fit:
    """Fit of one focal series.

    Args:
        field: what is simulated.
        quick: the same with thicker slices, for derivatives. Their errors must stay near a percent: numbers of atoms,
            contrast and aberrations compensate each other nearly, and larger errors end the fit far from its minimum.
        observation: the series.
        prior: what is known.
    """

    def __init__(self, field: ForwardModel, quick: ForwardModel, observation: Observation, prior: Prior) -> None:
        self.field, self.quick, self.observation, self.prior = field, quick, observation, prior

    def residual(self, crystal: Specimen, instrument: Instrument) -> tuple[Tensor, Tensor]:
        """Expected image and residual."""
        expected = self.field.expected(crystal, instrument)
        return expected, self.observation.residual(expected)

    def cost(self, crystal: Specimen, instrument: Instrument, columns: bool) -> float:
        """Sum of squared residuals and squared distances from the means of the prior."""
        _, residual = self.residual(crystal, instrument)
        return _squared(residual) + self._strain(crystal, instrument, columns)

    def _strain(self, crystal: Specimen, instrument: Instrument, columns: bool) -> float:
        return sum((one[2] / one[3]) ** 2 for one in self.prior.terms(crystal, instrument, columns))

    def linearise(self, crystal: Specimen, instrument: Instrument, columns: bool = True) -> Estimate:
        """Expand the residuals to first order in all parameters; without ``columns`` in the shared ones only."""
        quick, observation = self.quick, self.observation
        expected, residual = self.residual(crystal, instrument)
        passage = quick.slices.trace(quick.potential(crystal))
        wave = quick.slices.leave(passage.behind, 0.0)
        amplitudes = quick.amplitudes(wave, instrument)
        shared = [
            self._differentiate_all(crystal, instrument),
            quick.differentiate_instrument(wave, amplitudes, instrument, self.prior.unknowns),
        ]
        changes = observation.whiten(quick.seen(torch.cat(shared)), expected).flatten(1)
        first = len(OF_COLUMN) * len(crystal) if columns else 0
        jacobian = torch.zeros(first + len(changes), changes.shape[1])
        jacobian[first:] = changes
        if columns:
            self._differentiate_columns(crystal, instrument, passage, amplitudes, expected, jacobian[:first])
        information = (jacobian @ jacobian.T).double().numpy()
        slope = (jacobian @ residual.flatten()).double().numpy()
        if columns:
            # The columns themselves have the numbers of atoms.
            growth = first + OF_ALL.index("growth")
            information[growth], information[:, growth], slope[growth] = 0.0, 0.0, 0.0
            information[growth, growth] = 1.0
        for parameters, factors, distance, deviation in self.prior.terms(crystal, instrument, columns):
            vector = np.array(factors)
            information[np.ix_(parameters, parameters)] += np.outer(vector, vector) / deviation**2
            slope[parameters] -= vector * distance / deviation**2
        misfit = _squared(residual)
        used = int(observation.weights.sum()) * len(observation.counts)
        cost = misfit + self._strain(crystal, instrument, columns)
        return Estimate(crystal, instrument, misfit, cost, used, information, slope, self.prior.unknowns, columns)

    def run(self, crystal: Specimen, instrument: Instrument, steps: int, columns: bool = True) -> Estimate:
        """Iterate from a starting point and return the last linearised point.

        Args:
            crystal, instrument: starting point.
            steps: largest number of steps.
            columns: fit the columns, too.
        """
        damping = 1e-3
        here = self.linearise(crystal, instrument, columns)
        for _ in range(steps):
            for _ in range(6):
                moved = self.step(here, damping)
                cost = self.cost(*moved, columns)
                if cost < here.cost:
                    break
                damping = max(10.0 * damping, 1e-2)
            else:
                return here
            gain = here.cost - cost
            here = self.linearise(*moved, columns)
            if gain < ENOUGH:
                break
            damping /= 5.0
        return here

    def step(self, here: Estimate, damping: float) -> tuple[Specimen, Instrument]:
        """Move to the minimum of the linearised cost, with a Marquardt damping."""
        scale = np.sqrt(here.information.diagonal())
        matrix = here.information / np.outer(scale, scale) + damping * np.eye(len(scale))
        step = np.linalg.solve(matrix, here.slope / scale) / scale
        crystal, instrument = here.crystal, here.instrument
        first = len(OF_COLUMN) * len(crystal) if here.columns else 0
        if here.columns:
            crystal = crystal.moved(torch.from_numpy(step[:first]).reshape(-1, len(OF_COLUMN)))
        else:
            crystal = crystal.grown(float(np.clip(step[2], -1.0, 1.0)))
        crystal = replace(crystal, tilt=crystal.tilt + torch.from_numpy(step[first : first + 2]))
        for one, value in zip(self.prior.unknowns, step[first + len(OF_ALL) :], strict=True):
            instrument = instrument.moved(one, float(value))
        return crystal, instrument

    def _differentiate_all(self, crystal: Specimen, instrument: Instrument) -> Tensor:
        """Derivatives of the image of the cell with respect to :data:`OF_ALL`, ``(3, F, Y, X)``."""
        quick = self.quick

        def imaged(changed: Specimen) -> Tensor:
            return quick.image(quick.amplitudes(quick.wave(changed), instrument), instrument)

        pairs = [
            (replace(crystal, tilt=crystal.tilt + step), replace(crystal, tilt=crystal.tilt - step), TILT_STEP)
            for step in TILT_STEP * torch.eye(2, dtype=torch.float64)
        ]
        pairs.append((crystal.grown(GROWTH_STEP), crystal.grown(-GROWTH_STEP), GROWTH_STEP))
        return torch.stack([(imaged(up) - imaged(down)) / (2.0 * step) for up, down, step in pairs])

    def _differentiate_columns(
        self,
        crystal: Specimen,
        instrument: Instrument,
        passage: Passage,
        amplitudes: Tensor,
        expected: Tensor,
        answer: Tensor,
    ) -> None:
        """Write the whitened derivatives with respect to the columns into ``answer``, zeros ``(5 N, F Y X)``."""
        field, observation = self.quick, self.observation
        size = imaged_size(field)
        response = observation.noise.whitening(instrument.camera_transfer((size, size), observation.sampling))
        images, rows, columns = expected.shape
        parts_of = answer.view(len(crystal), len(OF_COLUMN), images, rows, columns)
        scale = observation.scale(expected)
        parts = differentiate_columns(field, crystal, instrument, passage, amplitudes, response)
        for number, (change, down, right) in enumerate(parts):
            down, right = down - field.margin, right - field.margin
            inside = [(one >= 0) & (one < size) for one, size in ((down, rows), (right, columns))]
            change = change[:, :, inside[0]][..., inside[1]]
            down, right = down[inside[0], None], right[inside[1]]
            parts_of[number][:, :, down, right] = change * scale[:, down, right]


def _squared(residual: Tensor) -> float:
    return float(residual.double().square().sum())

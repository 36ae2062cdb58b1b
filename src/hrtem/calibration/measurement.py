"""Measurement of a calibration on images with known columns, summed over batches and processes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from hrtem.calibration.evidence import Peaks
from hrtem.calibration.presence import MASS, features
from hrtem.calibration.reliability import SIGMA_EDGES, Diagram
from hrtem.calibration.uncertainty import (
    AS_DRAWN,
    COEFFICIENTS,
    LEAST_ERROR,
    TAIL,
    fit_gamma,
    logarithms,
    squared_error,
    terms,
)
from hrtem.columns import Columns
from hrtem.matching import TOLERANCE, match_counts


class Regression(Metric):
    """Rows of features and outcomes, collected over batches and processes for a regression with a prior.

    Args:
        sigma: standard deviation of the target Gaussians in the training of the network, Å.
        prior: weight of the prior, in columns; None uses ``default_prior``.
        tolerance: largest distance of a pair, Å.
        border: columns this close to the edge of the image do not count, Å.
    """

    full_state_update = False
    default_prior: float
    rows: list[Tensor]

    def __init__(
        self, sigma: float, prior: float | None = None, tolerance: float = TOLERANCE, border: float = 1.0
    ) -> None:
        super().__init__()
        self.sigma = sigma
        self.prior = self.default_prior if prior is None else prior
        self.tolerance = tolerance
        self.border = border
        self.add_state("rows", [], dist_reduce_fx="cat")


class Presence(Regression):
    """Coefficients of a logistic regression of the presence of true columns on the :func:`features` of peaks.

    The prior is that the mass of a peak is the probability.
    """

    default_prior = 10.0
    #: Features of each peak, and 1 if there is a true column, else 0: (N, 7).
    rows: list[Tensor]

    def update(self, peaks: Sequence[Columns], true: Sequence[Columns], width: float, height: float) -> None:
        """Add images of ``width`` x ``height`` Å with all their ``peaks``; see :func:`features`."""
        for answer, truth in zip(peaks, true, strict=True):
            i, _, invented, _ = match_counts(answer, truth, width, height, self.tolerance, self.border)
            values = features(answer, self.sigma)
            there = np.concatenate([np.ones(len(i)), np.zeros(int(invented.sum()))])
            rows = np.column_stack([np.concatenate([values[i], values[invented]]), there])
            self.rows.append(torch.as_tensor(rows, device=self.device))

    def compute(self) -> Tensor:
        """Coefficients ``(6,)``; :data:`MASS` if there are no peaks."""
        prior = np.array(MASS)
        answer = prior.copy()
        if not len(self.rows):
            return torch.from_numpy(answer)
        rows = dim_zero_cat(self.rows).cpu().numpy()
        values, there = rows[:, :-1], rows[:, -1]
        penalty = self.prior * np.eye(len(prior))
        # Newton's method; the penalty makes the problem strictly convex, with a single minimum.
        for _ in range(25):
            chance = expit(values @ answer)
            gradient = values.T @ (there - chance) - penalty @ (answer - prior)
            curvature = (values * (chance * (1.0 - chance))[:, None]).T @ values + penalty
            step = np.linalg.solve(curvature, gradient)
            answer += step
            if np.abs(step).max() < 1e-9:
                break
        return torch.from_numpy(answer)


class Uncertainty(Regression):
    """Regression of the squared error of positions on the spreads of peaks; the result is called a law.

    For an exact posterior the spread would be the variance of the position. The maps of a network are not exact: their
    spread underestimates the effect of noise and is not zero without noise. Therefore the logarithm of the mean squared
    error is modelled as a polynomial of second degree in the :func:`logarithms` s and v of a peak, with the terms 1, s,
    v, s², s v, v². The coefficients are those of a gamma regression with a logarithmic link (McCullagh and Nelder,
    Generalized Linear Models, chapter 8). With the squared error e² along an axis and the variance σ² of the law, they
    solve Σ x (e²/σ² - 1) = 0 for each term x. Hence the mean of e²/σ² is 1 over all columns, and likewise for blurred
    and for sharp columns.

    The prior is that a spread is a variance. The columns of an image share much of their error, so the prior weighs far
    less than the columns of a single image.
    """

    default_prior = 100.0
    #: s, v and the squared error along an axis in sigma² of each matched column, (N, 3).
    rows: list[Tensor]

    def update(
        self,
        peaks: Sequence[Peaks],
        reported: Sequence[np.ndarray],
        true: Sequence[Columns],
        width: float,
        height: float,
    ) -> None:
        """Add images.

        Args:
            peaks: all peaks of each image.
            reported: mask, bool ``(N,)``, of the peaks that are reported columns; only their positions count.
            true: true columns of each image.
            width, height: largest x and y of a pixel centre, Å.
        """
        for answer, sure, truth in zip(peaks, reported, true, strict=True):
            found = answer.columns[sure]
            i, j, _, _ = match_counts(found, truth, width, height, self.tolerance, self.border)
            error2 = squared_error(found, truth, i, j) / self.sigma**2
            rows = np.column_stack([logarithms(answer, self.sigma)[sure][i], error2])
            self.rows.append(torch.as_tensor(rows, device=self.device))

    def compute(self) -> Tensor:
        """The law ``(10,)``: six coefficients, then smallest and largest s, smallest and largest v.

        It is :data:`AS_DRAWN` if there are no columns.
        """
        law = np.array(AS_DRAWN)
        rows = dim_zero_cat(self.rows).cpu().numpy() if len(self.rows) else np.empty((0, 3))
        if not len(rows):
            return torch.from_numpy(law)
        values, error2 = rows[:, :2], rows[:, 2] + LEAST_ERROR
        law[COEFFICIENTS:] = np.quantile(values, [TAIL, 1.0 - TAIL], axis=0).T.ravel()
        values = values.clip(*law[COEFFICIENTS:].reshape(2, 2).T)
        law[:COEFFICIENTS] = fit_gamma(terms(values), error2, np.array(AS_DRAWN[:COEFFICIENTS]), self.prior)
        return torch.from_numpy(law)


class Reliability(Metric):
    """Reliability diagrams of probabilities, positions and counts for each group of images (for instance each dose).

    Args:
        reported: smallest probability of a reported column; only reported columns count for positions and counts.
        groups: number of groups.
        bins: number of bins of the probability, equally wide.
        tolerance: largest distance of a pair, Å.
        border: columns this close to the edge of the image do not count, Å.
    """

    full_state_update = False
    probabilities: Tensor
    positions: Tensor
    scaled: Tensor
    counts: Tensor
    brier: Tensor
    missed: Tensor

    def __init__(
        self, reported: float, groups: int = 1, bins: int = 20, tolerance: float = TOLERANCE, border: float = 1.0
    ) -> None:
        super().__init__()
        self.reported = reported
        self.bins = bins
        self.tolerance = tolerance
        self.border = border
        # [group, (number, summed probability, hits), bin] and [group, (pairs, summed variance, squared error), bin].
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("probabilities", "counts"), (groups, 3, bins))
        shapes["positions"] = (groups, 3, len(SIGMA_EDGES) - 1)
        # [group, (number, sum, summed squares)] of errors along x and y in units of their standard deviations.
        shapes["scaled"] = (groups, 3)
        for name, shape in {**shapes, "brier": (groups,), "missed": (groups,)}.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self, found: Sequence[Columns], true: Sequence[Columns], width: float, height: float, groups: Sequence[int]
    ) -> None:
        """Add images of ``width`` x ``height`` Å.

        Args:
            found: candidates of each image, from :data:`CANDIDATE` up.
            true: true columns of each image.
            width, height: largest x and y of a pixel centre, Å.
            groups: group of each image.
        """
        for answer, truth, group in zip(found, true, groups, strict=True):
            i, j, invented, missed = match_counts(answer, truth, width, height, self.tolerance, self.border)
            probability = np.concatenate([answer.probabilities[i], answer.probabilities[invented]])
            hit = np.arange(len(probability)) < len(i)
            self._add(self.probabilities[group], self._bin(probability), probability, hit)
            self.brier[group] += float(np.square(probability - hit).sum())
            self.missed[group] += int(missed.sum())
            sure = answer.probabilities[i] >= self.reported
            sigmas = answer.sigmas[i[sure]]
            place = np.searchsorted(SIGMA_EDGES, 100.0 * sigmas, side="right") - 1
            self._add(self.positions[group], place, sigmas**2, squared_error(answer, truth, i[sure], j[sure]))
            said = sigmas > 0.0
            error = (answer.positions[i[sure]] - truth.positions[j[sure]])[said] / sigmas[said, None]
            sums = np.array([error.size, error.sum(), np.square(error).sum()])
            self.scaled[group] += torch.as_tensor(sums, device=self.scaled.device)
            if answer.count_probabilities.shape[1]:
                known = sure & (truth.counts[j] > 0)
                number, right = answer.counts[i[known]], truth.counts[j[known]]
                probability = answer.count_probabilities[i[known], number - 1]
                self._add(self.counts[group], self._bin(probability), probability, number == right)

    def _bin(self, probability: np.ndarray) -> np.ndarray:
        return np.minimum((probability * self.bins).astype(int), self.bins - 1)

    @staticmethod
    def _add(table: Tensor, place: np.ndarray, *values: np.ndarray) -> None:
        rows = [np.bincount(place, value, table.shape[-1]) for value in (np.ones(len(place)), *values)]
        table += torch.as_tensor(np.stack(rows), device=table.device)

    def compute(self) -> dict[str, Tensor]:
        """The accumulated sums by name."""
        names = ("probabilities", "positions", "scaled", "counts", "brier", "missed")
        return {name: getattr(self, name) for name in names}

    def diagrams(self) -> list[Diagram]:
        """Diagram of all groups together, then the diagram of each group."""
        # torchmetrics removes the axis of a tensor with a single element.
        totals = {name: np.atleast_1d(value.cpu().numpy()) for name, value in self.compute().items()}
        together = Diagram.of(**{name: value.sum(axis=0) for name, value in totals.items()})
        groups = range(len(totals["brier"]))
        return [together, *(Diagram.of(**{name: value[group] for name, value in totals.items()}) for group in groups)]

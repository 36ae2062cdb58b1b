"""Reliability of a network: predicted probabilities against observed frequencies, predicted against actual errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from hrtem.calibration.uncertainty import squared_error
from hrtem.columns import Columns
from hrtem.metrics import TOLERANCE, match_counts

#: Smallest probability of a candidate; far below the reporting threshold, so that the diagram is not cut off there.
CANDIDATE = 0.05
#: Edges of the bins of the predicted standard deviation of a position, pm.
SIGMA_EDGES = (0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0, float("inf"))


@dataclass(frozen=True)
class Diagram:
    """Reliability diagrams of probabilities, positions and counts; empty bins are left out.

    Attributes:
        candidates: number of columns with a probability from :data:`CANDIDATE` up.
        missed: number of true columns without any candidate.
        ece: expected calibration error, the mean over the candidates of \\|probability - observed\\| of their bin; None
            if there are no candidates.
        brier: mean squared difference of probability and truth, 0 or 1, over the candidates; None as above.
        probability, observed, number: for each bin, the mean probability, the share of candidates that match a true
            column, and the number of candidates.
        sigma_pm, error_pm, pairs: for each bin of the reported and matched columns, the root mean square of the
            predicted standard deviation of a position along x or y, the root mean square of the actual error along x or
            y, and the number of columns.
        ratio: ``error_pm`` over ``sigma_pm``; 1 is calibrated, more is overconfident. None if the prediction is 0.
        sigma_ratio: standard deviation, over all reported and matched columns and both axes, of the error along an axis
            in units of its predicted standard deviation; 1 is calibrated, more is overconfident. Columns with a
            prediction of 0 do not count; None if there are no other columns.
        count_ece: expected calibration error, like ``ece``, of the predicted numbers of atoms of the reported and
            matched columns; None if there are no such columns.
        count_probability, count_observed, counted: for each bin, the mean probability of the predicted number of atoms,
            the share of correct numbers, and the number of columns.
    """

    candidates: int
    missed: int
    ece: float | None
    brier: float | None
    probability: list[float]
    observed: list[float]
    number: list[int]
    sigma_pm: list[float]
    error_pm: list[float]
    pairs: list[int]
    ratio: list[float | None]
    sigma_ratio: float | None
    count_ece: float | None
    count_probability: list[float]
    count_observed: list[float]
    counted: list[int]

    @classmethod
    def of(
        cls,
        probabilities: np.ndarray,
        positions: np.ndarray,
        scaled: np.ndarray,
        counts: np.ndarray,
        brier: float,
        missed: float,
    ) -> Diagram:
        """Compute a diagram from the sums of :class:`Reliability`."""
        number, predicted, hits = probabilities[:, probabilities[0] > 0]
        counted, said, right = counts[:, counts[0] > 0]
        pairs, variance, error2 = positions[:, positions[0] > 0]
        total = number.sum()
        axes, first, second = scaled
        sigma, error = 100.0 * np.sqrt(variance / pairs), 100.0 * np.sqrt(error2 / pairs)
        return cls(
            candidates=int(total),
            missed=int(missed),
            ece=float(np.abs(predicted - hits).sum() / total) if total else None,
            brier=float(brier / total) if total else None,
            probability=(predicted / number).tolist(),
            observed=(hits / number).tolist(),
            number=number.astype(int).tolist(),
            sigma_pm=sigma.tolist(),
            error_pm=error.tolist(),
            pairs=pairs.astype(int).tolist(),
            ratio=[float(e / s) if s > 0 else None for e, s in zip(error, sigma, strict=True)],
            sigma_ratio=float(np.sqrt(max(second / axes - (first / axes) ** 2, 0.0))) if axes else None,
            count_ece=float(np.abs(said - right).sum() / counted.sum()) if len(counted) else None,
            count_probability=(said / counted).tolist(),
            count_observed=(right / counted).tolist(),
            counted=counted.astype(int).tolist(),
        )


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

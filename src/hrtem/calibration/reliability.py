"""Reliability of a network: predicted probabilities against observed frequencies, predicted against actual errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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

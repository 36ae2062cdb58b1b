"""Scores of many images, summed over batches and processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from hrtem.columns import Columns
from hrtem.matching import TOLERANCE, Score, match_counts


class ColumnMetrics(Metric):
    """Confusion matrix, precision, recall, F1, position error and accuracy of counts, for each group of images.

    A group is, for instance, a dose. The accuracy of counts is that of columns with a predicted number of atoms.

    Args:
        classes: class names.
        groups: number of groups.
        tolerance: largest distance of a pair, Å.
        border: columns this close to the edge of the image do not count, but may be matched, Å.
    """

    full_state_update = False
    confusion: Tensor
    error2: Tensor
    counts: Tensor

    def __init__(
        self, classes: Sequence[str], groups: int = 1, tolerance: float = TOLERANCE, border: float = 1.0
    ) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.tolerance = tolerance
        self.border = border
        size = len(self.classes) + 1
        # [group, true class, found class]; the last index is "nothing there".
        self.add_state("confusion", torch.zeros(groups, size, size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("error2", torch.zeros(groups, dtype=torch.float64), dist_reduce_fx="sum")
        # [group]: number of pairs with known counts, with equal counts, with counts that differ by 1 at most.
        self.add_state("counts", torch.zeros(groups, 3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self, found: Sequence[Columns], true: Sequence[Columns], width: float, height: float, groups: Sequence[int]
    ) -> None:
        """Add images of ``width`` x ``height`` Å.

        Args:
            found: columns found in each image.
            true: true columns of each image.
            width, height: largest x and y of a pixel centre, Å.
            groups: group of each image.
        """
        nothing = len(self.classes)
        for answer, truth, group in zip(found, true, groups, strict=True):
            i, j, invented, missed = match_counts(answer, truth, width, height, self.tolerance, self.border)
            pairs = [
                (truth.labels[j], answer.labels[i]),
                (truth.labels[missed], np.full(missed.sum(), nothing)),
                (np.full(invented.sum(), nothing), answer.labels[invented]),
            ]
            table = np.zeros((nothing + 1, nothing + 1))
            for rows, columns in pairs:
                np.add.at(table, (rows, columns), 1.0)
            distance2 = np.square(answer.positions[i] - truth.positions[j]).sum()
            self.confusion[group] += torch.as_tensor(table, device=self.confusion.device)
            self.error2[group] += float(distance2)
            said, right = answer.counts[i], truth.counts[j]
            wrong = np.abs(said - right)[(said > 0) & (right > 0)]
            self.counts[group] += torch.tensor([len(wrong), np.sum(wrong == 0), np.sum(wrong <= 1)]).to(self.counts)

    def compute(self) -> dict[str, Tensor]:
        """Return the accumulated sums by name.

        ``confusion`` ``(groups, C + 1, C + 1)``, true class by found class; ``error2`` ``(groups,)``, summed squared
        distance in Å²; ``counts`` ``(groups, 3)``, numbers of pairs with known counts, with equal counts, and with
        counts that differ by 1 at most.
        """
        return {"confusion": self.confusion, "error2": self.error2, "counts": self.counts}

    def scores(self) -> list[dict[str, Score]]:
        """Scores of each group: under ``"all"`` regardless of class, and under each class name."""
        totals = self.compute()
        return [
            self.scored(confusion, error2, *counts)
            for confusion, error2, counts in zip(
                totals["confusion"].cpu().numpy(),
                totals["error2"].reshape(-1).tolist(),
                totals["counts"].reshape(-1, 3).tolist(),
                strict=True,
            )
        ]

    def scored(
        self, confusion: np.ndarray, error2: float, counted: float, exact: float, near: float
    ) -> dict[str, Score]:
        """Scores from the sums of :meth:`compute` for one group, or added over several groups; see :meth:`scores`."""
        pairs = confusion[:-1, :-1].sum()
        mean = error2 / pairs if pairs else float("nan")
        scores = {"all": Score.of(pairs, pairs, confusion[:, :-1].sum(), confusion[:-1].sum(), mean)}
        for index, name in enumerate(self.classes):
            right = confusion[index, index]
            scores[name] = Score.of(right, right, confusion[:, index].sum(), confusion[index].sum(), mean)
        if counted:
            scores["all"] = replace(scores["all"], count_exact=exact / counted, count_within_one=near / counted)
        return scores

"""A trained model on a test set: what it answers to each image, and every score of that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hrtem.calibration import CANDIDATE, Reliability
from hrtem.columns import Columns
from hrtem.data import Example, collate, detected
from hrtem.inference import Finder
from hrtem.metrics import ColumnMetrics
from hrtem.testsets import TestSet

#: Makes the counts ``(1, F, Y, X)`` of an example.
Exposure = Callable[[TestSet, Example], Tensor]


@dataclass(frozen=True)
class Answer:
    """One image and its answer.

    Attributes:
        number: of the example.
        counts: of the detector, ``(F, Y, X)``.
        candidates: columns of any probability from :data:`hrtem.calibration.CANDIDATE` up.
        true: what is there.
        group: index of the dose.
    """

    number: int
    counts: np.ndarray
    candidates: Columns
    true: Columns
    group: int


def exposed(test_set: TestSet, example: Example) -> Tensor:
    """The counts ``(1, F, Y, X)`` of an example as the model was trained on them."""
    images, batch = test_set.images, collate([example])
    with torch.no_grad():
        return detected(images.optics, images.noise, batch["wave"], batch["settings"], images.sampling, images.margin)


def answers(finder: Finder, test_set: TestSet, expose: Exposure = exposed) -> Iterator[Answer]:
    """What a model says of each image of a test set, in the precision in which it predicts."""
    task = finder.task
    for number, example in enumerate(test_set):
        counts = expose(test_set, example)
        with torch.inference_mode():
            maps = finder.maps(task.normalise(counts, task.sampling))
            (found,) = task.find(maps, threshold=CANDIDATE)
        yield Answer(number, counts[0].numpy(), found, example["columns"], example["group"])


def scores(finder: Finder, test_set: TestSet, given: Iterable[Answer]) -> list[dict[str, Any]]:
    """All scores of the answers to a test set, for each of its doses.

    Returns:
        For each dose ``dose_image`` and ``dose_total`` in e/Å²; ``all``, the scores of columns whatever their class,
        and of each class under ``classes``, see :class:`hrtem.metrics.Score`; ``confusion``, true by found class, the
        last of which is nothing; ``ece`` and ``count_ece``, expected calibration errors of what is there and of counts.
    """
    threshold, classes, doses = finder.task.find_peaks.threshold, finder.task.classes, test_set.doses
    columns, reliability = ColumnMetrics(classes, groups=len(doses)), Reliability(threshold, groups=len(doses))
    size = (test_set.extent, test_set.extent)
    for one in given:
        found = one.candidates[one.candidates.probabilities >= threshold]
        columns.update([found], [one.true], *size, groups=[one.group])
        reliability.update([one.candidates], [one.true], *size, groups=[one.group])
    confusion = columns.compute()["confusion"].reshape(len(doses), len(classes) + 1, -1).numpy().astype(int)
    answer = []
    for number, (each, diagram) in enumerate(zip(columns.scores(), reliability.diagrams()[1:], strict=True)):
        answer.append(
            {
                "dose_image": test_set.totals[number] / test_set.images.optics.num_images,
                "dose_total": test_set.totals[number],
                "all": _finite(asdict(each["all"])),
                "classes": {name: _finite(asdict(each[name])) for name in classes},
                "confusion": confusion[number].tolist(),
                "ece": diagram.ece,
                "count_ece": diagram.count_ece,
            }
        )
    return answer


def false_vacancies(classes: tuple[str, ...], confusion: list[list[int]]) -> dict[str, float]:
    """What is said to be missing of a lattice that lacks nothing, per 1000 of its sites.

    Args:
        classes: names; those that end with ``vacancy`` are empty sites, and ``S`` beside ``S2`` lacks one atom.
        confusion: true by found class, the last of which is nothing.

    Returns:
        ``vacancy``: sites called a vacancy; ``one_atom``: called by the name of a column that lacks one atom;
        ``missed``: not found at all; ``invented``: columns found where there is no site.
    """
    table = np.array(confusion, float)
    sites = max(1.0, table[:-1].sum())
    vacant = [number for number, name in enumerate(classes) if name.endswith("vacancy")]
    single = [number for number, name in enumerate(classes) if f"{name}2" in classes]
    numbers = {
        "vacancy": table[:-1, vacant].sum(),
        "one_atom": table[:-1, single].sum(),
        "missed": table[:-1, -1].sum(),
        "invented": table[-1, :-1].sum(),
    }
    return {name: 1000.0 * float(number) / sites for name, number in numbers.items()}


def pair_error(confusion: list[list[int]], first: int, second: int) -> float | None:
    """How often two equally frequent classes are taken for each other, where it is one of the two that is said.

    None where one of them never is. ``second`` may be -1, nothing: then it is 1 - F1 of finding the first.
    """
    table = np.array(confusion, float)
    if second == -1:
        found, true, right = table[:, first].sum(), table[first].sum(), table[first, first]
        return float(1.0 - 2.0 * right / (found + true)) if found + true else None
    pair = table[np.ix_([first, second], [first, second])]
    total = pair.sum(axis=1)
    return float(0.5 * (pair[0, 1] / total[0] + pair[1, 0] / total[1])) if total.all() else None


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no word for what is unknown but null."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in values.items()
    }

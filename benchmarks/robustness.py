"""Robustness against imperfect focal series: ``python -m benchmarks robustness MODEL … [views=16] [dose=1e4]``.

A model for focal series, given by name or as a checkpoint, is tested on its own test set with unequal defocus steps,
shifts between images, drift, a dose that decays from image to image, and a missing image. The series are used directly,
or after registration and equalisation of brightness as in ``predict.py``. Structures, microscopes and total dose are
the same in all tests. The table is also written to ``output=robustness.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.evaluation import answers, exposed, scores
from hrtem import models
from hrtem.commandline import split_words
from hrtem.errors import InputError
from hrtem.inference import Predictor
from hrtem.micrograph import Micrograph, equalise_dose, register_series
from hrtem.ranges import parse_number
from hrtem.training.data import Example
from hrtem.training.testsets import SEED, TestSet, simulate_test_set

#: Standard deviations of random defocus errors of all images except the middle one, Å.
STEPS = (10.0, 20.0, 40.0)
#: Shifts of all images except the middle one, each in a random direction, Å.
SHIFTS = (0.5, 1.0, 2.0)
#: Shifts from image to image in a common direction, Å.
SERIES_DRIFTS = (0.5, 1.0)
#: Drift during each exposure, Å.
DRIFTS = (1.0, 2.0)
#: Dose of each image relative to the previous image.
DECAYS = (0.7, 0.4)
HEADS = ("disturbance", "how much", "images", "F1", "position error (pm)", "mean F1 of the classes", "exact counts")


@dataclass(frozen=True)
class Disturbance:
    """A disturbance of focal series.

    Attributes:
        name, amount: text in the table.
        settings: function that changes the settings of an example; its random numbers depend on the example's seed.
        decay: dose of each image relative to the previous image; the total dose is unchanged.
        prepared: whether images are registered and equalised in brightness before the prediction.
        missing: replacement of one random image of the series: None (no replacement), ``blank`` or ``copied``.
    """

    name: str
    amount: str
    settings: Callable[[dict[str, Any], np.random.Generator], None] | None = None
    decay: float = 1.0
    prepared: bool = False
    missing: str | None = None

    def __call__(self, test_set: TestSet, example: Example) -> Tensor:
        """Simulate the disturbed counts ``(1, F, Y, X)`` of an example; see :data:`benchmarks.evaluation.Exposure`."""
        settings = {name: np.array(value) for name, value in example["settings"].items()}
        rng = np.random.default_rng([SEED, int(settings["seed"])])
        if self.settings is not None:
            self.settings(settings, rng)
            # The same type as settings drawn by the optics.
            changed = ("defocus", "shift", "drift")
            settings |= {name: settings[name].astype(np.float32) for name in changed}
        spoilt = {**example, "settings": settings}
        counts = self._decayed(test_set, spoilt) if self.decay != 1.0 else exposed(test_set, spoilt)
        if self.missing is not None:
            place = int(rng.integers(counts.shape[1]))
            beside = place + (1 if place + 1 < counts.shape[1] else -1)
            counts[:, place] = counts[:, beside] if self.missing == "copied" else counts.mean()
        if self.prepared:
            micrograph = Micrograph(
                equalise_dose(counts[0].numpy()), test_set.images.imaging.sampling, "series", Path("simulated")
            )
            counts = torch.from_numpy(np.asarray(register_series(micrograph).images))[None].to(counts)
        return counts

    def _decayed(self, test_set: TestSet, example: Example) -> Tensor:
        """Simulate each image with its own dose; the mean dose is that of the example."""
        shares = self.decay ** np.arange(len(example["settings"]["defocus"]))
        shares *= len(shares) / shares.sum()
        images = []
        for number, share in enumerate(shares):
            settings = {**example["settings"], "dose": np.float32(example["settings"]["dose"] * share)}
            images.append(exposed(test_set, {**example, "settings": settings})[:, number])
        return torch.stack(images, dim=1)


def disturbances() -> Iterator[Disturbance]:
    """Yield the disturbances in all rows of the table."""
    yield Disturbance("none", "")
    yield Disturbance("none", "", prepared=True)
    for amount in STEPS:
        yield Disturbance("unequal steps", f"σ {amount:g} Å", _unequal(amount))
    for name, amounts, spoil in (
        ("shifts", SHIFTS, _shifted),
        ("drift from image to image", SERIES_DRIFTS, _drifting),
    ):
        for amount in amounts:
            for again in (False, True):
                yield Disturbance(name, f"{amount:g} Å", spoil(amount), prepared=again)
    for amount in DRIFTS:
        yield Disturbance("drift during each exposure", f"{amount:g} Å", _moving(amount))
    for amount in DECAYS:
        for again in (False, True):
            yield Disturbance("dose decays from image to image", f"× {amount:g}", decay=amount, prepared=again)
    for how in ("blank", "copied"):
        yield Disturbance("one image missing", {"blank": "blank", "copied": "its neighbour twice"}[how], missing=how)


Spoiling = Callable[[dict[str, Any], np.random.Generator], None]


def _unequal(sigma: float) -> Spoiling:
    def spoil(settings: dict[str, Any], rng: np.random.Generator) -> None:
        settings["defocus"] = settings["defocus"] + _others(rng.normal(scale=sigma, size=settings["defocus"].shape))

    return spoil


def _shifted(length: float) -> Spoiling:
    def spoil(settings: dict[str, Any], rng: np.random.Generator) -> None:
        angle = rng.uniform(0.0, 2.0 * np.pi, size=len(settings["shift"]))
        settings["shift"] = _others(length * np.column_stack([np.cos(angle), np.sin(angle)]))

    return spoil


def _drifting(length: float) -> Spoiling:
    def spoil(settings: dict[str, Any], rng: np.random.Generator) -> None:
        number, angle = len(settings["shift"]), rng.uniform(0.0, 2.0 * np.pi)
        steps = np.arange(number) - number // 2
        settings["shift"] = length * steps[:, None] * np.array([np.cos(angle), np.sin(angle)])

    return spoil


def _moving(length: float) -> Spoiling:
    def spoil(settings: dict[str, Any], rng: np.random.Generator) -> None:
        settings["drift"] = np.asarray(length)

    return spoil


def _others(values: np.ndarray) -> np.ndarray:
    """Set ``values`` ``(F, …)`` of the middle image to 0."""
    values[len(values) // 2] = 0.0
    return values


def rows(predictor: Predictor, test_set: TestSet) -> Iterator[list[str]]:
    """Yield the rows of the table for one model, see :data:`HEADS`."""
    for one in disturbances():
        (result,) = scores(predictor, test_set, answers(predictor, test_set, one))
        total = result["all"]
        each = [score["f1"] for score in result["classes"].values() if score["f1"] is not None and score["true"]]
        yield [
            one.name,
            one.amount,
            "prepared" if one.prepared else "as they are",
            f"{total['f1']:.3f}",
            "" if total["error_pm"] is None else f"{total['error_pm']:.1f}",
            f"{np.mean(each):.3f}" if len(predictor.network.classes) > 1 and each else "",
            "" if total["count_exact"] is None else f"{total['count_exact']:.3f}",
        ]


def main(*words: str) -> None:
    """Print a table for each model in the words, and write the tables as Markdown.

    Raises:
        InputError: a model does not exist or takes single images, or a word is invalid.
    """
    own, names = split_words(words, {"views": "16", "dose": "", "output": "robustness.md"})
    if not names:
        raise InputError("robustness needs at least one model of a focal series, such as mos2, or a checkpoint.")
    if not own["views"].isdecimal() or int(own["views"]) < 1:
        raise InputError(f"views must be a whole number of at least 1, got {own['views']}.")
    output = Path(own["output"])
    if output.suffix != ".md" or not output.parent.is_dir():
        raise InputError(f"output must be a Markdown file in a folder that exists, got {output}.")
    finders = {name: models.load(name) for name in names}
    for name, predictor in finders.items():
        if predictor.network.optics.num_images < 2:
            raise InputError(f"robustness is that of focal series, and {name} takes single images.")
    text = []
    for name, predictor in finders.items():
        doses = predictor.network.optics.test_doses
        dose = parse_number("dose", own["dose"] or doses[len(doses) // 2], unit="e/Å²", minimum=1e-3, maximum=1e9)
        # The undisturbed test set contains all images, also for a model that was trained with missing images.
        whole = {"optics": {"missing": 0.0}} if predictor.network.optics.missing else None
        test_set = simulate_test_set(predictor.network, views=int(own["views"]), doses=(dose,), changes=whole)
        text += [
            _title(name, test_set, words),
            "",
            f"| {' | '.join(HEADS)} |",
            "|---" * 3 + "|---:" * (len(HEADS) - 3) + "|",
        ]
        print("\n".join(text[-4:]), flush=True)
        for cells in rows(predictor, test_set):
            text.append(f"| {' | '.join(cells)} |")
            print(text[-1], flush=True)
        text.append("")
        output.write_text("\n".join(text))
    print(f"The table is in {output}")


def _title(name: str, test_set: TestSet, words: tuple[str, ...]) -> str:
    optics = test_set.images.imaging.optics
    dose = test_set.totals[0]
    return (
        f"`python -m benchmarks robustness {' '.join(words)}`, {name}: {len(test_set.images)} series of "
        f"{optics.num_images} images, {dose / optics.num_images:,.0f} e/Å² in each image, {dose:,.0f} in all."
    )

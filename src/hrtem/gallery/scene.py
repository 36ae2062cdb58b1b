"""A simulated test view with the prediction of a trained model, for the figures of the gallery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from matplotlib.axes import Axes

from hrtem import models
from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.inference import Predictor
from hrtem.ranges import parse_number
from hrtem.training.testsets import simulate_test_set

#: Black and white are this many standard deviations below and above the mean.
REACH = 3.0


@dataclass(frozen=True)
class AnsweredView:
    """A simulated view and the prediction of a model.

    Attributes:
        images: normalised images as the network sees them, ``(F, Y, X)``.
        maps: probability of each class in each pixel, ``(C, Y, X)``.
        found, true: found and true columns, in Å from the centre of the first pixel.
        defocus: defocus of each image, Å, positive is underfocus.
        dose: dose of each image, e/Å².
        sampling: pixel size, Å/px.
    """

    images: np.ndarray
    maps: np.ndarray
    found: Columns
    true: Columns
    defocus: np.ndarray
    dose: float
    sampling: float

    @property
    def extent(self) -> tuple[float, float]:
        """Largest x and y of a pixel centre, Å."""
        rows, width = self.images.shape[-2:]
        return (width - 1) * self.sampling, (rows - 1) * self.sampling

    @classmethod
    def of(cls, predictor: Predictor, view: int, dose: float, patch: int, changes: Mapping[str, Any]) -> AnsweredView:
        """Simulate view number ``view`` of ``patch``² px and find its columns.

        The view belongs to the test set with ``changes``, see :func:`simulate_test_set`.
        """
        task = predictor.network
        images = simulate_test_set(task, views=view + 1, changes=changes, doses=(dose,), patch=patch).images
        example = images[view]
        settings = example["settings"]
        with torch.inference_mode():
            seen = task.normalise(images.expose(example), task.sampling)
            maps = predictor.maps(seen)
            (found,) = predictor.ensemble.find(maps)
        return cls(
            seen[0].numpy(),
            maps[0, : task.target.classes].numpy(),
            found,
            example["columns"],
            settings["defocus"],
            float(settings["dose"]),
            task.sampling,
        )


def show_series(axes: Sequence[Axes], scene: AnsweredView, fontsize: float) -> None:
    """Draw each image of a series in grey on separate axes, with defocus and dose as title."""
    for one, image, defocus in zip(axes, scene.images, scene.defocus, strict=False):
        one.imshow(image, cmap="gray", vmin=-REACH, vmax=REACH, interpolation="nearest")
        one.set_title(f"defocus {defocus:.0f} Å, {scene.dose:,.0f} e/Å²", fontsize=fontsize)


@dataclass(frozen=True)
class Words:
    """Settings of a figure, from the words of a command line.

    Attributes:
        predictor: the model.
        name: name of the model.
        output: path of the PNG file.
        dose: dose in e/Å²; the default is the middle one of the model's test doses.
        view: number of the view.
        changes: settings that replace those of the model's recipe.
    """

    predictor: Predictor
    name: str
    output: Path
    dose: float
    view: int
    changes: dict[str, dict[str, Any]]

    @classmethod
    def parse(cls, words: Sequence[str], output: str) -> Words:
        """Read ``model=NAME`` or ``checkpoint=FILE``, ``dose= view= output=`` and settings as ``sample.tilt=0``.

        Raises:
            InputError: a word is unknown or its value is invalid.
        """
        said: dict[str, Any] = {"model": None, "checkpoint": None, "dose": None, "view": "0", "output": output}
        changes: dict[str, dict[str, Any]] = {}
        for word in words:
            key, equals, value = word.partition("=")
            part, dot, name = key.partition(".")
            if equals and key in said:
                said[key] = value
            elif equals and dot and part in ("sample", "optics", "noise"):
                changes.setdefault(part, {})[name] = _number(value)
            else:
                known = ", ".join(f"{name}=" for name in said)
                raise InputError(f"a figure knows the words {known}sample.…=, optics.…= and noise.…=, got {word}.")
        (model,) = models.choose(said["model"], said["checkpoint"])
        predictor = models.load(model)
        doses = predictor.network.optics.test_doses
        dose = doses[len(doses) // 2] if said["dose"] is None else said["dose"]
        if not str(said["view"]).isdecimal():
            raise InputError(f"view must be a whole number from 0 up, got {said['view']}.")
        path = Path(said["output"])
        if path.suffix != ".png" or not path.parent.is_dir():
            raise InputError(f"output must be a PNG file in a folder that exists, got {path}.")
        dose = parse_number("dose", dose, unit="e/Å²", minimum=1e-3, maximum=1e9)
        name = str(said["model"] or Path(model).name)
        return cls(predictor, name, path, dose, int(said["view"]), changes)

    def scene(self, patch: int) -> AnsweredView:
        """Simulate the view with a side of ``patch`` px."""
        return AnsweredView.of(self.predictor, self.view, self.dose, patch, self.changes)


def _number(text: str) -> Any:
    """Read a YAML value; ``1e4`` is a number as in Hydra, also within a range."""
    value = yaml.safe_load(text)
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value

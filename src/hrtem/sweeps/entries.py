"""Reading of run folders, grouping of runs by recipe, and names for the recipes."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from hrtem.errors import InputError
from hrtem.inference.network import ColumnNetwork

#: Settings that may differ between repetitions of the same recipe.
BY_CHANCE = ("seed", "study", "resume", "logger", "data.cache", "data.workers", "wave.scheduler")
#: Configuration groups that are left out of names because the settings already contain their information.
SILENT = ("sweep", "launcher", "experiment", "logger", "callbacks")
#: Side of the image for the speed measurement, px.
SIDE = 512


@dataclass(frozen=True)
class Run:
    """Contents of a run folder.

    Attributes:
        folder: path of the run folder.
        settings: settings before interpolation, ``{"optics.dose": …}``.
        choices: chosen recipe of each group.
        scores: ``f1`` and ``error_pm`` of all columns for each dose in e/Å²; with several classes also their mean
            F1, ``class_f1``, and with atom counting the fraction of exact counts, ``count_exact``.
        steps, seconds: duration of the training up to the last checkpoint; None if the checkpoint does not contain it.
    """

    folder: Path
    settings: dict[str, Any]
    choices: dict[str, str]
    scores: dict[float, dict[str, float]]
    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read a run folder.

        Raises:
            InputError: the folder is not a run folder, or the run has no test results.
        """
        if not folder.is_dir():
            raise InputError(f"a run is a folder that train.py made, and {folder} does not exist.")
        if not (folder / "config.yaml").is_file():
            raise InputError(f"a run is a folder that train.py made, and {folder} lacks config.yaml.")
        results = folder / "metrics.json"
        if not results.is_file():
            raise InputError(f"{folder} has no test results: its training still runs or was stopped.")
        try:
            scores = {float(dose): _scores(classes) for dose, classes in json.loads(results.read_text()).items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            raise InputError(f"{results} holds no scores against dose.") from None
        said, hydra = folder / ".hydra" / "config.yaml", folder / ".hydra" / "hydra.yaml"
        # Before interpolation each setting occurs only once, at the place where the user sets it.
        settings = yaml.safe_load((said if said.is_file() else folder / "config.yaml").read_text())
        choices = yaml.safe_load(hydra.read_text())["hydra"]["runtime"]["choices"] if hydra.is_file() else {}
        kept = {name: str(choice) for name, choice in choices.items() if name not in SILENT and "/" not in name}
        return cls(folder, flat(settings), kept, scores, *_training(folder / "checkpoints" / "last.ckpt"))

    @property
    def recipe(self) -> str:
        """Key that is equal for repetitions of the same recipe."""
        decisive = {name: value for name, value in self.settings.items() if not _under(name, BY_CHANCE)}
        return json.dumps(decisive, sort_keys=True, default=str)

    @property
    def dose_per(self) -> str:
        """Whether a dose is that of each ``image`` or of the whole ``series``."""
        return str(self.settings.get("optics.dose_per", "image"))


@dataclass(frozen=True)
class Cost:
    """Computational cost of a network for one image or focal series of ``SIDE``² px.

    Attributes:
        parameters: number of trainable parameters.
        flops: floating-point operations per pixel; a multiplication and an addition count as two.
        seconds: median time on this machine, s.
    """

    parameters: int
    flops: float
    seconds: float

    @classmethod
    @torch.no_grad()
    def measure(cls, checkpoint: Path, device: str = "cpu", repeats: int = 3) -> Cost:
        """Load a network and measure its cost on an empty image.

        Raises:
            InputError: the checkpoint cannot be loaded, or the device is not available.
        """
        task = ColumnNetwork.load(checkpoint)
        try:
            task = task.to(device)
        except (RuntimeError, AssertionError):
            raise InputError(f"device must be one that this machine has, as cpu or cuda, got {device}.") from None
        images = torch.zeros(1, task.optics.num_images, SIDE, SIDE, device=device)
        with FlopCounterMode(display=False) as counter:
            task(images)
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            task(images).sum().item()  # .item() waits for the device
            seconds.append(time.perf_counter() - begin)
        parameters = sum(weights.numel() for weights in task.net.parameters() if weights.requires_grad)
        return cls(parameters, counter.get_total_flops() / SIDE**2, median(seconds))


@dataclass(frozen=True)
class Entry:
    """One recipe of a comparison: its name, its repetitions and its cost."""

    name: str
    runs: list[Run]
    cost: Cost

    @property
    def doses(self) -> list[float]:
        """Test doses of all repetitions, e/Å²."""
        return sorted({dose for run in self.runs for dose in run.scores})

    def score(self, quantity: str, dose: float) -> tuple[float, float | None] | None:
        """Mean and standard deviation of a score over the repetitions; None if the score is unknown."""
        return spread(run.scores[dose][quantity] for run in self.runs if quantity in run.scores.get(dose, ()))

    def training(self, quantity: str) -> float | None:
        """Mean ``steps`` or ``seconds`` of the repetitions for which it is known."""
        known = spread(value for run in self.runs if (value := getattr(run, quantity)) is not None)
        return known and known[0]


def names(runs: Sequence[Run]) -> list[str]:
    """Name each run by the words in which it differs from the others, or by its folder if there are none."""
    answer = [" ".join(words) for words in _distinct_words(runs)]
    for name in set(answer):
        same = [place for place, other in enumerate(answer) if other == name]
        if 1 < len(same) < len(runs):
            # Runs with the same choice of recipe are named by the settings in which they differ.
            for place, more in zip(same, names([runs[place] for place in same]), strict=True):
                answer[place] = f"{name} {more}".strip()
    return [
        name if name and answer.count(name) == 1 else f"{name} {run.folder}".strip()
        for name, run in zip(answer, runs, strict=True)
    ]


def _distinct_words(runs: Sequence[Run]) -> list[list[str]]:
    """Return the words of each run that differ between runs; of dependent settings, only the first is kept."""
    choices, hidden = _differing([run.choices for run in runs], ())
    settings, _ = _differing([run.settings for run in runs], (*BY_CHANCE, *hidden))
    return [mine + more for mine, more in zip(choices, settings, strict=True)]


def _differing(tables: Sequence[Mapping[str, Any]], hidden: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    words: list[list[str]] = [[] for _ in tables]
    seen: list[tuple[str, list[Any]]] = []
    keys = []
    for key in dict.fromkeys(key for table in tables for key in table):
        values = [table.get(key) for table in tables]
        if _under(key, hidden) or all(value == values[0] for value in values):
            continue
        keys.append(key)
        # A group that depends on the sample, and a setting that occurs again further down, contain no new information.
        fact = (key.rpartition(".")[2] if "." in key else "", values)
        if fact not in seen:
            seen.append(fact)
            for mine, value in zip(words, values, strict=True):
                if value is not None:
                    mine.append(f"{key}={_plain(value)}")
    return words, keys


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "").replace("'", "")


def _scores(classes: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the scores of all columns; with several classes, add the mean F1 of those that occur."""
    scores = {name: value for name, value in classes["all"].items() if value is not None}
    each = [score["f1"] for name, score in classes.items() if name != "all" and np.isfinite(score["f1"])]
    return scores | ({"class_f1": float(np.mean(each))} if len(classes) > 2 and each else {})


def _under(name: str, parents: Iterable[str]) -> bool:
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to ``{"a.b": value}``; lists are not split."""
    answer: dict[str, Any] = {}
    for name, value in settings.items():
        answer |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return answer


def spread(values: Iterable[float]) -> tuple[float, float | None] | None:
    """Mean and standard deviation of a sample; the deviation of one value, and the result of no value, are None."""
    known = np.array(list(values), float)
    return (float(known.mean()), float(known.std(ddof=1)) if len(known) > 1 else None) if len(known) else None


def _training(checkpoint: Path) -> tuple[int | None, float | None]:
    """Read the number of training steps and the training time in seconds from the last checkpoint."""
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError):
        return None, None
    timer = state.get("callbacks", {}).get("Timer", {}).get("time_elapsed", {})
    return state.get("global_step"), timer.get("train")

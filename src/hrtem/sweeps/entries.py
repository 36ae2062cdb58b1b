"""What run folders hold, which of them repeat one recipe, and what that recipe is called."""

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

#: Settings in which repetitions of one recipe may differ.
BY_CHANCE = ("seed", "study", "resume", "logger", "data.cache", "data.workers", "wave.scheduler")
#: Groups of recipes whose choice says nothing that their settings do not.
SILENT = ("sweep", "launcher", "experiment", "logger", "callbacks")
#: Side of the image that a network's speed is measured on, px.
SIDE = 512


@dataclass(frozen=True)
class Run:
    """What one run folder holds.

    Attributes:
        folder: of the run.
        settings: as they were said, ``{"optics.dose": …}``.
        choices: recipe of each group.
        scores: ``f1`` and ``error_pm`` of all columns for each dose in e/Å²; where there are several classes also
            their mean F1, ``class_f1``, and where atoms are counted the share of exact counts, ``count_exact``.
        steps, seconds: of training, up to the last checkpoint; None where it does not say.
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
            InputError: it is none, or its run was never tested.
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
        # Before interpolation each fact stands where it was said, and only there.
        settings = yaml.safe_load((said if said.is_file() else folder / "config.yaml").read_text())
        choices = yaml.safe_load(hydra.read_text())["hydra"]["runtime"]["choices"] if hydra.is_file() else {}
        kept = {name: str(choice) for name, choice in choices.items() if name not in SILENT and "/" not in name}
        return cls(folder, flat(settings), kept, scores, *_training(folder / "checkpoints" / "last.ckpt"))

    @property
    def recipe(self) -> str:
        """The same for repetitions of one recipe."""
        decisive = {name: value for name, value in self.settings.items() if not _under(name, BY_CHANCE)}
        return json.dumps(decisive, sort_keys=True, default=str)

    @property
    def dose_per(self) -> str:
        """What the doses are the doses of: ``image`` or ``series``."""
        return str(self.settings.get("optics.dose_per", "image"))


@dataclass(frozen=True)
class Cost:
    """What one image, or focal series, of ``SIDE``² px costs a network.

    Attributes:
        parameters: that are trained.
        flops: floating-point operations a pixel; a multiplication and its addition are two.
        seconds: on this machine, median.
    """

    parameters: int
    flops: float
    seconds: float

    @classmethod
    @torch.no_grad()
    def measure(cls, checkpoint: Path, device: str = "cpu", repeats: int = 3) -> Cost:
        """Load a network and run it.

        Raises:
            InputError: the checkpoint cannot be loaded, or the device is not there.
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
            task(images).sum().item()  # waits for the device
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
        """Doses of the test, e/Å²."""
        return sorted({dose for run in self.runs for dose in run.scores})

    def score(self, quantity: str, dose: float) -> tuple[float, float | None] | None:
        """Mean and standard deviation of one of a run's ``scores`` over the repetitions; None where it is unknown."""
        return spread(run.scores[dose][quantity] for run in self.runs if quantity in run.scores.get(dose, ()))

    def training(self, quantity: str) -> float | None:
        """Mean ``steps`` or ``seconds`` of the repetitions that say it."""
        known = spread(value for run in self.runs if (value := getattr(run, quantity)) is not None)
        return known and known[0]


def names(runs: Sequence[Run]) -> list[str]:
    """For each run the words in which it differs from the others, or its folder where there are none."""
    answer = [" ".join(words) for words in _distinct_words(runs)]
    for name in set(answer):
        same = [place for place, other in enumerate(answer) if other == name]
        if 1 < len(same) < len(runs):
            # Of one choice of a recipe, they differ in its settings.
            for place, more in zip(same, names([runs[place] for place in same]), strict=True):
                answer[place] = f"{name} {more}".strip()
    return [
        name if name and answer.count(name) == 1 else f"{name} {run.folder}".strip()
        for name, run in zip(answer, runs, strict=True)
    ]


def _distinct_words(runs: Sequence[Run]) -> list[list[str]]:
    """The words of each run that not all runs share; of facts that follow from one another the one said first."""
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
        # A group that follows the sample, and a setting that is repeated further down, say nothing new.
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
    """The scores of all columns, with the mean F1 of the classes that occur where there are several."""
    scores = {name: value for name, value in classes["all"].items() if value is not None}
    each = [score["f1"] for name, score in classes.items() if name != "all" and np.isfinite(score["f1"])]
    return scores | ({"class_f1": float(np.mean(each))} if len(classes) > 2 and each else {})


def _under(name: str, parents: Iterable[str]) -> bool:
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``{"a.b": value}``; lists stay whole."""
    answer: dict[str, Any] = {}
    for name, value in settings.items():
        answer |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return answer


def spread(values: Iterable[float]) -> tuple[float, float | None] | None:
    """Mean and standard deviation of a sample; one value has no deviation, none no mean."""
    known = np.array(list(values), float)
    return (float(known.mean()), float(known.std(ddof=1)) if len(known) > 1 else None) if len(known) else None


def _training(checkpoint: Path) -> tuple[int | None, float | None]:
    """Steps and seconds of training, from the last checkpoint."""
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError):
        return None, None
    timer = state.get("callbacks", {}).get("Timer", {}).get("time_elapsed", {})
    return state.get("global_step"), timer.get("train")

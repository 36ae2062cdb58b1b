"""A hyperparameter search that continues after an interruption."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from filelock import FileLock, Timeout
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hrtem import commandline, csv_files
from hrtem.errors import InputError

#: Result of a trial: the monitored metric, or the reason for a failure.
Outcome = float | str
#: Function that runs trials, given the number of the first trial and the words of each trial.
Evaluate = Callable[[int, Sequence[Sequence[str]]], Sequence[Outcome]]
#: Optuna's names for the two modes of a Lightning monitor.
DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}


class Attempt:
    """Wrapper of a task that turns the end of the process into the failure of one trial.

    Args:
        task: function that Hydra runs.
    """

    def __init__(self, task: Callable[[DictConfig], float]) -> None:
        self.task = task

    def __call__(self, config: DictConfig) -> float:
        try:
            return self.task(config)
        except SystemExit as end:
            mistake = end.__context__
            raise InputError(
                (mistake and commandline.sentence_of(mistake)) or f"the trial ended with {end.code}."
            ) from end


@dataclass(frozen=True)
class Best:
    """The best trial of a search.

    Attributes:
        number: number of the trial, which is also the name of its run folder.
        value: value of the monitored metric.
        words: parameters of the trial as command-line words.
    """

    number: int
    value: float
    words: list[str]


class Search:
    """Search with Optuna's tree-structured Parzen estimator (Bergstra et al., NIPS 24, 2546 (2011)).

    The state of the search is stored in ``folder``. A search with the same folder and words continues: finished trials
    are kept, interrupted trials are repeated, and the next trials are the same as in an uninterrupted search. If no
    trial of a search succeeded, the search starts from the beginning.

    Args:
        space: distribution of each word, see :func:`distribution`.
        folder: folder of the journal, ``trials.csv`` and ``best.yaml``.
        mode: ``max`` or ``min``, whether the metric is maximised or minimised.
        trials: number of trials to finish, including failed trials.
        startup: number of random trials before the estimator is used.
        seed: seed of the random draws.
        fixed: words that all trials share; a search with other fixed words is a different search.

    Raises:
        InputError: a number is too small, the folder contains another search, or another process uses the folder.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        folder: Path,
        mode: str,
        trials: int,
        startup: int = 10,
        seed: int = 0,
        fixed: Sequence[str] = (),
    ) -> None:
        if not space:
            raise InputError("hydra.sweeper.params must name at least one word to search over, got none.")
        if mode not in DIRECTIONS:
            raise InputError(f"monitor_mode must be max or min, got {mode}.")
        if trials < 1:
            raise InputError(f"hydra.sweeper.trials must be at least 1, got {trials}.")
        self.space = dict(space)
        self.folder = folder
        self.trials = trials
        self.startup = startup
        self.seed = seed
        self.lock = _lock(folder)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(
            storage=JournalStorage(_journal(folder)), study_name="search", direction=DIRECTIONS[mode],
            load_if_exists=True,
        )  # fmt: skip
        said = {"fixed": sorted(fixed), "mode": mode, "space": {name: str(space[name]) for name in sorted(space)}}
        if not self.succeeded:
            # All earlier trials failed, perhaps because of a mistake that is now corrected: they do not count.
            self.study.set_user_attr("said", said)
            self.study.set_user_attr("first", len(self.study.get_trials()))
        before = self.study.user_attrs["said"]
        if before != said:
            changed = next(name for name in said if before.get(name) != said[name])
            raise InputError(
                f"{folder} holds a search with other words ({changed}: {before.get(changed)}, now {said[changed]}); "
                "study=NAME begins another one."
            )

    @property
    def succeeded(self) -> bool:
        """Whether any trial has a value yet."""
        return bool(self.study.get_trials(states=[TrialState.COMPLETE]))

    def finished(self) -> list[FrozenTrial]:
        """Return the finished trials, successful or failed."""
        counted = self.study.get_trials()[self.study.user_attrs["first"] :]
        return [trial for trial in counted if trial.state.is_finished() and not _interrupted(trial)]

    def run(self, evaluate: Evaluate, at_once: int = 1) -> Best:
        """Run the remaining trials.

        Args:
            evaluate: function that runs trials and returns their results.
            at_once: number of trials in each call of ``evaluate``.

        Raises:
            InputError: every trial failed.
        """
        if at_once < 1:
            raise InputError(f"hydra.sweeper.max_batch_size must be at least 1, got {at_once}.")
        self._begin_interrupted_anew()
        while (left := self.trials - len(self.finished())) > 0:
            asked = [self._ask(place) for place in range(min(at_once, left))]
            first = asked[0].number
            assert [trial.number for trial in asked] == list(range(first, first + len(asked)))
            outcomes = evaluate(first, [words(trial.params) for trial in asked])
            for trial, outcome in zip(asked, outcomes, strict=True):
                self._tell(trial, outcome)
            self.write_table()
        return self.best()

    def best(self) -> Best:
        """Return the best trial so far.

        Raises:
            InputError: no trial has a value.
        """
        try:
            trial = self.study.best_trial
        except ValueError:
            reason = next(iter(self.finished()[-1:]), None)
            why = reason.user_attrs.get("error", "") if reason else ""
            raise InputError(f"every trial in {self.folder} failed, the last one with: {why}") from None
        assert trial.value is not None
        return Best(trial.number, trial.value, words(trial.params))

    def write_table(self) -> None:
        """Write ``trials.csv``: number, state, value, searched words, and the reason if a trial failed."""
        rows = []
        for trial in self.study.get_trials():
            chosen = [trial.params.get(name, "") for name in self.space]
            state = "interrupted" if _interrupted(trial) else trial.state.name.lower()
            value = "" if trial.value is None else trial.value
            rows.append([trial.number, state, value, *chosen, trial.user_attrs.get("error", "")])
        csv_files.write_rows(self.folder / "trials.csv", ["number", "state", "value", *self.space, "error"], rows)

    def write_best(self, best: Best, **facts: Any) -> None:
        """Write ``best.yaml``: the best trial and further facts."""
        content = {**vars(best), "finished": len(self.finished()), **facts}
        (self.folder / "best.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def close(self) -> None:
        """Release the lock of the folder for other processes."""
        self.lock.release()

    def _ask(self, place: int) -> optuna.Trial:
        # The random draws depend on the number of finished trials, not on the number of interruptions.
        rng = np.random.default_rng([self.seed, len(self.finished()), place])
        self.study.sampler = optuna.samplers.TPESampler(n_startup_trials=self.startup, seed=int(rng.integers(2**31)))
        return self.study.ask(self.space)

    def _tell(self, trial: optuna.Trial, outcome: Outcome) -> None:
        if isinstance(outcome, float) and math.isfinite(outcome):
            self.study.tell(trial, outcome)
        else:
            error = outcome if isinstance(outcome, str) else f"the monitored metric is {outcome}."
            trial.set_user_attr("error", error)
            self.study.tell(trial, state=TrialState.FAIL)

    def _begin_interrupted_anew(self) -> None:
        for trial in self.study.get_trials(states=[TrialState.RUNNING]):
            if trial.number >= self.study.user_attrs["first"]:
                # Queue the trial before it is closed: a kill in between repeats the trial twice instead of losing it.
                self.study.enqueue_trial(trial.params)
            self.study.tell(trial.number, state=TrialState.FAIL)


def _interrupted(trial: FrozenTrial) -> bool:
    """Whether a trial was interrupted, that is, failed without an error message."""
    return trial.state == TrialState.FAIL and "error" not in trial.user_attrs


def words(parameters: Mapping[str, Any]) -> list[str]:
    """Return drawn parameters as command-line words, with six significant digits."""
    return [f"{name}={f'{value:.6g}' if isinstance(value, float) else value}" for name, value in parameters.items()]


def distribution(word: Override) -> BaseDistribution:
    """Convert a word in Hydra's sweep grammar into a distribution.

    ``choice(unet,msdnet)`` or ``unet,msdnet`` is one of the listed values, ``range(2,6)`` an integer from 2 to 5,
    ``interval(0.1,0.5)`` a number in this interval, ``int(interval(8,64))`` an integer in this interval including
    both ends, and ``tag(log,interval(1e-4,1e-2))`` a number that is uniform on a log scale.

    Raises:
        InputError: the interval is empty, or a logarithmic interval does not lie above 0.
    """
    sweep = word.value()
    name = word.get_key_element()
    try:
        if isinstance(sweep, IntervalSweep):
            assert sweep.start is not None
            assert sweep.end is not None
            log = "log" in sweep.tags
            if isinstance(sweep.start, int) and isinstance(sweep.end, int):
                return IntDistribution(sweep.start, sweep.end, log=log)
            return FloatDistribution(float(sweep.start), float(sweep.end), log=log)
        if isinstance(sweep, RangeSweep) and all(isinstance(n, int) for n in (sweep.start, sweep.stop, sweep.step)):
            numbers = list(sweep.range())
            return IntDistribution(numbers[0], numbers[-1], step=int(sweep.step))
        return CategoricalDistribution(list(word.sweep_string_iterator()))
    except (ValueError, IndexError) as error:
        raise InputError(f"{name} cannot be searched over {word.get_value_string()}: {error}.") from None


def _lock(folder: Path) -> FileLock:
    """Lock the folder against other processes; the lock ends with this process, also after a kill."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "search.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise InputError(f"another process searches in {folder}; study=NAME begins another search.") from None
    return lock


def _journal(folder: Path) -> JournalFileBackend:
    """Open the journal of trials and remove an incomplete last line of a killed process. Needs the folder's lock."""
    path = folder / "journal.log"
    for left in folder.glob("journal.log.lock*"):
        left.unlink()
    if path.exists():
        complete = path.read_bytes().rpartition(b"\n")
        if complete[2]:
            path.write_bytes(complete[0] + complete[1])
    return JournalFileBackend(str(path))


def split(overrides: Iterable[Override]) -> tuple[dict[str, BaseDistribution], list[str]]:
    """Split words into the search space and the fixed words; if a word occurs twice, the last value counts."""
    last: dict[str, Override] = {}
    for override in overrides:
        last.pop(override.get_key_element(), None)
        last[override.get_key_element()] = override
    space = {name: distribution(word) for name, word in last.items() if word.is_sweep_override()}
    fixed = [word.input_line or "" for word in last.values() if not word.is_sweep_override()]
    return space, fixed

"""Hydra plugin for :mod:`hrtem.sweeps.search`: ``python train.py -m sweep=search``.

Hydra searches for sweepers only in the package ``hydra_plugins``.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

# Hydra imports this file at every start; further packages are therefore imported only when a search runs.

log = logging.getLogger(__name__)

#: Words that choose how jobs are started; they do not change a trial.
MACHINERY = ("sweep", "launcher")


class SearchSweeper(Sweeper):
    """Sweeper that runs the trials of a search with Hydra's launcher.

    Args:
        trials, startup, seed: see :class:`hrtem.sweeps.search.Search`.
        max_batch_size: number of trials that are passed to the launcher at once.
        params: words to search over, in Hydra's sweep grammar; words of the command line are added to them.
    """

    def __init__(self, trials: int, startup: int, seed: int, max_batch_size: int, params: dict[str, str]) -> None:
        self.numbers = {"trials": trials, "startup": startup, "seed": seed}
        self.max_batch_size = max_batch_size
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Prepare the launcher; Hydra calls this method before :meth:`sweep`."""
        from hrtem.sweeps.search import Attempt

        self.hydra_context = hydra_context
        self.config = config
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=Attempt(task_function), config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the search with the words of a command line, print the best trial and return its metric."""
        from hrtem.sweeps.search import Search, split

        config, context = self.config, self.hydra_context
        assert config is not None
        assert context is not None
        said = [f"{name}={value}" for name, value in self.params.items()] + arguments
        overrides = OverridesParser.create(config_loader=context.config_loader).parse_overrides(said)
        space, fixed = split(overrides)
        kept = [word for word in fixed if word.partition("=")[0] not in MACHINERY]
        folder = Path(config.hydra.sweep.dir)
        search = Search(space, folder, config.monitor_mode, fixed=kept, **self.numbers)
        OmegaConf.save(config, folder / "multirun.yaml")
        if done := len(search.finished()):
            log.info("%s: %d of %d trials are done already", folder, done, search.trials)

        def evaluate(first: int, batch: Sequence[Sequence[str]]) -> list[float | str]:
            return self._launch(first, [[*fixed, *words] for words in batch], lenient=search.succeeded)

        best = search.run(evaluate, at_once=self.max_batch_size)
        command = shlex.join(["python", "train.py", *kept, *best.words])
        run = str(folder / str(best.number))
        search.write_best(best, monitor=config.monitor, folder=run, command=command)
        search.close()
        number = len(search.finished())
        print(f"Best of {number} trials: {config.monitor} = {best.value:.4g} in {run}\n  {command}")
        return best.value

    def _launch(self, first: int, batch: list[list[str]], lenient: bool) -> list[float | str]:
        """Run a batch of jobs and return the result of each.

        If the launcher itself fails, all trials of the batch fail, but a search with at least one successful trial
        (``lenient``) continues. Without any success, the launcher or a word is probably wrong, and the error is raised.
        """
        try:
            jobs = self.launcher.launch(batch, initial_job_idx=first)
        except Exception as error:
            if not lenient:
                raise
            log.warning("trials %d to %d failed", first, first + len(batch) - 1, exc_info=error)
            return [_reason(error)] * len(batch)
        return [self._outcome(number, job) for number, job in enumerate(jobs, first)]

    def _outcome(self, number: int, job: JobReturn) -> float | str:
        try:
            return float(job.return_value)
        except Exception as error:
            log.warning("trial %d failed", number, exc_info=error if job.status != JobStatus.COMPLETED else None)
            return _reason(error)


def _reason(error: Exception) -> str:
    return " ".join((str(error).strip() or type(error).__name__).split())

"""Hydra plugin for grids, ``python train.py -m seed=0,1``: a job that fails does not end the others.

Hydra searches for sweepers only in the package ``hydra_plugins``.
"""

from __future__ import annotations

import io
import logging
import shlex
from collections.abc import Sequence
from contextlib import redirect_stderr
from itertools import chain
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn

log = logging.getLogger(__name__)

# The arguments of Hydra's sweeper; the recipe `sweep=search` replaces the class and adds arguments.
ConfigStore.instance().store(
    group="hydra/sweeper",
    name="hrtem_grid",
    node={"_target_": "hydra_plugins.hrtem_grid.GridSweeper", "max_batch_size": None, "params": None},
    provider="hrtem",
)


class GridSweeper(BasicSweeper):
    """Hydra's sweeper for grids, which raises the failures of jobs only after the last job."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run all jobs.

        Raises:
            InputError: jobs failed, and all others are done. If the only job failed, its own error is raised.
        """
        from hrtem.errors import Failures, InputError

        launcher, failures = self.launcher, Failures()
        assert launcher is not None
        errors: list[Exception] = []
        number = 0

        def succeeded(batch: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
            nonlocal number
            number += len(batch)
            same = set.intersection(*(set(words) for words in chain(*(self.overrides or ()))))
            done = []
            jobs = launch(batch, initial_job_idx=initial_job_idx)
            for place, (words, job) in enumerate(zip(batch, jobs, strict=True), start=initial_job_idx):
                name = f"job {place} ({shlex.join(word for word in words if word not in same)})"
                try:
                    with redirect_stderr(io.StringIO()):  # where Hydra lists the words of a failed job
                        _ = job.return_value
                    done.append(job)
                except Exception as error:
                    if not isinstance(error, InputError):
                        log.warning("%s failed", name, exc_info=error)
                    failures.add(name, error)
                    errors.append(error)
            return done

        launch = launcher.launch
        launcher.launch = succeeded  # type: ignore[method-assign,assignment]
        finished = super().sweep(arguments)
        if number == 1 and errors:
            raise errors[0]
        for line in failures.table():
            log.warning("%s", line)
        failures.conclude(f"the sweep {self.config.hydra.sweep.dir}" if self.config else "the sweep")
        return finished

"""Parallel execution of independent tasks on the cores of this machine or on the workers of a Dask cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from hrtem.errors import InputError

log = logging.getLogger(__name__)


def check(scheduler: str) -> str:
    """Return the name of a scheduler if it is valid.

    Raises:
        InputError: the name is neither ``local`` nor ``inline`` nor a ``tcp://`` address.
    """
    if scheduler not in ("local", "inline") and not str(scheduler).startswith("tcp://"):
        raise InputError(f"wave.scheduler must be local, inline or a tcp:// address, got {scheduler}.")
    return scheduler


def run_tasks(
    task: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], scheduler: str = "local"
) -> Iterator[Any]:
    """Call ``task`` with each tuple of ``arguments``, in parallel.

    If a worker dies, its task runs again on another worker; a task must therefore allow repeated execution.

    Args:
        task: function that the workers can import, like the types of its arguments.
        arguments: arguments of each call.
        scheduler: ``local`` for one worker process per core, ``inline`` for this process, or the ``tcp://`` address
            of a Dask scheduler.

    Yields:
        The return values of the calls, in the order in which the calls end.

    Raises:
        InputError: a task raised it, or the scheduler cannot be used, or the connection to it is lost.
    """
    check(scheduler)
    if scheduler == "inline":
        for one in arguments:
            yield task(*one)
        return
    # Imported here, because most runs have a complete cache, need no Dask and start seconds faster without it.
    from dask.distributed import KilledWorker, as_completed

    with ExitStack() as stack:
        client = stack.enter_context(_connected(stack, scheduler, len(arguments)))
        futures = client.map(task, *zip(*arguments, strict=True), pure=False, batch_size=64)
        for left, future in zip(range(len(futures), 0, -1), as_completed(futures), strict=True):
            try:
                yield future.result()
            except InputError as error:
                # The message is sufficient for the user; the worker's traceback adds nothing.
                raise InputError(str(error)) from None
            except KilledWorker:
                raise InputError(
                    f"wave.scheduler {scheduler} has lost several workers on the same wave, most likely for "
                    "lack of memory; use fewer workers, or smaller or fewer waves."
                ) from None
            except CancelledError:
                raise InputError(
                    f"wave.scheduler {scheduler} went away with {left} waves still to come; what is done is kept, and "
                    "the same command continues there."
                ) from None


def _connected(stack: ExitStack, scheduler: str, tasks: int) -> Any:
    """Connect a Dask client to the scheduler; a local cluster is closed with the ``stack``."""
    from dask.distributed import Client, LocalCluster

    # The import of Dask sets the log level. Its messages are replaced by the errors and warnings of this module.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    address: Any = scheduler
    if scheduler == "local":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        # Dask's nannies limit OpenMP and BLAS to one thread in the processes that they start.
        address = LocalCluster(
            n_workers=min(cores, tasks), threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        )
        stack.enter_context(address)
    try:
        client = Client(address, timeout=20)
    except OSError:
        raise InputError(
            f"wave.scheduler must be the address of a running Dask scheduler, and {scheduler} does not answer."
        ) from None
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not workers:
        log.warning("%s has no workers yet; waiting for them.", scheduler)
    elif max(worker["nthreads"] for worker in workers) > 1:
        log.warning(
            "Workers of %s have several threads; `dask worker --nworkers auto --nthreads 1` is faster.", scheduler
        )
    return client


class RateColumn(ProgressColumn):
    """Column of a progress bar: waves per second over the last two minutes, and at the end over the whole run."""

    def render(self, task: Task) -> Text:
        """Format the rate, as soon as two waves are finished."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g} waves/s" if speed else "")


def show(steps: Iterator[int], missing: int, total: int, title: str) -> None:
    """Show a progress bar over ``steps``, the numbers of remaining waves; it begins at the number of finished waves."""
    columns = (BarColumn(), MofNCompleteColumn(), RateColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    # Waves differ in cost and finish in bursts of one wave per worker.
    with Progress(TextColumn("{task.description}"), *columns, speed_estimate_period=120.0) as progress:
        bar = progress.add_task(title, total=total, completed=total - missing)
        for left in steps:
            progress.update(bar, completed=total - left)

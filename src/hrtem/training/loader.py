"""Data loading: division of examples among processes, reading ahead, and resuming in the middle of an epoch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

#: Largest number of loader processes; more do not keep a GPU busier, and each costs memory.
MOST_PROCESSES = 8


def count_processes(device: torch.device, sharing: int = 1) -> int:
    """Number of loader processes of a training process; with 0, a thread loads the examples.

    With a GPU the cores are idle, and there are as many loader processes as free cores: Python threads would wait for
    each other and for the training itself. On a CPU there are none, since the network uses all cores.

    Args:
        device: device of the network.
        sharing: number of training processes on this machine; each needs a core for its GPU.
    """
    if device.type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_PROCESSES, max(0, cores // sharing - 1))


class Share(DistributedSampler[Any]):
    """Sampler of every ``processes``-th example from ``rank`` on, in order and without repetition.

    In step n, all processes together show the same examples as a single process with the combined batch size. torch's
    ``DistributedSampler`` repeats examples if their number is not divisible, which would count them twice in a test.
    Since this class is derived from it, Lightning does not replace it.

    Args:
        examples: the examples to divide.
        processes: number of processes.
        rank: number of this process, from 0.
        even: leave out the remaining examples, fewer than ``processes``, if the number is not divisible; for training,
            where all processes take the same number of steps.
    """

    def __init__(self, examples: Dataset[Any], processes: int = 1, rank: int = 0, even: bool = False) -> None:
        super().__init__(examples, num_replicas=processes, rank=rank, shuffle=False)
        total = len(examples)  # type: ignore[arg-type]
        self.indices = range(rank, total - total % processes if even else total, processes)
        #: Number of examples that the next pass skips, since they have already been shown.
        self.start = 0

    def __len__(self) -> int:
        """Number of examples in a whole pass."""
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices[self.start :])


class ReadAheadLoader(DataLoader[Any]):
    """Data loader that reads the next batch in a thread during the current step, if it has no loader processes.

    With a :class:`Share` as sampler it has a state: the number of batches served in the current pass. A loader with a
    restored state skips these batches in its next pass only; its length remains that of a whole pass.
    """

    served = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches: Iterator[Any] = super().__iter__()
        return self._counted(batches if self.num_workers else _read_ahead(batches))

    def _counted(self, batches: Iterator[Any]) -> Iterator[Any]:
        self.served = getattr(self.sampler, "start", 0) // (self.batch_size or 1)
        for batch in batches:
            if isinstance(self.sampler, Share):
                self.sampler.start = 0
            self.served += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Number of batches served in the current pass."""
        return {"served": self.served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next pass after the batches of ``state``."""
        assert isinstance(self.sampler, Share)
        self.served = state["served"]
        self.sampler.start = state["served"] * (self.batch_size or 1)


def _read_ahead(batches: Iterator[Any]) -> Iterator[Any]:
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch

"""Loading: which examples a process serves, read ahead, and continued in the middle of an epoch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

#: More processes than this fill no GPU better, and each costs memory.
MOST_PROCESSES = 8


def count_processes(device: torch.device, sharing: int = 1) -> int:
    """How many loader processes a training process should have; 0 loads in a thread.

    Beside a GPU, which leaves the cores idle, as many as there are cores for: Python threads would wait for each other
    and for the training itself. On a CPU none, since the network takes all cores.

    Args:
        device: on which the network runs.
        sharing: training processes on this machine, one of which takes a core to feed its GPU.
    """
    if device.type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_PROCESSES, max(0, cores // sharing - 1))


class Share(DistributedSampler[Any]):
    """Every ``processes``-th example from ``rank`` on, in order and none twice.

    In step n, all processes together show the examples that one process would show with their batches joined.
    torch's own sampler repeats examples where they cannot be dealt out equally, which would count them twice in a
    test; being one, this class is left as it is by Lightning.

    Args:
        examples: what is shared.
        processes: how many share it.
        rank: number of this process, from 0.
        even: leave out the last examples, fewer than ``processes``, that cannot be dealt out equally, as in training,
            where all processes take the same number of steps.
    """

    def __init__(self, examples: Dataset[Any], processes: int = 1, rank: int = 0, even: bool = False) -> None:
        super().__init__(examples, num_replicas=processes, rank=rank, shuffle=False)
        total = len(examples)  # type: ignore[arg-type]
        self.indices = range(rank, total - total % processes if even else total, processes)
        #: How many of them the next pass leaves out, since they have been shown.
        self.start = 0

    def __len__(self) -> int:
        """Their number in a whole pass."""
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices[self.start :])


class ReadAheadLoader(DataLoader[Any]):
    """A loader that reads the next batch in a thread while this one is in use, where it has no processes for that.

    With a :class:`Share` as sampler it has a state: how many batches of the pass were handed out. A loader that is
    given that state leaves them out of its next pass, and only of that; its length stays that of a whole pass.
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
        """Batches handed out in this pass."""
        return {"served": self.served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next pass behind the batches of ``state``."""
        assert isinstance(self.sampler, Share)
        self.served = state["served"]
        self.sampler.start = state["served"] * (self.batch_size or 1)


def _read_ahead(batches: Iterator[Any]) -> Iterator[Any]:
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch

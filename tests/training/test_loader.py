"""Loading: shares of several processes, and passes that begin in the middle."""

from __future__ import annotations

import os
from itertools import chain

import pytest
import torch
from torch.utils.data import Dataset

from hrtem.training.loader import ReadAheadLoader, Share, count_processes


class Numbers(Dataset[int]):
    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, item):
        return item


def batches(length, processes, rank, size, even=False, **words):
    numbers = Numbers(length)
    return ReadAheadLoader(
        numbers, sampler=Share(numbers, processes, rank, even=even), batch_size=size, collate_fn=list, **words
    )


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("length", [6, 7, 12])
def test_each_example_is_shown_once_by_one_process(length, processes):
    shown = [number for rank in range(processes) for batch in batches(length, processes, rank, 2) for number in batch]
    assert sorted(shown) == list(range(length))


@pytest.mark.parametrize("processes", [2, 3])
def test_a_step_of_all_processes_shows_what_one_process_would(processes):
    alone = list(batches(24, 1, 0, 2 * processes))
    together = zip(*(batches(24, processes, rank, 2, even=True) for rank in range(processes)), strict=True)
    assert [sorted(chain(*parts)) for parts in together] == alone


def test_all_processes_train_for_the_same_number_of_steps():
    lengths = [[len(batch) for batch in batches(23, 4, rank, 2, even=True)] for rank in range(4)]
    assert lengths == [[2, 2, 1]] * 4


def test_processes_for_a_gpu_are_those_that_its_neighbours_leave(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    assert count_processes(torch.device("cpu")) == 0
    assert [count_processes(torch.device("cuda", 0), sharing) for sharing in (1, 2, 4, 16, 32)] == [8, 7, 3, 0, 0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pass_continues_where_another_was_left(workers):
    whole = list(batches(10, 2, 1, 2))
    left = batches(10, 2, 1, 2, num_workers=workers)
    passing = iter(left)
    assert [next(passing), next(passing)] == whole[:2]
    resumed = batches(10, 2, 1, 2, num_workers=workers)
    resumed.load_state_dict(left.state_dict())
    assert len(resumed) == len(whole) == 3
    assert list(resumed) == whole[2:]
    assert resumed.state_dict() == {"served": 3}
    assert list(resumed) == whole

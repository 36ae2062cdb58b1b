"""The benchmark compares like with like."""

from __future__ import annotations

import abtem
import numpy as np
import pytest
import torch

from hrtem import benchmark


@pytest.fixture
def images(tmp_path):
    return benchmark.scene(tmp_path, waves=2)


def test_both_ways_make_the_same_images(images):
    """The same views but for the random numbers of the noise, which agree with Poisson statistics."""
    with abtem.config.set({"diagnostics.progress_bar": False}):
        theirs = benchmark.one_by_one(images, 0)
    ours = next(benchmark.batched(images))[1][:, 0].numpy()
    assert ours.shape == theirs.shape == (benchmark.BATCH, benchmark.PATCH, benchmark.PATCH)
    variance = 0.5 * (ours + theirs)
    z = (ours - theirs) / np.sqrt(2.0 * variance)
    assert float(z.mean()) == pytest.approx(0.0, abs=0.01)
    assert float(z.std()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.slow
def test_batched_imaging_is_ten_times_faster():
    torch.set_num_threads(2)
    rates = benchmark.imaging(seconds=5.0, waves=8)
    assert rates["batched imaging"] >= 10.0 * rates["abTEM, one by one"]

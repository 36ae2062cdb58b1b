"""Movies whose truth is known: what frames find, and a predictor that knows it, so that tests are quick."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import torch

from hrtem.columns import Columns
from hrtem.inference import Prediction
from hrtem.movies.simulation import Truth
from hrtem.movies.simulation.hopping import Hopping
from hrtem.movies.tracking import Detections
from hrtem.samples import Gold

EXTENT = (44.0, 44.0)


def truth(seed=0, rate=0.1, frames=60, frame_time=0.5):
    """What a particle in vacuum does; its drift is steady, and a jump half way."""
    sample = Gold("gold", ["Au"], 48.0, {"Au": 0.09}, diameter=20, rotation=[-10, 10], support="vacuum")
    trajectory = Hopping(sample, rate, binding=1.0, rows=8)(frames * frame_time, np.random.default_rng([11, seed]))
    drift = np.linspace([-1.0, 0.5], [1.0, -0.8], frames) + np.where(np.arange(frames)[:, None] > frames / 2, 2.5, 0.0)
    edges = np.arange(frames + 1) * frame_time
    return Truth.of(trajectory, edges, "one", rate, 2.0, drift, np.zeros(frames))


def detected(true, seed=0, recall=0.98, false=0.01, error=0.08, clutter=1.0):
    """Detections with misses, false columns on vacant sites and anywhere, and errors of positions (Å)."""
    rng = np.random.default_rng([12, seed])
    answer = []
    for share, drift in zip(true.share, true.drift, strict=True):
        there = share > rng.random(len(share))
        found = np.where(there, rng.random(len(share)) < recall, rng.random(len(share)) < false)
        places = true.positions[found] + drift + rng.normal(scale=error, size=(found.sum(), 2))
        chances = np.where(there[found], rng.beta(8, 1, found.sum()), rng.beta(2, 3, found.sum()))
        number = rng.poisson(clutter)
        places = np.concatenate([places, rng.uniform(0, EXTENT[0], (number, 2))])
        chances = np.concatenate([chances, rng.beta(2, 3, number)])
        answer.append(Detections(places.astype(np.float32), chances.astype(np.float32)))
    return answer


class Knowing:
    """A predictor that reads in a movie which frame it is shown, and knows what is in it."""

    def __init__(self, frames, num_images=1):
        self.frames, self.seen = frames, []
        self.network = SimpleNamespace(
            optics=SimpleNamespace(num_images=num_images), find_peaks=SimpleNamespace(threshold=0.45), classes=("Au",)
        )
        self.ensemble = torch.nn.Linear(1, 1)

    def check(self, micrograph):
        assert micrograph.sampling

    def find(self, micrograph):
        number = int(re.findall(r"(\d+)$", micrograph.name)[0])
        self.seen.append(number)
        found = self.frames[number]
        columns = Columns(found.positions, np.zeros(len(found), int), ("Au",), probabilities=found.probabilities)
        maps = micrograph.images / micrograph.images.max()
        return Prediction(micrograph, columns, micrograph.images, maps, micrograph.sampling, 0.5)

"""Accuracy of surface diffusion in simulated movies: ``python -m benchmarks dynamics best.ckpt``.

Movies of both conditions in ``conf/dynamics`` are simulated at several doses, analysed frame by frame and tracked
through time. The benchmark prints precision and recall of the occupancy of surface sites, the fraction of movies whose
95 % interval contains the true rate, and the number of pairs of movies in which the condition with the higher rate is
identified. The states of the particles are simulated once with full multislice; all doses show the same movies.

    python -m benchmarks dynamics best.ckpt [movies=25] [doses=200,500,1500] [split=test] [words of movie.yaml]
    python -m benchmarks dynamics speed best.ckpt [side=1024] [frames=20]
    python -m benchmarks dynamics memory best.ckpt [frames=5000] [side=128]
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.spatial import cKDTree
from scipy.stats import beta

from hrtem import models
from hrtem.errors import InputError
from hrtem.inference import Predictor
from hrtem.micrograph import Micrograph
from hrtem.movies import pipeline
from hrtem.movies.frames import find_frame as found_in
from hrtem.movies.simulation import SimulatedMovie, Truth
from hrtem.movies.simulation.movie import simulate
from hrtem.movies.tracking import Detections, History, analyse_movie, compare_rates
from hrtem.movies.tracking.registration import Reference
from hrtem.ranges import parse_number, parse_whole
from hrtem.recipes import compose

#: Conditions, in order of increasing rate.
CONDITIONS = ("vacuum", "oxygen")
DOSES = "200,500,1500"
#: Largest distance between a true site and the matching fitted site, Å.
SAME = 1.0


@dataclass(frozen=True)
class Outcome:
    """Result of one movie.

    Attributes:
        true: true rate at which surface columns leave, 1/s.
        value, low, high: estimate of this rate from the history, with its interval.
        hits, said, there: number of correctly predicted, predicted and truly occupied surface sites over all frames.
        history: history of the movie.
    """

    true: float
    value: float
    low: float
    high: float
    hits: int
    said: int
    there: int
    history: History

    @property
    def inside(self) -> bool:
        """Whether the interval contains the true rate."""
        return self.low <= self.true <= self.high


def outcome(truth: Truth, history: History) -> Outcome:
    """Compare a history with the truth.

    Surface sites do not touch the support and have two to five occupied neighbours in a frame; at these sites columns
    appear and disappear. A site is occupied in a frame if the column is present for at least half of the exposure.
    """
    away = truth.drift[0] - history.poses[0].shift
    distance, nearest = cKDTree(history.sites.positions).query(truth.positions + away)
    said = np.where(distance < SAME, history.occupancy.probability[:, nearest], 0.0) >= 0.5
    there = truth.occupied
    beside = there.astype(int) @ truth.neighbours.astype(int)
    counted = ~truth.standing & (beside >= 2) & (beside < 6)
    leave = history.rates.leave
    hits, claims, real = (int(one.sum()) for one in (said & there & counted, said & counted, there & counted))
    return Outcome(truth.rate(), leave.value, leave.low, leave.high, hits, claims, real, history)


def followed(predictor: Predictor, movie: SimulatedMovie, frames: Sequence[np.ndarray]) -> History:
    """Find and track the columns in the frames ``(Y, X)`` of a simulated movie."""
    found = []
    for number, image in enumerate(frames):
        micrograph = Micrograph(image, movie.sampling, f"movie-{number:05d}", Path("movie"), number)
        found.append(Detections.of(predictor.find(micrograph).columns))
    rows, width = movie.shape
    extent = ((width - 1) * movie.sampling, (rows - 1) * movie.sampling)
    return analyse_movie(found, extent, movie.dynamics.frame_time, lambda number: frames[number], movie.sampling)


def movies_of(condition: str, number: int, split: str, words: Sequence[str]) -> list[SimulatedMovie]:
    """Return the first movies of a condition."""
    first = SimulatedMovie.of(compose(f"dynamics={condition}", *words, name="movie"), 0)
    return [replace(first, number=place, split=split) for place in range(number)]


def outcomes(predictor: Predictor, movie: SimulatedMovie, doses: Sequence[float]) -> Iterator[Outcome]:
    """Analyse one movie at each dose."""
    expected, truth = list(movie.expected()), movie.truth()
    for dose in doses:
        yield outcome(truth, followed(predictor, movie, list(movie.frames(dose, iter(expected)))))


def measure(checkpoint: str, number: int, doses: Sequence[float], split: str, words: Sequence[str]) -> None:
    """Analyse all movies and print the results for each dose."""
    predictor = pipeline.prepare_predictor(models.load(checkpoint))
    made = [movies_of(condition, number, split, words) for condition in CONDITIONS]
    start = time.perf_counter()
    simulate([movie for movies in made for movie in movies])
    simulated = time.perf_counter()
    results: dict[tuple[str, float], list[Outcome]] = {}
    console = Console(width=160)
    everything = [(condition, movie) for condition, movies in zip(CONDITIONS, made, strict=True) for movie in movies]
    for condition, movie in track(everything, "Following movies", console=console, transient=True):
        for dose, one in zip(doses, outcomes(predictor, movie, doses), strict=True):
            results.setdefault((condition, dose), []).append(one)
    seconds = time.perf_counter() - simulated
    table = Table(title=f"{number} movies of each condition, {made[0][0].dynamics.frames} frames each")
    for name in ("e/Å² a frame", "precision", "recall", "true rates in their intervals", "told faster", "p < 0.05"):
        table.add_column(name, justify="right")
    for name in CONDITIONS:
        table.add_column(f"{name}: said / true (1/s)", justify="right")
    for dose in doses:
        slow, fast = (results[condition, dose] for condition in CONDITIONS)
        both = [*slow, *fast]
        hits, said, there = (sum(getattr(one, name) for one in both) for name in ("hits", "said", "there"))
        inside = sum(one.inside for one in both)
        pairs = [
            compare_rates(one.history.rates.leave, other.history.rates.leave)
            for one, other in zip(slow, fast, strict=True)
        ]
        table.add_row(
            f"{dose:,.0f}",
            f"{hits / max(said, 1):.4f}",
            f"{hits / max(there, 1):.4f}",
            f"{inside} of {len(both)} ({interval(inside, len(both))})",
            f"{sum(pair.faster > 0.5 for pair in pairs)} of {len(pairs)}",
            f"{sum(pair.p < 0.05 and pair.ratio > 1.0 for pair in pairs)} of {len(pairs)}",
            *(_mean(results[condition, dose]) for condition in CONDITIONS),
        )
    console.print(table)
    console.print(f"Waves took {simulated - start:.0f} s, imaging, finding and following {seconds:.0f} s.")


def interval(number: int, total: int) -> str:
    """Format the 95 % interval of a fraction (C. J. Clopper and E. S. Pearson, Biometrika 26 (1934) 404)."""
    low = beta.ppf(0.025, number, total - number + 1) if number else 0.0
    high = beta.ppf(0.975, number + 1, total - number) if number < total else 1.0
    return f"{low:.0%} to {high:.0%}"


def _mean(results: Sequence[Outcome]) -> str:
    return f"{np.mean([one.value for one in results]):.4f} / {np.mean([one.true for one in results]):.4f}"


def speed(checkpoint: str, side: int, frames: int) -> None:
    """Print the number of frames of ``side``² px that are analysed and registered per second."""
    predictor = pipeline.prepare_predictor(models.load(checkpoint))
    with TemporaryDirectory() as folder:
        movie = Tiled(side, frames + 1)
        found_in(predictor, movie, 0, Path(folder))
        reference = Reference()
        start, used = time.perf_counter(), time.process_time()
        for number in range(1, frames + 1):
            reference.follow(Detections.of(found_in(predictor, movie, number, Path(folder)).columns))
        seconds, used = time.perf_counter() - start, time.process_time() - used
    threads = torch.get_num_threads()
    print(f"{frames / seconds:.2f} frames/s of {side}² px, found, kept on disk and registered; {threads} threads")
    print(f"{used / frames:.2f} s of processor time a frame, which other work on the machine does not change")


def memory(checkpoint: str, side: int, frames: int) -> None:
    """Print the memory of the process during the analysis of a long movie, and after the tracking."""
    predictor = pipeline.prepare_predictor(models.load(checkpoint))
    movie = Tiled(side, frames)
    table = Table(title=f"Memory of this process along {frames} frames of {side}² px")
    for name in ("frames", "MiB", "frames/s"):
        table.add_column(name, justify="right")
    found, start = [], time.perf_counter()
    with TemporaryDirectory() as folder:
        for number in range(frames):
            found.append(Detections.of(found_in(predictor, movie, number, Path(folder)).columns))
            if number + 1 in {100, 500} or (number + 1) % 1000 == 0:
                rate = (number + 1) / (time.perf_counter() - start)
                table.add_row(f"{number + 1:,}", f"{resident():.0f}", f"{rate:.1f}")
    extent = (side - 1) * movie.sampling
    history = analyse_movie(found, (extent, extent), 1.0, lambda number: movie[number].images[0], movie.sampling)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Console().print(table)
    sites = len(history.sites)
    print(f"Following {sites} sites through all frames brings the largest to {largest:.0f} MiB.")


def resident() -> float:
    """Return the memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Tiled:
    """A movie of any length and size: one simulated frame, extended by mirroring, with new noise in each frame."""

    is_movie = True
    name, source = "tiled", Path("tiled")

    def __init__(self, side: int, frames: int) -> None:
        words = ("dynamics.frames=2", "dynamics.rate=0", "dynamics.drift=0", "wave.scheduler=inline")
        simulated = SimulatedMovie.of(compose(*words, name="movie"), 0)
        simulated.simulate("inline")
        image = next(simulated.expected())[0, 0].numpy()
        margin = simulated.margin
        inner = image[margin:-margin, margin:-margin]
        # A small frame is cropped to the middle; a large frame is extended by mirror images.
        cut = max(0, (len(inner) - side) // 2)
        inner = inner[cut : len(inner) - cut or None, cut : len(inner) - cut or None]
        beyond = max(0, side - len(inner))
        self.mean = np.pad(inner, (0, beyond), mode="symmetric")[:side, :side] * 500.0 * simulated.sampling**2
        self.sampling, self.shape, self.frames = simulated.sampling, (side, side), frames

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, number: int) -> Micrograph:
        image = np.random.default_rng([3, number]).poisson(self.mean).astype(np.float32)
        return Micrograph(image, self.sampling, f"tiled-{number:05d}", self.source, number)


def main(*words: str) -> None:
    """Run the benchmark for the words of the command line and print its results.

    Raises:
        InputError: a word is invalid, or no model is given.
    """
    plain = [word for word in words if "=" not in word]
    said = dict(word.split("=", 1) for word in words if "=" in word)
    task = plain.pop(0) if plain and plain[0] in ("speed", "memory") else "measure"
    if len(plain) != 1:
        raise InputError("dynamics needs one model: its name, its folder or a checkpoint.")

    def number(name: str, default: int, least: int) -> int:
        return parse_whole(name, said.pop(name, default), minimum=least, maximum=1e6)

    if task == "measure":
        doses = [parse_number("doses", one, unit="e/Å²", minimum=1.0) for one in said.pop("doses", DOSES).split(",")]
        movies, split = number("movies", 25, 1), said.pop("split", "test")
        if split not in ("val", "test"):
            raise InputError(f"split must be val or test, got {split}.")
        measure(plain[0], movies, doses, split, [f"{key}={value}" for key, value in said.items()])
        return
    sizes: dict[str, Any] = {"side": number("side", 1024 if task == "speed" else 128, 64)}
    sizes["frames"] = number("frames", 20 if task == "speed" else 5000, 2)
    if said:
        raise InputError(f"dynamics {task} takes the words side and frames, got {json.dumps(said)}.")
    (speed if task == "speed" else memory)(plain[0], **sizes)

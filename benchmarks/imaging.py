"""Speed of the imaging stage in comparison with abTEM's CTF and noise: ``python -m benchmarks imaging``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import abtem
import numpy as np
import torch
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table

from hrtem.imaging import Imaging
from hrtem.noise import Poisson
from hrtem.normalisation import LocalContrast
from hrtem.optics import Optics
from hrtem.ranges import parse_number
from hrtem.recipes import compose
from hrtem.samples import Graphene
from hrtem.targets import GaussianMaps
from hrtem.training.data import Example, ReadAheadLoader, SimulatedImages, collate
from hrtem.waves.cache import SPLITS, WaveCache
from hrtem.waves.multislice import Multislice

SAMPLING, PATCH, MARGIN, BATCH = 0.2, 128, 24, 16
ENERGY = 80e3


def scene(root: Path, waves: int) -> SimulatedImages:
    """Prepare graphene views, each with its own microscope settings, with exit waves in a filled cache."""
    sample = Graphene("graphene", ["C"], extent=51.2, rms_displacement={"C": 0.06})
    cache = WaveCache(root, sample, Multislice(ENERGY, SAMPLING), {"benchmark": "imaging"}, seed=0)
    for _ in cache.fill({"train": waves}, scheduler="inline"):
        pass
    optics = Optics(
        num_images=1,
        energy=ENERGY,
        defocus=[-150.0, 150.0],
        defocus_step=0.0,
        Cs=[-2e5, 2e5],
        astigmatism=[0.0, 10.0],
        focal_spread=[20.0, 60.0],
        angular_spread=0.0,
        vibration=0.0,
        dose=[1e3, 1e5],
        coherence="envelope",  # as in abTEM
    )
    return SimulatedImages(cache, "train", waves, 10**6, 0, Imaging(optics, Poisson(), SAMPLING, MARGIN), PATCH, seed=0)


def batched(images: SimulatedImages) -> Iterator[tuple[Example, torch.Tensor]]:
    """Yield batches and their counts, loaded from the cache, imaged and cropped as in training."""
    for batch in ReadAheadLoader(images, batch_size=BATCH, collate_fn=collate):
        yield batch, images.imaging.simulate_counts(batch["wave"], batch["settings"])


def one_by_one(images: SimulatedImages, first: int, in_memory: bool = False) -> np.ndarray:
    """Image the same views one by one with abTEM's CTF and noise; whole waves are imaged and then cropped.

    Each wave is read from the folder of the cache or, with ``in_memory``, from memory as in our imaging.
    """
    counts = []
    for n in range(first, first + BATCH):
        rng = np.random.default_rng([images.seed, SPLITS[images.split], n])
        index = int(rng.integers(images.waves))
        array, _ = images.record(index) if in_memory else images.cache.load(images.split, index)
        view = images.draw_view(array.shape, rng)
        settings = {name: float(value.flat[0]) for name, value in images.imaging.optics.draw(rng).items()}
        # The wave is rotated before imaging because the astigmatism direction refers to the rotated image.
        wave = abtem.Waves(np.ascontiguousarray(view.turned(array).T), energy=ENERGY, sampling=SAMPLING)
        transfer = abtem.CTF(
            energy=ENERGY,
            C10=-settings["defocus"],
            C12=settings["astigmatism"],
            phi12=settings["astigmatism_angle"],
            C30=settings["Cs"],
            focal_spread=settings["focal_spread"],
        )
        image: Any = wave.apply_ctf(transfer).intensity().poisson_noise(dose_per_area=settings["dose"]).compute()
        corner = [view.column, view.row] if view.transpose else [view.row, view.column]
        for axis, flipped in enumerate((view.flip_y, view.flip_x)):
            corner[axis] = array.shape[0] - images.side - corner[axis] if flipped else corner[axis]
        window = tuple(slice(start + MARGIN, start + MARGIN + PATCH) for start in corner)
        counts.append(image.array.T[window])
    return np.stack(counts)


def loaded(images: SimulatedImages, workers: int) -> Iterator[Example]:
    """Load batches of waves without imaging, in a thread (``workers=0``) or in ``workers`` processes as in training."""
    for index in range(images.waves):
        images.record(index)
    return iter(ReadAheadLoader(images, batch_size=BATCH, num_workers=workers, collate_fn=collate))


def rate(make: Callable[[int], object], seconds: float) -> float:
    """Measure images per second of ``make``, which makes batch number n; two warm-up batches are not counted."""
    make(0)
    make(1)
    start, batches = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        make(2 + batches)
        batches += 1
    return BATCH * batches / (time.perf_counter() - start)


def imaging(seconds: float = 10.0, waves: int = 32) -> dict[str, float]:
    """Measure images per second of each method for ``seconds`` in this process."""
    with tempfile.TemporaryDirectory() as root, abtem.config.set({"diagnostics.progress_bar": False}):
        images = scene(Path(root), waves)
        normalise, target = LocalContrast(12.0), GaussianMaps(1, 0.25)
        plain, complete = batched(images), batched(images)
        thread, processes = loaded(images, 0), loaded(images, 2)

        def example() -> object:
            batch, counts = next(complete)
            maps = target(batch["positions"], batch["labels"], (PATCH, PATCH), SAMPLING)
            return normalise(counts, SAMPLING), maps

        return {
            "abTEM, one by one": rate(lambda n: one_by_one(images, BATCH * n), seconds),
            "abTEM, one by one, waves in memory": rate(
                lambda n: one_by_one(images, BATCH * n, in_memory=True), seconds
            ),
            "batched imaging": rate(lambda n: next(plain), seconds),
            "batched, with normalisation and target": rate(lambda n: example(), seconds),
            "loading alone, in a thread": rate(lambda n: next(thread), seconds),
            "loading alone, in two processes": rate(lambda n: next(processes), seconds),
        }


def step(seconds: float = 5.0, waves: int = 8) -> dict[str, float]:
    """Measure the parts of a training step of the default recipe in milliseconds, median of calls for ``seconds``."""
    with tempfile.TemporaryDirectory() as root:
        config = compose("wave.scheduler=inline", f"data.numbers.train={waves}", f"data.cache={root}")
        data, task = instantiate(config.data), instantiate(config.task)
        list(data.cache.fill({"train": waves}, "inline"))
        optimizer = torch.optim.AdamW(task.net.parameters())
        examples = data.images("train", data.batch_size)
        batch = collate([examples[n] for n in range(data.batch_size)])
        made = task.simulate(batch)

        def learn() -> None:
            optimizer.zero_grad()
            images = made["images"].contiguous(memory_format=torch.channels_last)
            task.loss(task.net(images).float(), made["target"]).backward()
            optimizer.step()

        parts: dict[str, Callable[[], object]] = {
            "microscope and detector": lambda: task.imaging.simulate_counts(batch["wave"], batch["settings"]),
            "with normalisation and targets": lambda: task.simulate(batch),
            "network, forward, backward and update": learn,
        }
        return {name: 1e3 * median(part, seconds) for name, part in parts.items()}


def median(work: Callable[[], object], seconds: float) -> float:
    """Measure the median time of a call in s, over calls for ``seconds`` after one warm-up call."""
    work()
    times: list[float] = []
    while sum(times) < seconds:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main(seconds: str = "10") -> None:
    """Print images per second, their ratio to abTEM's, and the parts of a training step."""
    each = parse_number("seconds", seconds, unit="s", minimum=0.01)
    rates = imaging(each)
    base = rates["abTEM, one by one"]
    table = Table(title=f"{PATCH} x {PATCH} px graphene images, warm cache, {torch.get_num_threads()} threads")
    table.add_column("way")
    table.add_column("images/s", justify="right")
    table.add_column("ratio", justify="right")
    for name, value in rates.items():
        table.add_row(name, f"{value:.1f}", f"{value / base:.1f}")
    Console().print(table)
    times = step(each)
    whole = times["with normalisation and targets"] + times["network, forward, backward and update"]
    table = Table(title="One training step of the default recipe")
    for title in ("part", "ms", "share of the step"):
        table.add_column(title, justify="left" if title == "part" else "right")
    for name, value in times.items():
        table.add_row(name, f"{value:.1f}", f"{100.0 * value / whole:.0f} %")
    Console().print(table)

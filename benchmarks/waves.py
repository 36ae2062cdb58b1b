"""Cost of exit waves compared with plain abTEM on the same structures: ``python -m benchmarks waves``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import abtem
import numpy as np
from ase import Atoms
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from hrtem.ranges import parse_whole
from hrtem.recipes import compose
from hrtem.waves.cache import WaveCache
from hrtem.waves.multislice import Multislice

#: Fields of view, Å; the particles of the gold recipe do not fit into smaller fields.
EXTENTS = {"graphene": (25.6, 51.2, 102.4), "mos2": (25.6, 51.2, 102.4), "gold": (51.2, 102.4)}


class WaveCost(NamedTuple):
    """Mean cost of one recipe; seconds are processor time summed over all threads."""

    atoms: float
    slices: float
    seconds: float
    seconds_abtem: float
    seconds_torch: float
    bytes: int


def store(root: Path, name: str, extent: float) -> WaveCache:
    """Make a wave cache in ``root`` for the recipe ``sample=name`` with another field of view."""
    config = compose(f"sample={name}", f"sample.extent={extent}")
    recipe: Any = {group: OmegaConf.to_container(config[group], resolve=True) for group in ("sample", "wave")}
    recipe["wave"].pop("scheduler")
    return WaveCache(root, instantiate(recipe["sample"]), instantiate(recipe["wave"]), recipe, seed=0)


def plain(atoms: Atoms, wave: Multislice) -> np.ndarray:
    """Calculate the exit wave with abTEM's own potential, without thermal motion; complex64 ``(Y, X)``, not cropped."""
    with abtem.config.set({"diagnostics.progress_bar": False}):
        potential = abtem.Potential(
            atoms, sampling=wave.sampling / wave.oversampling, slice_thickness=wave.slice_thickness
        )
        behind: Any = abtem.PlaneWave(energy=wave.energy).multislice(potential, lazy=False)
    return behind.array.T


def processor_seconds(work: Callable[[Any], object], items: Sequence[Any]) -> float:
    """Measure the mean processor time over ``items`` without the first, which plans the Fourier transforms."""
    work(items[0])
    start = time.process_time()
    for item in items[1:]:
        work(item)
    return (time.process_time() - start) / len(items[1:])


def cost(name: str, extent: float, waves: int = 4) -> WaveCost:
    """Measure the cost of one recipe with ``waves`` of its structures."""
    with tempfile.TemporaryDirectory() as root:
        cache = store(Path(root), name, extent)
        structures = [cache.sample(np.random.default_rng([0, 0, n]))[0] for n in range(waves + 1)]
        rng = np.random.default_rng(0)
        thickness = np.mean([atoms.cell.lengths()[2] for atoms in structures])
        cache.compute("train", 0)
        torch_wave = Multislice(cache.wave.energy, cache.wave.sampling, engine="torch")
        return WaveCost(
            float(np.mean([len(atoms) for atoms in structures])),
            float(np.ceil(thickness / cache.wave.slice_thickness)),
            processor_seconds(lambda atoms: cache.wave(atoms, rng), structures),
            processor_seconds(lambda atoms: plain(atoms, cache.wave), structures),
            processor_seconds(lambda atoms: torch_wave(atoms, rng), structures),
            cache.path("train", 0).stat().st_size,
        )


def main(waves: str = "6") -> None:
    """Print the cost of each recipe and size."""
    number = parse_whole("waves", waves, minimum=1)
    table = Table(title=f"Exit waves of the default recipes, means of {number}")
    for title in (
        "sample",
        "extent (Å)",
        "atoms",
        "slices",
        "waves/s a core",
        "in torch",
        "ratio",
        "plain abTEM",
        "ratio",
        "MB a record",
    ):
        table.add_column(title, justify="left" if title == "sample" else "right")
    for name, extents in EXTENTS.items():
        for extent in extents:
            one = cost(name, extent, number)
            numbers = f"{extent:g}", f"{one.atoms:.0f}", f"{one.slices:.0f}", f"{1.0 / one.seconds:.3g}"
            others = [
                text
                for seconds in (one.seconds_torch, one.seconds_abtem)
                for text in (f"{1.0 / seconds:.3g}", f"{one.seconds / seconds:.2f}")
            ]
            table.add_row(name, *numbers, *others, f"{one.bytes / 1e6:.2f}")
    Console().print(table)

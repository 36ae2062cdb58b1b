"""Speed and memory of prediction including peak search, compared with AtomAI: ``python -m benchmarks inference``."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table

from benchmarks.training import ABSENT, interpreter
from hrtem.errors import InputError
from hrtem.inference import Predictor
from hrtem.micrograph import Micrograph
from hrtem.ranges import parse_whole
from hrtem.recipes import compose
from hrtem.structure import analyse

SIDES = (512, 2048, 4096, 8192)
#: Largest image side for AtomAI, px; larger images need more memory than a small machine has.
THEIR_LARGEST = 2048
#: Keys of the words that the benchmark accepts.
WORDS = ("atomai", "checkpoint", "sides", "rounds")
SAMPLING = 0.2
#: Spacing of graphene's {100} fringes, Å.
FRINGES = 2.13


def sheet(side: int) -> np.ndarray:
    """Make a sheet of graphene ``(side, side)`` from three plane waves, with an atom in each minimum."""
    place = np.arange(side, dtype=np.float32) * (2.0 * np.pi / FRINGES * SAMPLING)
    waves = np.zeros((side, side), np.float32)
    for turn in np.deg2rad(np.array([10.0, 70.0, 130.0], np.float32)):
        waves += np.cos(np.sin(turn) * place[:, None] + np.cos(turn) * place)
    return waves


def image(side: int) -> np.ndarray:
    """Make an image ``(1, side, side)`` of the sheet with noise."""
    noise = 0.5 * np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    return (100.0 + 10.0 * (sheet(side) + noise))[None]


def measured(side: int, checkpoint: str | None) -> dict[str, float]:
    """Measure a prediction in this process: time in s, additional memory in MiB, and number of columns.

    ``structure`` is the time of the structure analysis of the columns in s, which is not part of the other time.
    """
    predictor = Predictor.load(checkpoint) if checkpoint else Predictor(instantiate(compose().task))
    large = Micrograph(image(side), SAMPLING, "lattice", Path("lattice"))
    predictor.find(Micrograph(image(128), SAMPLING, "small", Path("small")))
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    prediction = predictor.find(large)
    seconds = time.perf_counter() - start
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024
    start = time.perf_counter()
    analyse(prediction.columns, prediction.extent)
    structure = time.perf_counter() - start
    return {"seconds": seconds, "memory": memory, "columns": len(prediction.columns), "structure": structure}


def apart(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Run a command in a separate process and read the JSON in the last line of its output.

    A separate process is needed because a process does not return memory to the system.

    Raises:
        InputError: the command fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise InputError(f"{command[0]} could not measure a prediction: {reason}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def ours(side: int, checkpoint: str | None) -> dict[str, float]:
    """Run :func:`measured` in a separate process."""
    words = [sys.executable, "-m", "benchmarks.inference", str(side), *([checkpoint] if checkpoint else [])]
    return apart(words, dict(os.environ))


def theirs(python: str, side: int) -> dict[str, float]:
    """Measure a prediction of AtomAI's default network in a separate process."""
    # Without PYTHONPATH, because our modules could hide AtomAI's.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    script = str(Path(__file__).with_name("segmentor.py"))
    with TemporaryDirectory() as folder:
        given = Path(folder) / "image.npz"
        np.savez(given, image=image(side)[0], spots=-20.0 * (sheet(side) + 1.0))
        words = [python, script, str(given), str(torch.get_num_threads())]
        return apart(words, environment | {"CUDA_VISIBLE_DEVICES": ""})


def main(*words: str) -> None:
    """Print megapixels per second and memory for each image size, alternating with AtomAI if it is installed."""
    said = dict(word.split("=", 1) for word in words if "=" in word)
    unknown = sorted(set(said) - set(WORDS)) + [word for word in words if "=" not in word]
    if unknown:
        raise InputError(f"inference takes the words {', '.join(WORDS)}, got {unknown[0]}.")
    sides = [parse_whole("sides", one, unit="px", minimum=64) for one in said["sides"].split(",")] if (
        "sides" in said
    ) else list(SIDES)  # fmt: skip
    rounds = parse_whole("rounds", said.get("rounds", "2"), minimum=1)
    python = interpreter(said.get("atomai"))
    console = Console()
    if python is None:
        console.print(ABSENT, soft_wrap=True)
    title = f"Prediction with peaks, {torch.get_num_threads()} threads, the best of {rounds} taken in turns"
    table = Table(title=title)
    for name in ("way", "px", "s", "Mpx/s", "ratio", "MiB beyond the image", "columns", "structure (s)"):
        table.add_column(name, justify="left" if name == "way" else "right")
    for side in sides:
        ways: dict[str, Any] = {"hrtem": []}
        for _ in range(rounds):
            if python is not None and side <= THEIR_LARGEST:
                ways.setdefault("AtomAI", []).append(theirs(python, side))
            ways["hrtem"].append(ours(side, said.get("checkpoint")))
        best = {name: min(runs, key=lambda run: run["seconds"]) for name, runs in ways.items()}
        for name, run in sorted(best.items()):
            ratio = f"{best['AtomAI']['seconds'] / run['seconds']:.1f}" if "AtomAI" in best else ""
            rate = side**2 / 1e6 / run["seconds"]
            cells = [f"{side}²", f"{run['seconds']:.2f}", f"{rate:.2f}", ratio, f"{run['memory']:.0f}"]
            structure = f"{run['structure']:.2f}" if "structure" in run else ""
            table.add_row(name, *cells, f"{run['columns']:.0f}", structure)
    console.print(table)


if __name__ == "__main__":
    print(json.dumps(measured(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)))

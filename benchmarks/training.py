"""Speed of training steps compared with AtomAI, and time of each stage: ``python -m benchmarks training``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from hrtem.errors import InputError
from hrtem.inference.precision import choose_precision
from hrtem.nets import Folded, UNet
from hrtem.ranges import parse_number, parse_whole
from hrtem.recipes import compose

#: Channels for about as many parameters as in AtomAI's default network, which has 594,033.
CHANNELS = (24, 48, 80, 112)

#: Message if AtomAI is not installed.
ABSENT = (
    "AtomAI is not installed here, so that only our rows follow; install atomai==0.8.1 and six in an environment of "
    "its own, and say atomai=ENVIRONMENT/bin/python."
)

#: Keys of the words that the benchmark accepts in addition to the number of seconds.
WORDS = ("atomai", "batch", "pixels", "peak")


@dataclass
class Way:
    """Training step of a network with its measured times.

    Args:
        step: function that runs one step and returns its time in s.
        parameters: number of parameters of the network.
        forward: operations per pixel of a forward pass; a multiplication and an addition count as two.
        whole: operations per pixel of a training step, or NaN if unknown.
        seconds: measured times of the steps, s.
    """

    step: Callable[[], float]
    parameters: int
    forward: float
    whole: float = float("nan")
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median time of a step, s."""
        return float(np.median(self.seconds))


def wait(device: str) -> None:
    """Wait until the device has finished its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def ours(fold: int, mixed: bool, batch: int, pixels: int, device: str) -> Way:
    """Prepare a step of our U-Net with :data:`CHANNELS` on random images, with AtomAI's loss and our optimizer."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 1, pixels, pixels, generator=generator).to(device, memory_format=torch.channels_last)
    masks = (torch.rand(batch, 1, pixels, pixels, generator=generator) > 0.9).float().to(device)
    net: Any = Folded(1, 1, fold, partial(UNet, channels=CHANNELS))
    net.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, fused=True)

    def learn(some: int) -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=mixed):
            logits = net(images[:some])
        F.binary_cross_entropy_with_logits(logits.float(), masks[:some]).backward()

    def step() -> float:
        start = time.perf_counter()
        learn(batch)
        optimizer.step()
        wait(device)
        return time.perf_counter() - start

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(images[:1])
    forward = counter.get_total_flops() / pixels**2
    with FlopCounterMode(display=False) as counter:
        learn(1)
    whole = counter.get_total_flops() / pixels**2
    return Way(step, sum(parameter.numel() for parameter in net.parameters()), forward, whole)


def interpreter(word: str | None) -> str | None:
    """Find a Python interpreter with AtomAI: the given one, this one, or None.

    Raises:
        InputError: the given file does not exist.
    """
    if word is None:
        return sys.executable if find_spec("atomai") else None
    if not Path(word).is_file():
        raise InputError(f"atomai must be the Python of an environment that has AtomAI, and {word} does not exist.")
    return word


@contextmanager
def theirs(python: str, batch: int, pixels: int, device: str) -> Iterator[Way]:
    """Provide AtomAI's default training step in a separate process, which sleeps between steps.

    Raises:
        InputError: AtomAI does not work in this Python interpreter.
    """
    script = Path(__file__).with_name("peer.py")
    hidden = {} if device == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    # Without PYTHONPATH, because our modules could hide AtomAI's.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | hidden
    words = [python, str(script), str(batch), str(pixels), str(torch.get_num_threads())]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    answers, questions, errors = process.stdout, process.stdin, process.stderr

    def answer() -> str:
        for line in answers:
            if line.startswith("atomai "):
                return line.removeprefix("atomai ")
        reason = (errors.read().strip().splitlines() or ["it says nothing"])[-1]
        raise InputError(f"atomai must be a Python in which AtomAI works, and in {python} it does not: {reason}")

    def step() -> float:
        questions.write("\n")
        questions.flush()
        return float(answer())

    try:
        facts = json.loads(answer())
        yield Way(step, facts["parameters"], facts["forward"])
    finally:
        process.kill()
        process.communicate()


def alternate(ways: Mapping[str, Way], seconds: float, least: int = 3) -> None:
    """Measure the steps alternately, so that other load on the machine affects all equally; warm-up is not counted.

    Args:
        ways: training steps to measure.
        seconds: approximate time for each training step, s.
        least: minimum number of measurements of each step.
    """
    for way in ways.values():
        way.step()
    start = time.perf_counter()
    rounds = 0
    while rounds < least or time.perf_counter() - start < seconds * len(ways):
        for way in ways.values():
            way.seconds.append(way.step())
        rounds += 1


def compared(python: str | None, batch: int, pixels: int, seconds: float, device: str = "cpu") -> dict[str, Way]:
    """Measure the training steps of all networks on one device; AtomAI, if installed, is the first."""
    with ExitStack() as stack:
        ways: dict[str, Way] = {}
        if python is not None:
            ways["AtomAI U-Net, float32"] = stack.enter_context(theirs(python, batch, pixels, device))
        for fold in (1, 2):
            for mixed in (False, True):
                name = f"hrtem U-Net, fold {fold}, {'bfloat16' if mixed else 'float32'}"
                ways[name] = ours(fold, mixed, batch, pixels, device)
        alternate(ways, seconds)
    return ways


def stages(seconds: float, *words: str, device: str = "cpu") -> dict[str, float]:
    """Measure the median time of each stage of a step of ``python train.py`` in its automatic precision, s."""
    config = compose("data.numbers.train=8", *words)
    data, task = instantiate(config.data), instantiate(config.task).to(device)
    for _ in data.cache.fill({"train": 8}, "inline"):
        pass
    mixed = choose_precision(device).endswith("mixed")
    optimizer = task.optimizer()
    times: dict[str, list[float]] = {}
    loader = iter(data._loader("train", 10**6))
    size = data.patch, data.patch
    start = before = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal before
        wait(device)
        now = time.perf_counter()
        times.setdefault(name, []).append(now - before)
        before = now

    while len(times.get("optimizer", ())) < 4 or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        batch = task.transfer_batch_to_device(next(loader), torch.device(device), 0)
        lap("loading")
        counts = task.imaging.simulate_counts(batch["wave"], batch["settings"])
        lap("imaging")
        images = task.normalise(counts, task.sampling).contiguous(memory_format=torch.channels_last)
        lap("normalisation")
        target = task.target(batch["positions"], batch["labels"], size, task.sampling, batch["atoms"])
        lap("target")
        with torch.autocast(device, torch.bfloat16, enabled=mixed):
            logits = task.net(images)
        loss = task.loss(logits.float(), target)
        lap("network forward and loss")
        loss.backward()
        lap("backward")
        optimizer.step()
        optimizer.zero_grad()
        lap("optimizer")
    # The first step is excluded because it allocates memory and reads waves from disk.
    return {name: float(np.median(values[1:])) for name, values in times.items()}


def utilisation() -> str:
    """Return the GPU utilisation in the last second as a text, or a text that it is unknown."""
    try:
        return f"{torch.cuda.utilization()} %"
    except (ImportError, RuntimeError):
        return "not told without nvidia-ml-py"


def main(*words: str) -> None:
    """Print training steps compared with AtomAI and the stages of our step, on the CPU and, if available, the GPU."""
    said = dict(word.split("=", 1) for word in words if "=" in word)
    if unknown := sorted(set(said) - set(WORDS)):
        raise InputError(f"training takes the words {', '.join(WORDS)} and a number of seconds, got {unknown[0]}.")
    plain = [word for word in words if "=" not in word] or ["20"]
    seconds = parse_number("seconds", plain[0], unit="s", minimum=0.01)
    batch = parse_whole("batch", said.get("batch", "16"), minimum=1)
    pixels = parse_whole("pixels", said.get("pixels", "256"), unit="px", minimum=32)
    if pixels % 32:
        raise InputError(f"pixels must be a multiple of 32 px, got {pixels}.")
    peak = parse_number("peak", said["peak"], unit="TFLOP/s", minimum=0.001) if "peak" in said else None
    python = interpreter(said.get("atomai"))
    console = Console()
    if python is None:
        console.print(ABSENT, soft_wrap=True)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        ways = compared(python, batch, pixels, seconds, device)
        console.print(table(ways, batch, pixels, device, peak if device == "cuda" else None))
        if device == "cuda":
            console.print(f"GPU at work: {utilisation()}")
        times = stages(seconds, device=device)
        shares = Table(title=f"One training step of the default recipe, {choose_precision(device)}, {device}")
        for title in ("stage", "ms", "share of the step"):
            shares.add_column(title, justify="left" if title == "stage" else "right")
        for name, value in times.items():
            shares.add_row(name, f"{1e3 * value:.1f}", f"{100.0 * value / sum(times.values()):.0f} %")
        console.print(shares)


def table(ways: Mapping[str, Way], batch: int, pixels: int, device: str, peak: float | None) -> Table:
    """Make a table of the rates of all networks, relative to the first; ``peak`` is the device's peak in TFLOP/s."""
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    answer = Table(title=f"Training steps, {batch} images of {pixels} x {pixels} px, {where}, taken in turns")
    titles = ["network", "parameters", "10³ operations/px", "step (s)", "images/s", "ratio", "TFLOP/s"]
    for title in titles + (["of peak"] if peak else []):
        answer.add_column(title, justify="left" if title == "network" else "right")
    base = next(iter(ways.values())).median
    for name, way in ways.items():
        speed = way.whole * batch * pixels**2 / way.median / 1e12
        cells = [f"{way.parameters:,}", f"{way.forward / 1e3:.1f}", f"{way.median:.3g}", f"{batch / way.median:.3g}"]
        cells += [f"{base / way.median:.2f}", "" if np.isnan(speed) else f"{speed:.3g}"]
        if peak:
            cells.append("" if np.isnan(speed) else f"{100.0 * speed / peak:.1f} %")
        answer.add_row(name, *cells)
    return answer

"""Comparison of trained runs: scores against dose, network size and speed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hrtem.errors import InputError
from hrtem.sweeps.entries import Cost, Entry, Run, names

__all__ = ["Cost", "Entry", "Run", "compare", "names", "read_limits", "run_folders"]


def compare(folders: Sequence[Path], device: str = "cpu") -> list[Entry]:
    """Read runs, group the repetitions of each recipe and measure each network once.

    Raises:
        InputError: a folder is not a tested run, or the device is not available.
    """
    groups: dict[str, list[Run]] = {}
    for folder in folders:
        run = Run.read(folder)
        groups.setdefault(run.recipe, []).append(run)
    members = list(groups.values())
    return [
        Entry(name, runs, Cost.measure(runs[0].folder / "checkpoints" / "best.ckpt", device))
        for name, runs in zip(names([runs[0] for runs in members]), members, strict=True)
    ]


def run_folders(place: Path) -> list[Path]:
    """Return the folder itself if it is a run folder, otherwise the folders of tested runs inside it."""
    if (place / "config.yaml").exists():
        return [place]
    inside = sorted(path.parent for path in place.glob("*/metrics.json"))
    return sorted(inside, key=lambda path: (len(path.name), path.name)) or [place]


def read_limits(path: Path) -> Mapping[float, float]:
    """Read the smallest possible position error in pm for each dose in e/Å².

    Raises:
        InputError: the file does not exist or has another format.
    """
    if not path.is_file():
        raise InputError(f"limits must be a JSON file, and {path} does not exist.")
    try:
        limits = {float(dose): float(error) for dose, error in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError):
        raise InputError(f'limits must be a JSON file as {{"1000": 20.0}}, dose to pm, and {path} is not.') from None
    if not limits or min(*limits, *limits.values()) <= 0.0:
        raise InputError(f"limits must give doses and errors above 0, and {path} does not.")
    return limits

"""Trained runs beside each other (``python -m hrtem.report compare``): scores against dose, size and speed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hrtem.comparison.entries import Cost, Entry, Run, names
from hrtem.comparison.show import figure, print_table, write_csv, write_markdown
from hrtem.errors import InputError
from hrtem.runs import parted

__all__ = ["Cost", "Entry", "Run", "compare", "main", "names"]

USAGE = "say: python -m hrtem.report compare RUN RUN … [output=compare.png] [limits=limits.json] [device=cpu]"


def main(words: Sequence[str]) -> None:
    """Compare the run folders among ``words``: print a table, save it as PNG, CSV and Markdown.

    A folder of several runs, as a multirun leaves it, stands for those that were tested. The other words are
    ``output=`` a PNG file, beside which the CSV and the Markdown go, ``limits=`` a JSON file with the best possible
    position error, ``{"dose in e/Å²": pm}``, and ``device=`` where the networks are measured.

    Raises:
        InputError: a folder or a word cannot be used.
    """
    said, others = parted(words, {"output": "compare.png", "limits": "", "device": "cpu"})
    places = [Path(word) for word in others]
    if not places:
        raise InputError(f"compare needs at least one run folder; {USAGE}.")
    output = Path(said["output"])
    if output.suffix != ".png" or not output.parent.is_dir():
        raise InputError(f"output must be a PNG file in a folder that exists, got {output}.")
    limits = read_limits(Path(said["limits"])) if said["limits"] else {}
    entries = compare([folder for place in places for folder in run_folders(place)], said["device"])
    print_table(entries, limits)
    figure(entries, limits, output)
    write_csv(entries, limits, output.with_suffix(".csv"))
    write_markdown(entries, limits, output.with_suffix(".md"))
    print(f"The figure is in {output}, the table in {output.with_suffix('.csv')} and {output.with_suffix('.md')}.")


def compare(folders: Sequence[Path], device: str = "cpu") -> list[Entry]:
    """Read runs, put repetitions of a recipe together and measure each network once.

    Raises:
        InputError: a folder is no tested run, or the device is not there.
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
    """The folder itself or, where it is none of a run but holds some, those of them that were tested."""
    if (place / "config.yaml").exists():
        return [place]
    inside = sorted(path.parent for path in place.glob("*/metrics.json"))
    return sorted(inside, key=lambda path: (len(path.name), path.name)) or [place]


def read_limits(path: Path) -> Mapping[float, float]:
    """The best possible position error in pm for doses in e/Å².

    Raises:
        InputError: the file does not say so.
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

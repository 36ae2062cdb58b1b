"""Trained runs beside each other: ``hrtem compare RUN RUN … [output=compare.png] [limits=limits.json] [device=cpu]``.

A folder of several runs, as a multirun leaves it, stands for those that were tested. The words are ``output=`` a PNG
file, beside which a CSV and a Markdown table go, ``limits=`` a JSON file with the best possible position error,
``{"dose in e/Å²": pm}``, and ``device=`` where the networks are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hrtem.commandline import split_words
from hrtem.errors import InputError
from hrtem.sweeps.comparison import compare, read_limits, run_folders
from hrtem.sweeps.show import figure, print_table, write_csv, write_markdown

USAGE = "say: hrtem compare RUN RUN … [output=compare.png] [limits=limits.json] [device=cpu]"


def main(words: Sequence[str]) -> None:
    """Compare the run folders among ``words``: print a table, save it as PNG, CSV and Markdown.

    A folder of several runs, as a multirun leaves it, stands for those that were tested. The other words are
    ``output=`` a PNG file, beside which the CSV and the Markdown go, ``limits=`` a JSON file with the best possible
    position error, ``{"dose in e/Å²": pm}``, and ``device=`` where the networks are measured.

    Raises:
        InputError: a folder or a word cannot be used.
    """
    if set(words) & {"-h", "--help"}:
        print(__doc__)
        return
    said, others = split_words(words, {"output": "compare.png", "limits": "", "device": "cpu"})
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

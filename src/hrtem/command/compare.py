"""Compare trained runs: ``hrtem compare RUN RUN … [output=compare.png] [limits=limits.json] [device=cpu]``.

``RUN`` is a run folder, or a folder of several runs (from a multirun), of which all tested runs are compared.

``output=`` is the PNG file of the figure; a CSV and a Markdown table are written next to it. ``limits=`` is a JSON file
with the smallest possible position error at each dose, ``{"dose in e/Å²": pm}``. ``device=`` is the device on which
the speed of the networks is measured.
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
    """Compare the run folders in ``words``: print a table, and save it as PNG, CSV and Markdown.

    Raises:
        InputError: a folder or a word cannot be used.
    """
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

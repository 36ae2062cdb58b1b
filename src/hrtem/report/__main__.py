"""Pictures and tables from the command line.

    python -m hrtem.report gallery [sample=graphene] [focal=3] [output=sheet.png] [micrograph=image.dm3 [sampling=0.12]]
    python -m hrtem.report compare RUN RUN … [output=compare.png] [limits=limits.json] [device=cpu]

gallery draws random training examples over dose and defocus, with their true columns, and compares them with a
micrograph where one is given. It takes every word of train.py too; its own are listed in conf/gallery.yaml.
compare puts trained runs beside each other: scores against dose, size and speed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hrtem import comparison, runs
from hrtem.errors import InputError
from hrtem.recipes import composed
from hrtem.report import gallery

COMMANDS = ("gallery", "compare")


def main(words: Sequence[str]) -> None:
    """Do what the words of a command line say."""
    if set(words) & {"-h", "--help"}:
        print(__doc__)
        return
    if not words or words[0] not in COMMANDS:
        given = f"got {words[0]}" if words else "got none"
        raise InputError(f"the first word must be one of {', '.join(COMMANDS)}, {given}.")
    if words[0] == "compare":
        comparison.main(words[1:])
        return
    config = composed(*runs.quoted(words[1:], keys=("micrograph", "output")), name="gallery")
    print(f"The sheet is in {gallery.draw(config)}")


if __name__ == "__main__":
    runs.prepare()
    with runs.told_in_one_sentence():
        main(sys.argv[1:])

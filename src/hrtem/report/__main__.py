"""Pictures and tables from the command line.

    python -m hrtem.report gallery [sample=graphene] [focal=3] [output=sheet.png] [micrograph=image.dm3 [sampling=0.12]]
    python -m hrtem.report probabilities model=mos2 [dose=10000] [view=0] [output=probabilities.png] [sample.tilt=0]
    python -m hrtem.report counts checkpoint=best.ckpt [dose=1000] [view=0] [output=counts.png] [sample.support=vacuum]
    python -m hrtem.report compare RUN RUN … [output=compare.png] [limits=limits.json] [device=cpu]

gallery draws random training examples over dose and defocus, with their true columns, and compares them with a
micrograph where one is given. It takes every word of train.py too; its own are listed in conf/gallery.yaml.
probabilities draws a simulated series that a model has never seen, what is there and the probability of each class;
counts draws a particle coloured by found and by true numbers of atoms, and writes the model that the found ones make.
compare puts trained runs beside each other: scores against dose, size and speed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hrtem import comparison, runs
from hrtem.errors import InputError
from hrtem.recipes import composed
from hrtem.report import counting, gallery, probabilities

COMMANDS = ("gallery", "probabilities", "counts", "compare")


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
    if words[0] == "probabilities":
        print(f"The figure is in {probabilities.draw(words[1:])}")
        return
    if words[0] == "counts":
        picture, *models = counting.draw(words[1:])
        print(f"The figure is in {picture}, the model in {' and '.join(map(str, models))}")
        return
    config = composed(*runs.quoted(words[1:], keys=("micrograph", "output")), name="gallery")
    print(f"The sheet is in {gallery.draw(config)}")


if __name__ == "__main__":
    runs.prepare()
    with runs.told_in_one_sentence():
        main(sys.argv[1:])

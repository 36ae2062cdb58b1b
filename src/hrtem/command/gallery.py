"""Pictures and tables from the command line.

    hrtem gallery [sample=graphene] [focal=3] [output=sheet.png] [micrograph=image.dm3]
    hrtem gallery probabilities model=mos2 [dose=10000] [view=0] [output=probabilities.png] [sample.tilt=0]
    hrtem gallery counts checkpoint=best.ckpt [dose=1000] [view=0] [output=counts.png] [sample.support=vacuum]

The first draws random training examples over dose and defocus, with their true columns, and compares them with a
micrograph where one is given. It takes every word of a training too; its own are listed in conf/gallery.yaml.
probabilities draws a simulated series that a model has never seen, what is there and the probability of each class;
counts draws a particle coloured by found and by true numbers of atoms, and writes the model that the found ones make.
"""

from __future__ import annotations

from collections.abc import Sequence

from hrtem import commandline
from hrtem.errors import InputError
from hrtem.gallery import atom_counts, contact_sheet, probabilities
from hrtem.recipes import compose


def main(words: Sequence[str]) -> None:
    """Do what the words of a command line say."""
    if set(words) & {"-h", "--help"}:
        print(__doc__)
        return
    first = words[0] if words else ""
    if first and "=" not in first and first not in ("probabilities", "counts"):
        raise InputError(f"the first word must be probabilities, counts or one of the form key=value, got {first}.")
    if first == "probabilities":
        print(f"The figure is in {probabilities.draw(words[1:])}")
        return
    if first == "counts":
        picture, *models = atom_counts.draw(words[1:])
        print(f"The figure is in {picture}, the model in {' and '.join(map(str, models))}")
        return
    config = compose(*commandline.quote_words(words, keys=("micrograph", "output")), name="gallery")
    print(f"The sheet is in {contact_sheet.draw(config)}")

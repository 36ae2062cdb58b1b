"""Figures of training images and of model predictions.

    hrtem gallery [sample=graphene] [focal=3] [output=sheet.png] [micrograph=image.dm3]
    hrtem gallery probabilities model=mos2 [dose=10000] [view=0] [output=probabilities.png] [sample.tilt=0]
    hrtem gallery counts checkpoint=best.ckpt [dose=1000] [view=0] [output=counts.png] [sample.support=vacuum]

The first form draws random training examples over dose and defocus with their true columns, and compares them with a
micrograph if ``micrograph=`` is given. It accepts all words of ``hrtem train``; its own words are in conf/gallery.yaml.
``probabilities`` draws a simulated test series, its true structure and the predicted probability of each class.
``counts`` draws a particle coloured by the found and by the true number of atoms in each column, and writes the 3D
model built from the found numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from hrtem import commandline
from hrtem.command.train import FILES
from hrtem.errors import InputError
from hrtem.gallery import atom_counts, contact_sheet, probabilities
from hrtem.recipes import compose


def main(words: Sequence[str]) -> None:
    """Draw the figure for the words of a command line."""
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
    config = compose(*commandline.quote_words(words, keys=(*FILES, "micrograph", "item", "output")), name="gallery")
    print(f"The sheet is in {contact_sheet.draw(config)}")

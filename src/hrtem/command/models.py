"""List, export and calibrate models.

``hrtem models`` lists the shipped models.
``hrtem models export best.ckpt NAME [notes=card.md]`` makes a model folder from a checkpoint.
``hrtem models calibrate NAME [views=96]`` repeats the calibration of a model's probabilities and uncertainties.
"""

from __future__ import annotations

from hrtem import models
from hrtem.errors import InputError
from hrtem.inference.network import ColumnNetwork
from hrtem.training import recalibration


def main(words: list[str]) -> None:
    """List the models, export a model, or calibrate a model.

    Raises:
        InputError: the words have another form, or a model or file cannot be used.
    """
    if not words:
        for name in models.names():
            network = ColumnNetwork.load(models.find(name))
            takes = f"{network.optics.num_images} image{'s' if network.optics.num_images > 1 else ''}"
            print(
                f"{name}: {', '.join(network.classes)} from {takes}, {models.checksum(name)[:12]}, {models.find(name)}"
            )
        if not models.names():
            print("No models come with this package; a path to a model's folder or to a checkpoint works as well.")
        return
    if words[0] == "calibrate":
        folder = recalibration.calibrate(*_calibrated(words[1:]))
        print(f"The calibration of probabilities and uncertainties is in {folder}.")
        return
    notes = [word.removeprefix("notes=") for word in words if word.startswith("notes=")]
    rest = [word for word in words if not word.startswith("notes=")]
    if len(rest) != 3 or rest[0] != "export" or len(notes) > 1:
        raise InputError(
            "say: hrtem models, hrtem models export CHECKPOINT NAME [notes=FILE], or "
            "hrtem models calibrate MODEL [views=NUMBER]."
        )
    folder = models.export(rest[1], rest[2], notes[0] if notes else None)
    print(f"The model is in {folder}; its card, {folder / 'card.md'}, should be read before the model is passed on.")


def _calibrated(words: list[str]) -> tuple[str, int]:
    """Read the model and the number of views from the words after ``calibrate``."""
    views = [word.removeprefix("views=") for word in words if word.startswith("views=")]
    rest = [word for word in words if not word.startswith("views=")]
    if len(rest) != 1 or len(views) > 1:
        raise InputError("say: hrtem models calibrate MODEL [views=NUMBER].")
    if views and not views[0].isdecimal():
        raise InputError(f"views must be a number of structures from 1 up, got {views[0] or 'nothing'}.")
    return rest[0], int(views[0]) if views else recalibration.VIEWS

"""What the peaks of a trained model mean, measured anew on images of its recipe as they are simulated today."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from hrtem import models
from hrtem.calibration import CANDIDATE
from hrtem.errors import InputError
from hrtem.inference import Predictor, weights
from hrtem.training.testsets import expose_example, simulate_structures

#: Seed of the images that a model is calibrated with. Trainings count theirs from 0, tests have their own.
SEED = 19310624
#: How many structures calibrate a model unless another number is said.
VIEWS = 96


def calibrate(model: str | Path, views: int = VIEWS, seed: int = SEED) -> Path:
    """Measure anew what the peaks of a trained model mean, and write that into the model.

    Images are those of its recipe as they are simulated today, of structures that neither a training nor a test set
    has. Its weights stay as they are, and so does all that it finds; probabilities and uncertainties change.

    Args:
        model: name, folder or checkpoint file, see :func:`hrtem.models.find`.
        views: number of structures, each shown at each of the doses that the tests of the model tell apart.
        seed: of structures and images.

    Returns:
        The folder or the file.

    Raises:
        InputError: there is no such model, it cannot be written, or the number of views is none.
    """
    if views < 1:
        raise InputError(f"views must be at least 1, got {views}.")
    path = models.find(model)
    values = measure_calibration(path, views, seed)
    change = weights.change if path.is_dir() else weights.change_checkpoint
    change(path, values)
    return path


def measure_calibration(path: Path, views: int, seed: int) -> dict[str, Tensor]:
    """What a validation measures, of a model's folder or a checkpoint file; see :func:`calibrate`.

    Returns:
        The buffers ``presence`` and ``uncertainty`` of :class:`hrtem.inference.network.ColumnNetwork`.
    """
    # In the precision in which a model predicts.
    predictor = Predictor.load(path)
    network = predictor.network
    data = simulate_structures(network, views, seed)
    # At each dose that its tests tell apart: the ends of the range count as much as its middle.
    doses = network.optics.test_doses
    images = data.images("test", views * len(doses), doses=doses)
    peaks, true = [], []
    for number in range(len(images)):
        example = images[number]
        with torch.inference_mode():
            maps = predictor.maps(network.normalise(expose_example(images, example), images.sampling))
            peaks += network.peaks(maps, CANDIDATE)
        true.append(example["columns"])
    rows, columns = maps.shape[-2:]
    network.calibrate(peaks, true, (columns - 1) * network.sampling, (rows - 1) * network.sampling)
    return {"presence": network.presence, "uncertainty": network.uncertainty}

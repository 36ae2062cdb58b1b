"""Recalibration of a trained model on images of its recipe, simulated with the present version of the code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from hrtem import models
from hrtem.calibration import CANDIDATE, Peaks
from hrtem.calibration.measurement import Presence, Uncertainty
from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.inference import Predictor, weights
from hrtem.inference.network import ColumnNetwork
from hrtem.training.testsets import simulate_structures

#: Seed of the images for calibration. Trainings number their seeds from 0; test sets have a seed of their own.
SEED = 19310624
#: Default number of structures for calibration.
VIEWS = 96


def calibrate(model: str | Path, views: int = VIEWS, seed: int = SEED) -> Path:
    """Recalibrate the probabilities and uncertainties of a trained model, and write the calibration into the model.

    The images follow the recipe of the model, simulated with the present code, and show structures that occur neither
    in a training nor in a test set. The weights and the maps do not change; probabilities and uncertainties change.

    Args:
        model: name, folder or checkpoint file, see :func:`hrtem.models.find`.
        views: number of structures, each shown at each of the test doses of the model.
        seed: random seed of structures and images.

    Returns:
        The folder or file of the model.

    Raises:
        InputError: the model does not exist or cannot be written, or ``views`` is less than 1.
    """
    if views < 1:
        raise InputError(f"views must be at least 1, got {views}.")
    path = models.find(model)
    values = measure_calibration(path, views, seed)
    change = weights.change if path.is_dir() else weights.change_checkpoint
    change(path, values)
    return path


def measure_calibration(path: Path, views: int, seed: int) -> dict[str, Tensor]:
    """Measure the calibration of a model's folder or a checkpoint file, as in a validation; see :func:`calibrate`.

    Returns:
        The buffers ``presence`` and ``uncertainty`` of :class:`hrtem.inference.network.ColumnNetwork`.
    """
    # The predictor has the same precision here as in later predictions.
    predictor = Predictor.load(path)
    network = predictor.network
    data = simulate_structures(network, views, seed)
    # All test doses: the ends of the dose range count as much as its middle.
    doses = network.optics.test_doses
    images = data.images("test", views * len(doses), doses=doses)
    peaks, true = [], []
    for number in range(len(images)):
        example = images[number]
        with torch.inference_mode():
            maps = predictor.maps(network.normalise(images.expose(example), network.sampling))
            peaks += network.peaks(maps, CANDIDATE)
        true.append(example["columns"])
    rows, columns = maps.shape[-2:]
    calibrate_network(network, peaks, true, (columns - 1) * network.sampling, (rows - 1) * network.sampling)
    return {"presence": network.presence, "uncertainty": network.uncertainty}


def calibrate_network(
    network: ColumnNetwork, peaks: Sequence[Peaks], true: Sequence[Columns], width: float, height: float
) -> None:
    """Calibrate probabilities and uncertainties anew on images of ``width`` x ``height`` Å.

    Args:
        network: whose buffers ``presence`` and ``uncertainty`` change.
        peaks: peaks of each image, with a mass from :data:`hrtem.calibration.CANDIDATE` up.
        true: true columns of each image.
        width, height: largest x and y of a pixel centre, Å.
    """
    size = (width, height)
    presence, uncertainty = Presence(network.find_peaks.sigma), Uncertainty(network.find_peaks.sigma)
    presence.update([one.columns for one in peaks], true, *size)
    network.presence.copy_(presence.compute())
    sure = [network.judge(one).probabilities >= network.find_peaks.threshold for one in peaks]
    uncertainty.update(peaks, sure, true, *size)
    network.uncertainty.copy_(uncertainty.compute())

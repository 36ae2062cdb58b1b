"""Effect of partial coherence on the images of each recipe: ``python -m benchmarks coherence``.

Waves and microscopes are drawn from the recipes, and each image is calculated in three ways: with the modes of
:mod:`hrtem.optics.coherence`, with the quasi-coherent envelope, and by a direct sum of intensities over :data:`POINTS`
defoci, which is implemented independently in this file. For the angular spread of the illumination, the envelope is
compared with a sum over beam directions. ``images=`` sets the number of images.

With ``models=[old,new]``, the models are scored on test sets of the first model's recipe, imaged with the envelope and
with the modes. ``sample.…``, ``optics.…`` and ``noise.…`` change the recipe; ``views=`` sets the number of views.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from benchmarks.evaluation import answers, scores
from hrtem import models
from hrtem.errors import InputError
from hrtem.optics import Optics, wavelength
from hrtem.optics.coherence import HIGHEST_BEAM
from hrtem.ranges import Range
from hrtem.recipes import compose
from hrtem.training.testsets import simulate_test_set
from hrtem.waves.multislice import Multislice

SAMPLING = 0.2  # Å/px
RECIPES = ("graphene", "mos2", "gold")
#: Number of points of the direct sum over the defocus, and its range in 1/e widths to each side.
POINTS, REACH = 241, 3.2
#: Angular spreads of the beam, mrad; number of beam directions along each axis in the direct sum; number of points in
#: the simultaneous sum over the defocus.
SPREADS, DIRECTIONS, FEWER = (0.1, 0.3, 0.5), 5, 41
#: Effects of detector and specimen that are unrelated to coherence, switched off.
STILL = dict.fromkeys(("vibration", "drift", "misalignment", "series_drift", "defocus_error"), 0.0)
FIELD = 192  # px
#: Doses of the comparison of models, e/Å².
DOSES = (1e3, 1e4)


def summed(
    wave: np.ndarray,
    drawn: dict[str, np.ndarray],
    energy: float,
    tilt: tuple[float, float] = (0.0, 0.0),
    points: int = POINTS,
) -> np.ndarray:
    """Calculate the mean intensity ``(Y, X)`` over the focal spread for a wave ``(Y, X)``, by a direct sum.

    Args:
        wave: complex exit wave.
        drawn: settings of the microscope.
        energy: electron energy, eV.
        tilt: direction of the beam, 1/Å.
        points: number of defoci in the sum.
    """
    one = {name: float(np.ravel(value)[0]) for name, value in drawn.items()}
    length = wavelength(energy)
    ky, kx = (np.fft.fftfreq(size, SAMPLING) for size in wave.shape)
    kx, ky = np.meshgrid(kx, ky)
    beams = np.fft.fft2(wave) * (np.hypot(kx, ky) <= HIGHEST_BEAM)
    # A tilted incident beam shifts all diffracted beams in the back focal plane.
    alpha = length * np.hypot(kx + tilt[0], ky + tilt[1])
    azimuth = np.arctan2(ky + tilt[1], kx + tilt[0])
    surface = (
        alpha**2 / 2 * (one["astigmatism"] * np.cos(2 * (azimuth - one["astigmatism_angle"])) - one["defocus"])
        + alpha**3 / 3 * one["coma"] * np.cos(azimuth - one["coma_angle"])
        + alpha**3 / 3 * one["threefold"] * np.cos(3 * (azimuth - one["threefold_angle"]))
        + alpha**4 / 4 * one["Cs"]
        + alpha**6 / 6 * one["C5"]
    )
    offsets = np.linspace(-REACH, REACH, points) if one["focal_spread"] > 0.0 else np.zeros(1)
    shares = np.exp(-(offsets**2)) / np.exp(-(offsets**2)).sum()
    total = np.zeros(wave.shape)
    for share, offset in zip(shares, offsets * one["focal_spread"], strict=True):
        phase = 2.0 * np.pi / length * (surface + alpha**2 / 2 * offset)
        total += share * np.abs(np.fft.ifft2(beams * np.exp(-1j * phase))) ** 2
    return total


def over_directions(wave: np.ndarray, drawn: dict[str, np.ndarray], energy: float, spread: float) -> np.ndarray:
    """Calculate the mean intensity ``(Y, X)`` over Gaussian beam directions with 1/e half-width ``spread`` in mrad."""
    nodes, weights = np.polynomial.hermite.hermgauss(DIRECTIONS)
    scale = 1e-3 * spread / wavelength(energy)
    total = np.zeros(wave.shape)
    for x, first in zip(nodes, weights, strict=True):
        for y, second in zip(nodes, weights, strict=True):
            total += first * second / np.pi * summed(wave, drawn, energy, (scale * x, scale * y), FEWER)
    return total


def waves(recipe: str, number: int) -> tuple[list[np.ndarray], Any]:
    """Simulate exit waves ``(Y, X)`` of a recipe, cropped to :data:`FIELD`, and return them with the configuration."""
    config = compose(f"sample={recipe}")
    sample, wave = instantiate(config.sample, _convert_="all"), Multislice(config.optics.energy, SAMPLING)
    answer = []
    for index in range(number):
        atoms, _ = sample(np.random.default_rng([index, 5]))
        whole = wave(atoms)
        first = (len(whole) - FIELD) // 2
        answer.append(np.ascontiguousarray(whole[first : first + FIELD, first : first + FIELD]))
    return answer, config


def image(optics: Optics, wave: np.ndarray, drawn: dict[str, np.ndarray]) -> np.ndarray:
    """Calculate the expected intensity ``(Y, X)`` of a wave ``(Y, X)``."""
    batch = {name: torch.from_numpy(np.asarray(value))[None] for name, value in drawn.items()}
    return optics(torch.from_numpy(wave)[None], batch, SAMPLING)[0, 0].numpy()


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Calculate the root mean square difference relative to the contrast (standard deviation) of ``other``, %."""
    return 100.0 * float((one - other).std() / other.std())


def temporal(number: int) -> Table:
    """Compare modes and envelope with the direct sum over the focal spread, and measure their cost."""
    table = Table(title=f"Focal spread: error over the contrast, %, of {number} images of each recipe")
    for head in ("recipe", "focal spread (Å)", "modes: mean", "largest", "envelope: mean", "largest",
                 "electrons lost by the envelope", "time: modes / envelope"):  # fmt: skip
        table.add_column(head, justify="left" if head == "recipe" else "right")
    for recipe in RECIPES:
        given, config = waves(recipe, number)
        exact, envelope = (instantiate({**config.optics, **STILL, "coherence": one}) for one in ("exact", "envelope"))
        rows = []
        for index, wave in enumerate(given):
            drawn = exact.draw(np.random.default_rng([index, 6]))
            truth = summed(wave, drawn, exact.energy)
            damped = image(envelope, wave, drawn)
            rows.append(
                (difference(image(exact, wave, drawn), truth), difference(damped, truth), 1.0 - float(damped.mean()))
            )
        modes, damped_, lost = np.array(rows).T
        spread = Range.parse("focal_spread", config.optics.focal_spread)
        table.add_row(
            recipe, f"{spread.low:g} … {spread.high:g}", f"{modes.mean():.2f}", f"{modes.max():.2f}",
            f"{damped_.mean():.1f}", f"{damped_.max():.1f}", f"{100 * lost.mean():.1f} %",
            f"{_seconds(exact, given) / _seconds(envelope, given):.1f}",
        )  # fmt: skip
    return table


def _seconds(optics: Optics, given: Sequence[np.ndarray]) -> float:
    """Measure the time to image all waves as one batch, the shortest of three runs."""
    drawn = [optics.draw(np.random.default_rng([index, 6])) for index in range(len(given))]
    batch = {name: torch.from_numpy(np.stack([one[name] for one in drawn])) for name in drawn[0]}
    stacked, times = torch.from_numpy(np.stack(given)), []
    for _ in range(3):
        begin = time.perf_counter()
        optics(stacked, batch, SAMPLING)
        times.append(time.perf_counter() - begin)
    return min(times)


def spatial(number: int) -> Table:
    """Compare the envelope of the angular spread with a sum over directions and with images without angular spread."""
    table = Table(title=f"Angular spread: mean over {number} images of each recipe, % of the contrast")
    for head in ("recipe", "1/e half-width (mrad)", "what it changes", "error of the envelope"):
        table.add_column(head, justify="left" if head == "recipe" else "right")
    for recipe in RECIPES:
        given, config = waves(recipe, number)
        for spread in SPREADS:
            optics = instantiate({**config.optics, **STILL, "angular_spread": spread})
            rows = []
            for index, wave in enumerate(given):
                drawn = optics.draw(np.random.default_rng([index, 7]))
                truth = over_directions(wave, drawn, optics.energy, spread)
                sharp = summed(wave, drawn, optics.energy, points=FEWER)
                rows.append((difference(sharp, truth), difference(image(optics, wave, drawn), truth)))
            change, error = np.mean(rows, axis=0)
            table.add_row(recipe, f"{spread:g}", f"{change:.1f}", f"{error:.1f}")
    return table


def compared(names: Sequence[str], views: int, changes: dict[str, Any]) -> Table:
    """Score models on test sets of the first model's recipe, imaged with the envelope and with the modes."""
    finders = {name: models.load(name) for name in names}
    first = finders[names[0]]
    table = Table(title=f"{views} views of the recipe of {names[0]}")
    for head in ("images", "model", "dose (e/Å²)", "F1", "exact counts", "95 %", "position error (pm)", "count ECE"):
        table.add_column(head, justify="left" if head in ("images", "model") else "right")
    for coherence in ("envelope", "exact"):
        parts = {**changes, "optics": {**changes.get("optics", {}), "coherence": coherence}}
        test_set = simulate_test_set(first.network, coherence, views, parts, doses=DOSES)
        for name, predictor in finders.items():
            for row in scores(predictor, test_set, answers(predictor, test_set)):
                every, interval = row["all"], row["intervals"].get("count_exact")
                table.add_row(
                    coherence, name, f"{row['dose_image']:,.0f}", f"{every['f1']:.3f}",
                    "" if every["count_exact"] is None else f"{every['count_exact']:.3f}",
                    "" if interval is None else f"{interval[0]:.3f} … {interval[1]:.3f}",
                    f"{every['error_pm']:.1f}", "" if row["count_ece"] is None else f"{row['count_ece']:.3f}",
                )  # fmt: skip
    return table


def main(*words: str) -> None:
    """Print the tables.

    Raises:
        InputError: a word is unknown, or a model does not exist.
    """
    said = OmegaConf.to_container(OmegaConf.from_dotlist(list(words)), resolve=True)
    assert isinstance(said, dict)
    unknown = set(said) - {"models", "images", "views", "sample", "optics", "noise"}
    if unknown:
        raise InputError(
            f"coherence takes models, images, views, sample, optics and noise, got {', '.join(sorted(unknown))}."
        )
    for name in ("images", "views"):
        if name in said and (not isinstance(said[name], int) or said[name] < 1):
            raise InputError(f"{name} must be a whole number from 1 up, got {said[name]}.")
    console = Console(width=140)
    if "models" in said:
        names = [said["models"]] if isinstance(said["models"], str) else [str(one) for one in said["models"]]
        changes = {part: said[part] for part in ("sample", "optics", "noise") if part in said}
        console.print(compared(names, said.get("views", 32), changes))
        return
    console.print(temporal(said.get("images", 12)))
    console.print(spatial(max(1, said.get("images", 12) // 4)))

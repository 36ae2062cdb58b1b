"""Simulated images that no training has seen, for any trained model: of its own recipe, or of one that is changed.

Structures and images draw from seeds of their own, see :data:`SEED`. Images are those that a microscope records,
whatever approximation a model was trained with. What they are is summed up in a checksum of the truth and in the
contrasts of the images, so that two results can be known to be of the same images.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from hrtem.errors import InputError
from hrtem.imaging import form_image, simulate_counts
from hrtem.inference.network import ColumnNetwork
from hrtem.recipes import compose
from hrtem.training.data import Example, SimulatedImages, WaveDataModule, collate

#: Seed of all test sets. Trainings count theirs from 0.
SEED = 20180208
#: Side of an image, px, as in training.
PATCH = 128
#: To this part of Å, e/Å² and so on the truth enters the checksum, far above what processors differ by.
DIGITS = 2


@dataclass(frozen=True)
class TestSet:
    """Simulated views, each at several doses.

    Args:
        name: of the set.
        images: the examples; number ``n`` is view ``n // len(doses)`` at ``doses[n % len(doses)]``.
    """

    #: No test of its own, whatever the runner of tests makes of its name.
    __test__ = False

    name: str
    images: SimulatedImages

    @property
    def doses(self) -> tuple[float, ...]:
        """e/Å², of each image or of the whole series, as the model's optics say."""
        return self.images.doses

    @property
    def totals(self) -> tuple[float, ...]:
        """e/Å² of the whole series."""
        optics = self.images.optics
        return tuple(optics.num_images * optics.image_dose(dose) for dose in self.doses)

    @property
    def extent(self) -> float:
        """Largest x and y of a pixel's centre, Å."""
        return (self.images.side - 2 * self.images.margin - 1) * self.images.sampling

    def __iter__(self) -> Iterator[Example]:
        return (self.images[number] for number in range(len(self.images)))

    @cached_property
    def contrasts(self) -> list[float]:
        """Standard deviation of the expected images of each view, before the detector, whatever the dose."""
        images, answer = self.images, []
        for number in range(0, len(images), len(self.doses)):
            batch = collate([images[number]])
            with torch.no_grad():
                seen = form_image(images.optics, batch["wave"], batch["settings"], images.sampling)
            inner = slice(images.margin, seen.shape[-1] - images.margin)
            answer.append(round(float(seen[..., inner, inner].std()), DIGITS + 2))
        return answer

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the true columns, of the microscope and detector of each image, and of the images' mean contrast.

        All are rounded, to :data:`DIGITS` decimals and the contrast to one more. Of each image by itself the contrast
        would differ between processors where it lies half-way between two roundings; see :attr:`contrasts`.
        """
        digest = hashlib.sha256()
        for example in self:
            columns = example["columns"]
            for array in (columns.positions, columns.labels, columns.counts):
                digest.update(_rounded(array))
            for name, value in sorted(example["settings"].items()):
                digest.update(name.encode() + _rounded(value))
        digest.update(_rounded(10.0 * np.mean(self.contrasts)))
        return digest.hexdigest()


def expose_example(images: SimulatedImages, example: Example) -> Tensor:
    """The counts ``(1, F, Y, X)`` of one of the ``images``, with their margin, whatever a model was trained with."""
    batch = collate([example])
    with torch.no_grad():
        return simulate_counts(
            images.optics, images.noise, batch["wave"], batch["settings"], images.sampling, images.margin
        )


def simulate_test_set(
    network: ColumnNetwork,
    name: str = "own",
    views: int = 32,
    changes: Mapping[str, Any] | None = None,
    doses: Sequence[float] = (),
    patch: int | None = None,
    scheduler: str = "inline",
    seed: int = SEED,
) -> TestSet:
    """Simulate the test set of a trained model, where the cache lacks it.

    Structures, microscope and detector are those that the model learnt from, at the doses of its own tests. Waves are
    propagated as the default recipe of ``wave`` says.

    Args:
        network: the trained model.
        name: of the set.
        views: number of structures, of each of which one view is shown.
        changes: other settings of its sample, its optics and its noise, such as ``{"sample": {"tilt": 0.0}}``.
        doses: e/Å², of each image or of the series, as its optics say; those of its own tests if none are given.
        patch: side of the images, px, :data:`PATCH` if none is given; the structures grow with it where they must.
        scheduler: see :func:`hrtem.waves.workers.run_tasks`.
        seed: of structures and images.

    Raises:
        InputError: a setting is unknown or out of its range, or the waves cannot be simulated.
    """
    data = simulate_structures(network, views, seed, changes, patch, scheduler)
    doses = tuple(doses) or data.optics.test_doses
    return TestSet(name, data.images("test", views * len(doses), doses=doses))


def simulate_structures(
    network: ColumnNetwork,
    number: int,
    seed: int,
    changes: Mapping[str, Any] | None = None,
    patch: int | None = None,
    scheduler: str = "inline",
) -> WaveDataModule:
    """Simulate structures of the recipe of a trained model, where the cache lacks them.

    Args:
        network: the trained model.
        number: how many there are.
        seed: of structures and images.
        changes, patch, scheduler: see :func:`simulate_test_set`.

    Returns:
        What makes images of them, as its split ``test``.

    Raises:
        InputError: see :func:`simulate_test_set`.
    """
    parts = {part: _changed(part, network.settings[part], changes) for part in ("sample", "optics", "noise")}
    unknown = set(changes or {}) - set(parts)
    if unknown:
        raise InputError(f"a test set may change sample, optics and noise, got {', '.join(sorted(unknown))}.")
    # As a microscope records it, whatever the model was trained with.
    if "coherence" not in ((changes or {}).get("optics") or {}):
        parts["optics"]["coherence"] = "exact"
    patch = PATCH if patch is None else patch
    margin = instantiate(parts["optics"]).margin(network.sampling)
    needed = (patch + 2 * margin) * network.sampling
    parts["sample"]["extent"] = max(float(parts["sample"]["extent"]), needed)
    wave: Any = OmegaConf.to_container(compose().wave, resolve=True)
    # The beam of the images, which changes of the optics may have changed.
    wave |= {"energy": parts["optics"]["energy"], "sampling": network.sampling, "scheduler": scheduler}
    data = WaveDataModule(
        **parts,
        wave=wave,
        cache=os.environ.get("HRTEM_CACHE", "cache"),
        numbers={"test": number},
        seed=seed,
        sampling=network.sampling,
        patch=patch,
        margin=margin,
        batch_size=1,
        epoch_size=1,
        workers=0,
    )
    data.prepare_data()
    return data


def _changed(part: str, settings: Mapping[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings with those of ``changes[part]`` in their place; parts of a nested one are changed by name."""
    answer = dict(settings)
    for name, value in ((changes or {}).get(part) or {}).items():
        old = answer.get(name)
        answer[name] = {**old, **value} if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return answer


def _rounded(values: Any) -> bytes:
    return np.round(np.asarray(values, dtype=np.float64) * 10**DIGITS).astype(np.int64).tobytes()

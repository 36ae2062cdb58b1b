"""Simulated test images for any trained model, according to its own recipe or a changed recipe.

Structures and images have seeds of their own, see :data:`SEED`, and occur in no training. The images are simulated
without the approximations of the model's training. A checksum of the truth and the contrasts of the images identify a
test set, so that it can be verified that two results belong to the same images.
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

from hrtem.errors import InputError
from hrtem.inference.network import ColumnNetwork
from hrtem.recipes import compose
from hrtem.training.data import Example, SimulatedImages, WaveDataModule, collate

#: Seed of all test sets. Trainings number their seeds from 0.
SEED = 20180208
#: Side of an image, px, as in training.
PATCH = 128
#: Number of decimals of Å, e/Å² etc. in the checksum; the rounding far exceeds differences between processors.
DIGITS = 2


@dataclass(frozen=True)
class TestSet:
    """Simulated views, each at several doses.

    Args:
        name: name of the set.
        images: the examples; number ``n`` is view ``n // len(doses)`` at ``doses[n % len(doses)]``.
    """

    #: Prevents pytest from collecting the class because of its name.
    __test__ = False

    name: str
    images: SimulatedImages

    @property
    def doses(self) -> tuple[float, ...]:
        """Doses in e/Å², of each image or of the whole series, depending on the model's optics."""
        return self.images.doses

    @property
    def totals(self) -> tuple[float, ...]:
        """Total doses of the whole series in e/Å²."""
        optics = self.images.imaging.optics
        return tuple(optics.num_images * optics.image_dose(dose) for dose in self.doses)

    @property
    def extent(self) -> float:
        """Largest x and y of a pixel centre, Å."""
        imaging = self.images.imaging
        return (self.images.side - 2 * imaging.margin - 1) * imaging.sampling

    def __iter__(self) -> Iterator[Example]:
        return (self.images[number] for number in range(len(self.images)))

    @cached_property
    def contrasts(self) -> list[float]:
        """Standard deviation of the expected images of each view, before the detector and independent of the dose."""
        images, answer = self.images, []
        for number in range(0, len(images), len(self.doses)):
            batch = collate([images[number]])
            with torch.no_grad():
                seen = images.imaging.form_image(batch["wave"], batch["settings"])
            inner = slice(images.imaging.margin, seen.shape[-1] - images.imaging.margin)
            answer.append(round(float(seen[..., inner, inner].std()), DIGITS + 2))
        return answer

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the true columns, of the microscope and detector of each image, and of the mean contrast.

        All values are rounded to :data:`DIGITS` decimals, the contrast to one more. The contrast of a single image
        would differ between processors if it lies half-way between two rounded values; see :attr:`contrasts`.
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
    """Simulate the test set of a trained model, as far as it is not in the cache.

    Sample, microscope and detector are those of the model's training, at the doses of the model's own tests. Waves are
    propagated with the default recipe of ``wave``.

    Args:
        network: the trained model.
        name: name of the set.
        views: number of structures, each with a single view.
        changes: changed settings of sample, optics and noise, such as ``{"sample": {"tilt": 0.0}}``.
        doses: e/Å², of each image or of the series, depending on the optics; by default the model's test doses.
        patch: side of the images, px, by default :data:`PATCH`; structures are enlarged if necessary.
        scheduler: see :func:`hrtem.waves.workers.run_tasks`.
        seed: random seed of structures and images.

    Raises:
        InputError: a setting is unknown or out of range, or the waves cannot be simulated.
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
    """Simulate structures of the recipe of a trained model, as far as they are not in the cache.

    Args:
        network: the trained model.
        number: number of structures.
        seed: random seed of structures and images.
        changes, patch, scheduler: see :func:`simulate_test_set`.

    Returns:
        A data module whose split ``test`` contains the structures.

    Raises:
        InputError: see :func:`simulate_test_set`.
    """
    parts: dict[str, Any] = {
        part: _changed(part, network.settings[part], changes) for part in ("sample", "optics", "noise")
    }
    unknown = set(changes or {}) - set(parts)
    if unknown:
        raise InputError(f"a test set may change sample, optics and noise, got {', '.join(sorted(unknown))}.")
    # Exact partial coherence as in a microscope, whatever approximation the model was trained with.
    if "coherence" not in ((changes or {}).get("optics") or {}):
        parts["optics"]["coherence"] = "exact"
    patch = PATCH if patch is None else patch
    margin = instantiate(parts["optics"]).margin(network.sampling)
    needed = (patch + 2 * margin) * network.sampling
    parts["sample"]["extent"] = max(float(parts["sample"]["extent"]), needed)
    wave: Any = OmegaConf.to_container(compose().wave, resolve=True)
    # The beam energy of the images, which ``changes`` of the optics may affect.
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
    """Settings updated with ``changes[part]``; a nested setting is updated by name."""
    answer = dict(settings)
    for name, value in ((changes or {}).get(part) or {}).items():
        old = answer.get(name)
        answer[name] = {**old, **value} if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return answer


def _rounded(values: Any) -> bytes:
    return np.round(np.asarray(values, dtype=np.float64) * 10**DIGITS).astype(np.int64).tobytes()

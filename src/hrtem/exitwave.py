"""Exit waves by the multislice algorithm, computed once and kept on disk.

The only module that knows abTEM. Everything after the exit wave is linear optics and noise and is computed
anew for every image, see :mod:`hrtem.optics`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from ase import Atoms

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.ranges import Range

if TYPE_CHECKING:
    from hrtem.samples import Sample

#: Counts up whenever the same recipe gives other waves, so that no stale record is ever read.
GENERATION = 1

SPLITS = {"train": 0, "val": 1, "test": 2}


class Multislice:
    """Plane-wave multislice of a static, thermally smeared structure.

    Args:
        energy: beam energy, eV.
        sampling: pixel size of the stored wave, Å; the band limit is its Nyquist frequency.
        oversampling: the potential is sampled this many times finer.
        slice_thickness: Å.
        parametrization: abTEM's name of the atomic potentials.
        projection: ``infinite`` projects each atom into one slice, ``finite`` integrates it over slices.
    """

    def __init__(
        self,
        energy: float,
        sampling: float,
        oversampling: int = 2,
        slice_thickness: float = 2.0,
        parametrization: str = "lobato",
        projection: str = "infinite",
    ) -> None:
        Range.parse("wave.energy", energy, unit="eV", minimum=1e4, maximum=1e6)
        Range.parse("wave.sampling", sampling, unit="Å/px", minimum=0.05, maximum=0.5)
        Range.parse("wave.slice_thickness", slice_thickness, unit="Å", minimum=0.1, maximum=10.0)
        if oversampling not in (1, 2, 3, 4):
            raise InputError(f"wave.oversampling must be 1, 2, 3 or 4, got {oversampling}.")
        self.energy = energy
        self.sampling = sampling
        self.oversampling = oversampling
        self.slice_thickness = slice_thickness
        self.parametrization = parametrization
        self.projection = projection

    def __call__(self, atoms: Atoms) -> np.ndarray:
        """Exit wave of ``atoms``.

        Thermal motion enters as the Debye-Waller factor: each element's potential is convolved with a
        Gaussian of its ``rms_displacement`` u, that is multiplied by ``exp(-2 π² u² k²)`` (Kirkland,
        Advanced Computing in Electron Microscopy, 2nd ed., section 5.3).

        Args:
            atoms: periodic in x and y, with an array ``rms_displacement`` in Å.

        Returns:
            Complex64 ``(Y, X)`` of mean intensity near 1; pixel ``[j, i]`` lies at ``(i, j) * sampling``.
        """
        width, height = atoms.cell.lengths()[:2]
        shape = (round(width / self.sampling), round(height / self.sampling))
        if not np.allclose(np.array(shape) * self.sampling, (width, height), atol=1e-6):
            raise InputError(f"sample.extent must be a whole number of pixels of {self.sampling:g} Å, got {width:g} Å.")
        if len(atoms) == 0:
            return np.ones(shape[::-1], np.complex64)
        # abTEM takes seconds to import, and a warm cache never needs it.
        import abtem

        fine = tuple(n * self.oversampling for n in shape)
        with abtem.config.set({"diagnostics.progress_bar": False, "precision": "float32", "device": "cpu"}):
            potential = self._potential(atoms, fine)
            wave: Any = abtem.PlaneWave(energy=self.energy).multislice(potential, lazy=False)
        # abTEM's axes are (x, y); ours are (Y, X).
        return np.ascontiguousarray(_band_limited(np.asarray(wave.array), shape).T)

    def _potential(self, atoms: Atoms, gpts: tuple[int, int]) -> Any:
        """Thermally smeared potential in slices, an `abtem.PotentialArray`."""
        import abtem

        displacements = atoms.get_array("rms_displacement")
        spacing = [length / n for length, n in zip(atoms.cell.lengths()[:2], gpts, strict=True)]
        kx, ky = (np.fft.fftfreq(n, d) for n, d in zip(gpts, spacing, strict=True))
        k2 = (kx[:, None] ** 2 + ky[None] ** 2).astype(np.float32)
        total: Any = 0.0
        template: Any = None
        for displacement in np.unique(displacements):
            part = atoms[displacements == displacement]
            template = abtem.Potential(
                part,
                gpts=gpts,
                slice_thickness=self.slice_thickness,
                parametrization=self.parametrization,
                projection=self.projection,
                device="cpu",
            ).build(lazy=False)
            smeared = np.fft.ifft2(np.fft.fft2(template.array) * np.exp(-2.0 * np.pi**2 * displacement**2 * k2))
            total = total + smeared.real.astype(np.float32)
        return abtem.PotentialArray(
            total, slice_thickness=template.slice_thickness, extent=tuple(atoms.cell.lengths()[:2])
        )


def _band_limited(wave: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Fourier-crop a periodic ``wave`` to ``shape``, keeping its values at the coarse grid points."""
    spectrum = np.fft.fftshift(np.fft.fft2(wave))
    window = tuple(
        slice(full // 2 - part // 2, full // 2 - part // 2 + part) for full, part in zip(wave.shape, shape, strict=True)
    )
    cropped = np.fft.ifft2(np.fft.ifftshift(spectrum[window])) * (np.prod(shape) / wave.size)
    return cropped.astype(np.complex64)


@dataclass(frozen=True)
class WaveCache:
    """Waves and columns of one recipe on disk, one record a structure.

    A record's structure is drawn from ``default_rng([seed, split, index])``, so that it does not depend on
    how many others are made or by whom. The folder's name is a hash of the sample, the wave settings, the
    seed and the versions that decide the result. Records appear by an atomic rename: a killed run leaves
    none half-written and two processes may fill one cache.

    Args:
        root: folder of all caches.
        sample: what to draw.
        wave: how to propagate.
        recipe: plain settings of both, hashed for the key.
        seed: of the structures.
    """

    root: Path
    sample: Sample
    wave: Multislice
    recipe: Mapping[str, Any]
    seed: int

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that name everything that decides the waves."""
        recipe = {"recipe": self.recipe, "seed": self.seed, "generation": GENERATION, "abtem": version("abtem")}
        if self.sample.fingerprint:
            recipe["sample"] = self.sample.fingerprint
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def folder(self) -> Path:
        """Where this recipe's records lie."""
        return Path(self.root) / f"{self.sample.name}-{self.key}"

    def path(self, split: str, index: int) -> Path:
        """File of record ``index`` of ``train``, ``val`` or ``test``."""
        return self.folder / split / f"{index:06d}.npz"

    def missing(self, split: str, number: int) -> list[int]:
        """Indices below ``number`` that are not on disk yet."""
        return [index for index in range(number) if not self.path(split, index).exists()]

    def compute(self, split: str, index: int) -> int:
        """Simulate one record and put it on disk; returns its index."""
        atoms, columns = self.sample(np.random.default_rng([self.seed, SPLITS[split], index]))
        wave = self.wave(atoms)
        path = self.path(split, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".partial")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(
                    file,
                    wave=wave,
                    positions=columns.positions,
                    labels=columns.labels,
                    counts=columns.counts,
                )
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return index

    def load(self, split: str, index: int) -> tuple[np.ndarray, Columns]:
        """Wave, complex64 ``(Y, X)``, and columns of one record."""
        with np.load(self.path(split, index)) as record:
            columns = Columns(record["positions"], record["labels"], self.sample.classes, counts=record["counts"])
            return record["wave"], columns

    def fill(self, numbers: Mapping[str, int], scheduler: str = "local") -> Iterator[int]:
        """Simulate what is missing of the first ``numbers[split]`` records of each split.

        Args:
            numbers: how many records each split needs.
            scheduler: ``local`` for one Dask worker process a core, ``inline`` for this process, or the
                ``tcp://`` address of a Dask scheduler whose workers see the same ``root``.

        Yields:
            The number of records still to come: first all that are missing, last 0.
        """
        todo = [(split, index) for split, number in numbers.items() for index in self.missing(split, number)]
        yield len(todo)
        if not todo:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "recipe.yaml").write_text(yaml.safe_dump({**self.recipe, "seed": self.seed}, sort_keys=False))
        if scheduler == "inline":
            for left, (split, index) in zip(range(len(todo) - 1, -1, -1), todo, strict=True):
                self.compute(split, index)
                yield left
            return
        if scheduler != "local" and not scheduler.startswith("tcp://"):
            raise InputError(f"data.scheduler must be local, inline or a tcp:// address, got {scheduler}.")
        # Imported here: a warm cache, as in most runs, needs no Dask and starts seconds faster.
        from dask.distributed import Client, LocalCluster, as_completed

        # Its import sets the level; the progress bar says all there is to say.
        logging.getLogger("distributed").setLevel(logging.ERROR)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        with ExitStack() as stack:
            address: Any = scheduler
            if scheduler == "local":
                address = LocalCluster(
                    n_workers=min(cores, len(todo)), threads_per_worker=1, dashboard_address=":0", silence_logs=40
                )
                stack.enter_context(address)
            try:
                client = stack.enter_context(Client(address, timeout=20))
            except OSError:
                raise InputError(
                    f"data.scheduler must be the address of a running Dask scheduler, and {scheduler} does not answer."
                ) from None
            splits, indices = zip(*todo, strict=True)
            futures = client.map(self.compute, splits, indices, pure=False, batch_size=64)
            for left, future in zip(range(len(todo) - 1, -1, -1), as_completed(futures), strict=True):
                future.result()
                yield left

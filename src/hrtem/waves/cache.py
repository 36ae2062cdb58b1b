"""Cache of exit waves on disk: one record per structure, simulated once and verified at every read."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.folders import replace_file
from hrtem.waves.multislice import Multislice
from hrtem.waves.workers import run_tasks

if TYPE_CHECKING:
    from ase import Atoms

    from hrtem.samples import Sample

#: Version of the waves and records of a recipe. It is incremented with every change of a structure, a wave or a record,
#: so that no stale record is read.
GENERATION = 3

SPLITS = {"train": 0, "val": 1, "test": 2}

#: Age, s, after which a partial file counts as left over from a killed process.
STALE = 3600.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WaveCache:
    """Waves and columns of one recipe on disk, one record per structure.

    The structure of a record is drawn from ``default_rng([seed, split, index])``, so that it does not depend on the
    number of other records or on the process that simulates it. The name of the folder contains a hash of the sample,
    the wave settings, the seed and the versions that determine the result. Records appear by an atomic rename: a killed
    run leaves no incomplete record, and two processes may fill one cache. Each record contains a checksum of its arrays
    and of its split and index. Waves are memory-mapped, so all processes of a machine share them in its page cache. If
    another process replaces a record, an existing map keeps the old contents.

    Args:
        root: folder of all caches.
        sample: sample that draws the structures.
        wave: multislice simulation of the exit waves.
        recipe: plain settings of sample and wave, hashed for the key.
        seed: seed of the structures.
    """

    root: Path
    sample: Sample
    wave: Multislice
    recipe: Mapping[str, Any]
    seed: int

    @cached_property
    def key(self) -> str:
        """Hash of everything that determines the waves, twelve hexadecimal digits."""
        settings = dict(self.recipe)
        engine = settings.get("wave", {}).get("engine", "abtem")
        if engine == "abtem":  # records keep the key of the versions without a choice
            settings["wave"] = {name: value for name, value in settings.get("wave", {}).items() if name != "engine"}
        recipe = {"recipe": settings, "seed": self.seed, "generation": GENERATION}
        recipe |= {name: version(name) for name in ("abtem", "ase", *([engine] if engine == "torch" else []))}
        # Releases that only correct errors keep the streams of random numbers.
        recipe |= {name: ".".join(version(name).split(".")[:2]) for name in ("numpy", "scipy")}
        if self.sample.fingerprint:
            recipe["sample"] = self.sample.fingerprint
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def folder(self) -> Path:
        """Folder of the records of this recipe."""
        return Path(self.root) / f"{self.sample.name}-{self.key}"

    def path(self, split: str, index: int) -> Path:
        """File of record ``index`` of a split, ``train``, ``val`` or ``test``."""
        return self.folder / split / f"{index:06d}.npz"

    def missing(self, split: str, number: int) -> list[int]:
        """Indices below ``number`` whose records are absent from the disk or incomplete."""
        return [index for index in range(number) if not self._whole(split, index)]

    def compute(self, split: str, index: int) -> int:
        """Simulate one record and write it to disk, unless it already exists; returns its index.

        Raises:
            InputError: the folder cannot be written, or the structure cannot be simulated.
        """
        if self._whole(split, index):
            return index
        rng = np.random.default_rng([self.seed, SPLITS[split], index])
        atoms, columns = self.structure(split, index, rng)
        arrays: dict[str, Any] = {
            "wave": self.wave(atoms, rng),
            "positions": columns.positions,
            "labels": columns.labels,
            "counts": columns.counts,
        }
        path = self.path(split, index)
        with self._written():
            path.parent.mkdir(parents=True, exist_ok=True)
            with replace_file(path) as partial, partial.open("xb") as file:
                np.savez(file, **arrays, checksum=np.array(self._checksum(split, index, arrays)))
        return index

    def structure(self, split: str, index: int, rng: np.random.Generator) -> tuple[Atoms, Columns]:
        """Draw the structure of record ``index`` from its random generator."""
        return self.sample(rng)

    def load(self, split: str, index: int) -> tuple[np.ndarray, Columns]:
        """Load the wave, complex64 ``(Y, X)`` or ``(N, Y, X)``, and the columns of one record.

        The wave is read-only and stays mapped to the file; the operating system may drop its pages from memory and read
        them again. A damaged record is simulated again and replaced, with a warning.

        Raises:
            InputError: the record cannot be read, or is damaged and cannot be written.
            MemoryError: there is no memory for the record.
        """
        try:
            return self._parsed(split, index, self._bytes(split, index))
        except InputError:
            raise
        except MemoryError:
            # A damaged header may describe an array of any size; an undamaged record is kept.
            if self._matches_checks(split, index):
                raise
            self._discard(split, index)
            self.compute(split, index)
        # Damage may show anywhere in the archive or in the headers of its arrays.
        except Exception:
            self._discard(split, index)
            self.compute(split, index)
        return self._parsed(split, index, self._bytes(split, index))

    def fill(self, numbers: Mapping[str, int], scheduler: str = "local") -> Iterator[int]:
        """Simulate the missing records among the first ``numbers[split]`` of each split.

        Args:
            numbers: number of records that each split needs.
            scheduler: see :func:`hrtem.waves.workers.run_tasks`; all workers must have access to the same ``root``.

        Yields:
            The number of remaining records, from the number of all missing records down to 0.

        Raises:
            InputError: a structure, the folder or the scheduler cannot be used; finished records are kept.
        """
        todo = [(split, index) for split, number in numbers.items() for index in self.missing(split, number)]
        yield len(todo)
        if not todo:
            return
        # Workers may have another working directory.
        store = replace(self, root=Path(self.root).resolve())
        for record in todo:
            if store.path(*record).exists():
                store._discard(*record)
        with self._written():
            store.folder.mkdir(parents=True, exist_ok=True)
            store._sweep()
            recipe = yaml.safe_dump({**self.recipe, "seed": self.seed}, sort_keys=False)
            with replace_file(store.folder / "recipe.yaml") as partial:
                partial.write_text(recipe)
        for done, _ in enumerate(run_tasks(store.compute, todo, scheduler), start=1):
            yield len(todo) - done
        lost = sum(len(self.missing(split, number)) for split, number in numbers.items())
        if lost:
            raise InputError(
                f"data.cache must be a folder that this process and all workers of {scheduler} share, and {lost} waves "
                f"that they wrote are not in {store.folder}."
            )

    def _whole(self, split: str, index: int) -> bool:
        """Whether a record is complete: a zip archive has its directory at the end."""
        return zipfile.is_zipfile(self.path(split, index))

    def _matches_checks(self, split: str, index: int) -> bool:
        """Whether the parts of a record match the check sums of its zip archive; they are read in small pieces."""
        try:
            with zipfile.ZipFile(self.path(split, index)) as archive:
                return archive.testzip() is None
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError):
            return False

    def _bytes(self, split: str, index: int) -> np.ndarray:
        """Bytes ``(N,)`` of a record's file, memory-mapped if the file system supports it."""
        import torch  # imported here to save processes that only simulate several seconds

        path = self.path(split, index)
        try:
            with suppress(RuntimeError):
                # Each of numpy's own maps keeps a file open, and a process may open only about a thousand files.
                size = path.stat().st_size
                return torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()
            return np.frombuffer(path.read_bytes(), np.uint8)
        except OSError as error:
            raise InputError(f"data.cache holds records that can be read, and {path} {_reason(error)}.") from None

    def _parsed(self, split: str, index: int, record: np.ndarray) -> tuple[np.ndarray, Columns]:
        with np.load(io.BytesIO(record.data)) as archive:
            arrays = {name: archive[name] for name in archive.files}
            place = archive.zip.getinfo("wave.npy")
        arrays["wave"] = _in_place(arrays["wave"], record, place)
        if str(arrays.pop("checksum")) != self._checksum(split, index, arrays):
            raise ValueError("the checksum differs")
        wave = arrays.pop("wave")
        return wave, Columns(classes=self.sample.classes, **arrays)

    def _checksum(self, split: str, index: int, arrays: Mapping[str, np.ndarray]) -> str:
        """Digest of a record's arrays, split and index, so that records cannot be exchanged unnoticed."""
        digest = hashlib.blake2b(f"{self.key} {split} {index}".encode(), digest_size=16)
        for name, array in sorted(arrays.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def _discard(self, split: str, index: int) -> None:
        path = self.path(split, index)
        log.warning("%s is damaged and is simulated again.", path)
        with self._written():
            path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove partial files that killed processes left behind."""
        for partial in self.folder.rglob("*.partial*"):
            # Another process may remove the same file.
            try:
                if time.time() - partial.stat().st_mtime > STALE:
                    partial.unlink()
            except FileNotFoundError:
                continue

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Turn errors of a folder that cannot be written into an :class:`InputError`."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"data.cache must be a folder that can be written and has room, and {self.root} {_reason(error)}."
            ) from None


def _in_place(wave: np.ndarray, record: np.ndarray, place: zipfile.ZipInfo) -> np.ndarray:
    """Return the wave as a read-only view of the bytes of its record; its values end its section of the archive."""
    name, extra = struct.unpack_from("<HH", record.data, place.header_offset + 26)
    end = place.header_offset + 30 + name + extra + place.file_size
    values = record[end - wave.nbytes : end].view(wave.dtype).reshape(wave.shape)
    values.flags.writeable = False
    return values


def _reason(error: OSError) -> str:
    return f"cannot be used: {error.strerror or error}"

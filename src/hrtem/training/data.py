"""Examples for training and testing: exit waves from the cache, with microscope settings for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as lightning
import torch
from hydra.utils import instantiate
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.imaging import Imaging
from hrtem.ranges import parse_choice, parse_folder, parse_number, parse_whole
from hrtem.training.loader import ReadAheadLoader, Share, count_processes
from hrtem.waves.cache import SPLITS, WaveCache
from hrtem.waves.workers import check, show

Example = dict[str, Any]


class View(NamedTuple):
    """First row and column of a window, and its orientation after it is cut."""

    row: int
    column: int
    transpose: bool
    flip_x: bool
    flip_y: bool

    def turned(self, image: np.ndarray) -> np.ndarray:
        """``image`` ``(..., Y, X)`` in this orientation."""
        if self.transpose:
            image = np.swapaxes(image, -2, -1)
        if self.flip_x:
            image = image[..., ::-1]
        return image[..., ::-1, :] if self.flip_y else image


class SimulatedImages(Dataset[Example]):
    """Random views of cached exit waves, each with its own microscope, detector and dose.

    Example ``n`` is drawn from ``default_rng([seed, split, n])`` and depends on nothing else.

    Args:
        cache: exit waves and columns.
        split: ``train``, ``val`` or ``test``.
        waves: number of exit waves of the split to use.
        length: number of examples.
        first: number of the first example, so that every epoch can show new examples.
        imaging: draws microscope and detector settings; its margin surrounds the image.
        patch: side of the image, px.
        seed: random seed of the examples.
        records: exit waves and columns that have already been read; newly read records are added.
        doses: if given, example ``n`` shows view ``n // len(doses)`` at ``doses[n % len(doses)]`` e/Å².
        empty: share of the examples without a specimen, whose wave is 1 and which have no columns.
    """

    def __init__(
        self,
        cache: WaveCache,
        split: str,
        waves: int,
        length: int,
        first: int,
        imaging: Imaging,
        patch: int,
        seed: int,
        doses: Sequence[float] = (),
        records: dict[int, tuple[np.ndarray, Columns]] | None = None,
        empty: float = 0.0,
    ) -> None:
        self.records = {} if records is None else records
        self.cache = cache
        self.split = split
        self.waves = waves
        self.length = length
        self.first = first
        self.imaging = imaging
        self.side = patch + 2 * imaging.margin
        self.seed = seed
        self.doses = tuple(doses)
        self.empty = empty

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> Example:
        """Exit wave of the view, columns in the coordinates of the cut image, settings, and group (dose index)."""
        number, group = divmod(item, len(self.doses)) if self.doses else (item, 0)
        rng = np.random.default_rng([self.seed, SPLITS[self.split], self.first + number])
        index = int(rng.integers(self.waves)) if self.split == "train" else (self.first + number) % self.waves
        wave, columns = self._view(*self.record(index), rng)
        settings = self.imaging.draw(rng, self.doses[group] if self.doses else None)
        if self.doses:
            # The same view at another dose is a separate exposure with its own noise.
            settings["seed"] = (settings["seed"] + 7919 * group) % 2**31
        if self.empty and rng.random() < self.empty:
            wave, columns = np.ones_like(wave), columns[:0]
        return {
            "wave": torch.from_numpy(wave),
            "columns": columns,
            "settings": settings,
            "group": group,
        }

    @torch.no_grad()
    def expose(self, example: Example) -> Tensor:
        """Simulate the counts ``(1, F, Y, X)`` of an example."""
        batch = collate([example])
        return self.imaging.simulate_counts(batch["wave"], batch["settings"])

    def record(self, index: int) -> tuple[np.ndarray, Columns]:
        """Exit wave, read-only, and columns of record ``index`` of the split; read and checked only once."""
        if index not in self.records:
            self.records[index] = self.cache.load(self.split, index)
        return self.records[index]

    def __getstate__(self) -> dict[str, Any]:
        """State without the records: a process that does not inherit the memory maps of the waves opens its own."""
        return self.__dict__ | {"records": {}}

    def draw_view(self, shape: tuple[int, ...], rng: np.random.Generator) -> View:
        """A random window of a wave of ``shape``, in one of the eight orientations of a square."""
        row, column = (int(rng.integers(size - self.side + 1)) for size in shape)
        return View(row, column, *(bool(bit) for bit in rng.integers(2, size=3)))

    def _view(self, wave: np.ndarray, columns: Columns, rng: np.random.Generator) -> tuple[np.ndarray, Columns]:
        view = self.draw_view(wave.shape[-2:], rng)
        # Copied before it is rotated: rows of a whole wave are a power of two apart, the worst case for a cache.
        window = wave[..., view.row : view.row + self.side, view.column : view.column + self.side].copy()
        wave = view.turned(window)
        margin, sampling = self.imaging.margin, self.imaging.sampling
        positions = columns.positions - np.array([view.column, view.row]) * sampling
        last = (self.side - 1) * sampling
        if view.transpose:
            positions = positions[:, ::-1]
        if view.flip_x:
            positions = np.column_stack([last - positions[:, 0], positions[:, 1]])
        if view.flip_y:
            positions = np.column_stack([positions[:, 0], last - positions[:, 1]])
        columns = columns.moved(positions - margin * sampling)
        seen = (self.side - 2 * margin - 1) * sampling
        return np.ascontiguousarray(wave), columns[columns.inside(seen, seen, border=-1.5)]


def collate(examples: Sequence[Example]) -> Example:
    """Stack examples; columns are padded to equal numbers with label -1 and 0 atoms."""
    columns: list[Columns] = [example["columns"] for example in examples]
    most = max([1, *map(len, columns)])
    positions = torch.zeros(len(columns), most, 2)
    labels = torch.full((len(columns), most), -1)
    atoms = torch.zeros(len(columns), most, dtype=torch.long)
    for number, one in enumerate(columns):
        positions[number, : len(one)] = torch.from_numpy(one.positions)
        labels[number, : len(one)] = torch.from_numpy(one.labels)
        atoms[number, : len(one)] = torch.from_numpy(one.counts)
    names = examples[0]["settings"]
    return {
        # In a loader process, default_collate writes to shared memory.
        "wave": default_collate([example["wave"] for example in examples]),
        "positions": positions,
        "labels": labels,
        "atoms": atoms,
        "settings": {name: torch.from_numpy(np.stack([one["settings"][name] for one in examples])) for name in names},
        "group": torch.tensor([example["group"] for example in examples]),
    }


def columns_of(positions: Tensor, labels: Tensor, classes: Sequence[str], atoms: Tensor | None = None) -> list[Columns]:
    """Undo :func:`collate`: the columns of each example, with their counts if ``atoms`` are given."""
    counts = torch.zeros_like(labels) if atoms is None else atoms
    answers = []
    for where, label, number in zip(positions, labels, counts, strict=True):
        real = label >= 0
        place, kind, height = (values[real].cpu().numpy() for values in (where.double(), label, number))
        answers.append(Columns(place, kind, tuple(classes), height))
    return answers


class WaveDataModule(lightning.LightningDataModule):
    """Simulation of missing exit waves, and data loaders of the three splits.

    Args:
        sample, wave, optics, noise: plain settings of these stages, as in the configuration; ``wave.scheduler`` is the
            place where waves are simulated, see :func:`hrtem.waves.workers.run_tasks`, without influence on the waves.
        cache: folder of the wave caches.
        numbers: number of exit waves in ``train``, ``val`` and ``test``.
        seed: random seed of structures and examples.
        sampling: Å/px.
        patch: side of a training image, px; a multiple of 32.
        margin: see :class:`SimulatedImages`; for ``auto`` see :meth:`hrtem.optics.Optics.margin`.
        batch_size: number of examples per step and device.
        epoch_size: number of training examples per epoch, divided among all devices.
        workers: number of loader processes; 0 loads in the training process; for ``auto`` see
            :func:`hrtem.training.loader.count_processes`.
        empty: share of the training examples without a specimen.
    """

    def __init__(
        self,
        sample: Mapping[str, Any],
        wave: Mapping[str, Any],
        optics: Mapping[str, Any],
        noise: Mapping[str, Any],
        cache: str,
        numbers: Mapping[str, int],
        seed: int,
        sampling: float,
        patch: int,
        margin: int | str,
        batch_size: int,
        epoch_size: int,
        workers: int | str,
        empty: float = 0.0,
    ) -> None:
        super().__init__()
        patch = parse_whole("data.patch", patch, unit="px", minimum=32, maximum=8192)
        if patch % 32:
            raise InputError(f"data.patch must be a multiple of 32 px, got {patch}.")
        if not isinstance(numbers, Mapping) or not numbers:
            raise InputError(f"data.numbers must give train, val and test at least 1 wave, got {numbers}.")
        for split in numbers:
            parse_choice("data.numbers", split, tuple(SPLITS))
        self.numbers = {
            split: parse_whole(f"data.numbers.{split}", number, unit="waves", minimum=1, maximum=10**7)
            for split, number in numbers.items()
        }
        self.batch_size = parse_whole("data.batch_size", batch_size, unit="images", minimum=1, maximum=65536)
        self.epoch_size = parse_whole("data.epoch_size", epoch_size, unit="images", minimum=1, maximum=10**9)
        self.empty = parse_number("data.empty", empty, minimum=0.0, maximum=0.9)
        if workers != "auto":
            workers = parse_whole("data.workers, if it is not auto,", workers, unit="processes", minimum=0, maximum=512)
        self.workers = workers
        for stage, part in {"sample": sample, "wave": wave, "optics": optics, "noise": noise}.items():
            if not isinstance(part, Mapping) or "_target_" not in part:
                raise InputError(f"{stage} must be one of the choices in conf/{stage}, got {part}.")
        self.seed = parse_whole("data.seed", seed, minimum=0)
        sampling = parse_number("data.sampling", sampling, unit="Å/px", minimum=0.05, maximum=0.5)
        self.optics = instantiate(optics)
        rim = self.optics.margin(sampling, margin)
        extent = parse_number("sample.extent", sample.get("extent"), unit="Å", minimum=10.0, maximum=1000.0)
        needed = (patch + 2 * rim) * sampling
        if needed > extent + 1e-6:
            raise InputError(
                f"data.patch with the margins that optics needs, {rim} px on each side, is {needed:g} Å wide and must "
                f"fit into sample.extent, which is {extent:g} Å; say sample.extent={needed:g} or a smaller data.patch."
            )
        self.imaging = Imaging(self.optics, instantiate(noise), sampling, rim)
        if not self.optics.test_doses:
            raise InputError("optics.test_doses must name at least one dose in e/Å², got [].")
        settings = {key: value for key, value in wave.items() if key != "scheduler"}
        self.scheduler = check(wave.get("scheduler", "local"))
        self.cache = WaveCache(
            parse_folder("data.cache", cache),
            instantiate(sample),
            instantiate(settings),
            {"sample": dict(sample), "wave": settings},
            self.seed,
        )
        # Memory maps of the waves, half a megabyte each, and columns; they are kept from epoch to epoch.
        self.records: dict[str, dict[int, tuple[np.ndarray, Columns]]] = {split: {} for split in self.numbers}
        self.patch = patch
        self.training: ReadAheadLoader | None = None
        self.left: dict[str, int] = {}

    def prepare_data(self) -> None:
        """Simulate the waves that are missing in the cache, with a progress bar."""
        steps = self.cache.fill(self.numbers, self.scheduler)
        missing = next(steps)
        if missing:
            show(steps, missing, sum(self.numbers.values()), f"Simulating {self.cache.sample.name}")

    def train_dataloader(self) -> DataLoader[Example]:
        """Loader of training examples that no previous epoch has shown."""
        self.training = self._loader("train", self.epoch_size, first=self._epoch * self.epoch_size)
        if self.left.get("epoch") == self._epoch:
            self.training.load_state_dict(self.left)
        return self.training

    @property
    def _epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer else 0

    def state_dict(self) -> dict[str, int]:
        """Epoch and number of served batches, for a checkpoint in the middle of an epoch."""
        return {"epoch": self._epoch} | (self.training.state_dict() if self.training else {})

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Skip the examples that the interrupted epoch has shown; Lightning's own mechanism ignores the first epoch."""
        self.left = state_dict

    def val_dataloader(self) -> DataLoader[Example]:
        """Loader of validation examples, the same after every epoch."""
        return self._loader("val", self.numbers["val"])

    def test_dataloader(self) -> DataLoader[Example]:
        """Loader of every test view at every test dose of the optics."""
        doses = self.optics.test_doses
        return self._loader("test", self.numbers["test"] * len(doses), doses=doses)

    def images(self, split: str, length: int, first: int = 0, doses: Sequence[float] = ()) -> SimulatedImages:
        """The examples of a split as a map-style dataset."""
        return SimulatedImages(
            self.cache,
            split,
            self.numbers[split],
            length,
            first,
            self.imaging,
            self.patch,
            self.seed,
            doses,
            self.records[split],
            self.empty if split == "train" else 0.0,
        )

    def _loader(self, split: str, length: int, first: int = 0, doses: Sequence[float] = ()) -> ReadAheadLoader:
        processes, rank, sharing, device = 1, 0, 1, torch.device("cpu")
        if self.trainer:
            processes, rank, sharing = self.trainer.world_size, self.trainer.global_rank, self.trainer.num_devices
            device = self.trainer.strategy.root_device
        if length < processes:
            key = "data.epoch_size" if split == "train" else f"data.numbers.{split}"
            raise InputError(f"{key} gives {length} examples, and each of {processes} processes needs one.")
        images = self.images(split, length, first, doses)
        if workers := count_processes(device, sharing) if self.workers == "auto" else int(self.workers):
            # Loader processes inherit the records and need not check them again in every epoch.
            for index in range(images.waves):
                images.record(index)
        return ReadAheadLoader(
            images,
            sampler=Share(images, processes, rank, even=split == "train"),
            batch_size=self.batch_size,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=device.type == "cuda",
        )

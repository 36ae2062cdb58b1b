"""A trained network on images of any size."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from hrtem.calibration import AROUND
from hrtem.errors import InputError
from hrtem.inference.ensemble import Ensemble
from hrtem.inference.network import ColumnNetwork
from hrtem.inference.precision import reduce_precision
from hrtem.inference.prediction import Canvas, Prediction
from hrtem.inference.preparation import Prepared
from hrtem.inference.tiles import GRID, cover, measure_sight, remove_duplicates
from hrtem.micrograph import Micrograph, equalise_dose, require_calibration
from hrtem.nets import Dihedral, fuse

#: What a network may hold at a time in float32, bytes; decides the size of tiles. With more, memory is taken from and
#: given back to the system for every layer, which costs more than seeing fewer pixels twice saves.
MEMORY = 448 * 2**20
#: How far from a column what is said of it depends on the maps, Å: the peaks around it, and of each a disc.
PEAK = AROUND + 3.0


class Predictor:
    """Finds columns in micrographs with a trained network, or with several that answer together.

    An image passes in tiles, so that the memory does not grow with it. A tile sees as far beyond its own pixels as the
    network's receptive field and the peaks reach, so that how an image is cut changes nothing.

    Args:
        network: the trained network, or a list of them, see :class:`hrtem.inference.Ensemble`.
        tile: side of the pieces that the network sees, px; None: what keeps the network's memory near 448 MiB.
        halo: how far a piece reaches beyond the pixels that it answers for, px; None: as far as network and peaks see.
        device: where the network runs.
        precision: of its matrix products, see :func:`hrtem.inference.precision.reduce_precision`; auto is that of the
            training and its scores, and in bfloat16 positions differ by half a picometre.

    Raises:
        InputError: tile and halo do not fit, the device is not there, the precision is unknown, or the networks differ.
    """

    def __init__(
        self,
        network: ColumnNetwork | Sequence[ColumnNetwork],
        tile: int | None = None,
        halo: int | None = None,
        device: str = "cpu",
        precision: str = "auto",
    ) -> None:
        ensemble = Ensemble([network] if isinstance(network, ColumnNetwork) else list(network)).eval()
        try:
            self.ensemble = ensemble.to(device)
        except (RuntimeError, AssertionError):
            raise InputError(
                f"device must be one that this machine has, for instance cpu or cuda, got {device}."
            ) from None
        self.networks = ensemble.members
        self.network = self.networks[0]
        self.device = device
        self.precision = reduce_precision(precision, device)
        reach, held = self._sight()
        self.halo = -(-(reach + round(PEAK / self.network.sampling)) // GRID) * GRID if halo is None else halo
        if (tile is not None and (tile <= 2 * self.halo or tile % GRID)) or self.halo < 0 or self.halo % GRID:
            raise InputError(
                f"tile and halo must be multiples of {GRID} px with tile > 2 halo, got {tile} and {self.halo}."
            )
        self.area = int(MEMORY / held) if tile is None else tile**2

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | Sequence[str | Path],
        device: str = "cpu",
        symmetric: bool = False,
        precision: str = "auto",
    ) -> Predictor:
        """From a checkpoint that ``train.py`` wrote, or a list of them whose answers are averaged.

        Args:
            checkpoint: the file or the files.
            device: where the network runs.
            symmetric: average over the orientations of the image, as :class:`hrtem.nets.Dihedral` does.
            precision: see the constructor.

        Raises:
            InputError: a file is no checkpoint, or the checkpoints differ.
        """
        paths = [checkpoint] if isinstance(checkpoint, (str, Path)) else list(checkpoint)
        networks = [ColumnNetwork.load(path) for path in paths]
        for network in networks:
            net = fuse(network.net)
            network.net = Dihedral(net, network.target.vectors) if symmetric else net
        return cls(networks, device=device, precision=precision)

    def check(self, micrograph: Micrograph) -> None:
        """Refuse what this model cannot take.

        Raises:
            InputError: the pixel size is unknown, or the number of images is not the model's.
        """
        require_calibration(micrograph)
        needed, given = self.network.optics.num_images, len(micrograph.images)
        if given != needed:
            wants = "single images" if needed == 1 else f"focal series of {needed} images"
            raise InputError(f"this model takes {wants}, and {micrograph.source} holds {given}.")

    @torch.inference_mode()
    def find(self, micrograph: Micrograph, folder: Path | None = None) -> Prediction:
        """Columns of one micrograph or focal series.

        Args:
            micrograph: of any size.
            folder: where ``maps.npy`` and ``images.npy`` are written, whole and in half precision; without it the
                pictures of large images are reduced, see :class:`Prediction`.

        Raises:
            InputError: what :meth:`check` raises.
        """
        self.check(micrograph)
        assert micrograph.sampling is not None
        sampling = self.network.sampling
        prepared = Prepared(equalise_dose(micrograph.images), micrograph.sampling, sampling, self.network.normalise)
        images, maps = (
            Canvas(prepared.shape, None if folder is None else folder / name) for name in ("images.npy", "maps.npy")
        )
        tiles, parts = cover(prepared.shape, self.halo, self.area), []
        try:
            for tile in tiles:
                piece = prepared.window(*tile.seen)
                # What lies beyond the image only fills the grid of the pooling up, and holds no columns.
                high, wide = prepared.shape[0] - tile.seen[0], prepared.shape[1] - tile.seen[2]
                answer = self._answer(piece[None])[..., :high, :wide]
                # Peaks see less far than the network.
                near = tile.within(round(PEAK / sampling))
                (columns,) = self.ensemble.find(answer[..., *tile.among(near.seen)])
                parts.append(near.owned(columns, sampling))
                images.paint(tile, piece)
                maps.paint(tile, answer[0])
            rows, width = prepared.shape
            columns = remove_duplicates(parts, tiles, sampling)
            inside = columns.inside((width - 0.5) * sampling, (rows - 0.5) * sampling, border=-0.5 * sampling)
            likeness = self.ensemble.likeness(prepared.window, prepared.shape)
            return Prediction(
                micrograph,
                columns[inside],
                images.finished(),
                maps.finished(),
                sampling * maps.reduction,
                likeness,
                maps.reduction,
            )
        except BaseException:
            images.discard()
            maps.discard()
            raise

    @torch.inference_mode()
    def maps(self, images: Tensor) -> Tensor:
        """The maps ``(1, C, Y, X)`` of normalised images ``(1, F, Y, X)`` that fit into memory, on the CPU."""
        rows, columns = images.shape[-2:]
        tiles = cover((rows, columns), self.halo, self.area)
        images = F.pad(images, (0, -columns % GRID, 0, -rows % GRID), mode="replicate")
        maps = torch.empty(0)
        for tile in tiles:
            top, bottom, left, right = tile.seen
            answer = self._answer(images[..., top:bottom, left:right]).cpu()
            if not len(maps):
                maps = torch.empty(1, answer.shape[1], *images.shape[-2:])
            top, bottom, left, right = tile.own
            maps[..., top:bottom, left:right] = answer[..., *tile.inside]
        return maps[..., :rows, :columns]

    def _answer(self, images: Tensor) -> Tensor:
        with self.precision or nullcontext():
            return self.ensemble(images.to(self.device))

    def _sight(self) -> tuple[int, float]:
        """How far the network that sees furthest sees, px, and the bytes a pixel of the one that holds most."""
        seen = []
        for network in self.networks:
            # Turning an image that is thin would make it short, and turns add nothing to how far a network sees.
            net = network.net.network if isinstance(network.net, Dihedral) else network.net
            seen.append(measure_sight(net, network.optics.num_images, self.device))
        return max(reach for reach, _ in seen), max(held for _, held in seen)

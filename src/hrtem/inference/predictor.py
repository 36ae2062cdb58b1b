"""Application of trained networks to micrographs of any size."""

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
from hrtem.micrograph import STACK, Micrograph, equalise_dose, require_calibration
from hrtem.nets import Dihedral, fuse

#: Memory of a network in float32, bytes; it determines the size of tiles. With larger tiles, memory is requested from
#: and returned to the system for every layer, which costs more than the smaller overlap of tiles saves.
MEMORY = 448 * 2**20
#: Range, Å, of the maps that influence the result for a column: the neighbouring peaks and a disc around each peak.
PEAK = AROUND + 3.0


class Predictor:
    """Find columns in micrographs with a trained network or an ensemble of networks.

    An image is processed in tiles, so that the memory does not grow with the size of the image. A tile extends beyond
    its own pixels by the range of the network's receptive field and of the peaks, so that the division into tiles does
    not change the result.

    Args:
        network: the trained network, or a list of networks, see :class:`hrtem.inference.Ensemble`.
        tile: side of the tiles, px, including the halo; None: chosen for a network memory near 448 MiB.
        halo: width of the border around a tile's own pixels, px; None: range of network and peaks.
        device: device of the network.
        precision: precision of matrix products, see :func:`hrtem.inference.precision.reduce_precision`; auto is the
            precision of the training and of its scores. In bfloat16, positions differ by half a picometre.

    Raises:
        InputError: tile and halo do not fit together, the device is not available, the precision is unknown, or the
            networks differ.
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
        """Load a checkpoint written by ``train.py``, or a list of checkpoints whose output is averaged.

        Args:
            checkpoint: the file or files.
            device: device of the network.
            symmetric: average over the orientations of the image, as :class:`hrtem.nets.Dihedral` does.
            precision: see the constructor.

        Raises:
            InputError: a file is not a checkpoint, or the checkpoints differ.
        """
        paths = [checkpoint] if isinstance(checkpoint, (str, Path)) else list(checkpoint)
        networks = [ColumnNetwork.load(path) for path in paths]
        for network in networks:
            net = fuse(network.net)
            network.net = Dihedral(net, network.target.vectors) if symmetric else net
        return cls(networks, device=device, precision=precision)

    def check(self, micrograph: Micrograph) -> None:
        """Refuse a micrograph that does not fit the model.

        Raises:
            InputError: the pixel size is unknown, or the model needs another number of images.
        """
        require_calibration(micrograph)
        needed, given = self.network.optics.num_images, len(micrograph.images)
        if given != needed:
            wants = "single images" if needed == 1 else f"focal series of {needed} images"
            hint = f"; {STACK}" if given > 1 else ""
            raise InputError(f"this model takes {wants}, and {micrograph.source} holds {given}{hint}.")

    @torch.inference_mode()
    def find(self, micrograph: Micrograph, folder: Path | None = None) -> Prediction:
        """Find the columns in a micrograph or focal series.

        Args:
            micrograph: micrograph or focal series of any size.
            folder: folder for ``maps.npy`` and ``images.npy``, at full size in half precision; without it the pictures
                of large images are binned, see :class:`Prediction`.

        Raises:
            InputError: see :meth:`check`.
        """
        self.check(micrograph)
        assert micrograph.sampling is not None
        sampling = self.network.sampling
        prepared = Prepared(
            equalise_dose(micrograph.images), micrograph.sampling, sampling, self.network.normalise, micrograph.valid
        )
        images, maps = (
            Canvas(prepared.shape, None if folder is None else folder / name) for name in ("images.npy", "maps.npy")
        )
        tiles, parts = cover(prepared.shape, self.halo, self.area), []
        try:
            for tile in tiles:
                piece = prepared.window(*tile.seen)
                # Pixels beyond the image only pad it to the grid of the pooling and contain no columns.
                high, wide = prepared.shape[0] - tile.seen[0], prepared.shape[1] - tile.seen[2]
                answer = self._answer(piece[None])[..., :high, :wide]
                # The range of the peaks is smaller than that of the network.
                near = tile.within(round(PEAK / sampling))
                (columns,) = self.ensemble.find(answer[..., *tile.among(near.seen)])
                parts.append(near.owned(columns, sampling))
                images.paint(tile, piece)
                maps.paint(tile, answer[0])
            rows, width = prepared.shape
            columns = remove_duplicates(parts, tiles, sampling)
            inside = columns.inside((width - 0.5) * sampling, (rows - 0.5) * sampling, border=-0.5 * sampling)
            columns = columns[inside]
            likeness = self.ensemble.likeness(prepared.window, prepared.shape, prepared.valid)
            return Prediction(
                micrograph,
                columns[micrograph.holds(columns.positions)],
                images.finished(),
                maps.finished(),
                sampling * maps.reduction,
                likeness,
                maps.reduction,
                self.network.target.classes,
            )
        except BaseException:
            images.discard()
            maps.discard()
            raise

    @torch.inference_mode()
    def maps(self, images: Tensor) -> Tensor:
        """Maps ``(1, C, Y, X)``, on the CPU, of normalised images ``(1, F, Y, X)``; both must fit into memory."""
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
        """Largest range, px, and largest memory, bytes per pixel, among the networks."""
        seen = []
        for network in self.networks:
            # The test image is long and thin and must not be transposed; averaging over orientations adds no range.
            net = network.net.network if isinstance(network.net, Dihedral) else network.net
            seen.append(measure_sight(net, network.optics.num_images, self.device))
        return max(reach for reach, _ in seen), max(held for _, held in seen)

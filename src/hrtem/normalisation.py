"""Local contrast normalisation: what the network sees of a simulated or a real image."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from hrtem.ranges import parse_number

#: How many points of the grid on which averages are known lie in one standard deviation of the neighbourhood.
POINTS = 6
#: Smallest local variance, in units of that of the whole image: an empty corner is not blown up to pure noise.
FLOOR = 1e-4


class LocalContrast:
    """Subtract the local mean and divide by the local standard deviation.

    Both are Gaussian averages over the neighbourhood and over all images of a focal series, so that the
    ratios within a series are kept. Gain, offset and slow background drop out; windows that the image's
    border cuts are renormalised, so that nothing is assumed of what lies outside. An image of a series all of whose
    pixels are equal holds nothing: it counts for no average and becomes 0, which says to a network that it is missing.

    Args:
        sigma: standard deviation of the neighbourhood, Å.
    """

    def __init__(self, sigma: float) -> None:
        self.sigma = parse_number("normalisation.sigma", sigma, unit="Å", minimum=0.5, maximum=1000.0)

    def __call__(self, images: Tensor, sampling: float) -> Tensor:
        """Normalise ``images``, real ``(B, F, Y, X)`` at ``sampling`` Å/px, to the same shape."""
        if images.shape[1] > 1 and not bool((there := ~is_blank(images)).all()):
            # A series at a time, without what is missing of it.
            answer = torch.zeros_like(images)
            for series, kept, result in zip(images, there, answer, strict=True):
                if bool(kept.any()):
                    result[kept] = self._normalised(series[kept][None], sampling)[0]
            return answer
        return self._normalised(images, sampling)

    def _normalised(self, images: Tensor, sampling: float) -> Tensor:
        images = images - images.mean(dim=(1, 2, 3), keepdim=True)
        spread = images.std(dim=(1, 2, 3), keepdim=True)
        images = images / torch.where(spread > 0, spread, 1.0)
        width = self.sigma / sampling
        rows, columns = (_axis(size, width, images.device, images.dtype) for size in images.shape[-2:])
        mean = _average(images.mean(dim=1, keepdim=True), rows, columns)
        variance = _average(images.square().mean(dim=1, keepdim=True), rows, columns) - mean.square()
        return (images - mean) * variance.clamp_min(FLOOR).rsqrt()

    def surroundings(self, shape: tuple[int, int], sampling: float) -> LocalMoments:
        """The same for one image (or series) of ``shape`` (Y, X) px that is seen piece by piece."""
        return LocalMoments(shape, self.sigma / sampling)


class LocalMoments:
    """Local mean and variance of an image too large to be held: every piece is added once, then any is normalised.

    How the image is cut matters only within rounding, and what comes out is what :class:`LocalContrast` makes of the
    whole. What is kept between is on a grid much finer than the neighbourhood, and so small.

    Args:
        shape: (Y, X) px of the image.
        width: standard deviation of the neighbourhood, px.
    """

    def __init__(self, shape: tuple[int, int], width: float) -> None:
        self.axes = [_axis(size, width, torch.device("cpu"), torch.float32) for size in shape]
        size = len(self.axes[0][0]), len(self.axes[1][0])
        self.first, self.second = torch.zeros(size), torch.zeros(size)
        self.sums = torch.zeros(3, dtype=torch.float64)

    def add(self, images: Tensor, top: int, left: int) -> None:
        """Add a piece.

        Args:
            images: ``(F, h, w)``; a mean near 0 and a spread near 1 over all pieces keep rounding small.
            top, left: its first pixel.
        """
        cuts = [_reached(axis[0], start, size) for axis, start, size in zip(
            self.axes, (top, left), images.shape[-2:], strict=True
        )]  # fmt: skip
        (rows, weights_y), (columns, weights_x) = cuts
        for known, values in ((self.first, images.mean(dim=0)), (self.second, images.square().mean(dim=0))):
            known[rows, columns] += weights_y @ values @ weights_x.T
        exact = images.double()
        self.sums += torch.stack([torch.tensor(float(exact.numel())).double(), exact.sum(), exact.square().sum()])

    def normalise(self, images: Tensor, top: int, left: int) -> Tensor:
        """A piece ``(F, h, w)`` from pixel (top, left) on, normalised; all pieces must have been added."""
        number, total, squares = self.sums.tolist()
        offset = total / number
        spread2 = max(0.0, squares - number * offset**2) / max(1.0, number - 1.0) or 1.0
        cuts = [axis[1][start : start + size] for axis, start, size in zip(
            self.axes, (top, left), images.shape[-2:], strict=True
        )]  # fmt: skip
        mass = [axis[0].sum(dim=1) for axis in self.axes]
        (rows, y), (columns, x) = (_reached(cut.T, 0, len(cut)) for cut in cuts)
        y, x = y.T, x.T
        share = torch.outer(y @ mass[0][rows], x @ mass[1][columns])
        mean = y @ self.first[rows, columns] @ x.T / share
        variance = y @ self.second[rows, columns] @ x.T / share - mean.square()
        # The floor is in units of the variance of the whole image, as where that has been divided out.
        return (images - mean) * variance.clamp_min(FLOOR * spread2).rsqrt()


def is_blank(images: Tensor) -> Tensor:
    """Which of the images ``(..., Y, X)`` have no contrast at all, bool ``(...)``."""
    return images.amax(dim=(-2, -1)) == images.amin(dim=(-2, -1))


def _average(images: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]) -> Tensor:
    """Gaussian average of ``images`` ``(..., Y, X)``; of the image of ones, which it divides by, it is separable."""
    mass = [enlarge @ weights.sum(dim=1) for weights, enlarge in (rows, columns)]
    known = rows[0] @ images @ columns[0].T
    return (rows[1] @ known @ columns[1].T) / torch.outer(*mass)


def _reached(weights: Tensor, start: int, size: int) -> tuple[slice, Tensor]:
    """The rows of ``weights`` whose columns ``start`` to ``start + size`` are not all 0, and their weights there."""
    cut = weights[:, start : start + size]
    (rows,) = torch.nonzero(cut.abs().amax(dim=1) > 0.0, as_tuple=True)
    reached = slice(int(rows[0]), int(rows[-1]) + 1)
    return reached, cut[reached]


@lru_cache(maxsize=16)
def _axis(size: int, width: float, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """How an average over ``size`` pixels goes by way of K points.

    A Gaussian average is so smooth that six points of a grid of a sixth of its width give what lies between them
    within 2e-6; computing it there only costs as many times less as there are pixels between two points.

    Returns:
        Weights ``(K, size)`` of the pixels at each point, those of a Gaussian of ``width`` pixels up to six times that,
        and weights ``(size, K)`` of the points at each pixel, those of Lagrange's polynomials.
    """
    # Not as tensors of an inference, which training could not use afterwards.
    with torch.inference_mode(mode=False):
        step = max(1, int(width / POINTS))
        pixels = torch.arange(size, dtype=torch.float64)
        number = (size - 1) // step + 6
        points = (torch.arange(number, dtype=torch.float64) - 2) * step
        away = (points[:, None] - pixels) / width
        weights = torch.where(away.abs() <= 6.0, torch.exp(-0.5 * away**2), 0.0)
        below = torch.div(pixels, step, rounding_mode="floor").long()
        share = pixels / step - below
        enlarge = torch.zeros(size, number, dtype=torch.float64)
        nodes = torch.arange(-2, 4, dtype=torch.float64)
        for index, node in enumerate(nodes):
            others = nodes[nodes != node]
            value = ((share[:, None] - others) / (node - others)).prod(dim=1)
            enlarge[torch.arange(size), below + index] = value
        return weights.to(device, dtype), enlarge.to(device, dtype)

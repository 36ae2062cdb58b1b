"""Local contrast normalisation of simulated and real images, the input of the network."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from hrtem.ranges import parse_number

#: Number of points, per standard deviation of the neighbourhood, of the coarse grid on which averages are computed.
POINTS = 6
#: Smallest local variance, relative to the variance of the whole image, so that an empty corner is not amplified to
#: pure noise.
FLOOR = 1e-4
#: Share of valid pixels in a neighbourhood, weighted by distance, below which it has no local contrast.
REMOTE = 1e-4


class LocalContrast:
    """Subtract the local mean and divide by the local standard deviation.

    Both are Gaussian averages over the neighbourhood and over all images of a focal series, so that the ratios within
    a series are preserved. Gain, offset and slow background drop out. Windows cut by the border of the image are
    renormalised, so that no assumption about the region outside is needed. If all pixels of an image in a series are
    equal, the image is excluded from the averages and set to 0, which marks it as missing for the network.

    Args:
        sigma: standard deviation of the neighbourhood, Å.
    """

    def __init__(self, sigma: float) -> None:
        self.sigma = parse_number("normalisation.sigma", sigma, unit="Å", minimum=0.5, maximum=1000.0)

    def __call__(self, images: Tensor, sampling: float) -> Tensor:
        """Normalise ``images``, real ``(B, F, Y, X)`` at ``sampling`` Å/px, to the same shape."""
        if images.shape[1] > 1 and not bool((there := ~is_blank(images)).all()):
            # One series at a time, without its missing images.
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

    def surroundings(self, shape: tuple[int, int], sampling: float, masked: bool = False) -> LocalMoments:
        """Start the same normalisation for one image or series of ``shape`` (Y, X) px that arrives piece by piece.

        ``masked`` tells whether some pixels hold no image and have no influence.
        """
        return LocalMoments(shape, self.sigma / sampling, masked)


class LocalMoments:
    """Local mean and variance of an image too large for memory: add every piece once, then normalise any piece.

    The result equals that of :class:`LocalContrast` on the whole image, up to rounding, and does not depend on how the
    image is cut. The averages are stored on a grid that is finer than the neighbourhood but coarser than the pixels,
    and need little memory.

    Args:
        shape: size (Y, X) of the image, px.
        width: standard deviation of the neighbourhood, px.
        masked: whether some pixels are not valid. Averages then are normalised convolutions: weighted sums over valid
            pixels, divided by the sum of the weights (H. Knutsson and C.-F. Westin, 1993).
    """

    def __init__(self, shape: tuple[int, int], width: float, masked: bool = False) -> None:
        self.axes = [_axis(size, width, torch.device("cpu"), torch.float32) for size in shape]
        size = len(self.axes[0][0]), len(self.axes[1][0])
        self.first, self.second = torch.zeros(size), torch.zeros(size)
        #: Sum of the weights at each point; None if all pixels of all pieces are valid.
        self.mass: Tensor | None = torch.zeros(size) if masked else None
        self.sums = torch.zeros(3, dtype=torch.float64)

    def add(self, images: Tensor, top: int, left: int, valid: Tensor | None = None) -> None:
        """Add a piece.

        Args:
            images: ``(F, h, w)``; a mean near 0 and a standard deviation near 1 over all pieces minimise rounding
                errors.
            top, left: position of the first pixel of the piece.
            valid: bool ``(h, w)``, pixels that are averaged; required for a masked image, None for other images.
        """
        number = images.numel()
        if valid is not None:
            number = len(images) * int(valid.sum())
            images = images * valid
        cuts = [_reached(axis[0], start, size) for axis, start, size in zip(
            self.axes, (top, left), images.shape[-2:], strict=True
        )]  # fmt: skip
        (rows, weights_y), (columns, weights_x) = cuts
        for known, values in ((self.first, images.mean(dim=0)), (self.second, images.square().mean(dim=0))):
            known[rows, columns] += weights_y @ values @ weights_x.T
        if self.mass is not None:
            assert valid is not None
            self.mass[rows, columns] += weights_y @ valid.to(images.dtype) @ weights_x.T
        exact = images.double()
        self.sums += torch.stack([torch.tensor(float(number)).double(), exact.sum(), exact.square().sum()])

    def normalise(self, images: Tensor, top: int, left: int) -> Tensor:
        """Normalise a piece ``(F, h, w)`` with its first pixel at (top, left), after all pieces have been added.

        Pixels that are far from all valid pixels become 0.
        """
        number, total, squares = self.sums.tolist()
        offset = total / number
        spread2 = max(0.0, squares - number * offset**2) / max(1.0, number - 1.0) or 1.0
        cuts = [axis[1][start : start + size] for axis, start, size in zip(
            self.axes, (top, left), images.shape[-2:], strict=True
        )]  # fmt: skip
        mass = [axis[0].sum(dim=1) for axis in self.axes]
        (rows, y), (columns, x) = (_reached(cut.T, 0, len(cut)) for cut in cuts)
        y, x = y.T, x.T
        share = whole = torch.outer(y @ mass[0][rows], x @ mass[1][columns])
        if self.mass is not None:
            share = (y @ self.mass[rows, columns] @ x.T).clamp_min(REMOTE * whole)
        mean = y @ self.first[rows, columns] @ x.T / share
        variance = y @ self.second[rows, columns] @ x.T / share - mean.square()
        # The floor is relative to the variance of the whole image, which LocalContrast divides out beforehand.
        contrast = (images - mean) * variance.clamp_min(FLOOR * spread2).rsqrt()
        return contrast if self.mass is None else torch.where(share > REMOTE * whole, contrast, 0.0)


def is_blank(images: Tensor) -> Tensor:
    """Whether all pixels of an image are equal, for images ``(..., Y, X)``: bool ``(...)``."""
    return images.amax(dim=(-2, -1)) == images.amin(dim=(-2, -1))


def _average(images: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]) -> Tensor:
    """Gaussian average of ``images`` ``(..., Y, X)``, divided by the separable average of an image of ones."""
    mass = [enlarge @ weights.sum(dim=1) for weights, enlarge in (rows, columns)]
    known = rows[0] @ images @ columns[0].T
    return (rows[1] @ known @ columns[1].T) / torch.outer(*mass)


def _reached(weights: Tensor, start: int, size: int) -> tuple[slice, Tensor]:
    """Range of rows of ``weights`` with nonzero values in columns ``start`` to ``start + size``, and these weights."""
    cut = weights[:, start : start + size]
    (rows,) = torch.nonzero(cut.abs().amax(dim=1) > 0.0, as_tuple=True)
    reached = slice(int(rows[0]), int(rows[-1]) + 1)
    return reached, cut[reached]


@lru_cache(maxsize=16)
def _axis(size: int, width: float, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weights of a Gaussian average along an axis of ``size`` pixels, by way of K points of a coarse grid.

    A Gaussian average is so smooth that interpolation between six points, spaced a sixth of its width, is accurate to
    2e-6. Computing the average only at the points divides the cost by the number of pixels per point.

    Returns:
        Weights ``(K, size)`` of the pixels in the average at each point, a Gaussian with a standard deviation of
        ``width`` pixels cut at six standard deviations; and weights ``(size, K)`` of the points in the interpolation at
        each pixel, by Lagrange polynomials.
    """
    # Training could not use tensors created in inference mode, so the mode is switched off here.
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

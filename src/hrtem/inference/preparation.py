"""Preparation of micrographs for the network: removal of hot pixels, resampling and normalisation of any window."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hrtem.inference.resampling import ResampledAxis, is_unchanged, resample_window
from hrtem.normalisation import LocalContrast, LocalMoments

#: A hot pixel differs from its neighbours by more than this many robust standard deviations and local contrasts.
HOT_SIGMAS, HOT_CONTRASTS = 8.0, 4.0
#: Side of the pieces in which the local moments of an image are measured, px.
PIECE = 512
#: Number of rows of the input in which hot pixels are removed together.
ROWS = 512
#: Number of pixels that suffice for measuring the noise; a larger image is sampled in evenly spaced rows.
SAMPLE = 2**18
#: Number of pixels that are sorted together; few enough for the cache of a processor.
CACHED = 2**17
#: Largest number of pixels, over all images, that are kept at the network's pixel size instead of prepared twice.
KEPT = 2**22


class Prepared:
    """An image or focal series, prepared window by window; the memory does not grow with the size of the image.

    The division into windows changes only rounding errors.

    Args:
        images: ``(F, Y, X)`` as read.
        sampling: Å/px of the images.
        target: Å/px of the network.
        normalise: normalisation of the network.
        valid: bool ``(Y, X)``, False where the images hold nothing; these pixels do not influence the normalisation of
            the others. None: all pixels are valid.

    Attributes:
        valid: the same at the network's pixel size, where a pixel is valid if the nearest pixels of the image on all
            sides are; None if all pixels are valid.
    """

    def __init__(
        self,
        images: np.ndarray,
        sampling: float,
        target: float,
        normalise: LocalContrast,
        valid: np.ndarray | None = None,
    ) -> None:
        self.images = images
        same = is_unchanged(images.shape[-2:], sampling, target)
        self.rows, self.columns = (ResampledAxis(size, sampling, target, same) for size in images.shape[-2:])
        self.shape = self.rows.size, self.columns.size
        self.number = len(images)
        if valid is not None and valid.all():
            valid = None
        self.noise = [_noise(image, valid) for image in images]
        # The normalisation removes gain and offset; removing them roughly here avoids a loss of digits before.
        sample = images[:, :: max(1, images.shape[1] // 256), :: max(1, images.shape[2] // 256)]
        if valid is not None:
            kept = valid[:: max(1, images.shape[1] // 256), :: max(1, images.shape[2] // 256)]
            sample = sample[:, kept] if kept.any() else images[:, valid]
        low, middle, high = np.percentile(sample, [16, 50, 84])
        self.offset, self.gain = float(middle), float(2.0 / (high - low)) if high > low else 1.0
        self.valid = (
            None if valid is None else torch.from_numpy(_at_places(_at_places(valid, self.rows).T, self.columns).T)
        )
        self._kept: Tensor | None = None
        if self.number * self.shape[0] * self.shape[1] <= KEPT:
            self._kept = self._at_pixel_size(0, self.shape[0], 0, self.shape[1])
        self.surroundings = self._look(normalise.surroundings(self.shape, target, valid is not None))

    def window(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Normalised pixels ``(F, bottom - top, right - left)`` of a window.

        Where the window extends beyond the image, the last pixels are repeated. Padding with zeros would be unlike any
        training image, and columns at the right and lower edges would be lost.
        """
        rows, columns = self.shape
        below, beside = max(0, bottom - rows), max(0, right - columns)
        seen = self._pixels(top, bottom - below, left, right - beside)
        return F.pad(self.surroundings.normalise(seen, top, left), (0, beside, 0, below), mode="replicate")

    def counts(self) -> np.ndarray:
        """All pixels ``(F, Y, X)`` at the network's pixel size, without hot pixels, in the units of the camera."""
        pixels = self._pixels(0, self.shape[0], 0, self.shape[1])
        return (pixels.double() / self.gain + self.offset).float().numpy()

    def _look(self, surroundings: LocalMoments) -> LocalMoments:
        rows, columns = self.shape
        for top in range(0, rows, PIECE):
            for left in range(0, columns, PIECE):
                bottom, right = min(rows, top + PIECE), min(columns, left + PIECE)
                valid = None if self.valid is None else self.valid[top:bottom, left:right]
                surroundings.add(self._pixels(top, bottom, left, right), top, left, valid)
        return surroundings

    def _pixels(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        if self._kept is not None:
            return self._kept[:, top:bottom, left:right]
        return self._at_pixel_size(top, bottom, left, right)

    def _at_pixel_size(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Pixels ``(F, bottom - top, right - left)`` of the clean images at the network's pixel size."""
        first, last = self.columns.source(left, right)
        answer = torch.empty(self.number, bottom - top, right - left)
        # Number of output rows per step that correspond to a bounded number of input rows.
        step = max(1, int(ROWS / max(1.0, self.rows.ratio)))
        for index, (image, noise) in enumerate(zip(self.images, self.noise, strict=True)):
            for low in range(top, bottom, step):
                high = min(bottom, low + step)
                begin, end = self.rows.source(low, high)
                clean = without_hot_pixels(image, noise, begin, end, first, last)
                clean = (clean - self.offset) * self.gain
                across = resample_window(clean.T, self.columns, left, right).T
                answer[index, low - top : high - top] = resample_window(across, self.rows, low, high)
        return answer


def without_hot_pixels(image: np.ndarray, noise: float, top: int, bottom: int, left: int, right: int) -> Tensor:
    """A window of an image, ``(bottom - top, right - left)``, with hot pixels replaced by the median of 3 × 3 pixels.

    A hot (or dead) pixel differs from this median by more than 8 standard deviations of the noise and by more than four
    times the local contrast, which is the range of the median over a 3 × 3 neighbourhood. The second condition
    spares atoms of any contrast at any noise, provided that a Gaussian atom has a full width at half maximum of 2 px or
    more. Clusters of up to 4 hot pixels are removed too.

    Args:
        image: ``(Y, X)``.
        noise: standard deviation of the noise, for the first condition.
        top, bottom, left, right: the window, px.
    """
    answer = torch.empty(bottom - top, right - left)
    step = max(16, CACHED // (right - left))
    for low in range(top, bottom, step):
        high = min(bottom, low + step)
        answer[low - top : high - top] = _freed(_bordered(image, low, high, left, right, border=2), noise)
    return answer


def _freed(values: Tensor, noise: float) -> Tensor:
    """Pixels ``(h, w)`` with hot pixels replaced, from ``values`` ``(h + 4, w + 4)`` with a border of 2 px."""
    median = _median(*(values[start : len(values) - 2 + start] for start in range(3)))
    inner = median[1:-1, 1:-1]
    highest, lowest = (
        _of_three(_of_three(median, choose).T, choose).T.contiguous() for choose in (torch.maximum, torch.minimum)
    )
    pixels = values[2:-2, 2:-2]
    limit = (highest - lowest).mul_(HOT_CONTRASTS).clamp_min_(HOT_SIGMAS * noise)
    return torch.where((pixels - inner).abs() > limit, inner, pixels)


def _at_places(valid: np.ndarray, axis: ResampledAxis) -> np.ndarray:
    """Whether the input pixels on both sides of each output pixel along the first axis of ``(Y, X)`` are valid."""
    if axis.same:
        return valid
    place = np.arange(axis.size) * axis.ratio
    below = np.floor(place + 1e-6).astype(int)
    above = np.ceil(place - 1e-6).astype(int)
    return valid[np.minimum(below, axis.given - 1)] & valid[np.minimum(above, axis.given - 1)]


def _noise(image: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Robust standard deviation of an image minus its median over 3 x 3 pixels, from its valid pixels."""
    step = -(-image.size // SAMPLE)
    middle = np.arange(step // 2, len(image), step)
    above, below = np.maximum(middle - 1, 0), np.minimum(middle + 1, len(image) - 1)
    rows = [torch.from_numpy(np.pad(image[index], ((0, 0), (1, 1)), mode="edge")) for index in (above, middle, below)]
    residual = rows[1][:, 1:-1] - _median(*rows)
    kept = None if valid is None else torch.from_numpy(valid[middle])
    residual = residual.flatten() if kept is None or not bool(kept.any()) else residual[kept]
    noise = 1.4826 * float((residual - residual.median()).abs().median())
    # The noise is 0 if more than half of the pixels equal their median: few counts per pixel, or no noise at all.
    return noise if noise > 0.0 else float(residual.double().std(correction=0))


def _bordered(image: np.ndarray, top: int, bottom: int, left: int, right: int, border: int) -> Tensor:
    """A window with ``border`` additional pixels on each side; beyond the image, they are mirrored about its edges."""
    (high, wide), cut, more = image.shape, [], []
    for first, last, size in ((top, bottom, high), (left, right, wide)):
        start, stop = max(0, first - border), min(size, last + border)
        cut.append(slice(start, stop))
        more.append((start - (first - border), last + border - stop))
    return torch.from_numpy(np.pad(np.ascontiguousarray(image[tuple(cut)]), more, mode="symmetric"))


def _of_three(values: Tensor, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Largest or smallest value of three neighbouring rows, ``(h - 2, w)``."""
    return choose(choose(values[:-2], values[1:-1]), values[2:])


def _median(above: Tensor, middle: Tensor, below: Tensor) -> Tensor:
    """Median ``(h, w - 2)`` over 3 x 3 pixels of rows ``(h, w)`` and the rows above and below them.

    The three pixels of each column are sorted first. The median of the nine pixels is then the median of three values:
    the maximum of the smallest pixels, the median of the middle pixels and the minimum of the largest pixels (J. L.
    Smith, Implementing median filters, 1996).
    """
    low, high = torch.minimum(above, middle), torch.maximum(above, middle)
    smallest, high = torch.minimum(low, below), torch.maximum(high, torch.maximum(low, below))
    # The median of the three pixels.
    centre = torch.maximum(torch.minimum(above, middle), torch.minimum(torch.maximum(above, middle), below))

    def three(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return values[:, :-2], values[:, 1:-1], values[:, 2:]

    a, b, c = three(smallest)
    largest_of_smallest = torch.maximum(torch.maximum(a, b), c)
    a, b, c = three(high)
    smallest_of_largest = torch.minimum(torch.minimum(a, b), c)
    return _middle(largest_of_smallest, _middle(*three(centre)), smallest_of_largest)


def _middle(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))

"""A micrograph as the network is to see it, any window of it: without hot pixels, at its pixel size, normalised."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hrtem.inference.resampling import ResampledAxis, is_unchanged, resample_window
from hrtem.normalisation import LocalContrast, LocalMoments

#: A hot pixel is this many robust standard deviations, and this many local contrasts, off its neighbours.
HOT_SIGMAS, HOT_CONTRASTS = 8.0, 4.0
#: Side of the pieces in which an image is first looked at, px.
PIECE = 512
#: Rows of the input that are freed of hot pixels together.
ROWS = 512
#: From so many pixels on, evenly spread rows tell how strong the noise is.
SAMPLE = 2**18
#: Pixels that are sorted together: few enough to stay in a processor's cache.
CACHED = 2**17
#: Images of up to so many pixels in all are kept at the network's pixel size instead of being prepared twice.
KEPT = 2**22


class Prepared:
    """One image or focal series, prepared window by window; what is kept does not grow with its size.

    How it is cut into windows changes nothing but rounding.

    Args:
        images: ``(F, Y, X)`` as they were read.
        sampling: Å/px of them.
        target: Å/px of the network.
        normalise: the network's normalisation.
    """

    def __init__(self, images: np.ndarray, sampling: float, target: float, normalise: LocalContrast) -> None:
        self.images = images
        same = is_unchanged(images.shape[-2:], sampling, target)
        self.rows, self.columns = (ResampledAxis(size, sampling, target, same) for size in images.shape[-2:])
        self.shape = self.rows.size, self.columns.size
        self.number = len(images)
        self.noise = [_noise(image) for image in images]
        # Gain and offset drop out later, but not before they have cost digits.
        sample = images[:, :: max(1, images.shape[1] // 256), :: max(1, images.shape[2] // 256)]
        low, middle, high = np.percentile(sample, [16, 50, 84])
        self.offset, self.gain = float(middle), float(2.0 / (high - low)) if high > low else 1.0
        self._kept: Tensor | None = None
        if self.number * self.shape[0] * self.shape[1] <= KEPT:
            self._kept = self._at_pixel_size(0, self.shape[0], 0, self.shape[1])
        self.surroundings = self._look(normalise.surroundings(self.shape, target))

    def window(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Normalised pixels ``(F, bottom - top, right - left)``, its last ones again where a window reaches out.

        Zeros would look like nothing that is seen in a training, and columns at the right and the lower edge be lost.
        """
        rows, columns = self.shape
        below, beside = max(0, bottom - rows), max(0, right - columns)
        seen = self._pixels(top, bottom - below, left, right - beside)
        return F.pad(self.surroundings.normalise(seen, top, left), (0, beside, 0, below), mode="replicate")

    def counts(self) -> np.ndarray:
        """All pixels ``(F, Y, X)`` without hot ones and at the network's pixel size, in the units of the camera."""
        pixels = self._pixels(0, self.shape[0], 0, self.shape[1])
        return (pixels.double() / self.gain + self.offset).float().numpy()

    def _look(self, surroundings: LocalMoments) -> LocalMoments:
        rows, columns = self.shape
        for top in range(0, rows, PIECE):
            for left in range(0, columns, PIECE):
                bottom, right = min(rows, top + PIECE), min(columns, left + PIECE)
                surroundings.add(self._pixels(top, bottom, left, right), top, left)
        return surroundings

    def _pixels(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        if self._kept is not None:
            return self._kept[:, top:bottom, left:right]
        return self._at_pixel_size(top, bottom, left, right)

    def _at_pixel_size(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Pixels ``(F, bottom - top, right - left)`` of the clean images at the network's pixel size."""
        first, last = self.columns.source(left, right)
        answer = torch.empty(self.number, bottom - top, right - left)
        # As many rows of the output together as come of a bounded number of rows of the input.
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
    """A window of an image, ``(bottom - top, right - left)``, with the median of 3 × 3 pixels in place of hot ones.

    A hot (or dead) pixel lies further from that median than 8 standard deviations of the noise and further than four
    times the local contrast, which is the range of the median over its own 3 × 3 neighbourhood. The second condition
    spares atoms however high their contrast and low the noise, as long as a Gaussian atom has a full width at half
    maximum of 2 px or more. Clusters of up to 4 pixels go too.

    Args:
        image: ``(Y, X)``.
        noise: its standard deviation, as it decides what is hot.
        top, bottom, left, right: the window.
    """
    answer = torch.empty(bottom - top, right - left)
    step = max(16, CACHED // (right - left))
    for low in range(top, bottom, step):
        high = min(bottom, low + step)
        answer[low - top : high - top] = _freed(_bordered(image, low, high, left, right, border=2), noise)
    return answer


def _freed(values: Tensor, noise: float) -> Tensor:
    """Pixels ``(h, w)`` without the hot ones, of ``(h + 4, w + 4)``."""
    median = _median(*(values[start : len(values) - 2 + start] for start in range(3)))
    inner = median[1:-1, 1:-1]
    highest, lowest = (
        _of_three(_of_three(median, choose).T, choose).T.contiguous() for choose in (torch.maximum, torch.minimum)
    )
    pixels = values[2:-2, 2:-2]
    limit = (highest - lowest).mul_(HOT_CONTRASTS).clamp_min_(HOT_SIGMAS * noise)
    return torch.where((pixels - inner).abs() > limit, inner, pixels)


def _noise(image: np.ndarray) -> float:
    """Robust standard deviation of an image minus its median over 3 x 3 pixels."""
    step = -(-image.size // SAMPLE)
    middle = np.arange(step // 2, len(image), step)
    above, below = np.maximum(middle - 1, 0), np.minimum(middle + 1, len(image) - 1)
    rows = [torch.from_numpy(np.pad(image[index], ((0, 0), (1, 1)), mode="edge")) for index in (above, middle, below)]
    residual = (rows[1][:, 1:-1] - _median(*rows)).flatten()
    noise = 1.4826 * float((residual - residual.median()).abs().median())
    # More than half of the pixels equal their median: few counts per pixel, or no noise at all.
    return noise if noise > 0.0 else float(residual.double().std(correction=0))


def _bordered(image: np.ndarray, top: int, bottom: int, left: int, right: int, border: int) -> Tensor:
    """A window with ``border`` pixels more on each side; beyond the image they are mirrored about its edges."""
    (high, wide), cut, more = image.shape, [], []
    for first, last, size in ((top, bottom, high), (left, right, wide)):
        start, stop = max(0, first - border), min(size, last + border)
        cut.append(slice(start, stop))
        more.append((start - (first - border), last + border - stop))
    return torch.from_numpy(np.pad(np.ascontiguousarray(image[tuple(cut)]), more, mode="symmetric"))


def _of_three(values: Tensor, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The largest or smallest of three neighbouring rows, ``(h - 2, w)``."""
    return choose(choose(values[:-2], values[1:-1]), values[2:])


def _median(above: Tensor, middle: Tensor, below: Tensor) -> Tensor:
    """Median ``(h, w - 2)`` over 3 x 3 pixels of rows ``(h, w)`` and those above and below them.

    The three pixels of each column are sorted first; then the median is that of the largest of the smallest, the middle
    one of the middle ones and the smallest of the largest (J. L. Smith, Implementing median filters, 1996).
    """
    low, high = torch.minimum(above, middle), torch.maximum(above, middle)
    smallest, high = torch.minimum(low, below), torch.maximum(high, torch.maximum(low, below))
    # The middle one of three: what is left when the smallest and the largest have been taken.
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

"""What finds atoms without a network: Laplacian of Gaussian with local maxima, and Atomap, both tuned on the truth."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_laplace, zoom
from skimage.feature import peak_local_max

from hrtem.errors import InputError

#: Rates positions ``(N, 2)`` Å; more is better.
Rating = Callable[[np.ndarray], float]
#: Finds positions ``(N, 2)`` Å in an image ``(Y, X)`` of local contrast at a pixel size in Å/px.
Method = Callable[[np.ndarray, float], np.ndarray]

#: Widths of the Laplacian and of the blur before Atomap, least distances of atoms, Å, that are tried.
SIGMAS, BLURS, SEPARATIONS = (0.3, 0.4, 0.5, 0.6, 0.8), (0.0, 0.4, 0.7), (0.8, 1.0, 1.2)
#: Least distance of two maxima of the Laplacian, Å.
APART = 0.6
#: How many thresholds of the Laplacian are tried, and which of Atomap, as shares of the highest peak.
THRESHOLDS, SHARES = 16, (0.02, 0.3)
#: Ways of Atomap to refine positions.
REFINEMENTS = ("", "mass", "gaussian")
#: Atomap sees images at this pixel size at most, Å/px, since it separates atoms by whole pixels.
FINE = 0.12


def laplacian(image: np.ndarray, sampling: float, sign: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Maxima of the Laplacian of Gaussian, the highest first.

    Args:
        image: ``(Y, X)`` of local contrast.
        sampling: Å/px.
        sign: 1 where atoms are bright, −1 where they are dark.
        sigma: of the Gaussian, Å.

    Returns:
        Positions ``(N, 2)`` Å, to a fraction of a pixel by parabolas, and heights ``(N,)``.
    """
    width = sigma / sampling
    response = -sign * width**2 * gaussian_laplace(np.asarray(image, float), width)
    peaks = peak_local_max(response, min_distance=max(1, round(APART / sampling)), exclude_border=False)
    row, column = peaks.T
    padded = np.pad(response, 1, mode="edge")

    def vertex(dy: int, dx: int) -> np.ndarray:
        before, here, after = (padded[row + 1 + n * dy, column + 1 + n * dx] for n in (-1, 0, 1))
        curvature = np.minimum(before - 2.0 * here + after, -1e-9)
        return np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)

    positions = np.column_stack([column + vertex(0, 1), row + vertex(1, 0)]) * sampling
    return positions, response[row, column]


def tuned_laplacian(image: np.ndarray, sampling: float, sign: int, rate: Rating) -> tuple[Method, str]:
    """The width and the threshold that do best on this very image."""
    best, chosen = -1.0, (0.0, 0.0)
    for sigma in SIGMAS:
        positions, heights = laplacian(image, sampling, sign, sigma)
        for number in np.unique(np.geomspace(max(1, len(heights) // 20), len(heights), THRESHOLDS).astype(int)):
            rating = rate(positions[:number])
            if rating > best:
                best, chosen = rating, (sigma, float(heights[number - 1]))
    sigma, threshold = chosen

    def method(picture: np.ndarray, pixel: float) -> np.ndarray:
        # Coarse pixels would hide that maxima lie close.
        picture, pixel = finer(picture, pixel, sampling)
        positions, heights = laplacian(picture, pixel, sign, sigma)
        return positions[heights >= threshold]

    return method, f"σ {sigma:g} Å, threshold {threshold:.2f}"


def finer(image: np.ndarray, sampling: float, finest: float) -> tuple[np.ndarray, float]:
    """The image at no coarser a pixel size than ``finest``, by splines; the centre of pixel [0, 0] stays."""
    if sampling <= 1.01 * finest:
        return image, sampling
    factor = sampling / finest
    # The last pixels' centres stay as well, so that the true factor differs a little along x and y.
    shape = [round((length - 1) * factor) + 1 for length in image.shape]
    enlarged = zoom(image, [new / old for new, old in zip(shape, image.shape, strict=True)], order=3)
    return enlarged, sampling * (image.shape[1] - 1) / (enlarged.shape[1] - 1)


class Atomap:
    """Atomap in a process of its own, since it wants an environment of its own.

    Args:
        python: interpreter that can import it.

    Raises:
        InputError: it cannot.
    """

    def __init__(self, python: str) -> None:
        script = Path(__file__).with_name("atomap_worker.py")
        try:
            self.process = subprocess.Popen(
                [python, str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        except OSError as error:
            raise InputError(f"atomap must be a Python interpreter, and {python} is none: {error.strerror}.") from None
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            raise InputError(f"atomap must be a Python interpreter that can import atomap, and {python} cannot.")

    def positions(
        self, image: np.ndarray, sampling: float, blur: float, separation: float, threshold: float, refine: str = ""
    ) -> np.ndarray:
        """Atoms ``(N, 2)`` Å in an image ``(Y, X)`` in which they are bright.

        Args:
            image: of local contrast.
            sampling: Å/px.
            blur: width of a Gaussian before all else, Å.
            separation: least distance of atoms, Å.
            threshold: share of the highest peak.
            refine: ``mass``, ``gaussian`` or nothing.
        """
        picture, pixel = finer(image, sampling, FINE)
        if blur:
            picture = gaussian_filter(picture, blur / pixel)
        with tempfile.TemporaryDirectory() as folder:
            files = {"image": f"{folder}/image.npy", "answer": f"{folder}/answer.npy"}
            np.save(files["image"], picture - picture.min())
            wishes = {"separation": max(1, round(separation / pixel)), "threshold": threshold, "refine": refine}
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            print(json.dumps(files | wishes), file=self.process.stdin, flush=True)
            if self.process.stdout.readline().strip() != "done":
                return np.empty((0, 2))
            return np.asarray(np.load(files["answer"])).reshape(-1, 2) * pixel

    def tuned(self, image: np.ndarray, sampling: float, sign: int, rate: Rating) -> tuple[Method, str]:
        """The blur, separation, threshold and refinement that do best on this very image."""
        tries = list(product(BLURS, SEPARATIONS, SHARES))
        best = max(tries, key=lambda one: rate(self.positions(sign * image, sampling, *one)))
        refine = max(REFINEMENTS, key=lambda one: rate(self.positions(sign * image, sampling, *best, one)))

        def method(picture: np.ndarray, pixel: float) -> np.ndarray:
            return self.positions(sign * picture, pixel, *best, refine)

        blur, separation, share = best
        text = f"blur {blur:g} Å, separation {separation:g} Å, threshold {share:g}, {refine or 'no'} refinement"
        return method, text


@contextmanager
def atomap(python: str) -> Iterator[Atomap]:
    """Atomap, ended with the block."""
    worker = Atomap(python)
    try:
        yield worker
    finally:
        worker.process.kill()
        worker.process.wait()

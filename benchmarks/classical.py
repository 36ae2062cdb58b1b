"""Classical methods to find atoms: local maxima of a Laplacian of Gaussian, and Atomap, both tuned on the truth."""

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

#: Function that rates positions ``(N, 2)`` Å; a larger value is better.
Rating = Callable[[np.ndarray], float]
#: Function that finds positions ``(N, 2)`` Å in an image ``(Y, X)`` of local contrast with a pixel size in Å/px.
Method = Callable[[np.ndarray, float], np.ndarray]

#: Values to try for the width of the Laplacian, the blur before Atomap and the minimum distance of atoms, Å.
SIGMAS, BLURS, SEPARATIONS = (0.3, 0.4, 0.5, 0.6, 0.8), (0.0, 0.4, 0.7), (0.8, 1.0, 1.2)
#: Minimum distance between maxima of the Laplacian, Å.
APART = 0.6
#: Number of thresholds to try for the Laplacian, and thresholds to try for Atomap as fractions of the highest peak.
THRESHOLDS, SHARES = 16, (0.02, 0.3)
#: Atomap's methods to refine positions.
REFINEMENTS = ("", "mass", "gaussian")
#: Largest pixel size of images for Atomap, Å/px, because Atomap separates atoms by whole pixels.
FINE = 0.12


def laplacian(image: np.ndarray, sampling: float, sign: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the maxima of the Laplacian of Gaussian, sorted by height with the highest first.

    Args:
        image: local contrast ``(Y, X)``.
        sampling: pixel size, Å/px.
        sign: 1 for bright atoms, −1 for dark atoms.
        sigma: standard deviation of the Gaussian, Å.

    Returns:
        Positions ``(N, 2)`` Å with subpixel precision from fitted parabolas, and heights ``(N,)``.
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
    """Find the width and the threshold with the best rating on this image."""
    best, chosen = -1.0, (0.0, 0.0)
    for sigma in SIGMAS:
        positions, heights = laplacian(image, sampling, sign, sigma)
        for number in np.unique(np.geomspace(max(1, len(heights) // 20), len(heights), THRESHOLDS).astype(int)):
            rating = rate(positions[:number])
            if rating > best:
                best, chosen = rating, (sigma, float(heights[number - 1]))
    sigma, threshold = chosen

    def method(picture: np.ndarray, pixel: float) -> np.ndarray:
        # Coarse pixels would merge close maxima.
        picture, pixel = finer(picture, pixel, sampling)
        positions, heights = laplacian(picture, pixel, sign, sigma)
        return positions[heights >= threshold]

    return method, f"σ {sigma:g} Å, threshold {threshold:.2f}"


def finer(image: np.ndarray, sampling: float, finest: float) -> tuple[np.ndarray, float]:
    """Enlarge an image by splines so that its pixels are at most ``finest``; the centre of pixel [0, 0] is fixed."""
    if sampling <= 1.01 * finest:
        return image, sampling
    factor = sampling / finest
    # The centre of the last pixel is unchanged as well, so the exact factors along x and y differ slightly.
    shape = [round((length - 1) * factor) + 1 for length in image.shape]
    enlarged = zoom(image, [new / old for new, old in zip(shape, image.shape, strict=True)], order=3)
    return enlarged, sampling * (image.shape[1] - 1) / (enlarged.shape[1] - 1)


class Atomap:
    """Atomap in a separate process, because it needs a separate environment.

    Args:
        python: interpreter of an environment with Atomap.

    Raises:
        InputError: the interpreter cannot import Atomap.
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
        """Find the atoms ``(N, 2)`` Å in an image ``(Y, X)`` with bright atoms.

        Args:
            image: local contrast.
            sampling: pixel size, Å/px.
            blur: standard deviation of a Gaussian blur before the search, Å.
            separation: minimum distance of atoms, Å.
            threshold: threshold as a fraction of the highest peak.
            refine: refinement of positions: ``mass``, ``gaussian`` or an empty string for none.
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
        """Find the blur, separation, threshold and refinement with the best rating on this image."""
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
    """Run Atomap until the end of the block."""
    worker = Atomap(python)
    try:
        yield worker
    finally:
        worker.process.kill()
        worker.process.wait()

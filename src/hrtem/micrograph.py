"""Real micrographs: read from the files of microscopes, freed of hot pixels, brought to a pixel size."""

from __future__ import annotations

import logging
import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import tifffile
from rsciio import digitalmicrograph
from rsciio import tiff as rsciio_tiff
from scipy import fft, ndimage

from hrtem.errors import InputError

#: Pixel sizes, Å/px, at which an image can show atoms; anything else is a wrong calibration or a wrong unit.
SAMPLING_RANGE = (0.01, 5.0)
#: Shortest side of an image, px.
SMALLEST_SIDE = 16
#: Fraction of coloured pixels that a grey RGB image may have: the burnt-in label of a scale bar.
LABEL_FRACTION = 0.01
#: A hot pixel is this many robust standard deviations, and this many local contrasts, off its neighbours.
HOT_SIGMAS, HOT_CONTRASTS = 8.0, 4.0

#: Å in each unit of length, by its case-folded NFKC spelling.
ANGSTROMS = dict.fromkeys(("å", "a", "ang", "angstrom", "angstroms"), 1.0)
ANGSTROMS |= dict.fromkeys(("nm", "n_m", "nanometer", "nanometers", "nanometre", "nanometres"), 10.0)
ANGSTROMS |= dict.fromkeys(("μm", "um", "micron", "microns", "micrometer", "micrometers", "micrometre"), 1e4)
ANGSTROMS |= {"pm": 1e-2, "mm": 1e7, "m": 1e10, "meter": 1e10, "metre": 1e10}
#: Units that leave the pixel size unknown. Inch and cm are print resolutions, which ImageJ copies from TIFF tags.
UNCALIBRATED = {"", "none", "<undefined>", "px", "pixel", "pixels", "inch", "inches", "in", "cm"}

#: Pixels of any numeric type, and the ``scale`` and ``units`` of their (Y, X) axes, none where a format has none.
Dataset = tuple[np.ndarray, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, eq=False)
class Micrograph:
    """One focal series of real images, most often of a single image.

    Attributes:
        images: ``(F, Y, X)`` float32, in the units of the camera; ``(Y, X)`` is taken as a series of one.
        sampling: pixel size in Å/px, or None where it is unknown.
        name: what tables and figures call it; the stem of its file.
        source: the file it was read from.

    Raises:
        InputError: the images are no real numbers, are not (F, Y, X), are smaller than 16 px, hold
            values that are not finite, or are constant; or the pixel size is not 0.01 to 5 Å/px.
    """

    images: np.ndarray
    sampling: float | None
    name: str
    source: Path

    def __post_init__(self) -> None:
        images = np.asarray(self.images)
        if images.dtype.kind not in "buif":
            kind = "complex numbers" if images.dtype.kind == "c" else f"values of type {images.dtype}"
            raise InputError(f"{self.source} holds {kind}, and an image must hold real ones.")
        series = [length for length in images.shape[:-2] if length != 1]
        if images.ndim < 2 or len(series) > 1:
            raise InputError(f"{self.source} has the shape {images.shape}, and must be an image (Y, X) or (F, Y, X).")
        if images.size == 0 or min(images.shape[-2:]) < SMALLEST_SIDE:
            raise InputError(
                f"{self.source} has the shape {images.shape}, and an image (Y, X) or a focal series (F, Y, X) "
                f"must have at least {SMALLEST_SIDE} px a side."
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is counted below
            images = np.ascontiguousarray(images, dtype=np.float32).reshape(-1, *images.shape[-2:])
        bad = images.size - np.count_nonzero(np.isfinite(images))
        if bad:
            raise InputError(f"{self.source} has {bad} pixels that are NaN, infinite or beyond single precision.")
        for number, image in enumerate(images, start=1):
            if image.min() == image.max():
                raise InputError(f"{self.source} is constant, {image[0, 0]:g} in image {number} of {len(images)}.")
        if self.sampling is not None and not SAMPLING_RANGE[0] <= self.sampling <= SAMPLING_RANGE[1]:
            raise InputError(
                f"{self.source} has a pixel size of {self.sampling:g} Å, which must be between "
                f"{SAMPLING_RANGE[0]:g} and {SAMPLING_RANGE[1]:g} Å; give sampling= if its calibration is wrong."
            )
        object.__setattr__(self, "images", images)


def read(path: str | Path, sampling: float | None = None) -> Micrograph:
    """Read an image or a focal series from a TIFF, PNG, NPY, DM3 or DM4 file.

    Args:
        path: the file; its suffix says its format.
        sampling: pixel size in Å/px, 0.01 to 5; overrides the calibration of the file.

    Raises:
        InputError: the file is missing, damaged or of another kind, its pixels are not square, or it
            holds something that ``Micrograph`` refuses.
    """
    if sampling is not None:
        sampling = _given(sampling)
    path = Path(path)
    reader_name, reader = _format(path)
    problem = None
    try:
        pixels, axes = reader(path)
    except InputError:
        raise
    except Exception as error:  # each reader and each way to break a file has its own
        problem = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    if problem is not None:
        raise InputError(
            f"{path} cannot be read as {reader_name}; it is damaged, cut short or of another kind ({problem})."
        )
    if sampling is None:
        sampling = _pixel_size(path, axes)
    return Micrograph(pixels, sampling, name=path.stem, source=path)


def calibrated(micrograph: Micrograph) -> Micrograph:
    """The same micrograph, sure to have a pixel size.

    Raises:
        InputError: neither its file nor the user gave one.
    """
    if micrograph.sampling is None:
        raise InputError(f"{micrograph.source} does not say its pixel size; give it as sampling= in Å/px.")
    return micrograph


def remove_hot_pixels(image: np.ndarray) -> np.ndarray:
    """Replace the pixels that a camera or an X-ray got wrong by the median of their 3×3 neighbourhood.

    A hot (or dead) pixel lies further from that median than 8 standard deviations of the noise, which
    are 1.4826 times the median absolute deviation of image minus median, and further than four times the
    local contrast, which is the range of the median over its own 3×3 neighbourhood. The second condition
    spares atoms however high their contrast and low the noise, as long as a Gaussian atom has a full width
    at half maximum of 2 px or more. Clusters of up to 4 pixels go too.

    Args:
        image: ``(Y, X)``; any gain and offset.

    Returns:
        ``(Y, X)``, of the same type.
    """
    image = np.asarray(image)
    median = ndimage.median_filter(image, size=3, mode="reflect")
    residual = image.astype(np.float64) - median
    noise = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
    if noise == 0.0:  # more than half of the pixels equal their median: few counts per pixel, or no noise at all
        noise = float(residual.std())
    contrast = ndimage.maximum_filter(median, size=3, mode="reflect").astype(np.float64)
    contrast -= ndimage.minimum_filter(median, size=3, mode="reflect")
    hot = np.abs(residual) > np.maximum(HOT_SIGMAS * noise, HOT_CONTRASTS * contrast)
    return np.where(hot, median, image)


def resample(image: np.ndarray, sampling: float, target: float) -> np.ndarray:
    """Bring an image to another pixel size by cubic splines; positions in Å stay what they are.

    Pixel ``[j, i]`` of the output lies at ``(i, j) * target``, that of the input at ``(i, j) * sampling``.
    The output ends at the last pixel centre that the input reaches.

    Before coarsening, a Gaussian of variance ``(target² - sampling²) / 12`` keeps finer detail from
    aliasing. It has the variance that a square pixel of the target size has beyond the one over which the
    camera has averaged already, so that the noise ends up about as white as on a camera of larger pixels. Onto
    0.2 Å/px a period of 2 Å keeps 98.4 % of its amplitude or more, one of 1.23 Å 96 %.

    Args:
        image: ``(Y, X)``; beyond its edges it is taken as mirrored about the outermost pixel centres.
        sampling: its pixel size, Å/px.
        target: the pixel size wanted, Å/px.

    Returns:
        ``(Y', X')`` float32 with ``Y' = floor((Y - 1) * sampling / target) + 1``; the image as it is where
        the pixel sizes are so close that no pixel would move by more than 0.02 px.
    """
    sampling, target = _given(sampling), _given(target, "target")
    image = np.asarray(image, dtype=np.float32)
    extents = [(length - 1) * sampling / target for length in image.shape]
    if all(abs(extent - (length - 1)) <= 0.02 for extent, length in zip(extents, image.shape, strict=True)):
        return image
    signal = image.astype(np.float64)
    if target > sampling:
        variance = ((target / sampling) ** 2 - 1.0) / 12.0
        # Applied to the cosine transform, whose edges are mirrored too: on pixels this Gaussian is undersampled.
        frequencies = [np.linspace(0.0, 0.5, length) for length in image.shape]
        transfer = np.outer(*(np.exp(-2.0 * np.pi**2 * variance * frequency**2) for frequency in frequencies))
        signal = fft.idctn(fft.dctn(signal, type=1) * transfer, type=1)
    # A ratio such as 0.3 / 0.1 may fall short of the whole number by rounding and must not cost a row.
    shape = tuple(math.floor(extent + 1e-6) + 1 for extent in extents)
    scale = np.full(2, target / sampling)
    return ndimage.affine_transform(signal, scale, output_shape=shape, order=3, mode="mirror").astype(np.float32)


def _given(sampling: Any, name: str = "sampling") -> float:
    """A pixel size that the user gave, Å/px."""
    low, high = SAMPLING_RANGE
    try:
        value = float(sampling)
    except (TypeError, ValueError):
        value = math.nan
    if not low <= value <= high:
        raise InputError(f"{name} must be one number between {low:g} and {high:g} Å/px, got {sampling!r}.")
    return value


def _format(path: Path) -> tuple[str, Callable[[Path], Dataset]]:
    """The name and the reader of a file's format; refuses what is no file to read."""
    problem = None
    try:
        if path.is_dir():
            problem = "is a folder, and a file is needed"
        elif not path.exists():
            problem = "does not exist"
        elif path.suffix.lower() not in FORMATS:
            problem = f"has the unknown suffix {path.suffix!r}; known are {', '.join(FORMATS)}"
        elif not path.is_file():
            problem = "is not a regular file"
        elif path.stat().st_size == 0:
            problem = "is empty (0 bytes)"
    except OSError as error:
        problem = f"cannot be opened ({error.strerror})"
    if problem is not None:
        raise InputError(f"{path} {problem}.")
    return FORMATS[path.suffix.lower()]


def _pixel_size(path: Path, axes: Sequence[Mapping[str, Any]]) -> float | None:
    """Pixel size in Å/px from the calibration of the (Y, X) axes; None where they have none."""
    sizes = []
    for axis in axes:
        unit = unicodedata.normalize("NFKC", str(axis["units"] or "")).strip().casefold()
        scale = float(axis["scale"])
        if unit in UNCALIBRATED or not (math.isfinite(scale) and scale > 0.0):
            return None
        if unit not in ANGSTROMS:
            raise InputError(f"{path} is calibrated in {axis['units']!r}, which is no length; give sampling= in Å/px.")
        sizes.append(scale * ANGSTROMS[unit])
    if not sizes:
        return None
    if max(sizes) > 1.01 * min(sizes):
        raise InputError(f"{path} has pixels of {sizes[1]:.4g} x {sizes[0]:.4g} Å, and they must be square within 1 %.")
    return sum(sizes) / len(sizes)


def _only(path: Path, datasets: Sequence[Dataset]) -> Dataset:
    if len(datasets) != 1:
        shapes = ", ".join(str(pixels.shape) for pixels, _ in datasets) or "none"
        raise InputError(f"{path} must hold one image or one series, and holds {len(datasets)} ({shapes}).")
    return datasets[0]


def _grey(path: Path, channels: np.ndarray) -> np.ndarray:
    """The grey image ``(..., Y, X)`` in colour channels ``(..., Y, X, C)``; a last, transparent one is ignored."""
    channels = channels[..., : 1 if channels.shape[-1] < 3 else 3]
    coloured = np.mean(channels.min(axis=-1) != channels.max(axis=-1))
    if coloured > LABEL_FRACTION:
        raise InputError(f"{path} is a colour picture ({coloured:.0%} of its pixels), and a grey image is needed.")
    return channels.mean(axis=-1, dtype=np.float64)


@contextmanager
def _complaints(logger: str) -> Iterator[list[str]]:
    """What a library logs instead of raising, collected and kept off the screen."""
    messages: list[str] = []

    def collect(record: logging.LogRecord) -> bool:
        messages.append(record.getMessage())
        return False

    logging.getLogger(logger).addFilter(collect)
    try:
        yield messages
    finally:
        logging.getLogger(logger).removeFilter(collect)


def _read_tiff(path: Path) -> Dataset:
    """Pixels by tifffile, calibration by RosettaSciIO, which knows the private tags of many cameras."""
    with _complaints("tifffile") as complaints:
        with tifffile.TiffFile(path) as file:
            pages = [(number, s) for number, s in enumerate(file.series) if not s.keyframe.is_reduced]  # no thumbnails
            datasets: list[Dataset] = [(series.asarray(), []) for _, series in pages]
        # tifffile reads the images before the cut of a shortened series, and logs that there should be more.
        for complaint in complaints:
            if "invalid page offset" in complaint or "offset to first page" in complaint or "corrupted" in complaint:
                raise ValueError(complaint)
        pixels, axes = _only(path, datasets)
        number, series = pages[0]
        if series.axes[0] == "S":
            # Colour in separate planes, which RosettaSciIO cannot read: tifffile stores three or four images so when
            # it is told nothing of colour. A grey picture of this rare kind has equal planes, a series never has.
            return (pixels[0] if (pixels == pixels[0]).all() else pixels), axes
        dataset = rsciio_tiff.file_reader(str(path))[number]
    axes = dataset["axes"][-2:]
    # RosettaSciIO takes the scale of ImageJ files, but of their units the micron only.
    description = str(dataset["original_metadata"].get("ImageDescription", ""))
    if description.startswith("ImageJ=") and not any(axis["units"] for axis in axes):
        unit = dict(line.partition("=")[::2] for line in description.splitlines()).get("unit", "")
        unit = unit.encode("ascii", "backslashreplace").decode("unicode_escape")  # ImageJ writes µ as \u00B5
        axes = [{**axis, "units": unit} for axis in axes]
    return (_grey(path, pixels) if series.axes[-1] == "S" else pixels), axes


def _read_digital_micrograph(path: Path) -> Dataset:
    datasets = digitalmicrograph.file_reader(str(path))
    pixels, axes = _only(path, [(dataset["data"], dataset["axes"][-2:]) for dataset in datasets])
    if pixels.dtype.names:
        pixels = _grey(path, np.stack([pixels[channel] for channel in "RGB"], axis=-1))
    return pixels, axes


def _read_png(path: Path) -> Dataset:
    # Not by RosettaSciIO, which takes a picture for grey when only its green and blue are equal.
    pixels = imageio.imread(path, plugin="pillow")
    return (_grey(path, pixels) if pixels.ndim == 3 else pixels), []


def _read_npy(path: Path) -> Dataset:
    with path.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False), []


#: Name and reader of each format by its suffix.
FORMATS: dict[str, tuple[str, Callable[[Path], Dataset]]] = {
    ".tif": ("TIFF", _read_tiff),
    ".tiff": ("TIFF", _read_tiff),
    ".png": ("PNG", _read_png),
    ".npy": ("NPY", _read_npy),
    ".dm3": ("DM3", _read_digital_micrograph),
    ".dm4": ("DM4", _read_digital_micrograph),
}

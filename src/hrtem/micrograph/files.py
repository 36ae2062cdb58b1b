"""File formats by suffix, and functions that open and read image files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from hrtem.errors import InputError
from hrtem.micrograph import arrays, hdf5, microscopes, pictures
from hrtem.micrograph.image import Micrograph, check_shape
from hrtem.micrograph.stack import Item, Stack, pick_frame
from hrtem.micrograph.units import parse_sampling, pixel_size


def _digital_micrograph(path: Path, item: Item) -> Stack:
    from hrtem.micrograph.digital_micrograph import read_digital_micrograph

    return read_digital_micrograph(path, item)


def _one(reader: Callable[[Path], Stack]) -> Callable[[Path, Item], Stack]:
    """Reader of a format whose files contain one image or series."""
    return lambda path, _: reader(path)


#: Name and reader of each format by its suffix.
FORMATS: dict[str, tuple[str, Callable[[Path, Item], Stack]]] = {
    ".tif": ("TIFF", pictures.read_tiff),
    ".tiff": ("TIFF", pictures.read_tiff),
    ".png": ("PNG", _one(pictures.read_png)),
    ".npy": ("NPY", _one(arrays.read_npy)),
    ".dm3": ("DM3", _digital_micrograph),
    ".dm4": ("DM4", _digital_micrograph),
    ".mrc": ("MRC", _one(microscopes.read_mrc)),
    ".mrcs": ("MRC", _one(microscopes.read_mrc)),
    ".st": ("MRC", _one(microscopes.read_mrc)),
    ".emd": ("EMD", hdf5.read_hdf5),
    ".ser": ("SER", _one(microscopes.read_ser)),
    ".emi": ("EMI", _one(microscopes.read_emi)),
    ".npz": ("NPZ", arrays.read_npz),
    ".h5": ("HDF5", hdf5.read_hdf5),
    ".hdf5": ("HDF5", hdf5.read_hdf5),
    ".hspy": ("HDF5", hdf5.read_hdf5),
    ".zarr": ("Zarr", arrays.read_zarr),
    ".zspy": ("Zarr", arrays.read_zarr),
}
#: Suffixes of formats that may be folders.
FOLDERS = (".zarr", ".zspy")


def open_file(path: Path, item: Item = None, frame: int | None = None) -> Stack:
    """Open a file without reading its pixels, and check that it contains real-valued images of a valid size.

    Args:
        path: the file.
        item: name or number of the image or series in a file with several.
        frame: number of the only image to use of a stack, from 0.

    Raises:
        InputError: the file is missing, damaged or of another kind, or contains no image or series.
    """
    name, reader = _format(path)
    problem = None
    try:
        stack = reader(path, item)
    except InputError:
        raise
    except Exception as error:  # each reader raises different errors for damaged files
        problem = _first(error)
    if problem is not None:
        raise InputError(f"{path} cannot be read as {name}; it is damaged, cut short or of another kind ({problem}).")
    check_shape(str(path), stack.shape, stack.dtype)
    return stack if frame is None else pick_frame(path, stack, frame)


def read_frame(path: Path, stack: Stack, number: int) -> np.ndarray:
    """Read one image ``(Y, X)`` of an opened file.

    Raises:
        InputError: the pixels are damaged or truncated.
    """
    problem = None
    try:
        image = stack.frame(number)
        if image.shape == stack.shape[-2:]:
            return image
        problem = f"its image {number + 1} has the shape {image.shape}"
    except InputError:
        raise
    except Exception as error:
        problem = _first(error)
    raise InputError(
        f"{path} cannot be read as {_format(path)[0]}; it is damaged, cut short or of another kind ({problem})."
    )


def read(path: str | Path, sampling: float | None = None, item: Item = None, frame: int | None = None) -> Micrograph:
    """Read an image or a focal series from a file of any known format.

    Args:
        path: the file; the suffix determines the format.
        sampling: pixel size in Å/px, 0.01 to 5; overrides the calibration of the file.
        item, frame: see :func:`open_file`.

    Raises:
        InputError: the file is missing, damaged or of another kind, its pixels are not square, or
            ``Micrograph`` refuses the images.
    """
    if sampling is not None:
        sampling = parse_sampling(sampling)
    path = Path(path)
    stack = open_file(path, item, frame)
    try:
        images = read_floats(path, stack)
        if sampling is None:
            sampling = pixel_size(path, stack.axes)
    finally:
        stack.close()
    return Micrograph(images, sampling, name=path.stem, source=path, acquisition=stack.acquisition)


def read_floats(path: Path, stack: Stack) -> np.ndarray:
    """Read all images of an opened file, ``(F, Y, X)`` float32."""
    number, *sides = check_shape(str(path), stack.shape, stack.dtype)
    images = np.empty((number, *sides), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # Micrograph counts values that are not finite
        for place in range(number):
            images[place] = read_frame(path, stack, place)
    return images


def _format(path: Path) -> tuple[str, Callable[[Path, Item], Stack]]:
    """Name and reader of a file's format; refuses paths that cannot be read."""
    problem, suffix = None, path.suffix.lower()
    try:
        if path.is_dir() and suffix not in FOLDERS:
            problem = "is a folder, and a file is needed"
        elif not path.exists():
            problem = "does not exist"
        elif suffix not in FORMATS:
            problem = f"has the unknown suffix {path.suffix!r}; known are {', '.join(FORMATS)}"
        elif not path.is_file() and not path.is_dir():
            problem = "is not a regular file"
        elif path.is_file() and path.stat().st_size == 0:
            problem = "is empty (0 bytes)"
        elif path.is_file():
            path.open("rb").close()
    except OSError as error:
        problem = f"cannot be opened ({error.strerror})"
    if problem is not None:
        raise InputError(f"{path} {problem}.")
    return FORMATS[suffix]


def _first(error: Exception) -> str:
    """First line of an error message."""
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0].rstrip(".")

"""File formats by suffix, and functions that open and read image files."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from hrtem.errors import InputError
from hrtem.micrograph import arrays, hdf5, microscopes, pictures
from hrtem.micrograph.image import Micrograph, check_shape
from hrtem.micrograph.stack import Item, Stack, pick_frame, printable
from hrtem.micrograph.units import parse_sampling, pixel_size, refuse_spectra_and_diffraction


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
#: First bytes of files, and the formats that begin so.
BEGINNINGS: dict[bytes, tuple[str, ...]] = {
    b"II*\0": ("TIFF",),
    b"MM\0*": ("TIFF",),
    b"II+\0": ("TIFF",),
    b"MM\0+": ("TIFF",),
    b"\x89PNG\r\n": ("PNG",),
    b"\x89HDF\r\n": ("HDF5", "EMD"),
    b"\x93NUMPY": ("NPY",),
    b"PK\3\4": ("ZIP", "NPZ", "Zarr"),
    b"\0\0\0\3\0\0": ("DM3",),
    b"\0\0\0\4\0\0": ("DM4",),
    b"II\x97\1": ("SER",),
    b"\xff\xd8\xff": ("JPEG",),
    b"GIF8": ("GIF",),
    b"\x1f\x8b": ("GZIP",),
    b"BZh": ("BZIP2",),
    b"%PDF": ("PDF",),
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
    _, reader = _format(path)
    problem, state = None, _state(path)
    try:
        stack = reader(path, item)
    except InputError:
        raise
    except PermissionError:
        problem = f"{path} cannot be opened (Permission denied)."
    except Exception as error:  # each reader raises different errors for damaged files
        problem = _damage(path, error)
    if problem is not None:
        raise InputError(problem)
    try:
        check_shape(str(path), stack.shape, stack.dtype)
        refuse_spectra_and_diffraction(path, stack.axes)
        chosen = stack if frame is None else pick_frame(path, stack, frame)
    except InputError:
        stack.close()
        raise
    return replace(chosen, state=state)


def read_frame(path: Path, stack: Stack, number: int) -> np.ndarray:
    """Read one image ``(Y, X)`` of an opened file.

    Raises:
        InputError: the pixels are damaged or truncated, or the file changed since it was opened.
    """
    try:
        image = stack.frame(number)
        if image.shape != stack.shape[-2:]:
            raise ValueError(f"its image {number + 1} has the shape {image.shape}")
        problem = None
    except InputError:
        raise
    except Exception as error:
        problem = _damage(path, error)
    if stack.state is not None and stack.state != _state(path):
        problem = f"{path} changed while it was read; try again when it is complete."
    if problem is not None:
        raise InputError(problem)
    return image


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
    try:
        images = np.empty((number, *sides), dtype=np.float32)
    except MemoryError as error:
        size = 4 * math.prod((number, *sides)) / 2**30
        raise InputError(f"{path} needs {size:.0f} GiB of memory, more than there is.") from error
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


def _state(path: Path) -> tuple[int, int] | None:
    """Size (bytes) and modification time (ns) of a file; None for a folder or a file that has gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return None if path.is_dir() else (found.st_size, found.st_mtime_ns)


def _damage(path: Path, error: Exception) -> str:
    """Say why a file cannot be read: because it is of another format than its suffix says, or by the error."""
    wanted = _format(path)[0]
    actual = _recognise(path)
    if actual is not None and wanted not in actual:
        return f"{path} is a {actual[0]} file, and its suffix says {wanted}."
    if isinstance(error, MemoryError):
        problem = "it asks for more memory than there is"
    else:
        lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
        problem = printable((lines or [type(error).__name__])[0].rstrip("."))
    return f"{path} cannot be read as {wanted}; it is damaged, cut short or of another kind ({problem})."


def _recognise(path: Path) -> tuple[str, ...] | None:
    """Formats whose files begin like this one; None for an unknown beginning."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError:  # a folder, or a file that has gone
        return None
    return next((formats for start, formats in BEGINNINGS.items() if head.startswith(start)), None)

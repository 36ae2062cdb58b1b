"""Readers of the array formats NPY, NPZ and Zarr."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from hrtem.errors import InputError
from hrtem.micrograph.image import Acquisition
from hrtem.micrograph.stack import Item, Stack, choose_item, fits, is_image, printable, stack_array, stack_file, within
from hrtem.micrograph.units import Axis

#: Longest header of an array in an NPZ file, bytes.
HEADER = 10_000


def read_npy(path: Path) -> Stack:
    """Find the images in an NPY file; an array of Python objects is refused and never unpickled."""
    with path.open("rb") as file:
        shape, columns_first, dtype = _header(file)
        offset = file.tell()
    within(path, shape, dtype.itemsize * 8)
    if columns_first:
        return stack_array(np.load(path, allow_pickle=False))
    return stack_file(path, dtype, offset, shape)


def read_npz(path: Path, item: Item = None) -> Stack:
    """Read an image or series in an NPZ archive; small arrays may be ``sampling`` (Å/px) and other metadata."""
    images, numbers = {}, {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            with archive.open(info) as member:
                shape, _, dtype = _header(member)
            name, declared = info.filename.removesuffix(".npy"), math.prod(shape) * dtype.itemsize
            if declared > info.file_size:
                raise ValueError(f"{printable(name)} declares {declared:,} bytes, and holds {info.file_size:,}")
            if is_image(shape):
                images[name] = (shape, dtype)
            elif math.prod(shape) <= 64 and dtype.kind in "iuf":
                numbers[name] = np.load(path, allow_pickle=False)[name]
    name = list(images)[choose_item(path, [shape for shape, _ in images.values()], list(images), item)]
    shape, dtype = images[name]
    within(path, shape, dtype.itemsize * 8, packed=True)
    with np.load(path, allow_pickle=False) as archive:
        pixels = archive[name]
    return stack_array(pixels, *noted(numbers))


def read_zarr(path: Path, item: Item = None) -> Stack:
    """Read an image or series in a Zarr store, a folder or a zip file; a pyramid gives its finest level.

    The pixel size comes from the scale of an OME-Zarr store, the axes of a HyperSpy store, or attributes with the
    names used in NPZ files.

    Raises:
        InputError: the store has links to other files.
    """
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            fits(path, sum(info.file_size for info in archive.infolist()), packed=True)
        store: Any = zarr.storage.ZipStore(path, mode="r")
    else:
        for part in path.rglob("*"):
            if part.is_symlink() or not (part.is_file() or part.is_dir()):
                raise InputError(
                    f"{path} has {printable(str(part.relative_to(path)))}, which is a link or no regular file."
                )
        store = zarr.storage.LocalStore(path, read_only=True)
    root = zarr.open(store, mode="r")
    attributes: dict[str, Any] = dict(root.attrs)
    if isinstance(root, zarr.Array):
        arrays = {"": root}
    else:
        arrays = {name: array for name, array in _arrays(root) if is_image(array.shape)}
        pyramid: Any = attributes.get("multiscales") or attributes.get("ome", {}).get("multiscales")
        if pyramid:
            finest = pyramid[0]["datasets"][0]
            arrays = {name: array for name, array in arrays.items() if name == finest["path"]}
    name = list(arrays)[choose_item(path, [array.shape for array in arrays.values()], list(arrays), item)]
    array = arrays[name]
    within(path, array.shape, array.dtype.itemsize * 8, packed=True)
    within(path, array.chunks, array.dtype.itemsize * 8, packed=True)
    if array.nchunks_initialized < array.nchunks:
        raise ValueError(f"{array.nchunks - array.nchunks_initialized} of its {array.nchunks} chunks are missing")
    axes, acquisition = noted({**attributes, **dict(array.attrs)})
    if not isinstance(root, zarr.Array):
        if pyramid:
            scale = next(t["scale"] for t in finest["coordinateTransformations"] if t["type"] == "scale")
            axes = [Axis(float(s), a.get("unit")) for s, a in zip(scale, pyramid[0]["axes"], strict=True)]
        elif name.endswith("/data") and f"{name.rpartition('/')[0]}/axis-0" in root:
            folder = name.rpartition("/")[0]
            places: list[dict[str, Any]] = [dict(root[f"{folder}/axis-{n}"].attrs) for n in range(array.ndim)]
            axes = [Axis(float(place["scale"]), str(place.get("units", ""))) for place in places]
    return stack_array(array, axes, acquisition)


def _arrays(group: zarr.Group, prefix: str = "", depth: int = 8) -> list[tuple[str, zarr.Array]]:
    """All arrays in a group and its subgroups, with their paths."""
    found = [(f"{prefix}{name}", array) for name, array in group.arrays()]
    if depth:
        for name, inner in group.groups():
            found += _arrays(inner, f"{prefix}{name}/", depth - 1)
    return sorted(found, key=lambda item: item[0])


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, order (whether columns come first) and data type of an NPY array where a file stands."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, columns_first, dtype = read(file, max_header_size=HEADER)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded")
    return shape, columns_first, dtype


def noted(numbers: Mapping[str, Any]) -> tuple[list[Axis], Acquisition]:
    """Calibration of both axes and acquisition parameters from metadata stored with an image.

    Known names are ``sampling`` in Å/px or ``pixel_size`` with ``units``, ``defocus`` in Å (one number per image),
    ``dose`` in e/Å² and ``energy`` in eV.
    """

    def number(name: str) -> float | None:
        value = numbers.get(name)
        return None if value is None else float(np.asarray(value, dtype=np.float64).reshape(()))

    axes: list[Axis] = []
    if numbers.get("sampling") is not None:
        axes = [Axis(scale, "Å") for scale in np.broadcast_to(np.asarray(numbers["sampling"], float).ravel(), 2)]
    elif numbers.get("pixel_size") is not None:
        unit = numbers.get("units", numbers.get("unit", ""))
        unit = unit.decode("utf-8", "surrogateescape") if isinstance(unit, bytes) else str(unit)
        axes = [Axis(scale, unit) for scale in np.broadcast_to(np.asarray(numbers["pixel_size"], float).ravel(), 2)]
    defocus = numbers.get("defocus")
    if defocus is not None:
        defocus = tuple(float(value) for value in np.asarray(defocus, dtype=np.float64).ravel())
    return [Axis(float(axis.scale), axis.unit) for axis in axes], Acquisition(defocus, number("dose"), number("energy"))

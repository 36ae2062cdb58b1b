"""Readers of HDF5 files: Velox and Berkeley EMD, HyperSpy, and plain files with one image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hrtem.errors import InputError
from hrtem.micrograph.arrays import noted
from hrtem.micrograph.image import Acquisition
from hrtem.micrograph.stack import Item, Stack, choose_item, is_image, printable, stack_array, within
from hrtem.micrograph.units import Axis


def read_hdf5(path: Path, item: Item = None) -> Stack:
    """Read an image or series in an HDF5 file of any known program."""
    file = h5py.File(path, "r", locking=False)
    try:
        stack = _velox(path, file, item) if _is_velox(file) else _plain(path, file, item)
    except BaseException:
        file.close()
        raise
    return Stack(stack.shape, stack.dtype, stack.frame, stack.axes, stack.acquisition, file.close)


def _is_velox(file: h5py.File) -> bool:
    return isinstance(_own(file, "Version"), h5py.Dataset) and isinstance(_own(file, "Data/Image"), h5py.Group)


def _own(group: h5py.Group, name: str) -> Any:
    """An item that is stored in the file itself; None if it is missing or a link, which may lead to another file."""
    for part in name.split("/"):
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            return None
        group = group[part]
    return group


def _velox(path: Path, file: h5py.File, item: Item) -> Stack:
    """Read an image or a stack ``(Y, X, N)`` of Velox, with JSON metadata in one column of bytes per frame."""
    group = _own(file, "Data/Image")
    images = {name: _dataset(one, "Data") for name in group if isinstance(one := _own(group, name), h5py.Group)}
    # A Fourier transform beside the image is complex.
    images = {name: data for name, data in images.items() if data.dtype.kind in "buif"} or images
    titles = [_detector(group[name]) for name in images]
    shapes = [(data.shape[-1], *data.shape[:2]) if data.ndim == 3 else data.shape for data in images.values()]
    name = list(images)[choose_item(path, shapes, titles, item)]
    data = images[name]
    if data.ndim != 3:
        raise ValueError(f"its image has the shape {data.shape}, and Velox writes (Y, X, frames)")
    _held(path, data)
    text = _dataset(group[name], "Metadata")
    within(path, text.shape, 8, packed=True)
    columns = range(min(data.shape[2], text.shape[1], 64))
    notes = [json.loads(np.asarray(text[:, n]).tobytes().rstrip(b"\0").decode()) for n in columns]
    pixel, unit = notes[0]["BinaryResult"].get("PixelSize"), notes[0]["BinaryResult"].get("PixelUnitX")
    axes = [Axis(float(pixel[side]), unit) for side in ("height", "width")] if pixel else []
    optics = [one.get("Optics", {}) for one in notes]
    # Thermo Fisher writes the defocus in m, with negative underfocus.
    defocus = [value for one in optics if (value := _number(one, "Defocus", -1e10)) is not None]
    known = len(defocus) == data.shape[2]
    acquisition = Acquisition(tuple(defocus) if known else None, energy=_number(optics[0], "AccelerationVoltage", 1.0))
    shape = (data.shape[2], *data.shape[:2])
    return Stack(shape, data.dtype, lambda n: np.asarray(data[:, :, n]), axes, acquisition)


def _detector(group: h5py.Group) -> str:
    """Name of the detector of a Velox image, such as HAADF; empty if the metadata do not contain it."""
    try:
        notes = json.loads(np.asarray(group["Metadata"][:, 0]).tobytes().rstrip(b"\0").decode())
        return str(notes["BinaryResult"]["Detector"])
    except (KeyError, TypeError, ValueError):
        return ""


def _plain(path: Path, file: h5py.File, item: Item) -> Stack:
    """Read an image or series of any HDF5 file, calibrated by attributes and neighbouring datasets."""
    found: dict[str, h5py.Dataset] = {}
    links: list[str] = []

    def note(name: str, link: Any) -> None:
        if not isinstance(link, h5py.HardLink):
            links.append(printable(f"{name} -> {getattr(link, 'filename', '')}{link.path}"))

    def collect(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "buifc":
            return
        shape = item.shape or ()
        if is_image(shape) or ("dim1" in item.parent and is_image(shape[::-1])):  # Berkeley's may be (X, Y, ...)
            found[name] = item

    file.visititems(collect)
    file.visititems_links(note)
    if links and not found:
        raise InputError(f"{path} holds a link ({links[0]}) in place of an image, and links are not followed.")
    data = list(found.values())[choose_item(path, [data.shape for data in found.values()], list(found), item)]
    _held(path, data)
    group = data.parent
    axes, acquisition = noted({**_attributes(file), **_attributes(group), **_attributes(data)})
    first = 0 if _own(group, "dim0") else 1
    if _own(group, f"dim{first}"):  # Berkeley
        return _berkeley(path, data, [_dataset(group, f"dim{first + n}") for n in range(data.ndim)], acquisition)
    if _own(group, "axis-0"):  # HyperSpy
        places = [_own(group, f"axis-{n}").attrs for n in range(data.ndim)]
        axes = [Axis(float(place["scale"]), _text(place.get("units"))) for place in places]
        energy = _own(group, "metadata/Acquisition_instrument/TEM")
        if energy is not None:
            acquisition = Acquisition(energy=_number(energy.attrs, "beam_energy", 1e3))  # kV
    return stack_array(data, axes, acquisition)


def _berkeley(path: Path, data: h5py.Dataset, dims: Sequence[h5py.Dataset], acquisition: Acquisition) -> Stack:
    """Read an image with a vector of coordinates for each axis.

    The order of the axes depends on the program and follows from their names; axes without names are
    ``(X, Y, ...)``, the order of RosettaSciIO and HyperSpy.
    """
    names = [_text(dim.attrs.get("name")).casefold() for dim in dims]
    for dim in dims:
        within(path, dim.shape, dim.dtype.itemsize * 8, packed=True)
    axes = [
        Axis(abs(float(dim[1]) - float(dim[0])) if dim.shape[0] > 1 else 1.0, _text(dim.attrs.get("units")).strip("[]"))
        for dim in dims
    ]
    if names[-1] == "x":
        return stack_array(data, axes, acquisition)
    shape = data.shape[::-1]

    def frame(number: int) -> np.ndarray:
        place = tuple(int(index) for index in np.unravel_index(number, shape[:-2])) if len(shape) > 2 else ()
        return np.asarray(data[(slice(None), slice(None), *place[::-1])]).T

    return Stack(shape, data.dtype, frame, axes[::-1], acquisition)


def _held(path: Path, data: h5py.Dataset) -> None:
    """Refuse a dataset that declares more pixels than were written, or that was not written into this file.

    Raises:
        InputError: the pixels are in other files, or compressed with a filter that is not installed.
    """
    _refuse_outside(data)
    plan = data.id.get_create_plist()
    filters = [plan.get_filter(n) for n in range(plan.get_nfilters())]
    for code, *_, name in filters:
        if not h5py.h5z.filter_avail(code):
            raise InputError(
                f"{path} is compressed with the HDF5 filter {code} ({_text(name) or 'without a name'}), which is not "
                "installed; store it with gzip or uncompressed."
            )
    packed = bool(filters)
    within(path, data.shape, data.dtype.itemsize * 8, packed)
    stored = data.id.get_storage_size()
    if not packed and stored < data.size * data.dtype.itemsize:
        raise ValueError(f"{stored:,} of its {data.size * data.dtype.itemsize:,} bytes of pixels were written")
    if packed and data.chunks is not None:
        within(path, data.chunks, data.dtype.itemsize * 8, packed)
        whole = int(np.prod([-(-length // chunk) for length, chunk in zip(data.shape, data.chunks, strict=True)]))
        if data.id.get_num_chunks() < whole:
            raise ValueError(f"{whole - data.id.get_num_chunks()} of its {whole} chunks are missing")


def _dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    data = _own(group, name)
    if not isinstance(data, h5py.Dataset) or data.shape is None:
        raise ValueError(f"{group.name} has no {name}")
    _refuse_outside(data)
    return data


def _refuse_outside(data: h5py.Dataset) -> None:
    if data.external or data.is_virtual:
        raise InputError(f"{data.file.filename} keeps {printable(data.name)} in other files, which are not read.")


def _attributes(item: Any) -> dict[str, Any]:
    known = ("sampling", "pixel_size", "units", "unit", "defocus", "dose", "energy")
    return {name: item.attrs[name] for name in known if name in item.attrs}


def _number(notes: Mapping[str, Any], name: str, factor: float) -> float | None:
    """A number of the metadata times a factor; None if it is missing, not a number, or zero (unset)."""
    try:
        value = float(notes[name]) * factor
    except (KeyError, TypeError, ValueError):
        return None
    return value if np.isfinite(value) and value else None


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str("" if value is None else value)

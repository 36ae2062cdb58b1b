"""Files as microscopes and programs write them: each function writes images ``(F, Y, X)`` of a pixel size."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import h5py
import imageio.v3 as imageio
import mrcfile
import numpy as np
import tifffile
import zarr
from rsciio import emd, hspy


def tif(path: Path, images: np.ndarray, sampling: float) -> None:
    resolution = (10 / sampling, 10 / sampling)
    tifffile.imwrite(path, images, imagej=True, resolution=resolution, metadata={"unit": "nm", "axes": "ZYX"})


def tif_zlib(path: Path, images: np.ndarray, sampling: float) -> None:
    tifffile.imwrite(path, images, compression="zlib", photometric="minisblack", rowsperstrip=4)


def ome(path: Path, images: np.ndarray, sampling: float) -> None:
    sizes = {f"PhysicalSize{side}": sampling / 10 for side in "XY"} | {f"PhysicalSize{side}Unit": "nm" for side in "XY"}
    metadata = {"axes": "TYX", **sizes}
    tifffile.imwrite(path, images, ome=True, compression="lzw", photometric="minisblack", metadata=metadata)


def png(path: Path, images: np.ndarray, sampling: float) -> None:
    imageio.imwrite(path, images[0].astype(np.uint16))


def npy(path: Path, images: np.ndarray, sampling: float) -> None:
    np.save(path, images)


def npz(path: Path, images: np.ndarray, sampling: float) -> None:
    np.savez_compressed(path, image=images, sampling=sampling, energy=80e3)


def mrc(path: Path, images: np.ndarray, sampling: float) -> None:
    mrcfile.write(path, images.astype(np.float32), voxel_size=sampling)


def digital_micrograph(
    path: Path, images: np.ndarray, sampling: float, unit: str = "nm", scale: float = 0.1, more: Sequence = ()
) -> None:
    """A DM3 or DM4 file, by its suffix, with a thumbnail as DigitalMicrograph writes one, and ``more`` arrays."""
    long = path.suffix.lower() == ".dm4"
    word = ">q" if long else ">i"

    def integers(*values: int) -> bytes:
        return b"".join(struct.pack(word, value) for value in values)

    def head(kind: int, name: str, body: bytes) -> bytes:
        start = struct.pack(">BH", kind, len(name)) + name.encode()
        return start + (struct.pack(">Q", len(body)) if long else b"") + body

    def group(name: str, *tags: bytes) -> bytes:
        return head(20, name, b"\1\0" + integers(len(tags)) + b"".join(tags))

    def number(name: str, value: float, kind: int = 7) -> bytes:
        pack = {3: "<i", 5: "<I", 6: "<f", 7: "<d"}[kind]
        return head(21, name, b"%%%%" + integers(1, kind) + struct.pack(pack, value))

    def text(name: str, value: str) -> bytes:
        return head(21, name, b"%%%%" + integers(3, 20, 4, len(value)) + value.encode("utf-16-le"))

    def image(pixels: np.ndarray, *tags: bytes, name: str = "image") -> bytes:
        data = np.ascontiguousarray(pixels, dtype="<f4")
        sides = data.shape[::-1]
        dimensions = [
            group("", number("Origin", 0.0, 6), number("Scale", sampling * scale if n < 2 else 1.0, 6),
                  text("Units", unit if n < 2 else ""))
            for n in range(len(sides))
        ]  # fmt: skip
        brightness = group("Brightness", number("Origin", 0.0), number("Scale", 1.0), text("Units", ""))
        body = b"%%%%" + integers(3, 20, 6, data.size) + data.tobytes()
        return group(
            "",
            group(
                "ImageData",
                group("Calibrations", brightness, group("Dimension", *dimensions)),
                head(21, "Data", body),
                number("DataType", 2, 5),
                group("Dimensions", *[number("", side, 5) for side in sides]),
                number("PixelDepth", 4, 5),
            ),
            group("ImageTags", *tags),
            text("Name", name),
        )

    pixels = images[0] if len(images) == 1 else images
    microscope = group("Microscope Info", number("Voltage", 80e3))
    root = [
        group(
            "ImageList",
            image(images[0, ::2, ::2]),
            image(pixels, microscope),
            *[image(one, name=f"image{number}") for number, one in enumerate(more, start=1)],
        ),
        group("Thumbnails", group("", number("ImageIndex", 0, 5))),
    ]
    body = b"\1\0" + integers(len(root)) + b"".join(root) + bytes(8)
    path.write_bytes(struct.pack(">i", 4 if long else 3) + integers(len(body)) + struct.pack(">i", 1) + body)


def ser(path: Path, images: np.ndarray, sampling: float) -> None:
    number, rows, columns = images.shape
    unit = b""
    dimension = struct.pack("<IddII", number, 0.0, 1.0, 0, 6) + b"Number" + struct.pack("<I", len(unit)) + unit
    table = 30 + len(dimension)
    first = table + 8 * number
    length = 50 + 4 * rows * columns + 8
    offsets = [first + n * length for n in range(number)]
    content = struct.pack("<HHHIIIIII", 0x4949, 0x0197, 0x0210, 0x4122, 0x4152, number, number, table, 1) + dimension
    content += struct.pack(f"<{2 * number}I", *offsets, *[offset + length - 8 for offset in offsets])
    for image in images:
        scale = sampling * 1e-10
        content += struct.pack("<ddIddIHII", 0.0, scale, 0, 0.0, scale, 0, 7, columns, rows)
        content += image[::-1].astype("<f4").tobytes() + struct.pack("<HHI", 0x4152, 0, 0)
    path.write_bytes(content)


def emi(path: Path, images: np.ndarray, sampling: float) -> None:
    ser(path.with_name(f"{path.stem}_1.ser"), images, sampling)
    entry = "<Data><Label>{}</Label><Value>{}</Value><Unit>{}</Unit></Data>"
    notes = entry.format("High tension", 80, "kV") + entry.format("Defocus", -0.02, "um")
    path.write_bytes(
        b"\1JEOL\0<ObjectInfo><ExperimentalDescription><Root>" + notes.encode()
        + b"</Root></ExperimentalDescription></ObjectInfo>\0\2"
    )  # fmt: skip


def velox(
    path: Path, images: np.ndarray, sampling: float, more: Mapping[str, np.ndarray] = MappingProxyType({})
) -> None:
    """A Velox file with ``images``, and with ``more`` images by their detector."""
    notes = {
        "BinaryResult": {
            "PixelSize": {"height": f"{sampling * 1e-10}", "width": f"{sampling * 1e-10}"},
            "Offset": {"x": "0", "y": "0"}, "PixelUnitX": "m", "PixelUnitY": "m", "Detector": "BM-Ceta",
        },
        "Scan": {"FrameTime": "1"},
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1600000000"}},
        "Optics": {"AccelerationVoltage": "80000"},
    }  # fmt: skip
    described = []
    for n in range(len(images)):
        notes["Optics"]["Defocus"] = f"{-40e-10 * (n + 1)}"
        described.append(np.frombuffer(json.dumps(notes).encode().ljust(1000, b"\0"), np.uint8))
    with h5py.File(path, "w") as file:
        file["Version"] = np.array([json.dumps({"format": "Velox", "version": "1.0"}).encode()])
        image = file.create_group("Data/Image/0123456789abcdef")
        image.create_dataset("Data", data=np.moveaxis(images, 0, -1), chunks=(*images.shape[1:], 1))
        image["Metadata"] = np.stack(described, axis=-1)
        for number, (detector, pixels) in enumerate(more.items()):
            image = file.create_group(f"Data/Image/fedcba987654321{number}")
            image["Data"] = np.moveaxis(pixels, 0, -1)
            notes["BinaryResult"]["Detector"] = detector
            image["Metadata"] = np.frombuffer(json.dumps(notes).encode().ljust(1000, b"\0"), np.uint8)[:, None]


def _signal(images: np.ndarray, sampling: float) -> dict:
    pixels = images[0] if len(images) == 1 else images
    axes = [
        {"size": size, "name": name, "scale": scale, "offset": 0.0, "units": unit, "navigate": name == "z",
         "index_in_array": n, "_type": "UniformDataAxis"}
        for n, (size, name, scale, unit) in enumerate(
            list(zip(images.shape, "zyx", (1.0, sampling / 10, sampling / 10), ("", "nm", "nm"), strict=True))
            [3 - pixels.ndim:]
        )
    ]  # fmt: skip
    return {
        "data": pixels,
        "axes": axes,
        "metadata": {
            "General": {"title": "image"},
            "Signal": {"signal_type": ""},
            "Acquisition_instrument": {"TEM": {"beam_energy": 80.0}},
        },
        "original_metadata": {},
        "learning_results": {},
        "attributes": {"_lazy": False},
        "tmp_parameters": {},
        "package_info": {},
        "models": {},
        "package": "hyperspy",
        "package_version": "2.0",
    }


def berkeley(path: Path, images: np.ndarray, sampling: float) -> None:
    emd.file_writer(str(path), _signal(images, sampling))


def hyperspy(path: Path, images: np.ndarray, sampling: float) -> None:
    hspy.file_writer(str(path), _signal(images, sampling))


def hyperspy_zarr(path: Path, images: np.ndarray, sampling: float) -> None:
    # By hand: RosettaSciIO writes these with the second major version of zarr only.
    signal = zarr.open_group(path, mode="w", zarr_format=2).create_group("Experiments/image")
    pixels = images[0] if len(images) == 1 else images
    signal.create_array("data", data=pixels, chunks=(1,) * (pixels.ndim - 2) + images.shape[1:])
    for n, axis in enumerate(_signal(images, sampling)["axes"]):
        signal.create_group(f"axis-{n}").attrs.update({key: axis[key] for key in ("name", "scale", "units")})


def h5(path: Path, images: np.ndarray, sampling: float) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("entry/image", data=images, compression="gzip")
        data.attrs.update({"pixel_size": sampling / 10, "units": "nm", "energy": 80e3})
        file["entry/profile"] = np.arange(40.0)


def zarr_folder(path: Path, images: np.ndarray, sampling: float) -> None:
    array = zarr.create_array(path, data=images, chunks=(1, 16, 16))
    array.attrs.update({"sampling": sampling, "energy": 80e3})


#: Suffix and writer of each kind of file.
KINDS = {
    "tif": (".tif", tif),
    "tif_zlib": (".tif", tif_zlib),
    "ome": (".tif", ome),
    "png": (".png", png),
    "npy": (".npy", npy),
    "npz": (".npz", npz),
    "mrc": (".mrc", mrc),
    "dm3": (".dm3", digital_micrograph),
    "dm4": (".dm4", digital_micrograph),
    "ser": (".ser", ser),
    "emi": (".emi", emi),
    "velox": (".emd", velox),
    "berkeley": (".emd", berkeley),
    "hspy": (".hspy", hyperspy),
    "zspy": (".zspy", hyperspy_zarr),
    "h5": (".h5", h5),
    "zarr": (".zarr", zarr_folder),
}
#: Those that keep no calibration, and those that hold a single image.
UNCALIBRATED, SINGLE = {"tif_zlib", "png", "npy"}, {"png"}
#: Those that say the beam energy.
ENERGETIC = {"npz", "dm3", "dm4", "emi", "velox", "hspy", "h5", "zarr"}


def write(folder: Path, kind: str, images: np.ndarray, sampling: float = 0.138) -> Path:
    """A file of some kind with images ``(F, Y, X)``, one of which is written as ``(Y, X)`` where the format can."""
    suffix, writer = KINDS[kind]
    path = folder / f"image{suffix}"
    writer(path, images, sampling)
    return path

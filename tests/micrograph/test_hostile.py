"""Files that lead to other files, ask for more memory than an image needs, are of another kind or change."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path

import h5py
import imageio.v3 as imageio
import numpy as np
import pytest
import recorded
import tifffile
import zarr
from PIL import Image

from hrtem.errors import InputError
from hrtem.micrograph import files, read
from hrtem.micrograph.files import open_file, read_frame
from hrtem.micrograph.stack import within


@pytest.fixture
def images() -> np.ndarray:
    """Two images (F, Y, X) of whole numbers."""
    return np.random.default_rng([0, 1]).integers(50, 200, (2, 24, 32)).astype(np.float32)


def refusal(path: Path) -> str:
    """The one sentence that refuses a file, without its name."""
    with pytest.raises(InputError) as error:
        read(path)
    message = str(error.value)
    assert message.startswith(f"{path} ")
    assert message.endswith(".")
    assert "\n" not in message
    return message.removeprefix(f"{path} ")


def test_ome_that_names_another_file(tmp_path: Path, images: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "other.tif", images[1] * 1e30)
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1"><Image ID="Image:0"><Pixels '
        'ID="Pixels:0" DimensionOrder="XYCZT" Type="float" SizeX="32" SizeY="24" SizeC="1" SizeZ="1" SizeT="1">'
        '<TiffData IFD="0" PlaneCount="1"><UUID FileName="other.tif">urn:uuid:2</UUID></TiffData></Pixels>'
        "</Image></OME>"
    )
    tifffile.imwrite(tmp_path / "a.ome.tif", images[0], description=text, metadata=None)
    np.testing.assert_array_equal(read(tmp_path / "a.ome.tif").images, images[:1])


@pytest.mark.parametrize("kind", ["external", "soft", "storage", "virtual"])
def test_hdf5_that_leads_to_another_file(tmp_path: Path, images: np.ndarray, kind: str) -> None:
    other, path = tmp_path / "other.h5", tmp_path / "a.h5"
    other.write_bytes(images[0].tobytes())
    if kind != "storage":
        with h5py.File(other, "w") as file:
            file["image"] = images[0]
    with h5py.File(path, "w") as file:
        if kind == "external":
            file["image"] = h5py.ExternalLink(str(other), "/image")
        elif kind == "soft":
            file["image"] = h5py.SoftLink("/elsewhere")
        elif kind == "storage":
            file.create_dataset("image", (24, 32), np.float32, external=[(str(other), 0, h5py.h5f.UNLIMITED)])
        else:
            layout = h5py.VirtualLayout((24, 32), np.float32)
            layout[:] = h5py.VirtualSource(str(other), "image", (24, 32))
            file.create_virtual_dataset("image", layout)
    assert "link" in refusal(path) if kind in ("external", "soft") else "in other files" in refusal(path)


def test_names_that_break_lines(tmp_path: Path, images: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one\ntwo\x1b[2J"], file["three"] = images[0], images[1]
    assert r"0 'one\ntwo\x1b[2J' (24, 32), 1 three (24, 32)" in refusal(tmp_path / "a.h5")


def test_a_link_in_place_of_the_metadata_of_velox(tmp_path: Path, images: np.ndarray) -> None:
    path = recorded.write(tmp_path, "velox", images)
    with h5py.File(path, "r+") as file:
        group = file["Data/Image/0123456789abcdef"]
        file["moved"] = group["Data"]
        del group["Data"]
        group["Data"] = h5py.ExternalLink("other.emd", "/moved")
    assert "has no Data" in refusal(path)


@pytest.mark.parametrize("part", ["link", "pipe"])
def test_zarr_that_leads_to_another_file(tmp_path: Path, images: np.ndarray, part: str) -> None:
    path = recorded.write(tmp_path, "zarr", images)
    chunk = path / "c" / "0" / "0" / "0"
    chunk.rename(tmp_path / "other")
    os.symlink(tmp_path / "other", chunk) if part == "link" else os.mkfifo(chunk)
    assert refusal(path) == "has c/0/0/0, which is a link or no regular file."


def test_zarr_never_unpickles(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=(24, 32), dtype="f4", chunks=(24, 32), zarr_format=2)
    head = path / ".zarray"
    head.write_text(json.dumps(json.loads(head.read_text()) | {"compressor": {"id": "pickle"}}))
    (path / "0.0").write_bytes(pickle.dumps(np.zeros((24, 32), np.float32)))
    assert "cannot be read as Zarr" in refusal(path)


def test_an_archive_that_holds_less_than_it_declares(tmp_path: Path, images: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", images)
    content = (tmp_path / "a.npy").read_bytes().replace(b"(2, 24, 32)", b"(9, 99, 99)")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("image.npy", content)
    assert "image declares 352,836 bytes, and holds 6,272" in refusal(tmp_path / "a.npz")


def test_the_compression_of_large_images_is_plausible(tmp_path: Path) -> None:
    """389 kB may be a small image that compresses well, and never 430 MB of pixels."""
    path = tmp_path / "a.npz"
    path.write_bytes(bytes(389_000))
    within(path, (10_000, 10_000), 16, packed=True)
    with pytest.raises(ValueError, match=r"declares 400,000,000 bytes of pixels, and it holds 389,000 bytes"):
        within(path, (20_000, 10_000), 16, packed=True)


def test_a_store_in_a_zip_file_that_grows_too_much(tmp_path: Path, images: np.ndarray) -> None:
    path = tmp_path / "a.zarr"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zarr.json", b"{}" + bytes(10))
        with archive.open("c/0/0", "w") as chunk:
            chunk.write(bytes(1000))
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\1\2", content.index(b"PK\1\2") + 1)
    content[place + 24 : place + 28] = (2**31).to_bytes(4, "little")
    path.write_bytes(content)
    assert "its header declares 2,147,483,660 bytes" in refusal(path)


def test_moving_and_enormous_pictures(tmp_path: Path, images: np.ndarray) -> None:
    frames = [Image.fromarray(image.astype(np.uint8)) for image in images]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    assert refusal(tmp_path / "a.png") == "is a moving picture of 2 frames, and a PNG must hold one."
    imageio.imwrite(tmp_path / "b.png", images[0].astype(np.uint8))
    content = (tmp_path / "b.png").read_bytes() + bytes(10**6)
    sides = np.array([32, 24], ">u4").tobytes()
    (tmp_path / "b.png").write_bytes(content.replace(sides, np.array([20_000, 10_000], ">u4").tobytes()))
    assert refusal(tmp_path / "b.png") == "has 200,000,000 px, and a PNG may have 178,956,970; store it as TIFF."


@pytest.mark.parametrize(
    ("kind", "suffix", "found", "wanted"),
    [("tif", ".mrc", "TIFF", "MRC"), ("velox", ".tif", "HDF5", "TIFF"), ("png", ".npy", "PNG", "NPY"),
     ("ser", ".dm3", "SER", "DM3"), ("npz", ".h5", "ZIP", "HDF5"), ("npy", ".npz", "NPY", "NPZ")],
)  # fmt: skip
def test_wrong_suffixes(tmp_path: Path, images: np.ndarray, kind: str, suffix: str, found: str, wanted: str) -> None:
    path = recorded.write(tmp_path, kind, images).rename(tmp_path / f"wrong{suffix}")
    assert refusal(path) == f"is a {found} file, and its suffix says {wanted}."


def test_a_jpeg_named_png_is_not_read_silently(tmp_path: Path, images: np.ndarray) -> None:
    Image.fromarray(images[0].astype(np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").rename(tmp_path / "a.png")
    assert refusal(tmp_path / "a.png") == "is a JPEG file, and its suffix says PNG."


def test_what_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "a.tif")
    assert refusal(tmp_path / "a.tif") == "is not a regular file."
    (tmp_path / "b.npy").mkdir()
    assert refusal(tmp_path / "b.npy") == "is a folder, and a file is needed."
    (tmp_path / "c.mrc").touch()
    assert refusal(tmp_path / "c.mrc") == "is empty (0 bytes)."

    def forbidden(path: Path, item: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "d.npy").write_bytes(b"x")
    monkeypatch.setitem(files.FORMATS, ".npy", ("NPY", forbidden))
    assert refusal(tmp_path / "d.npy") == "cannot be opened (Permission denied)."


@pytest.mark.parametrize("kind", ["tif", "tif_zlib", "npy", "mrc", "dm3", "ser", "velox"])
@pytest.mark.parametrize("change", ["longer", "shorter"])
def test_files_that_change_while_they_are_read(tmp_path: Path, images: np.ndarray, kind: str, change: str) -> None:
    path = recorded.write(tmp_path, kind, images)
    stack = open_file(path)
    read_frame(path, stack, 0)
    if change == "longer":
        with path.open("ab") as file:
            file.write(bytes(100))
    else:
        os.truncate(path, 100)
    with pytest.raises(InputError, match="changed while it was read; try again when it is complete"):
        read_frame(path, stack, 1)
    stack.close()

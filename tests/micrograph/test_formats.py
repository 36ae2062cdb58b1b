"""Every format: what is read of it, against what was written and what RosettaSciIO reads."""

from __future__ import annotations

from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest
import recorded
import rsciio.digitalmicrograph
import rsciio.emd
import rsciio.hspy
import rsciio.tia
import tifffile
import zarr

from hrtem.errors import InputError
from hrtem.micrograph import FORMATS, read
from hrtem.micrograph.files import open_file


@pytest.fixture
def images() -> np.ndarray:
    """Three images (F, Y, X), not square, so that swapped axes show; whole numbers, which every format keeps."""
    return np.random.default_rng([0, 1]).integers(50, 200, (3, 24, 32)).astype(np.float32)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("kind", recorded.KINDS)
def test_pixels_and_calibration(tmp_path: Path, images: np.ndarray, kind: str, number: int) -> None:
    if kind in recorded.SINGLE and number > 1:
        pytest.skip("holds a single image")
    path = recorded.write(tmp_path, kind, images[:number])
    micrograph = read(path)
    np.testing.assert_array_equal(micrograph.images, images[:number])
    wanted = None if kind in recorded.UNCALIBRATED else pytest.approx(0.138, rel=1e-5)
    assert micrograph.sampling == wanted
    assert micrograph.acquisition.energy == (80e3 if kind in recorded.ENERGETIC else None)


@pytest.mark.parametrize("kind", recorded.KINDS)
def test_one_image_is_read_at_a_time(tmp_path: Path, images: np.ndarray, kind: str) -> None:
    path = recorded.write(tmp_path, kind, images)
    stack = open_file(path)
    last = 0 if kind in recorded.SINGLE else 2
    np.testing.assert_array_equal(stack.frame(last), images[last])
    stack.close()


@pytest.mark.parametrize("kind", ["dm3", "dm4", "ser", "velox", "berkeley"])
def test_rosettasciio_agrees(tmp_path: Path, images: np.ndarray, kind: str) -> None:
    """Our readers of headers against an independent one, which would also refuse a wrong fixture."""
    path = recorded.write(tmp_path, kind, images)
    module = {"dm3": rsciio.digitalmicrograph, "dm4": rsciio.digitalmicrograph, "ser": rsciio.tia}.get(kind, rsciio.emd)
    (signal,) = module.file_reader(str(path))
    np.testing.assert_array_equal(read(path).images, signal["data"])
    axis = signal["axes"][-1]
    assert read(path).sampling == pytest.approx({"nm": 10.0, "pm": 0.01}[axis["units"]] * axis["scale"], rel=1e-5)


@pytest.mark.parametrize("dtype", [">f4", "<i2", ">i2", "i1", "<u2", ">u2", "<f2"])
def test_mrc_types(tmp_path: Path, images: np.ndarray, dtype: str) -> None:
    pixels = (images - 100).clip(0 if "u" in dtype else -128, 100).astype(dtype)
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(pixels)
        file.voxel_size = 0.2
    np.testing.assert_array_equal(read(tmp_path / "a.mrc").images, pixels.astype(np.float32))
    assert read(tmp_path / "a.mrc").sampling == pytest.approx(0.2)


def rewritten(path: Path, *changes: tuple[int, bytes]) -> None:
    """Overwrite bytes of a file from some places onwards."""
    content = bytearray(path.read_bytes())
    for place, new in changes:
        content[place : place + len(new)] = new
    path.write_bytes(content)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("changes", [[(208, bytes(8))], [(208, bytes(4))], [(212, bytes(4))], [(212, b"\x11\x11")]])
def test_mrc_with_an_old_or_a_wrong_stamp(tmp_path: Path, images: np.ndarray, order: str, changes: list) -> None:
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as file:
        file.set_data(images.astype(order + "f4"))
        file.voxel_size = 0.2
    rewritten(path, *changes)
    np.testing.assert_array_equal(read(path).images, images)
    assert read(path).sampling == pytest.approx(0.2)


def test_unsigned_bytes_of_old_mrc(tmp_path: Path, images: np.ndarray) -> None:
    path = tmp_path / "a.mrc"
    mrcfile.write(path, images.astype(np.uint8).view(np.int8), voxel_size=0.2)
    rewritten(path, (76, np.array([50, 199], "<f4").tobytes()), (208, bytes(8)))
    np.testing.assert_array_equal(read(path).images, images)


@pytest.mark.parametrize("columns", [32, 31])
def test_packed_mrc(tmp_path: Path, images: np.ndarray, columns: int) -> None:
    """Two pixels in a byte, the first in the lower half; a row ends with a whole byte."""
    pixels = images.astype(np.uint8)[..., :columns] % 16
    path = tmp_path / "a.mrc"
    mrcfile.write(path, images, voxel_size=0.2)
    even = np.pad(pixels, ((0, 0), (0, 0), (0, columns % 2)))
    packed = (even[..., 0::2] | even[..., 1::2] << 4).tobytes()
    head = path.read_bytes()[:1024]
    path.write_bytes(head + packed)
    rewritten(path, (0, np.array([columns, 24, 3, 101], "<i4").tobytes()))
    np.testing.assert_array_equal(read(path).images, pixels)


def test_other_modes_of_mrc(tmp_path: Path, images: np.ndarray) -> None:
    path = tmp_path / "a.mrc"
    mrcfile.write(path, images, voxel_size=0.2)
    head = path.read_bytes()[:1024]
    for mode, pixels in ((7, images.astype("<i4")), (16, np.stack([images] * 3, axis=-1).astype(np.uint8))):
        path.write_bytes(head + pixels.tobytes())
        rewritten(path, (12, bytes([mode])))
        np.testing.assert_array_equal(read(path).images, images)
    for mode, problem in ((3, "holds complex numbers"), (99, "has pixels of the MRC mode 99; known are 0, 1, 2, 6")):
        rewritten(path, (12, bytes([mode])))
        with pytest.raises(InputError, match=rf"a\.mrc {problem}"):
            read(path)


def test_unsigned_bytes_of_imod(tmp_path: Path, images: np.ndarray) -> None:
    path = tmp_path / "a.mrc"
    mrcfile.write(path, images.astype(np.uint8).view(np.int8), voxel_size=0.2)
    content = bytearray(path.read_bytes())
    content[152:160] = np.array([1146047817, 0], "<i4").tobytes()
    path.write_bytes(content)
    np.testing.assert_array_equal(read(path).images, images)


@pytest.mark.parametrize("voxel", [0.0, 1.0])
def test_a_cell_that_was_not_set_is_no_calibration(tmp_path: Path, images: np.ndarray, voxel: float) -> None:
    mrcfile.write(tmp_path / "a.mrc", images, voxel_size=voxel)
    assert read(tmp_path / "a.mrc").sampling is None


def test_defocus_dose_and_energy_of_mrc(tmp_path: Path, images: np.ndarray) -> None:
    """Thermo Fisher's extended header: m, V and electrons per m², and underfocus negative."""
    extended = np.zeros(3, dtype=mrcfile.dtypes.get_ext_header_dtype(b"FEI1", "<"))
    extended["Metadata size"], extended["Pixel size X"], extended["Pixel size Y"] = extended.itemsize, 2e-11, 2e-11
    extended["Defocus"], extended["HT"], extended["Dose"] = [-4e-9, 0.0, 4e-9], 300e3, 1e23
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(images)
        file.set_extended_header(extended.view("V1"))
        file.header.exttyp = b"FEI1"
    micrograph = read(tmp_path / "a.mrc")
    np.testing.assert_array_equal(micrograph.images, images)
    assert micrograph.sampling == pytest.approx(0.2)
    assert micrograph.acquisition.defocus == pytest.approx((40.0, 0.0, -40.0))
    assert micrograph.acquisition.dose == pytest.approx(1e3)
    assert micrograph.acquisition.energy == 300e3


def test_defocus_of_velox(tmp_path: Path, images: np.ndarray) -> None:
    path = recorded.write(tmp_path, "velox", images)
    assert read(path).acquisition.defocus == pytest.approx((40.0, 80.0, 120.0))  # underfocus counts negative there


@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("nm", 0.1),
        ("n_m", 0.1),
        ("µm", 1e-4),
        ("ƒÊm", 1e-4),
        ("Âµm", 1e-4),
        ("Å", 1.0),
        ("Ã…", 1.0),
        ("nm/px", 0.1),
        ("pm", 100.0),
    ],
)
def test_units_of_digital_micrograph(tmp_path: Path, images: np.ndarray, unit: str, scale: float) -> None:
    recorded.digital_micrograph(tmp_path / "a.dm3", images[:1], 0.138, unit, scale)
    assert read(tmp_path / "a.dm3").sampling == pytest.approx(0.138, rel=1e-5)


def test_a_unit_of_single_bytes(tmp_path: Path, images: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = images[0]
        file["image"].attrs.update({"pixel_size": 2e-5, "units": b"\xb5m"})
    assert read(tmp_path / "a.h5").sampling == pytest.approx(0.2)


@pytest.mark.parametrize("unit", ["s", "furlong"])
def test_what_is_no_length_is_refused(tmp_path: Path, images: np.ndarray, unit: str) -> None:
    recorded.digital_micrograph(tmp_path / "a.dm4", images[:1], 0.138, unit)
    with pytest.raises(InputError, match=rf"a\.dm4 is calibrated in '{unit}', which is no length; give sampling="):
        read(tmp_path / "a.dm4")
    assert read(tmp_path / "a.dm4", sampling=0.2).sampling == 0.2


@pytest.mark.parametrize("sampling", [None, 0.2])
@pytest.mark.parametrize("unit", ["1/nm", "1 / Å", "nm^-1", "Å⁻¹", "[1/n_m]", "mrad", "µrad", "m^-1"])
def test_diffraction_patterns(tmp_path: Path, images: np.ndarray, unit: str, sampling: float | None) -> None:
    recorded.digital_micrograph(tmp_path / "a.dm4", images[:1], 0.138, unit)
    with pytest.raises(InputError, match=r"a\.dm4 holds a diffraction pattern \(an axis is in '.*'\), and an image is"):
        read(tmp_path / "a.dm4", sampling=sampling)


def test_diffraction_patterns_and_spectra_of_tia(tmp_path: Path, images: np.ndarray) -> None:
    recorded.ser(tmp_path / "a.ser", images, 1e18)
    with pytest.raises(InputError, match=r"a\.ser holds a diffraction pattern \(of 1e\+08 1/m a pixel\)"):
        read(tmp_path / "a.ser", sampling=0.2)
    content = (tmp_path / "a.ser").read_bytes()
    (tmp_path / "a.ser").write_bytes(content.replace(b"\x22\x41\0\0", b"\x20\x41\0\0", 1))
    with pytest.raises(InputError, match=r"a\.ser holds spectra"):
        read(tmp_path / "a.ser")


@pytest.mark.parametrize("place", [0, 2])
def test_spectrum_images_are_no_movies(tmp_path: Path, images: np.ndarray, place: int) -> None:
    signal = recorded._signal(images, 0.138)
    signal["axes"][place]["units"] = "eV"
    rsciio.hspy.file_writer(str(tmp_path / "a.hspy"), signal)
    with pytest.raises(InputError, match=r"a\.hspy holds spectra \(an axis is in 'eV'\), and an image is needed"):
        read(tmp_path / "a.hspy", sampling=0.2)


@pytest.mark.parametrize(("names", "transposed"), [("zyx", False), ("xyz", True), (("", "", ""), True)])
def test_the_order_of_axes_of_berkeley(tmp_path: Path, images: np.ndarray, names: str, transposed: bool) -> None:
    with h5py.File(tmp_path / "a.emd", "w") as file:
        file.attrs.update({"version_major": 0, "version_minor": 2})
        group = file.create_group("data/image")
        group.attrs["emd_group_type"] = 1
        group["data"] = images.T if transposed else images
        for n, (name, size) in enumerate(zip(names, group["data"].shape, strict=True), start=1):
            group[f"dim{n}"] = np.arange(size) * 0.02
            group[f"dim{n}"].attrs.update({"name": name, "units": "[n_m]"})
    np.testing.assert_array_equal(read(tmp_path / "a.emd").images, images)
    assert read(tmp_path / "a.emd").sampling == pytest.approx(0.2)


def test_the_finest_level_of_a_pyramid(tmp_path: Path, images: np.ndarray) -> None:
    root = zarr.create_group(tmp_path / "a.zarr")
    root.create_array("0", data=images[0])
    root.create_array("1", data=images[0, :, ::2])
    levels = [
        {"path": str(n), "coordinateTransformations": [{"type": "scale", "scale": [0.02 * 2**n] * 2}]} for n in range(2)
    ]
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "yx"]
    root.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": levels}]}
    np.testing.assert_array_equal(read(tmp_path / "a.zarr").images, images[:1])
    assert read(tmp_path / "a.zarr").sampling == pytest.approx(0.2)


def test_files_of_several_images_name_them(tmp_path: Path, images: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", first=images[0], second=images[1])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["first"], file["deep/second"] = images[0], images[1]
    recorded.digital_micrograph(tmp_path / "a.dm4", images[:1], 0.1, more=[images[1], np.arange(40.0)])
    recorded.velox(tmp_path / "a.emd", images[:1], 0.1, more={"HAADF": images[1:2]})
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(images[0])
        file.write(images[1, :20])
    for name, found in {
        "a.npz": "0 first (24, 32), 1 second (24, 32)",
        "a.h5": "0 deep/second (24, 32), 1 first (24, 32)",
        "a.dm4": "0 image (24, 32), 1 image1 (24, 32)",
        "a.emd": "0 BM-Ceta (1, 24, 32), 1 HAADF (1, 24, 32)",
        "a.tif": "0 (24, 32), 1 (20, 32)",
    }.items():
        with pytest.raises(InputError) as error:
            read(tmp_path / name)
        said = f"{tmp_path / name} holds 2 images; choose one with item=, its number or name: {found}."
        assert str(error.value) == said
    for name, item in {"a.npz": "second", "a.h5": 0, "a.dm4": "image1", "a.emd": "HAADF"}.items():
        np.testing.assert_array_equal(read(tmp_path / name, item=item).images, images[1:2])
    np.testing.assert_array_equal(read(tmp_path / "a.tif", item="1").images[0], images[1, :20])
    with pytest.raises(InputError, match="and item=third is none of them; choose"):
        read(tmp_path / "a.npz", item="third")


def test_profiles_and_fourier_transforms_beside_an_image_do_not_count(tmp_path: Path, images: np.ndarray) -> None:
    recorded.digital_micrograph(tmp_path / "a.dm4", images[:1], 0.1, more=[np.arange(40.0)])
    recorded.velox(tmp_path / "a.emd", images[:1], 0.1, more={"FFT": images[:1].astype(np.complex64)})
    for name in ("a.dm4", "a.emd"):
        np.testing.assert_array_equal(read(tmp_path / name).images, images[:1])


def test_one_image_of_a_stack(tmp_path: Path, images: np.ndarray) -> None:
    recorded.velox(tmp_path / "a.emd", images, 0.1)
    one = read(tmp_path / "a.emd", frame=1)
    np.testing.assert_array_equal(one.images, images[1:2])
    assert one.acquisition.defocus == pytest.approx((80.0,))
    for frame in (3, -1, "first", True):
        with pytest.raises(InputError, match=f"frame must be a number from 0 to 2 for .*a.emd, got {frame}"):
            read(tmp_path / "a.emd", frame=frame)


@pytest.mark.parametrize("name", ["14.54.11 CCD Acquire", "a[1]*?", "é (2)"])
def test_the_series_of_an_emi_file_is_found_by_any_name(tmp_path: Path, images: np.ndarray, name: str) -> None:
    recorded.emi(tmp_path / f"{name}.emi", images[:1], 0.1)
    np.testing.assert_array_equal(read(tmp_path / f"{name}.emi").images, images[:1])


@pytest.mark.parametrize(
    "options",
    [{"compression": "lzw", "predictor": True}, {"compression": "zstd"}, {"bigtiff": True, "byteorder": ">"},
     {"compression": "lzw", "tile": (16, 16)}],
)  # fmt: skip
def test_tiff_is_read_however_it_is_stored(tmp_path: Path, images: np.ndarray, options: dict) -> None:
    tifffile.imwrite(tmp_path / "a.tif", images.astype(np.uint16), photometric="minisblack", **options)
    np.testing.assert_array_equal(read(tmp_path / "a.tif").images, images)


def test_jpeg_in_tiff(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(32, dtype=np.uint8) * 4, (24, 1))
    tifffile.imwrite(tmp_path / "a.tif", ramp, compression="jpeg", compressionargs={"level": 100})
    np.testing.assert_allclose(read(tmp_path / "a.tif").images[0], ramp, atol=3)


def test_a_compression_that_cannot_be_undone_is_named(tmp_path: Path, images: np.ndarray) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, images[0], compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["Compression"].overwrite(34661)
    with pytest.raises(InputError, match=r"a\.tif is compressed with JBIG, which cannot be read here; store it unc"):
        read(path)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("image", data=images[0], chunks=(24, 32), compression="lzf")
    content = (tmp_path / "a.h5").read_bytes()
    assert content.count(b"\x00\x7d") == 1
    (tmp_path / "a.h5").write_bytes(content.replace(b"\x00\x7d", b"\x08\x7d"))
    with pytest.raises(InputError, match=r"a\.h5 is compressed with the HDF5 filter 32008 \(lzf\), which is not inst"):
        read(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("sizes", "sampling"),
    [({"X": 0.02, "XUnit": "nm", "Y": 0.02, "YUnit": "nm"}, 0.2), ({"X": 0.2, "XUnit": "Å"}, 0.2),
     ({"X": 2e-5, "Y": 2e-5}, 0.2), ({"X": 1, "XUnit": "pixel", "Y": 1, "YUnit": "pixel"}, None), ({}, None)],
)  # fmt: skip
def test_pixel_sizes_of_ome(tmp_path: Path, images: np.ndarray, sizes: dict, sampling: float | None) -> None:
    metadata = {"axes": "YX"} | {f"PhysicalSize{name}": value for name, value in sizes.items()}
    tifffile.imwrite(tmp_path / "a.ome.tif", images[0], metadata=metadata)
    assert read(tmp_path / "a.ome.tif").sampling == (None if sampling is None else pytest.approx(sampling))


def test_tiff_whose_numbers_mean_other_greys(tmp_path: Path, images: np.ndarray) -> None:
    numbers = images[0].astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", numbers, photometric="miniswhite")
    np.testing.assert_array_equal(read(tmp_path / "a.tif").images[0], 255 - images[0])
    table = np.stack([np.arange(256)[::-1] * 257] * 3).astype(np.uint16)
    tifffile.imwrite(tmp_path / "b.tif", numbers, photometric="palette", colormap=table)
    np.testing.assert_array_equal(read(tmp_path / "b.tif").images[0], 257 * (255 - images[0]))
    table[0] = 0
    tifffile.imwrite(tmp_path / "c.tif", numbers, photometric="palette", colormap=table)
    with pytest.raises(InputError, match=r"c\.tif is a colour picture"):
        read(tmp_path / "c.tif")


def test_channels_are_no_series(tmp_path: Path, images: np.ndarray) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, images, metadata={"axes": "CYX"}, photometric="minisblack")
    with pytest.raises(InputError, match="3 channels"):
        read(path)
    tifffile.imwrite(tmp_path / "b.tif", images, imagej=True, metadata={"axes": "CYX", "mode": "composite"})
    with pytest.raises(InputError, match="3 channels"):
        read(tmp_path / "b.tif")


def test_an_emi_file_of_any_name_finds_its_images(tmp_path: Path, images: np.ndarray) -> None:
    path = tmp_path / "Si [110] a-b.emi"
    recorded.emi(path, images, 0.138)
    np.testing.assert_array_equal(read(path).images, images)
    path.write_bytes(path.read_bytes().replace(b"</Root>", b"<Root>"))
    np.testing.assert_array_equal(read(tmp_path / "Si [110] a-b_1.ser").images, images)


def test_an_emi_file_needs_its_images(tmp_path: Path, images: np.ndarray) -> None:
    path = recorded.write(tmp_path, "emi", images)
    assert read(tmp_path / "image_1.ser").acquisition.energy == 80e3
    (tmp_path / "image_1.ser").rename(tmp_path / "other.ser")
    with pytest.raises(InputError, match=r"must have one file image_1\.ser beside it"):
        read(path)


@pytest.mark.parametrize("kind", ["h5", "zarr"])
def test_chunks_that_were_never_written_are_no_image(tmp_path: Path, images: np.ndarray, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "h5":
        with h5py.File(path, "w") as file:
            data = file.create_dataset("image", (24, 32), np.float32, chunks=(12, 16), compression="gzip")
            data[:12, :16] = images[0, :12, :16]
    else:
        array = zarr.create_array(path, shape=(24, 32), dtype=np.float32, chunks=(12, 16))
        array[:12, :16] = images[0, :12, :16]
    with pytest.raises(InputError, match="3 of its 4 chunks are missing"):
        read(path)


@pytest.mark.parametrize("kind", recorded.KINDS)
def test_headers_that_declare_more_than_the_file_holds(tmp_path: Path, kind: str) -> None:
    """Whatever an image's header says, no memory is asked for that the file could not fill."""
    image = np.arange(400.0).reshape(20, 20).astype(np.float32)
    path = recorded.write(tmp_path, kind, image[None])
    content = path.read_bytes() if path.is_file() else b""
    sizes = {
        "npy": (b"(1, 20, 20)", b"(1,200,200)"),
        "mrc": (np.array([20, 20, 1], "<i4").tobytes(), np.array([2**30, 2**30, 1], "<i4").tobytes()),
        "ser": (np.array([20, 20], "<u4").tobytes(), np.array([2**31, 2**31], "<u4").tobytes()),
        "png": (np.array([20, 20], ">u4").tobytes(), np.array([2**30, 2**30], ">u4").tobytes()),
        "dm3": (b"\5" + np.array([20], "<u4").tobytes(), b"\5" + np.array([2**31 - 1], "<u4").tobytes()),
    }
    if kind not in sizes:
        pytest.skip("the fuzzing changes these")
    before, after = sizes[kind]
    assert before in content
    path.write_bytes(content.replace(before, after))
    with pytest.raises(InputError, match="cannot be read as"):
        read(path)


@pytest.mark.parametrize("suffix", [suffix for suffix in FORMATS if suffix not in (".zarr", ".zspy", ".emi")])
def test_what_is_no_file_of_its_suffix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bad{suffix}"
    for content in (b"", b"This is no image.\n" * 50, bytes(range(256)) * 8, bytes(2048), b"\x89HDF\r\n\x1a\n" * 100):
        path.write_bytes(content)
        with pytest.raises(InputError) as error:
            read(path)
        assert str(error.value).startswith(f"{path} ")
        assert str(error.value).count("\n") == 0
        assert str(error.value).endswith(".")


def test_a_folder_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(InputError, match=r"a\.zarr cannot be read as Zarr"):
        read(tmp_path / "a.zarr")


@pytest.mark.parametrize("kind", ["mrc", "ser", "velox", "berkeley", "hspy", "h5", "npz", "emi"])
@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.7, 0.97])
def test_files_cut_short(tmp_path: Path, images: np.ndarray, kind: str, fraction: float) -> None:
    path = recorded.write(tmp_path, kind, images)
    path = tmp_path / "image_1.ser" if kind == "emi" else path
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(InputError, match="cannot be read as"):
        read(path)

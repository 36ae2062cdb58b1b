"""Micrographs: what each kind of file gives, what is refused and how, and that no atom moves."""

from __future__ import annotations

import os
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
from plain_preparation import remove_hot_pixels
from rsciio import tiff as rsciio_tiff

from hrtem.errors import InputError
from hrtem.micrograph import Micrograph, read, require_calibration


@pytest.fixture
def image() -> np.ndarray:
    """An image (Y, X) that is not square, so that swapped axes show."""
    return np.random.default_rng([0, 1]).normal(100.0, 5.0, (24, 32)).astype(np.float32)


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real micrographs."""
    folder = os.environ.get("HRTEM_REAL_DATA")
    if not folder:
        pytest.skip("HRTEM_REAL_DATA does not name the folder of real micrographs")
    return Path(folder) / "real"


def refusal(path: Path, **arguments: float) -> str:
    """The message with which ``read`` refuses a file: one sentence that names it."""
    with pytest.raises(InputError) as error:
        read(path, **arguments)
    message = str(error.value)
    assert str(path) in message
    assert message.endswith(".")
    assert "\n" not in message
    return message


# Pixels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "u1", "<u2", ">u2", "<i2", "<u4"])
def test_tiff_pixels(tmp_path: Path, image: np.ndarray, dtype: str) -> None:
    pixels = image.astype(dtype)
    tifffile.imwrite(tmp_path / "carbon.tif", pixels, byteorder=">" if dtype[0] == ">" else "<")
    micrograph = read(tmp_path / "carbon.tif")
    assert micrograph.images.shape == (1, 24, 32)
    assert micrograph.images.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(micrograph.images[0], pixels.astype(np.float32))
    assert (micrograph.name, micrograph.source, micrograph.sampling) == ("carbon", tmp_path / "carbon.tif", None)


@pytest.mark.parametrize("number", [2, 3, 4, 5])
@pytest.mark.parametrize("writer", ["tifffile", "pages", "imagej", "npy"])
def test_a_stack_is_a_focal_series(tmp_path: Path, image: np.ndarray, number: int, writer: str) -> None:
    stack = np.stack([image + 10 * n for n in range(number)])
    path = tmp_path / ("series.npy" if writer == "npy" else "series.tif")
    if writer == "npy":
        np.save(path, stack)
    elif writer == "pages":
        with tifffile.TiffWriter(path) as file:
            for page in stack:
                file.write(page, contiguous=False, metadata=None)
    else:
        tifffile.imwrite(path, stack, imagej=writer == "imagej", photometric="minisblack")
    np.testing.assert_array_equal(read(path).images, stack)


@pytest.mark.parametrize("number", [3, 4])
def test_a_series_stored_as_colour_planes(tmp_path: Path, image: np.ndarray, number: int) -> None:
    """What tifffile writes of three or four images when it is told no photometric interpretation."""
    stack = np.stack([image + 10 * n for n in range(number)])
    path = tmp_path / "planes.tif"
    tifffile.imwrite(path, stack, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read(path).images, stack)
    tifffile.imwrite(path, np.stack([image] * number), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read(path).images, image[None])


def test_suffixes_in_capitals_and_single_axes(tmp_path: Path, image: np.ndarray) -> None:
    np.save(tmp_path / "image", image[None, None])
    (tmp_path / "image.npy").rename(tmp_path / "image.NPY")
    np.testing.assert_array_equal(read(str(tmp_path / "image.NPY")).images, image[None])


@pytest.mark.parametrize(
    ("suffix", "dtype", "channels"),
    [
        *[(".tif", dtype, channels) for dtype in ("u1", "u2") for channels in (0, 3, 4)],
        *[(".png", "u1", channels) for channels in (0, 2, 3, 4)],
        (".png", "u2", 0),
    ],
)
def test_grey_pictures(tmp_path: Path, image: np.ndarray, suffix: str, dtype: str, channels: int) -> None:
    pixels = image.astype(dtype)
    picture = np.repeat(pixels[..., None], channels, axis=-1) if channels else pixels
    if channels in (2, 4):
        picture[..., -1] = 255  # opaque
    path = tmp_path / f"grey{suffix}"
    if suffix == ".png":
        imageio.imwrite(path, picture)
    else:
        tifffile.imwrite(path, picture, photometric="rgb" if channels else "minisblack")
    np.testing.assert_array_equal(read(path).images[0], pixels)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colour_is_refused_but_a_coloured_label_is_not(tmp_path: Path, image: np.ndarray, suffix: str) -> None:
    picture = np.repeat(image.astype(np.uint8)[..., None], 3, axis=-1)
    path = tmp_path / f"label{suffix}"
    picture[20, 2:8, 0] = 255  # 6 of 768 pixels
    imageio.imwrite(path, picture)
    assert read(path).images.shape == (1, 24, 32)
    picture[..., 0] = 255 - picture[..., 0]  # green and blue remain equal
    imageio.imwrite(path, picture)
    assert "colour" in refusal(path)


# Calibration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "pixel", "sampling"),
    [
        ("nm", 0.0138, 0.138),
        ("n_m", 0.0138, 0.138),
        ("micron", 1.38e-5, 0.138),
        (r"\u00B5m", 1.38e-5, 0.138),
        ("um", 1.38e-5, 0.138),
        (r"\u00C5", 0.138, 0.138),
        ("A", 0.138, 0.138),
        ("Angstrom", 0.138, 0.138),
        ("pm", 13.8, 0.138),
        ("pixel", 0.0138, None),
        ("inch", 1 / 72, None),
        ("cm", 1 / 28, None),
    ],
)
@pytest.mark.parametrize("number", [1, 3])
def test_imagej_calibration(
    tmp_path: Path, image: np.ndarray, unit: str, pixel: float, sampling: float | None, number: int
) -> None:
    path = tmp_path / "imagej.tif"
    pixels = image if number == 1 else np.stack([image] * number)
    tifffile.imwrite(path, pixels, imagej=True, resolution=(1 / pixel, 1 / pixel), metadata={"unit": unit})
    assert read(path).sampling == (None if sampling is None else pytest.approx(sampling, rel=1e-6))


@pytest.mark.parametrize(("unit", "pixel"), [("nm", 0.0138), ("Å", 0.138), ("µm", 1.38e-5)])
def test_digital_micrograph_tags_of_a_tiff(tmp_path: Path, image: np.ndarray, unit: str, pixel: float) -> None:
    axes = [
        {"size": size, "name": name, "scale": pixel, "offset": 0.0, "units": unit, "navigate": False}
        for size, name in zip(image.shape, "yx", strict=True)
    ]
    rsciio_tiff.file_writer(str(tmp_path / "dm.tif"), {"data": image, "axes": axes, "metadata": {}})
    assert read(tmp_path / "dm.tif").sampling == pytest.approx(0.138, rel=1e-3)


@pytest.mark.parametrize("unit", ["INCH", "CENTIMETER", "NONE"])
def test_a_print_resolution_is_no_calibration(tmp_path: Path, image: np.ndarray, unit: str) -> None:
    tifffile.imwrite(tmp_path / "print.tif", image, resolution=(300, 300), resolutionunit=unit)
    assert read(tmp_path / "print.tif").sampling is None


def test_a_given_pixel_size_overrides_that_of_the_file(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "imagej.tif"
    tifffile.imwrite(path, image, imagej=True, resolution=(1 / 20, 1 / 20), metadata={"unit": "nm"})
    assert "pixel size of 200 Å" in refusal(path)
    assert "give sampling=" in refusal(path)
    assert read(path, sampling=0.2).sampling == 0.2


@pytest.mark.parametrize("sampling", [0.0, -0.1, 0.001, 20.0, float("nan"), float("inf"), "wide", [0.1, 0.2]])
def test_impossible_pixel_sizes_are_refused(tmp_path: Path, image: np.ndarray, sampling: object) -> None:
    np.save(tmp_path / "image.npy", image)
    with pytest.raises(InputError, match=r"sampling must be one number between 0.01 and 5 Å/px"):
        read(tmp_path / "image.npy", sampling=sampling)  # type: ignore[arg-type]


def test_pixels_must_be_square(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "imagej.tif"
    tifffile.imwrite(path, image, imagej=True, resolution=(1 / 0.02, 1 / 0.0201), metadata={"unit": "nm"})
    assert read(path).sampling == pytest.approx(0.2005, rel=1e-4)
    tifffile.imwrite(path, image, imagej=True, resolution=(1 / 0.02, 1 / 0.021), metadata={"unit": "nm"})
    assert "0.2 x 0.21 Å" in refusal(path)
    assert read(path, sampling=0.2).sampling == 0.2


def test_a_diffraction_pattern_is_no_image(tmp_path: Path, image: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "fft.tif", image, imagej=True, resolution=(50, 50), metadata={"unit": "1/nm"})
    assert "'1/nm'" in refusal(tmp_path / "fft.tif")


def test_calibrated(image: np.ndarray) -> None:
    known = Micrograph(image, 0.2, "gold", Path("gold.npy"))
    assert require_calibration(known) is known
    with pytest.raises(InputError, match=r"gold\.npy .* sampling= in Å/px\."):
        require_calibration(Micrograph(image, None, "gold", Path("gold.npy")))


# Refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".tif", ".png", ".npy", ".dm3", ".dm4"])
def test_bad_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bad{suffix}"
    assert "does not exist" in refusal(path)
    path.touch()
    assert "0 bytes" in refusal(path)
    path.write_text("This is no image.\n" * 50)
    assert "cannot be read as" in refusal(path)
    path.write_bytes(bytes(range(256)) * 8)
    assert "cannot be read as" in refusal(path)
    path.write_bytes(b"\0\0\0\3" + bytes(range(256)))  # the first bytes of a DM3 file
    assert "cannot be read as" in refusal(path)
    path.unlink()
    path.mkdir()
    assert "is a folder" in refusal(path)


def test_an_unknown_suffix_lists_the_known(tmp_path: Path) -> None:
    (tmp_path / "movie.avi").write_bytes(b"x")
    assert ".tif, .tiff, .png, .npy, .dm3, .dm4" in refusal(tmp_path / "movie.avi")


@pytest.mark.parametrize("writer", ["plain", "stack", "pages", "imagej", "zlib", "strips", "png", "npy"])
@pytest.mark.parametrize("fraction", [0.001, 0.02, 0.2, 0.25, 0.4, 0.7, 0.95])
def test_files_cut_short_are_refused(tmp_path: Path, image: np.ndarray, writer: str, fraction: float) -> None:
    path = tmp_path / f"cut.{writer if writer in ('png', 'npy') else 'tif'}"
    stack = np.stack([image] * 5)
    if writer == "png":
        imageio.imwrite(path, image.astype(np.uint8))
    elif writer == "npy":
        np.save(path, image)
    elif writer == "pages":
        with tifffile.TiffWriter(path) as file:
            for page in stack:
                file.write(page, contiguous=False, metadata=None)
    elif writer == "zlib":
        tifffile.imwrite(path, image, compression="zlib", rowsperstrip=4)
    elif writer == "strips":
        tifffile.imwrite(path, image, rowsperstrip=4)
    else:
        tifffile.imwrite(path, image if writer == "plain" else stack, imagej=writer == "imagej")
    content = path.read_bytes()
    path.write_bytes(content[: max(1, int(fraction * len(content)))])
    assert "cannot be read as" in refusal(path)


def test_a_series_cut_between_two_images_is_refused(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "cut.tif"
    with tifffile.TiffWriter(path) as file:
        for _ in range(3):
            file.write(image, contiguous=False, metadata=None)
    with tifffile.TiffFile(path) as file:
        second = file.pages[1].offset
    path.write_bytes(path.read_bytes()[:second])
    assert "cut short" in refusal(path)


def test_images_of_two_sizes_are_refused_but_a_thumbnail_is_not(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "two.tif"
    for kind in (0, 1):
        with tifffile.TiffWriter(path) as file:
            file.write(image)
            file.write(image[:16, :16], subfiletype=kind)
        if kind == 0:
            assert "number or name: 0 (24, 32), 1 (16, 16)." in refusal(path)
    np.testing.assert_array_equal(read(path).images[0], image)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda image: np.full_like(image, np.nan), r"has 768 pixels that are NaN"),
        (lambda image: np.stack([image, np.full_like(image, -np.inf)]), r"has 768 pixels that are NaN, infinite"),
        (lambda image: image.astype(np.float64) * 1e37, r"beyond single precision"),
        (lambda image: np.full_like(image, 7.0), r"is constant, 7 in image 1 of 1"),
        (lambda image: np.stack([image, 0 * image]), r"is constant, 0 in image 2 of 2"),
        (lambda image: image + 1j, r"complex"),
        (lambda image: np.array([["atom"] * 32] * 24), r"values of type <U4"),
        (lambda image: np.array([[{}]]), r"Object arrays cannot be loaded"),
        (lambda image: np.zeros((2, 3, 24, 32)), r"shape \(2, 3, 24, 32\)"),
        (lambda image: image[0], r"shape \(32,\)"),
        (lambda image: image[:, :15], r"at least 16 px a side"),
        (lambda image: np.zeros((0, 24, 32)), r"shape \(0, 24, 32\)"),
    ],
)
def test_bad_images_are_refused(tmp_path: Path, image: np.ndarray, change, problem: str) -> None:
    image[image > 110.0] = 100.0
    image[:3, :6] = 111.0
    np.save(tmp_path / "image.npy", change(image))
    with pytest.raises(InputError, match=problem):
        read(tmp_path / "image.npy")
    refusal(tmp_path / "image.npy")


# Real files -----------------------------------------------------------------------------------------------------


def test_real_dm3_and_tiff_of_the_same_image(real: Path) -> None:
    dm3 = read(real / "graphene_flower" / "image.dm3")
    tif = read(real / "graphene_flower" / "image.tif")
    assert dm3.images.shape == (1, 256, 256)
    np.testing.assert_array_equal(dm3.images, tif.images)
    assert (dm3.sampling, tif.sampling) == (None, None)
    assert read(real / "graphene_flower" / "image.dm3", sampling=0.2188).sampling == 0.2188


@pytest.mark.parametrize(
    ("file", "shape", "sampling"),
    [
        ("readers/graphene_disordered_calibrated.dm3", (1, 512, 512), 0.1382),
        ("readers/layered_crystal_stem_calibrated.dm4", (1, 477, 489), 0.1528),
        ("graphene_dtu/image.tif", (1, 500, 500), None),
        ("negative/soot.tif", (1, 512, 512), None),
    ],
)
def test_real_files(real: Path, file: str, shape: tuple[int, int, int], sampling: float | None) -> None:
    micrograph = read(real / file)
    assert micrograph.images.shape == shape
    assert micrograph.sampling == (None if sampling is None else pytest.approx(sampling, abs=5e-5))
    image = micrograph.images[0]
    assert np.mean(remove_hot_pixels(image) != image) < 1e-4


def test_a_real_file_with_lzw_and_a_unit_in_the_wrong_encoding(real: Path) -> None:
    assert "has a pixel size of 29.8846 Å" in refusal(real / "no_lattice" / "image.tif")
    assert read(real / "no_lattice" / "image.tif", sampling=0.2).images.shape == (1, 512, 512)


@pytest.mark.parametrize("file", ["graphene_flower/image.dm3", "readers/layered_crystal_stem_calibrated.dm4"])
@pytest.mark.parametrize("fraction", [1e-4, 0.01, 0.3, 0.9, 0.999])
def test_real_files_cut_short_are_refused(real: Path, tmp_path: Path, file: str, fraction: float) -> None:
    content = (real / file).read_bytes()
    path = tmp_path / f"cut{Path(file).suffix}"
    path.write_bytes(content[: int(fraction * len(content))])
    assert "cannot be read as" in refusal(path)


def test_a_pixel_size_in_nm_is_told_in_angstroms(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(32, 32)))
    with pytest.raises(InputError, match=r"sampling is in Å/px, .* 0\.0119 nm/px are 0\.119 Å/px\."):
        read(tmp_path / "a.npy", sampling=0.0119)

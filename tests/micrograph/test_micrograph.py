"""Micrographs: what each kind of file gives, what is refused and how, and that no atom moves."""

from __future__ import annotations

import os
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
from rsciio import tiff as rsciio_tiff

from hrtem.errors import InputError
from hrtem.micrograph import Micrograph, read, remove_hot_pixels, require_calibration, resample


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
            assert "holds 2 ((24, 32), (16, 16))" in refusal(path)
    np.testing.assert_array_equal(read(path).images[0], image)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda image: np.where(image > 110.0, np.nan, image), r"has 18 pixels that are NaN"),
        (lambda image: np.where(image > 110.0, -np.inf, image), r"has 18 pixels that are NaN, infinite"),
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


# Hot pixels -----------------------------------------------------------------------------------------------------


def atoms(width: float, shape: tuple[int, int] = (64, 72)) -> np.ndarray:
    """Gaussian atoms of some full width at half maximum (px) on sites 8 px apart, off the pixel centres."""
    rng = np.random.default_rng([0, 2])
    y, x = np.mgrid[: shape[0], : shape[1]]
    sigma = width / 2.3548
    image = np.zeros(shape)
    for row in range(4, shape[0], 8):
        for column in range(4, shape[1], 8):
            dy, dx = rng.uniform(-0.5, 0.5, 2)
            image += np.exp(-((y - row - dy) ** 2 + (x - column - dx) ** 2) / (2 * sigma**2))
    return image


@pytest.mark.parametrize("width", [2.0, 3.0, 6.0])
@pytest.mark.parametrize("noise", [0.0, 0.003, 0.03, 0.3])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_atoms_are_not_hot_pixels(width: float, noise: float, sign: float) -> None:
    image = sign * atoms(width) + np.random.default_rng([0, 3]).normal(0.0, 1.0, (64, 72)) * noise
    np.testing.assert_array_equal(remove_hot_pixels(image), image)


def test_single_electrons_are_not_hot_pixels() -> None:
    counts = np.random.default_rng([0, 4]).poisson(0.1, (128, 128)).astype(np.float32)
    assert np.mean(remove_hot_pixels(counts) != counts) < 1e-3


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_hot_and_dead_pixels_are_removed(noise: float) -> None:
    clean = 10.0 + atoms(5.0) + np.random.default_rng([0, 5]).normal(0.0, 1.0, (64, 72)) * noise
    image = clean.astype(np.float32)
    hot = [(20, 21), (0, 0), (0, 30), (63, 71), (40, 40), (40, 41)]  # inside, corners, an edge, and a pair
    for pixel in hot:
        image[pixel] += 100.0
    image[50, 13] = -50.0
    cleaned = remove_hot_pixels(image)
    assert cleaned.dtype == np.float32
    assert np.abs(cleaned - clean).max() < 0.4 + 4 * noise
    assert set(zip(*np.nonzero(cleaned != image), strict=True)) == {*hot, (50, 13)}


def test_hot_pixels_do_not_depend_on_gain_and_offset() -> None:
    image = atoms(4.0) + np.random.default_rng([0, 6]).normal(0.0, 0.05, (64, 72))
    image[30, 30] += 3.0
    cleaned = remove_hot_pixels(image)
    assert cleaned[30, 30] != image[30, 30]
    for gain, offset in [(1e-3, 0.0), (500.0, 1e4), (-2.0, 7.0)]:
        np.testing.assert_allclose(remove_hot_pixels(gain * image + offset), gain * cleaned + offset, rtol=1e-9)


# Pixel size -----------------------------------------------------------------------------------------------------

TARGET = 0.2
STEPS = [0.05, 0.1, 0.1185, 0.1382, 0.19, 0.2188, 0.3]


@pytest.mark.parametrize("sampling", STEPS)
def test_a_period_of_two_angstrom_is_kept(sampling: float) -> None:
    rows, columns = int(12 / sampling), int(40 / sampling)
    angle = 2 * np.pi * np.arange(columns) * sampling / 2.0
    image = np.tile(5.0 + np.cos(angle + 0.7), (rows, 1))
    output = resample(image, sampling, TARGET)
    assert output.dtype == np.float32
    assert output.shape == tuple(int((n - 1) * sampling / TARGET + 1e-6) + 1 for n in image.shape)
    angle = 2 * np.pi * np.arange(output.shape[1]) * TARGET / 2.0
    basis = np.stack([np.cos(angle), -np.sin(angle), np.ones_like(angle)], axis=1)
    inner = slice(10, -10)  # mirrored edges bend a wave
    a, b, mean = np.linalg.lstsq(basis[inner], output[len(output) // 2][inner], rcond=None)[0]
    assert np.hypot(a, b) == pytest.approx(1.0, abs=0.017)
    assert mean == pytest.approx(5.0, abs=1e-4)
    assert np.arctan2(b, a) == pytest.approx(0.7, abs=2 * np.pi * 0.02 * TARGET / 2.0)  # 0.02 px


@pytest.mark.parametrize("sampling", STEPS)
def test_atoms_stay_where_they_are(sampling: float) -> None:
    """The centroid of one atom, on either axis, at the same place in Å; its volume in Å² too."""
    x0, y0, sigma = 7.31, 5.87, 0.5
    x, y = np.arange(int(15 / sampling)) * sampling, np.arange(int(12 / sampling)) * sampling
    image = np.exp(-((x[None] - x0) ** 2 + (y[:, None] - y0) ** 2) / (2 * sigma**2))
    output = resample(image, sampling, TARGET)
    volume = output.sum(dtype=np.float64)
    found_x = (output.sum(axis=0) * np.arange(output.shape[1])).sum() * TARGET / volume
    found_y = (output.sum(axis=1) * np.arange(output.shape[0])).sum() * TARGET / volume
    assert found_x == pytest.approx(x0, abs=0.02 * TARGET)
    assert found_y == pytest.approx(y0, abs=0.02 * TARGET)
    assert volume * TARGET**2 == pytest.approx(2 * np.pi * sigma**2, rel=1e-3)


@pytest.mark.parametrize("sampling", [0.05, 0.1, 0.1185, 0.1382])
def test_coarsening_averages_noise_as_larger_pixels_do(sampling: float) -> None:
    """White noise ends near white, with the deviation that a mean over a square pixel leaves."""
    noise = np.random.default_rng([0, 7]).normal(size=(300, 300))
    output = resample(noise, sampling, TARGET)
    assert output.std() == pytest.approx(sampling / TARGET, rel=0.15)
    neighbours = np.corrcoef(output[:, 1:].ravel(), output[:, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.1


def test_the_extent_is_covered() -> None:
    image = np.random.default_rng([0, 8]).normal(size=(31, 41))
    assert resample(image, 0.1, 0.3).shape == (11, 14)  # 3.0 Å / 0.3 Å is a whole number, but not in floating point
    assert resample(image, 0.3, 0.1).shape == (91, 121)
    np.testing.assert_allclose(resample(image, 0.3, 0.1)[::3, ::3], image, atol=1e-6)
    np.testing.assert_allclose(resample(np.full((31, 41), 3.0), 0.12, 0.2), 3.0, rtol=1e-6)


def test_equal_pixel_sizes_change_nothing() -> None:
    image = np.random.default_rng([0, 9]).normal(size=(20, 20)).astype(np.float32)
    np.testing.assert_array_equal(resample(image, 0.2001, 0.2), image)  # within 0.02 px over 20 px
    wide = np.tile(image, (1, 200))
    assert resample(wide, 0.2001, 0.2).shape == (20, 4001)  # but 2 px over 4000


@pytest.mark.parametrize(("sampling", "target"), [(0.0, 0.2), (-0.1, 0.2), (0.1, 0.0), (0.1, float("nan"))])
def test_resampling_needs_pixel_sizes(sampling: float, target: float) -> None:
    with pytest.raises(InputError, match="must be one number between"):
        resample(np.eye(20), sampling, target)


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

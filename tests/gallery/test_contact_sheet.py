"""The contact sheet of training examples, alone and beside a micrograph."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY, told
from hydra.utils import instantiate
from skimage.io import imread, imsave

from hrtem.gallery import contact_sheet
from hrtem.gallery.nearest import cut
from hrtem.gallery.sheet import ContactSheet
from hrtem.micrograph import Micrograph
from hrtem.recipes import compose

PAGE = ROOT / "docs" / "simulation-and-reality.md"
SMALL = [*TINY, "waves=1", "examples=10"]


@pytest.fixture(autouse=True)
def _cache(cache_folder):
    """Waves are shared with other tests."""


def pictures(sheet):
    return [axes for axes in sheet.figure.axes if axes.images]


def plots(sheet):
    return [axes for axes in sheet.figure.axes if axes.lines]


def save_micrograph(path: Path, shape=(150, 200)) -> Path:
    y, x = np.mgrid[: shape[0], : shape[1]]
    noise = np.random.default_rng(0).normal(size=shape)
    np.save(path, (1000 + 20 * np.cos(2 * np.pi * x * 0.15 / 2.1) + 10 * np.cos(y) + noise).astype(np.float32))
    return path


def test_dose_grows_downwards_and_defocus_to_the_right():
    sheet = contact_sheet.contact_sheet(
        compose(*SMALL, "optics.defocus_error=0", "optics.dose=[1e2,1e6]", name="gallery")
    )
    doses = [100, 1000, 10_000, 100_000, 1_000_000]
    wanted = [f"{dose:,} e/Å², defocus {defocus} Å" for dose in doses for defocus in (-150, -75, 0, 75, 150)]
    assert [axes.get_title() for axes in pictures(sheet)] == wanted
    assert not plots(sheet)
    boxes = np.array([axes.get_position().p0 for axes in pictures(sheet)]).reshape(5, 5, 2)
    assert (np.diff(boxes[..., 0], axis=1) > 0).all()
    assert (np.diff(boxes[..., 1], axis=0) < 0).all()
    for axes in pictures(sheet):
        assert re.fullmatch(r"Cs .* µm, .*\nA1 .* MTF ½ at .*/px", axes.get_xlabel())


def test_a_series_shows_all_its_images_beside_a_micrograph(tmp_path, capsys):
    path = tmp_path / "series.npy"
    np.save(path, np.random.default_rng(0).normal(size=(3, 80, 90)))
    words = [*SMALL, "sample=mos2", "focal=3", f"micrograph={path}", "sampling=0.2"]
    sheet = contact_sheet.contact_sheet(compose(*words, name="gallery"))
    # The micrograph, the nearest example, and five rows of three series, each of three images.
    assert len(pictures(sheet)) == 3 * (2 + 5 * 3)
    spectra, histograms = plots(sheet)
    for axes in (spectra, histograms):
        assert [line.get_label() for line in axes.lines] == ["examples, median", "nearest example", "micrograph"]
        assert len(axes.collections) == 1
    (texts,) = [[text.get_text() for text in legend.texts] for legend in sheet.figure.legends]
    assert texts == ["Mo", "S2", "S", "Mo vacancy", "S2 vacancy"]
    assert "10 training examples" in capsys.readouterr().out


def test_no_image_is_resampled():
    """Each pixel of an image is a whole number of pixels of the sheet."""
    for patch, side in ((64, 256), (96, 288), (128, 256), (512, 512)):
        sheet = ContactSheet(patch, focal=2, groups=3, rows=2)
        sheet.series(1, 2, np.zeros((2, patch, patch)), ["a", "b"])
        for axes in pictures(sheet):
            box = axes.get_window_extent().extents
            np.testing.assert_allclose(box, np.rint(box), atol=1e-6)
            assert box[2] - box[0] == box[3] - box[1] == pytest.approx(side)
            assert 0 <= box[0] < box[2] <= sheet.width
            assert 0 <= box[1] < box[3] <= sheet.height


def test_only_the_right_half_is_ringed():
    task = instantiate(compose(*SMALL, name="gallery").task)
    data = instantiate(compose(*SMALL, name="gallery").data)
    data.prepare_data()
    sheet = ContactSheet(64, 1, 1, 1)
    contact_sheet._fill(sheet, [[data.images("train", 1)[0]]], task, first=0)
    (axes,) = pictures(sheet)
    x = np.concatenate([np.asarray(rings.get_offsets())[:, 0] for rings in axes.collections])
    assert len(x) > 10
    assert x.min() > 31.5


def test_what_training_never_draws_is_left_empty():
    """At no defocus, Cs and C5 a phase object is invisible, so that training draws it again and again."""
    fixed = ["optics.Cs=0", "optics.C5=0", "optics.defocus_error=0", "optics.lattice_contrast=0.1"]
    config = compose(*SMALL, *fixed, name="gallery")
    data = instantiate(config.data)
    data.prepare_data()
    grid = contact_sheet.examples_over_dose_and_defocus(data, config.optics)
    assert [[example is None for example in row] for row in grid] == 5 * [[False, False, True, False, False]]
    sheet = contact_sheet.contact_sheet(config)
    assert len(pictures(sheet)) == 20
    empty = [axes for axes in sheet.figure.axes if axes.texts]
    assert len(empty) == 5
    assert "lattice_contrast" in empty[0].texts[0].get_text()


def test_examples_are_those_of_training():
    config = compose(*SMALL, name="gallery")
    data, task = instantiate(config.data), instantiate(config.task)
    data.prepare_data()
    pieces, settings = contact_sheet.random_examples(task, data, 5)
    assert pieces.images.shape == pieces.counts.shape == (5, 1, 64, 64)
    training = data.images("train", 5)
    np.testing.assert_array_equal(settings["dose"], [training[n]["settings"]["dose"] for n in range(5)])
    assert settings["defocus"].shape == (5, 1)


def test_a_micrograph_is_cut_and_normalised_as_examples_are(rng):
    task = instantiate(compose(*SMALL, name="gallery").task)
    image = 500.0 + 30.0 * rng.normal(size=(70, 140)) + np.linspace(0.0, 50.0, 140)
    pieces = cut(Micrograph(image, 0.2, "a", Path("a.tif")), task, 64)
    assert pieces.counts.shape == (2, 1, 64, 64)
    np.testing.assert_allclose(pieces.counts[1, 0], image[3:67, 70:134], rtol=1e-6)
    np.testing.assert_allclose(pieces.images.mean(axis=(1, 2, 3)), 0.0, atol=0.02)
    np.testing.assert_allclose(pieces.images.std(axis=(1, 2, 3)), 1.0, atol=0.02)
    brighter = cut(Micrograph(7.0 * image + 100.0, 0.2, "a", Path("a.tif")), task, 64)
    np.testing.assert_allclose(brighter.images, pieces.images, atol=1e-3)


def test_the_command_writes_one_picture_over_an_older_one(tmp_path, start):
    save_micrograph(tmp_path / "my image.npy")
    (tmp_path / "gallery-graphene.png").write_bytes(b"older")
    status, stdout, stderr = start("hrtem", "gallery", *SMALL, "micrograph=my image.npy", "sampling=0.15")
    assert status == 0, stderr
    assert "The sheet is in gallery-graphene.png" in stdout
    assert "my image.npy beside 10 training examples" in stdout
    picture = imread(tmp_path / "gallery-graphene.png")
    assert picture.shape[0] > 6 * 256
    assert {path.name for path in tmp_path.iterdir()} == {"my image.npy", "gallery-graphene.png"}


def test_help(start):
    status, stdout, _ = start("hrtem", "gallery", "--help")
    assert status == 0
    assert "gallery" in stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["galery"], "the first word must be probabilities, counts or one of the form key=value, got galery."),
        (["sample=wood"], "Could not find 'sample/wood'"),
        (["wavs=3"], "wavs"),
        (["waves=0"], "waves must be a whole number of at least 1, got 0."),
        (["examples=few"], "examples must be a whole number of at least 1, got few."),
        (["focal=0"], "focal must be a whole number of images"),
        (["output=sheet.jpg"], "output must be a PNG file, and sheet.jpg does not end in .png."),
        (["output=none/sheet.png"], "output must lie in a folder that exists, and none does not."),
        (["output=folder.png"], "output must be a PNG file, and folder.png is a folder."),
        (["micrograph=none.tif"], "none.tif does not exist."),
        (["micrograph=text.npy"], "text.npy cannot be read as NPY"),
        (["micrograph=good.npy"], "good.npy does not say its pixel size"),
        (["micrograph=good.npy", "sampling=wide"], "sampling must be one number"),
        (["micrograph=good.npy", "sampling=0.05"], "micrograph must be at least 12.8 Å a side"),
        (["micrograph=good.npy", "sampling=0.2", "focal=3"], "as many images as focal = 3 says"),
        (["micrograph=own.png", "sampling=0.2", "output=own.png"], "output must not overwrite"),
    ],
)
def test_mistakes_are_told_in_one_sentence(tmp_path, start, words, sentence):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "text.npy").write_text("no array")
    save_micrograph(tmp_path / "good.npy")
    imsave(tmp_path / "own.png", np.random.default_rng(0).integers(0, 255, (100, 100), dtype=np.uint8))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    status, _, stderr = start("hrtem", "gallery", *(TINY if "=" in words[0] else []), *words)
    assert status == 2
    assert sentence in told(stderr)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


COMMANDS = re.findall(r"^hrtem gallery (.*)$", PAGE.read_text(), flags=re.MULTILINE)


def test_the_page_names_its_pictures_and_commands():
    text = PAGE.read_text()
    assert len(COMMANDS) >= 2
    for path in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (PAGE.parent / path).exists(), path
        assert not path.endswith(".png") or (PAGE.parent / path).stat().st_size < 700_000


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_work_on_the_real_images(tmp_path, start, command):
    where = os.environ.get("HRTEM_REAL_DATA")
    if not where:
        pytest.skip("HRTEM_REAL_DATA is unset: no real micrographs on this machine")
    words = shlex.split(command.replace("$HRTEM_REAL_DATA", where))
    (tmp_path / "docs").mkdir()
    status, stdout, stderr = start("hrtem", "gallery", *words, *SMALL)
    assert status == 0, stderr
    assert "image.tif beside 10 training examples" in stdout
    (picture,) = (tmp_path / "docs").iterdir()
    assert imread(picture).shape[0] > 6 * 256

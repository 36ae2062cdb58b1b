"""`predict.py` as a user starts it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from conftest import ROOT, told
from skimage.io import imread, imsave
from untrained import micrograph, save

from benchmarks.inference import SAMPLING, sheet
from hrtem import provenance
from hrtem.api import Model
from hrtem.errors import InputError
from hrtem.matching import score_files


@pytest.fixture
def predict(start):
    """Run `python predict.py` with some words: status, stdout, stderr."""
    return lambda *words: start("predict.py", *words)


@pytest.fixture
def checkpoint(configuration, tmp_path):
    return save(configuration, tmp_path / "graphene.ckpt", "peaks.threshold=0.0")


def only(folder: Path) -> Path:
    (found,) = (folder / "predictions").iterdir()
    return found


@pytest.mark.parametrize("kind", ["tif", "npy", "png"])
def test_an_image_becomes_a_table_and_an_overlay(tmp_path, predict, checkpoint, kind):
    image = micrograph()
    path = tmp_path / f"flake.{kind}"
    if kind == "tif":
        tifffile.imwrite(path, image, imagej=True, resolution=(1 / 0.015, 1 / 0.015), metadata={"unit": "nm"})
    elif kind == "npy":
        np.save(path, image)
    else:
        imsave(path, ((image - image.min()) / np.ptp(image) * 65535).astype(np.uint16), check_contrast=False)
    words = [] if kind == "tif" else ["sampling=0.15"]
    status, _, stderr = predict(f"checkpoint={checkpoint}", f"images={path}", *words)
    assert status == 0, stderr
    folder = only(tmp_path)
    with (folder / "flake" / "atoms.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "frame",
        "id",
        "x_A",
        "y_A",
        "x_px",
        "y_px",
        "class",
        "probability",
        "p_C",
        "sigma_pm",
        "in_domain",
        "cell_a",
        "cell_b",
        "motif",
        "u_x_A",
        "u_y_A",
        "e_xx",
        "e_yy",
        "e_xy",
        "rotation_deg",
    ]
    for row in rows:
        assert row["p_C"] == row["probability"]
        assert float(row["x_A"]) == pytest.approx(0.15 * float(row["x_px"]), abs=2e-3)
        assert -0.5 <= float(row["x_px"]) <= 89.5
        assert -0.5 <= float(row["y_px"]) <= 99.5
        assert row["class"] == "C"
        assert 0.0 <= float(row["probability"]) <= 1.0
    picture = imread(folder / "flake" / "overlay.png")
    assert picture.shape[0] / picture.shape[1] == pytest.approx(100 / 90, rel=0.02)
    assert np.ptp(picture[..., :3].astype(int), axis=2).max() > 50  # rings are coloured, the image is grey
    assert f"{len(rows)} C" in (folder / "run.log").read_text()
    assert "0.1500 Å/px" in (folder / "run.log").read_text()
    assert {path.name for path in folder.iterdir()} == {"flake", "provenance.json", "run.log", "settings.yaml"}
    assert {path.name for path in (folder / "flake").iterdir()} == {
        "atoms.cif", "atoms.csv", "atoms.extxyz", "atoms.parquet", "maps.hspy", "overlay.png", "overlay.svg",
        "report.html",
    }  # fmt: skip
    digest = provenance.sha256(checkpoint)
    assert json.loads((folder / "provenance.json").read_text())["model_sha256"] == digest
    settings = yaml.safe_load((folder / "settings.yaml").read_text())
    assert (settings["model_sha256"], settings["symmetric"]) == (digest, False)
    assert settings["images_sha256"] == {str(path): provenance.sha256(path)}
    assert digest in (folder / "flake" / "report.html").read_text()


def test_several_checkpoints_answer_together(configuration, tmp_path, predict, checkpoint):
    save(configuration, tmp_path / "wide.ckpt", "target.radius=0.7")
    np.save(tmp_path / "a.npy", micrograph())
    words = ["images=a.npy", "sampling=0.15"]
    refused(predict("checkpoint=[graphene.ckpt,wide.ckpt]", *words), tmp_path, ["same target", "0.7"])
    status, _, stderr = predict("checkpoint=[graphene.ckpt,graphene.ckpt]", *words, "symmetric=true")
    assert status == 0, stderr
    folder = only(tmp_path)
    assert len((folder / "a" / "atoms.csv").read_text().splitlines()) > 1
    assert len(json.loads((folder / "provenance.json").read_text())["model_sha256"]) == 2 * 64 + 1


def test_any_file_name(tmp_path, predict, checkpoint):
    name = "flake (1), 80 kV = good, 'best'.npy"
    np.save(tmp_path / name, micrograph())
    status, _, stderr = predict(f"checkpoint={checkpoint}", f"images={name}", "sampling=0.15", "output=out")
    assert status == 0, stderr
    assert (tmp_path / "out" / name.removesuffix(".npy") / "atoms.csv").exists()


def test_several_images_of_one_name_in_one_call(tmp_path, predict, checkpoint):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x.npy", micrograph())
    status, _, stderr = predict(f"checkpoint={checkpoint}", "images=[a/x.npy,b/x.npy]", "sampling=0.15", "output=out")
    assert status == 0, stderr
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"x", "x-2"}


def test_several_names_without_a_key(tmp_path, predict, checkpoint):
    for name in ("${x}", "a,b"):
        np.save(tmp_path / f"{name}.npy", micrograph())
    status, _, stderr = predict(f"checkpoint={checkpoint}", "${x}.npy", "a,b.npy", "sampling=0.15", "output=out")
    assert status == 0, stderr
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"${x}", "a,b"}


def test_a_run_that_is_stopped_leaves_nothing_and_goes_on(tmp_path, predict, checkpoint, monkeypatch):
    from hrtem import report

    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", micrograph())
    words = [f"checkpoint={checkpoint}", "images=[a.npy,b.npy]", "sampling=0.15", "output=out"]
    overlay = report.files.overlay

    def killed(image, columns, sampling, path, marks=()):
        if path.parent.name == ".b.partial":
            os.kill(os.getpid(), signal.SIGTERM)
        return overlay(image, columns, sampling, path, marks)

    monkeypatch.setattr(report.files, "overlay", killed)
    status, _, stderr = predict(*words)
    assert status == 143
    assert "out was not made" in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    status, stdout, stderr = predict(*words)
    assert status == 0, stderr
    assert "a is there already" in stdout
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"a", "b"}
    assert not list(tmp_path.glob(".*"))


def test_a_focal_series_in_one_stack(configuration, tmp_path, predict):
    checkpoint = save(configuration, tmp_path / "mos2.ckpt", "sample=mos2", "focal=3", "peaks.threshold=0.0")
    np.save(tmp_path / "series.npy", np.stack([micrograph() * (1 + 0.1 * n) for n in range(3)]))
    status, _, stderr = predict(f"checkpoint={checkpoint}", "images=series.npy", "sampling=0.15")
    assert status == 0, stderr
    assert (only(tmp_path) / "series" / "atoms.csv").exists()


@pytest.mark.parametrize(
    ("name", "content", "words", "named"),
    [
        ("a.npy", micrograph(), [], ["a.npy", "sampling="]),
        ("a.npy", micrograph(), ["sampling=-1"], ["sampling", "-1"]),
        ("a.npy", np.ones((64, 64)), ["sampling=0.2"], ["a.npy", "constant"]),
        ("a.npy", np.full((64, 64), np.nan), ["sampling=0.2"], ["a.npy", "NaN"]),
        ("a.npy", np.zeros((64, 64), complex), ["sampling=0.2"], ["a.npy", "complex"]),
        ("a.npy", b"", ["sampling=0.2"], ["a.npy", "empty"]),
        ("a.tif", b"not an image at all", ["sampling=0.2"], ["a.tif"]),
        ("a.dm3", b"renamed text", ["sampling=0.2"], ["a.dm3"]),
        ("a.xyz", b"1\n\nC 0 0 0\n", ["sampling=0.2"], ["a.xyz", ".tif"]),
        ("b.npy", micrograph(), ["sampling=0.2"], ["a.npy"]),
    ],
)
def test_a_bad_image_is_refused_in_one_sentence(tmp_path, predict, checkpoint, name, content, words, named):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    given = name if name != "b.npy" else "a.npy"  # the last one does not exist
    status, _, stderr = predict(f"checkpoint={checkpoint}", f"images={given}", *words)
    refused((status, "", stderr), tmp_path, named)


def refused(done, folder, named):
    status, _, stderr = done
    assert status != 0
    assert all(word.lower() in told(stderr).lower() for word in named), stderr
    assert not (folder / "predictions").exists()


def test_a_focal_series_model_refuses_one_image(configuration, tmp_path, predict):
    checkpoint = save(configuration, tmp_path / "series.ckpt", "focal=3")
    np.save(tmp_path / "a.npy", micrograph())
    status, _, stderr = predict(f"checkpoint={checkpoint}", "images=a.npy", "sampling=0.15")
    refused((status, "", stderr), tmp_path, ["focal series of 3", "a.npy", "1"])


def test_what_is_no_checkpoint_is_refused(tmp_path, predict):
    np.save(tmp_path / "a.npy", micrograph())
    (tmp_path / "bad.ckpt").write_text("no")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.ckpt")
    for name in ("bad.ckpt", "other.ckpt", "none.ckpt"):
        refused(predict(f"checkpoint={name}", "images=a.npy", "sampling=0.15"), tmp_path, [name])


def test_missing_and_unknown_words_are_refused(tmp_path, predict, checkpoint):
    np.save(tmp_path / "a.npy", micrograph())
    refused(predict("images=a.npy"), tmp_path, ["checkpoint"])
    refused(predict(f"checkpoint={checkpoint}", "images=a.npy", "samplin=0.1"), tmp_path, ["samplin"])
    refused(
        predict(f"checkpoint={checkpoint}", "images=a.npy", "sampling=0.15", "device=quantum"),
        tmp_path,
        ["device", "quantum"],
    )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["register=maybe"], ["register must be true or false", "maybe"]),
        (["symmetric=2"], ["symmetric must be true or false", "2"]),
        (["output=[a,b]"], ["output must be the name of one new folder"]),
        (["output=none/.."], ["output must end in the name of a new folder"]),
        (["frame=-1"], ["frame must be the number of an image of a stack", "-1"]),
        (["images=[]"], ["images must name at least one file"]),
        (["fit=maybe"], ["fit must be true or false", "maybe"]),
        (["fit=true", "task=dynamics"], ["fit=true is for images and focal series"]),
        (["fit=true", "known.Cc=1"], ["known.Cc is no word of the recipe"]),
        (["fit=true", "known.defocus=[1,2]"], ["known.defocus must have 1 values"]),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(tmp_path, predict, checkpoint, words, named):
    np.save(tmp_path / "a.npy", micrograph())
    images = [] if any(word.startswith("images=") for word in words) else ["images=a.npy"]
    refused(predict(f"checkpoint={checkpoint}", *images, "sampling=0.15", *words), tmp_path, named)
    assert {path.name for path in tmp_path.iterdir()} == {"a.npy", checkpoint.name}


def test_a_fit_that_fails_leaves_the_answer_of_the_network(tmp_path, predict, checkpoint, monkeypatch):
    def fail(*_):
        raise InputError("fit needs 9 GiB.")

    monkeypatch.setattr(Model, "fit", fail)
    np.save(tmp_path / "a.npy", micrograph())
    status, _, stderr = predict(f"checkpoint={checkpoint}", "a.npy", "sampling=0.15", "fit=true", "output=out")
    assert status == 2
    assert "fit needs 9 GiB." in stderr
    assert len((tmp_path / "out" / "a" / "atoms.csv").read_text().splitlines()) > 1


def test_an_output_that_exists_is_kept(tmp_path, predict, checkpoint):
    np.save(tmp_path / "a.npy", micrograph())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("data")
    status, _, stderr = predict(f"checkpoint={checkpoint}", "images=a.npy", "sampling=0.15", "output=out")
    refused((status, "", stderr), tmp_path, ["output", "out", "exists"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious"]


def test_a_real_micrograph_goes_through(tmp_path, predict, checkpoint):
    where = os.environ.get("HRTEM_REAL_DATA")
    if not where:
        pytest.skip("HRTEM_REAL_DATA is unset: no real micrographs on this machine")
    flower = Path(where) / "real" / "graphene_flower"
    status, _, stderr = predict(f"checkpoint={checkpoint}", f"images={flower / 'image.dm3'}", "sampling=0.2188")
    assert status == 0, stderr
    result = score_files(
        only(tmp_path) / "image" / "atoms.csv", flower / "atoms.csv", 0.2188, mask=flower / "evalmask.png"
    )
    assert result.true == 733


@pytest.mark.slow
def test_a_process_of_its_own(tmp_path, checkpoint):
    np.save(tmp_path / "a.npy", micrograph())
    words = [f"checkpoint={checkpoint}", "images=a.npy", "sampling=0.15"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "predict.py"), *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert str(only(tmp_path).relative_to(tmp_path)) in done.stdout


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_image_leaves_the_others(tmp_path, predict, checkpoint, place):
    names = ["a.npy", "b.npy", "c.npy"]
    for name in names:
        np.save(tmp_path / name, micrograph())
    cut = tmp_path / names[place]
    cut.write_bytes(cut.read_bytes()[:3000])
    words = [f"checkpoint={checkpoint}", "images=[a.npy,b.npy,c.npy]", "sampling=0.15", "output=out"]
    status, _, stderr = predict(*words, "on_error=stop")
    assert (status, names[place] in told(stderr), (tmp_path / "out").exists()) == (2, True, False)
    status, stdout, stderr = predict(*words)
    assert status == 2
    assert "lacks 1 item" in told(stderr)
    assert names[place] in told(stderr)
    assert names[place] in stdout.split("Could not be used:")[1]
    assert names[place] in (tmp_path / "out" / "run.log").read_text()
    done = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert done == {"a", "b", "c"} - {cut.stem}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_frame_leaves_the_others(tmp_path, predict, checkpoint, place):
    frames = np.stack([micrograph()] * 3)
    frames[place] = 1.0
    np.save(tmp_path / "film.npy", frames)
    status, _, stderr = predict(f"checkpoint={checkpoint}", "images=film.npy", "sampling=0.15", "output=out")
    assert status == 2
    assert f"frame {place}, is constant" in told(stderr)
    with (tmp_path / "out" / "film" / "atoms.csv").open() as file:
        assert {row["frame"] for row in csv.DictReader(file)} == {"0", "1", "2"} - {str(place)}
    assert not list((tmp_path / "out").glob("*.frames"))


def test_noise_has_an_answer(tmp_path, predict):
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).poisson(100, (256, 256)).astype(np.float32))
    status, stdout, stderr = predict("model=graphene", "images=noise.npy", "sampling=0.2", "output=out")
    assert status == 0, stderr
    assert "no columns found" in stdout
    assert len((tmp_path / "out" / "noise" / "atoms.csv").read_text().splitlines()) == 1
    assert (tmp_path / "out" / "noise" / "report.html").exists()


@pytest.mark.parametrize(
    ("kind", "words", "sentence"),
    [
        ("one frame", [], "two frames at least"),
        ("two sizes", [], "must have one size"),
        ("nothing there", [], "does not exist"),
        ("noise", ["task=tracking"], "task must be dynamics or left out"),
        ("noise", ["frames=[0,99]"], "frames must be a list of numbers of frames from 0 to 2"),
        ("noise", ["frames=1"], "frames must be a list of numbers of frames from 0 to 2, got 1"),
        ("noise", ["frames=[true]"], "frames must be a list of numbers of frames from 0 to 2"),
        ("series model", [], "task=dynamics takes models of single images"),
    ],
)
def test_what_is_no_movie_is_refused_in_one_sentence(
    configuration, tmp_path, predict, checkpoint, kind, words, sentence
):
    path = tmp_path / "film"
    if kind in ("one frame", "two sizes"):
        path.mkdir()
        tifffile.imwrite(path / "1.tif", micrograph())
        if kind == "two sizes":
            tifffile.imwrite(path / "2.tif", micrograph((80, 90)))
    elif kind != "nothing there":
        path = tmp_path / "film.npy"
        np.save(path, np.stack([micrograph()] * 3))
    if kind == "series model":
        checkpoint = save(configuration, tmp_path / "series.ckpt", "focal=3")
    before = set(tmp_path.iterdir())
    said = words if any(word.startswith("task=") for word in words) else ["task=dynamics", *words]
    status, _, stderr = predict(f"checkpoint={checkpoint}", f"images={path}", "sampling=0.15", *said)
    assert status == 2
    assert sentence in told(stderr)
    assert set(tmp_path.iterdir()) == before


def test_a_movie_is_followed_with_one_line(tmp_path, predict):
    """Five frames of a perfect sheet, in which nothing comes or goes."""
    rng = np.random.default_rng(0)
    frames = [100.0 + 10.0 * (sheet(160) + 0.3 * rng.standard_normal((160, 160))) for _ in range(5)]
    np.save(tmp_path / "film.npy", np.stack(frames).astype(np.float32))
    words = (f"images={tmp_path / 'film.npy'}", f"sampling={SAMPLING}", "frame_time=2")
    status, stdout, stderr = predict("model=graphene", "task=dynamics", *words)
    assert status == 0, stderr
    assert "5 frames" in stdout
    assert "frames/s" in stdout
    folder = only(tmp_path) / "film"
    with (folder / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["time_s"] for row in rows] == ["0.0000", "2.0000", "4.0000", "6.0000", "8.0000"]
    assert all(row["registered"] == "1" for row in rows)
    occupied = [sum(int(row[f"occupied_{kind}"]) for kind in ("bulk", "surface", "support")) for row in rows]
    assert min(occupied) > 300
    assert np.ptp(occupied) < 0.03 * max(occupied)
    assert not list(only(tmp_path).glob("*.frames"))

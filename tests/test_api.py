"""Five lines of Python."""

from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import pytest
import torch
from untrained import micrograph, save

import hrtem
from hrtem.errors import InputError
from hrtem.micrograph import Micrograph


@pytest.fixture
def model(configuration, tmp_path):
    torch.manual_seed(0)
    return hrtem.load(save(configuration, tmp_path / "best.ckpt", "peaks.threshold=0.0"))


def test_importing_the_package_is_light():
    """The seconds that torch takes come with the first model."""
    code = "import sys, hrtem; print(sorted({'torch', 'numpy', 'matplotlib', 'abtem'} & set(sys.modules)), hrtem.load)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] <function load")


def test_a_file_becomes_a_table(model, tmp_path):
    np.save(tmp_path / "flake.npy", micrograph())
    table = model.find(tmp_path / "flake.npy", sampling=0.15)
    assert model.classes == ("C",)
    assert model.focal == 1
    assert len(table) > 10
    for values in (table.x, table.y, table.classes, table.probability, table.sigma_pm, table.count):
        assert values.shape == (len(table),)
    np.testing.assert_allclose(table.x_px * 0.15, table.x)
    np.testing.assert_allclose(table.y_px * 0.15, table.y)
    assert set(table.classes) == {"C"}
    assert table.x_px.max() <= 89.5
    assert table.y_px.max() <= 99.5
    assert table.in_domain is None  # an untrained network knows no images
    rows = list(table)
    assert len(rows) == len(table)
    assert rows[3].x == table.x[3]
    assert rows[3].name == "C"
    assert isinstance(rows[3].probability, float)
    assert f"{len(table)} C" in repr(table)
    assert table.structure is table.structure
    assert len(table.structure.fields["u_x_A"]) == len(table)


def test_the_table_is_that_of_predict(model, tmp_path):
    table = model.find(micrograph(), sampling=0.15)
    assert table.to_csv(str(tmp_path / "atoms.csv")) == tmp_path / "atoms.csv"
    with (tmp_path / "atoms.csv").open() as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose([float(row["x_A"]) for row in rows], table.x, atol=1e-3)
    np.testing.assert_allclose([float(row["y_px"]) for row in rows], table.y_px, atol=1e-3)
    assert [row["class"] for row in rows] == table.classes.tolist()


def test_an_array_a_file_and_a_micrograph_are_the_same(model, tmp_path):
    image = micrograph()
    np.save(tmp_path / "a.npy", image)
    ways = (
        model.find(image, sampling=0.15),
        model.find(str(tmp_path / "a.npy"), sampling=0.15),
        model.find(Micrograph(image, None, "a", "a.npy"), sampling=0.15),
        model.find(Micrograph(image, 0.15, "a", "a.npy")),
    )
    for table in ways:
        np.testing.assert_array_equal(table.x, ways[0].x)


def test_mistakes_are_told(model, tmp_path):
    with pytest.raises(InputError, match="pixel size"):
        model.find(micrograph())
    with pytest.raises(InputError, match="constant"):
        model.find(np.ones((64, 64)), sampling=0.2)
    with pytest.raises(InputError, match="nowhere"):
        hrtem.load("nowhere")
    with pytest.raises(InputError, match="missing"):
        model.find(micrograph(), sampling=0.15).to_csv(tmp_path / "missing" / "atoms.csv")


@pytest.fixture
def series_model(configuration, tmp_path):
    torch.manual_seed(0)
    return hrtem.load(save(configuration, tmp_path / "series.ckpt", "focal=3", "peaks.threshold=0.0"))


def drifted():
    """A focal series of one structure whose images lie 2 Å apart, from overfocus to underfocus."""
    whole = micrograph((130, 130)) + 60.0 * np.random.default_rng(1).normal(size=(130, 130)).astype(np.float32)
    return np.stack([whole[13 * n : 13 * n + 100, 13 * n : 13 * n + 100] for n in (0, 1, 2)])


def test_an_array_is_registered_as_a_file_is(series_model, tmp_path):
    images = drifted()
    np.save(tmp_path / "series.npy", images)
    for n, image in enumerate(images):
        np.save(tmp_path / f"part{n}.npy", image)
    by_array = series_model.find(images, sampling=0.15)
    assert np.abs(np.abs(by_array.prediction.micrograph.shifts[[0, 2]]) - 1.95).max() < 0.05
    parts = [tmp_path / f"part{n}.npy" for n in range(3)]
    for other in (tmp_path / "series.npy", str(tmp_path / "series.npy"), parts, [parts]):
        np.testing.assert_array_equal(series_model.find(other, sampling=0.15).x, by_array.x)
    unmoved = series_model.find(images, sampling=0.15, register=False)
    assert unmoved.prediction.micrograph.shifts is None
    turned = series_model.find(images[::-1], sampling=0.15, defocus=[40.0, 0.0, -40.0])
    np.testing.assert_array_equal(turned.x, by_array.x)
    assert turned.prediction.micrograph.acquisition.defocus == (-40.0, 0.0, 40.0)


def test_a_movie_a_list_and_a_folder_give_a_table_each(model, tmp_path):
    images = drifted()
    (tmp_path / "folder").mkdir()
    for n, image in enumerate(images):
        np.save(tmp_path / "folder" / f"{n}.npy", image)
    np.save(tmp_path / "movie.npy", images)
    files = sorted((tmp_path / "folder").iterdir())
    expected = [model.find(file, sampling=0.15) for file in files]
    for several in (files, tmp_path / "folder", tmp_path / "movie.npy", images):
        tables = model.find(several, sampling=0.15)
        assert len(tables) == 3
        for table, one in zip(tables, expected, strict=True):
            np.testing.assert_array_equal(table.x, one.x)
    assert len(model.find(files[:1], sampling=0.15)) == 1


def test_warnings_are_those_of_the_command(model, start, tmp_path):
    """Of an image of the lattice of graphene whose pixel size is said 1.2 times too large."""
    x = np.arange(256) * 0.15
    waves = sum(
        np.cos(2 * np.pi / 2.13 * (x[None] * np.cos(angle) + x[:, None] * np.sin(angle)))
        for angle in np.radians([10.0, 70.0, 130.0])
    )
    np.save(tmp_path / "sheet.npy", (100.0 + 10.0 * waves).astype(np.float32))
    table = model.find(tmp_path / "sheet.npy", sampling=0.18)
    (warning,) = table.warnings
    assert "looks wrong by a factor of 0.83" in warning
    assert not model.find(tmp_path / "sheet.npy", sampling=0.15).warnings
    status, stdout, stderr = start("hrtem", "find", "checkpoint=best.ckpt", "images=sheet.npy", "sampling=0.18")
    assert status == 0, stderr
    assert warning.replace(str(tmp_path) + "/", "") in stdout


def test_a_table_as_a_data_frame_and_as_all_files(model, tmp_path):
    import pandas

    table = model.find(micrograph(), sampling=0.15)
    frame = table.to_pandas()
    table.to_csv(tmp_path / "atoms.csv")
    written = pandas.read_csv(tmp_path / "atoms.csv")
    assert list(frame) == list(written)
    np.testing.assert_allclose(frame["x_A"], written["x_A"])
    assert frame["class"].tolist() == ["C"] * len(table)
    folder = table.write(tmp_path / "out")
    assert {path.name for path in folder.iterdir()} >= {"atoms.csv", "atoms.cif", "overlay.png", "report.html"}
    with pytest.raises(InputError, match="new folder"):
        table.write(folder)


def test_finding_imports_neither_training_nor_simulation(model, tmp_path):
    np.save(tmp_path / "a.npy", micrograph())
    code = (
        "import sys, hrtem; hrtem.load('best.ckpt').find('a.npy', sampling=0.15); "
        "slow = {'pytorch_lightning', 'wandb', 'dask', 'distributed', 'abtem', 'torch._dynamo'}; "
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_file_that_is_a_folder_on_disk_gives_one_table(model, tmp_path):
    import zarr

    zarr.save(str(tmp_path / "a.zarr"), micrograph())
    np.testing.assert_array_equal(
        model.find(tmp_path / "a.zarr", sampling=0.15).x, model.find(micrograph(), sampling=0.15).x
    )


def test_a_series_is_registered_once(series_model, start, tmp_path, monkeypatch):
    from hrtem.micrograph import series

    calls, register = [], series.register_series
    monkeypatch.setattr(series, "register_series", lambda one: calls.append(one) or register(one))
    np.save(tmp_path / "series.npy", drifted())
    series_model.find(tmp_path / "series.npy", sampling=0.15)
    assert len(calls) == 1
    status, _, stderr = start("hrtem", "find", "checkpoint=series.ckpt", "images=series.npy", "sampling=0.15")
    assert status == 0, stderr
    assert len(calls) == 2

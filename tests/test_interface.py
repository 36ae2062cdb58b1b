"""Five lines of Python."""

from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_predict import micrograph, save

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

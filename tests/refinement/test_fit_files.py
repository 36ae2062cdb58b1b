"""Files of a fit, and the command that makes them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import recipe
from hydra.utils import instantiate
from imageio.v3 import imread

from hrtem.columns import Columns
from hrtem.imaging import Imaging
from hrtem.refinement import Refinement, Setting
from hrtem.refinement.files import list_settings, write_fit
from hrtem.waves import Multislice


def result(better):
    images = np.random.default_rng(0).normal(size=(2, 40, 50))
    return Refinement(
        Columns(np.zeros((1, 2)), np.zeros(1, int), ("Au",)), better, (1.05, 1.01),
        (Setting("Cs", -1.23456e5, -1.3e5, -1.1e5, "Å"), Setting("tilt_x", 0.51234, 0.49, 0.53, "degrees")),
        (0, 0), images, images, images, np.ones((40, 50), bool), 1.02, 0.2,
    )  # fmt: skip


def test_the_files_say_what_was_fitted(tmp_path):
    write_fit(result(True), tmp_path)
    facts = json.loads((tmp_path / "fit.json").read_text())
    assert facts["better_than_the_network"] is True
    assert facts["held_out"] == {"network": 1.05, "fit": 1.01}
    assert facts["settings"]["tilt_x"] == {"value": 0.51234, "interval_90": [0.49, 0.53], "unit": "degrees"}
    height, width = imread(tmp_path / "fit.png").shape[:2]
    assert width > 1000
    assert height > 500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fit.json", "fit.png"]


def test_the_page_has_values_with_the_digits_that_mean_something():
    texts = list_settings(result(True))
    assert texts["Cs"] == "-123456 (-130000 to -110000) Å"
    assert texts["tilt_x"] == "0.512 (0.490 to 0.530) degrees"


def test_an_answer_that_stays_is_told():
    assert result(True).warnings == ()
    (sentence,) = result(False).warnings
    assert "the network's answer stays" in sentence


@pytest.mark.slow
def test_the_command_fits_a_sheet(tmp_path, start):
    config = recipe("sample=graphene", "sample.extent=25.6", "noise=counting")
    sample, optics, noise = (instantiate(config[name], _convert_="all") for name in ("sample", "optics", "noise"))
    atoms, true = sample(np.random.default_rng(5))
    imaging = Imaging(optics, noise, 0.2, 0)
    settings = imaging.draw(np.random.default_rng(0), 1e4)
    batch = {name: torch.as_tensor(value)[None] for name, value in settings.items()}
    counts = imaging.simulate_counts(torch.from_numpy(Multislice(optics.energy, 0.2)(atoms))[None], batch)[0, 0]
    np.savez(tmp_path / "a.npz", image=counts.numpy(), sampling=0.2)
    status, stdout, stderr = start("hrtem", "find", "model=graphene", "images=a.npz", "fit=true", "output=out")
    assert status == 0, stderr
    assert "microscope fitted" in stdout
    facts = json.loads((tmp_path / "out" / "a" / "fit.json").read_text())
    assert facts["chi_squared"] == pytest.approx(1.0, abs=0.1)
    defocus = facts["settings"]["defocus_1"]
    assert defocus["interval_90"][0] < defocus["value"] < defocus["interval_90"][1]
    assert "fit.Cs" in (tmp_path / "out" / "a" / "report.html").read_text()
    assert len((tmp_path / "out" / "a" / "atoms.csv").read_text().splitlines()) > 0.8 * len(true)

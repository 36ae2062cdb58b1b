"""Tables and pictures."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from skimage.io import imread

from hrtem import report
from hrtem.calibration import Reliability
from hrtem.columns import Columns
from hrtem.metrics import Score


def columns():
    return Columns([[1.0, 2.0], [3.0, 0.5]], [0, 1], ("Mo", "S2"), probabilities=[0.9, 0.75], sigmas=[0.08, 0.125])


def test_table(tmp_path):
    report.write_table(columns(), 0.25, tmp_path / "atoms.csv", in_domain=False)
    with (tmp_path / "atoms.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["x_A", "y_A", "x_px", "y_px", "class", "probability", "sigma_pm", "in_domain"],
        ["1.0000", "2.0000", "4.000", "8.000", "Mo", "0.9000", "8.00", "0"],
        ["3.0000", "0.5000", "12.000", "2.000", "S2", "0.7500", "12.50", "0"],
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["atoms.csv"]


def test_reliability(tmp_path):
    metric = Reliability(0.45, groups=2)
    metric.update([columns()], [columns()], 4.0, 4.0, [1])
    diagrams = dict(zip(("all", "1000", "3000"), metric.diagrams(), strict=True))
    report.save_reliability(diagrams, tmp_path)
    saved = json.loads((tmp_path / "reliability.json").read_text())
    assert saved["1000"]["candidates"] == 0
    assert saved["3000"]["number"] == [1]
    assert saved["3000"]["brier"] == pytest.approx(0.01)
    assert (tmp_path / "reliability.png").stat().st_size > 5_000


def test_rings_lie_around_the_columns(tmp_path):
    """A ring of 0.35 Å radius is drawn around (x, y), x to the right and y down."""
    image = np.random.default_rng(0).normal(size=(60, 80))
    one = Columns([[5.0, 3.0]], [0], ("C",))
    picture = imread(report.overlay(image, one, 0.1, tmp_path / "overlay.png"))[..., :3].astype(float)
    coloured = np.argwhere(np.ptp(picture, axis=2) > 60)
    scale = picture.shape[1] / 80
    assert picture.shape[0] / scale == 60
    centre = (coloured.min(axis=0) + coloured.max(axis=0)) / 2 / scale - 0.5
    np.testing.assert_allclose(centre, [30.0, 50.0], atol=0.5)
    assert abs(np.ptp(coloured[:, 0]) / scale - 7.0) < 0.5


def scores():
    score = Score(0.9, 0.8, 0.847, 12.0, 100, 110)
    return {1e3: {"all": score, "Mo": score, "S2": score}}


def test_scores_are_printed_and_saved(tmp_path, capsys):
    report.print_scores(scores())
    printed = capsys.readouterr().out
    for word in ("1,000", "all", "Mo", "S2", "0.900", "0.800", "0.847", "12.0"):
        assert word in printed
    report.save_scores(scores(), tmp_path / "metrics.json")
    saved = json.loads((tmp_path / "metrics.json").read_text())
    assert saved["1000"]["S2"]["f1"] == 0.847

"""Matching and scores of a result, with answers worked out by hand."""

from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import pytest
from skimage.io import imsave

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.matching import match, score, score_files


def xy(*points):
    return np.array(points, dtype=float).reshape(-1, 2)


def test_matching_is_one_to_one():
    i, j = match(xy((0, 0), (0.1, 0)), xy((0, 0)))
    assert (list(i), list(j)) == ([0], [0])


def test_matching_prefers_more_pairs_to_shorter_ones():
    # Nearest first would pair b with A and leave a and B alone.
    found, true = xy((0.0, 0), (0.4, 0)), xy((0.35, 0), (0.85, 0))
    i, j = match(found, true)
    assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 0), (1, 1)]


def test_matching_prefers_the_shorter_of_equally_many():
    i, j = match(xy((0, 0), (0.3, 0)), xy((0.05, 0), (0.25, 0)))
    assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 0), (1, 1)]


def test_tolerance_and_empty_sets():
    assert len(match(xy((0, 0)), xy((0.51, 0)))[0]) == 0
    assert len(match(xy((0, 0)), xy((0.49, 0)))[0]) == 1
    assert len(match(xy(), xy((0, 0)))[0]) == 0


def test_matching_agrees_with_brute_force(rng):
    from itertools import permutations

    for _ in range(50):
        found, true = rng.uniform(0, 1.2, size=(4, 2)), rng.uniform(0, 1.2, size=(4, 2))
        distance = np.linalg.norm(found[:, None] - true[None], axis=2)
        best = max(
            (sum(d <= 0.5 for d in row), -sum(d for d in row if d <= 0.5))
            for p in permutations(range(4))
            for row in [[distance[k, p[k]] for k in range(4)]]
        )
        i, j = match(found, true)
        assert len(i) == best[0]
        assert distance[i, j].sum() == pytest.approx(-best[1])


def test_score_by_hand():
    true = xy((0, 0), (2, 0), (4, 0), (6, 0))
    found = xy((0.3, 0), (2, 0.4), (5, 0))
    result = score(found, true)
    assert result.precision == pytest.approx(2 / 3)
    assert result.recall == pytest.approx(2 / 4)
    assert result.f1 == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert result.error_pm == pytest.approx(100 * np.sqrt((0.3**2 + 0.4**2) / 2))
    assert (result.found, result.true) == (3, 4)


def test_score_with_mask_and_trusted_atoms():
    """Recall over trusted atoms, precision over all listed ones, found columns outside the mask left out."""
    mask = np.zeros((10, 10), bool)
    mask[:, :8] = True
    true = xy((0.2, 0.2), (1.0, 1.0), (1.4, 0.2))
    trusted = np.array([True, False, True])
    found = xy((0.2, 0.2), (1.0, 1.0), (1.8, 1.8), (0.4, 1.4))
    result = score(found, true, trusted=trusted, mask=mask, sampling=0.2)
    assert result.found == 3  # (1.8, 1.8) Å is pixel (9, 9), outside
    assert result.precision == pytest.approx(2 / 3)
    assert result.recall == pytest.approx(1 / 2)
    assert result.error_pm == 0.0


def test_nothing_found_scores_zero():
    assert score(xy(), xy((0, 0))).f1 == 0.0


def columns(points, labels, classes=("Mo", "S")):
    return Columns(xy(*points), np.array(labels, int), classes)


def write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_files_are_scored(tmp_path):
    mask = np.zeros((20, 20), np.uint8)
    mask[:, :15] = 255
    imsave(tmp_path / "mask.png", mask, check_contrast=False)
    truth = write(tmp_path / "truth.csv", ["x_px", "y_px", "trusted"], [[5, 5, 1], [10, 5, 0], [5, 15, 1]])
    found = write(tmp_path / "atoms.csv", ["x_A", "y_A", "x_px", "y_px"], [[1, 1, 5, 6], [0, 0, 10, 5], [0, 0, 18, 5]])
    result = score_files(found, truth, sampling=0.2, mask=tmp_path / "mask.png")
    assert (result.precision, result.recall, result.found, result.true) == (1.0, 0.5, 2, 2)
    assert result.error_pm == pytest.approx(20.0)
    words = [sys.executable, "-m", "hrtem", "score", str(found), str(truth), "0.2", str(tmp_path / "mask.png")]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "F1 0.667" in printed


def test_a_bad_table_is_refused(tmp_path):
    table = write(tmp_path / "a.csv", ["x", "y"], [[1, 2]])
    with pytest.raises(InputError, match="x_px"):
        score_files(table, table, sampling=0.2)
    with pytest.raises(InputError, match="does not exist"):
        score_files(tmp_path / "none.csv", table, sampling=0.2)
    done = subprocess.run([sys.executable, "-m", "hrtem", "score", str(table)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr

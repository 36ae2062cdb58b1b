"""The table of columns that every stage passes on."""

from __future__ import annotations

import numpy as np
import pytest

from hrtem.columns import Columns


def three():
    return Columns([[0, 0], [1, 2], [3, 1]], [0, 1, 0], ["Mo", "S"], counts=[1, 2, 1])


def test_defaults():
    columns = Columns([[1, 2]], [0], ("C",))
    assert columns.counts.tolist() == [0]
    assert columns.probabilities.tolist() == [1.0]
    assert columns.positions.dtype == np.float64


def test_selection_keeps_rows_together():
    chosen = three()[np.array([False, True, True])]
    assert chosen.positions.tolist() == [[1, 2], [3, 1]]
    assert (chosen.labels.tolist(), chosen.counts.tolist()) == ([1, 0], [2, 1])


def test_probabilities_of_classes():
    said = Columns([[0, 0], [1, 2]], [1, 0], ("Mo", "S"), probabilities=[0.9, 0.6])
    assert said.class_probabilities.tolist() == [[0.0, 0.9], [0.6, 0.0]]
    shared = Columns([[0, 0], [1, 2]], [1, 0], ("Mo", "S"), class_probabilities=[[0.2, 0.7], [0.5, 0.1]])
    assert shared[[1]].class_probabilities.tolist() == [[0.5, 0.1]]
    believed = shared.with_probabilities(np.array([0.45, 0.3]))
    assert believed.probabilities.tolist() == [0.45, 0.3]
    np.testing.assert_allclose(believed.class_probabilities, [[0.1, 0.35], [0.25, 0.05]])
    nothing = Columns([[0, 0]], [1], ("Mo", "S"), probabilities=[0.0]).with_probabilities(np.array([0.3]))
    assert nothing.class_probabilities.tolist() == [[0.0, 0.3]]
    with pytest.raises(ValueError, match="2 classes"):
        Columns([[0, 0]], [0], ("Mo", "S"), class_probabilities=[[0.2]])


def test_moved_and_inside():
    columns = three().moved(three().positions + 1.0)
    assert columns.positions.tolist() == [[1, 1], [2, 3], [4, 2]]
    assert columns.inside(3.5, 3.5).tolist() == [True, True, False]
    assert columns.inside(3.5, 3.5, border=1.5).tolist() == [False, False, False]
    assert columns.inside(3.5, 3.5, border=-0.6).tolist() == [True, True, True]


def test_empty():
    assert len(Columns([], [], ("C",))) == 0


def test_lengths_and_labels_must_fit():
    with pytest.raises(ValueError, match="labels has 1"):
        Columns([[0, 0], [1, 1]], [0], ("C",))
    with pytest.raises(ValueError, match="index the 1 classes"):
        Columns([[0, 0]], [1], ("C",))

"""Scores of many images, with answers worked out by hand."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from hrtem.columns import Columns
from hrtem.metrics import ColumnMetrics


def xy(*points):
    return np.array(points, dtype=float).reshape(-1, 2)


def columns(points, labels, classes=("Mo", "S")):
    return Columns(xy(*points), np.array(labels, int), classes)


def test_confusion_and_class_scores():
    metric = ColumnMetrics(("Mo", "S"), groups=2)
    truth = columns([(5, 5), (7, 5), (9, 5)], [0, 0, 1])
    answer = columns([(5, 5.1), (7, 5), (3, 3)], [0, 1, 1])
    metric.update([answer], [truth], 20, 20, [1])
    confusion = metric.compute()["confusion"][1].tolist()
    #                   Mo   S  nothing
    assert confusion == [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    empty, scores = metric.scores()
    assert np.isnan(empty["all"].f1)
    assert scores["all"].precision == pytest.approx(2 / 3)
    assert scores["Mo"].recall == pytest.approx(1 / 2)
    assert scores["Mo"].precision == 1.0
    assert scores["S"].f1 == 0.0
    assert scores["all"].error_pm == pytest.approx(100 * np.sqrt(0.1**2 / 2))


def test_counts_are_scored_where_both_are_known():
    """Of four matched columns one has no true count; of the others one is right, one wrong by 1, one by 2."""
    places = xy((3, 3), (5, 3), (3, 5), (5, 5))
    true = Columns(places, np.zeros(4, int), ("Au",), counts=[4, 4, 4, 0])
    found = Columns(places, np.zeros(4, int), ("Au",), counts=[4, 5, 2, 7])
    metric = ColumnMetrics(("Au",), groups=2)
    metric.update([found, found[:0]], [true, true], 10.0, 10.0, [0, 1])
    counted, uncounted = metric.scores()
    assert counted["all"].count_exact == pytest.approx(1 / 3)
    assert counted["all"].count_within_one == pytest.approx(2 / 3)
    assert dict(counted["all"].qualities())["count_exact"] == counted["all"].count_exact
    assert uncounted["all"].count_exact is None
    assert [name for name, _ in uncounted["all"].qualities()] == ["precision", "recall", "f1", "error_pm"]


def test_the_border_does_not_count_but_may_be_matched():
    metric = ColumnMetrics(("C",), border=1.0)
    truth = columns([(0.9, 5), (1.1, 7), (5, 5)], [0, 0, 0], ("C",))
    answer = columns([(1.05, 5), (0.95, 7), (0.5, 9)], [0, 0, 0], ("C",))
    metric.update([answer], [truth], 20, 20, [0])
    (scores,) = metric.scores()
    # (0.9, 5) does not count and its partner is no invention; (1.1, 7) is found just outside; (5, 5) is missed.
    assert (scores["all"].precision, scores["all"].recall) == (1.0, 0.5)


def test_metric_adds_up_over_updates():
    metric, once = ColumnMetrics(("C",)), ColumnMetrics(("C",))
    pairs = [(columns([(5, 5)], [0], ("C",)), columns([(5, 5.2), (8, 8)], [0, 0], ("C",))) for _ in range(2)]
    for answer, truth in pairs:
        metric.update([answer], [truth], 20, 20, [0])
    once.update([a for a, _ in pairs], [t for _, t in pairs], 20, 20, [0, 0])
    assert metric.scores() == once.scores()


def write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path

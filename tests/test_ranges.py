"""Numbers and ranges of the recipes."""

from __future__ import annotations

import numpy as np
import pytest

from hrtem.errors import InputError
from hrtem.ranges import Range


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, Range(3.0, 3.0)),
        ([1, 5], Range(1.0, 5.0)),
        ({"low": 1, "high": 100, "log": True}, Range(1.0, 100.0, log=True)),
    ],
)
def test_parse(value, expected):
    assert Range.parse("x", value) == expected


def test_draws(rng):
    assert Range(2.0, 2.0).draw(rng) == 2.0
    values = np.array([Range(1.0, 100.0, log=True).draw(rng) for _ in range(2000)])
    assert values.min() >= 1.0
    assert values.max() <= 100.0
    assert np.median(values) == pytest.approx(10.0, rel=0.15)


def test_a_fixed_value_costs_no_random_number():
    one, other = np.random.default_rng(0), np.random.default_rng(0)
    Range(2.0, 2.0).draw(one)
    assert one.random() == other.random()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([5, 1], "swapped: 5 is above 1 Å; write \\[1, 5\\]"),
        ([1, 2, 3], "one number or a range of two"),
        ("wide", "one number or a range of two"),
        (None, "one number or a range of two"),
        (float("nan"), "finite"),
        (-1, "between 0 and 10 Å, got -1"),
        ({"low": 1}, "keys low and high"),
    ],
)
def test_refusals_name_the_thing_the_value_and_what_is_allowed(value, words):
    with pytest.raises(InputError, match=f"optics.defocus.*{words}"):
        Range.parse("optics.defocus", value, unit="Å", minimum=0.0, maximum=10.0)

"""Numbers and ranges of the recipes."""

from __future__ import annotations

import numpy as np
import pytest

from hrtem.errors import InputError
from hrtem.ranges import Range, parse_choice, parse_number, parse_whole


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


def test_a_setting_of_one_number_takes_no_range():
    assert parse_number("x", "3.5") == 3.5
    for value in ([0, 1], [2.0, 2.0], {"low": 1.0, "high": 2.0}):
        with pytest.raises(InputError, match=r"optics.energy takes one number in eV, not a range, got "):
            parse_number("optics.energy", value, unit="eV")
    with pytest.raises(InputError, match="at least 3"):
        parse_number("x", 2.0, minimum=3.0)


def test_a_whole_number_is_not_cut():
    assert parse_whole("x", 3.0) == 3
    with pytest.raises(InputError, match=r"x must be a whole number of atoms, got 2\.7"):
        parse_whole("x", 2.7, unit="atoms")


def test_a_choice_is_one_of_some_words():
    assert parse_choice("x", "a", ("a", "b")) == "a"
    with pytest.raises(InputError, match=r"x must be one of a, b, got c\."):
        parse_choice("x", "c", ("a", "b"))

"""Whole numbers from estimates with correlated errors."""

from __future__ import annotations

import numpy as np
import pytest

from hrtem.refinement.whole import round_together


def test_a_common_error_is_found_from_all_numbers(rng):
    """All numbers share an error of 0.25 and have 0.12 of their own."""
    number = 40
    covariance = 0.12**2 * np.eye(number) + 0.25**2
    true = rng.integers(1, 12, number)
    alone, together = [], []
    for _ in range(100):
        values = true + rng.multivariate_normal(np.zeros(number), covariance)
        alone.append(np.mean(np.rint(values) == true))
        together.append(np.mean(round_together(values, covariance).numbers == true))
    # Nothing tells a common error of one atom; all others are found.
    assert np.mean(alone) < 0.94
    assert np.mean(together) > 0.95
    assert np.mean(np.array(together) == 1.0) > 0.9 > np.mean(np.array(alone) == 1.0)


def test_probabilities_hold_the_truth_as_often_as_they_say(rng):
    number = 400
    true = rng.integers(3, 9, number)
    whole = round_together(true + 0.4 * rng.normal(size=number), np.diag(np.full(number, 0.4**2)))
    shares = whole.probabilities(12)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    believed = shares[np.arange(number), whole.numbers - 1]
    assert believed.mean() == pytest.approx(np.mean(whole.numbers == true), abs=0.05)


def test_numbers_beyond_all_choices_are_certain():
    whole = round_together(np.array([30.0]), np.array([[1e-4]]))
    assert whole.probabilities(12)[0, 11] == 1.0

"""Numbers in mm, nm and keV where Å and eV are meant."""

from __future__ import annotations

import logging

import pytest

from hrtem.errors import InputError
from hrtem.optics import Optics


def microscope(**settings):
    plain: dict = {"num_images": 1, "energy": 80e3, "defocus": 50.0, "dose": 1e4, "test_doses": [1e4], "Cs": 0.0}
    plain |= dict.fromkeys(("defocus_step", "astigmatism", "focal_spread", "angular_spread", "vibration"), 0.0)
    return Optics(**{**plain, **settings})


@pytest.mark.parametrize("Cs", [1.2, [-1.0, 1.0], -0.015])
def test_a_spherical_aberration_in_mm_is_refused(Cs):
    with pytest.raises(InputError, match=r"optics\.Cs is in Å"):
        microscope(Cs=Cs)


def test_the_sentence_has_the_number_in_the_right_unit():
    with pytest.raises(InputError, match=r"1\.2 mm are 1\.2e\+07"):
        microscope(Cs=1.2)
    with pytest.raises(InputError, match=r"80 keV are 80e\+3"):
        microscope(energy=80)


@pytest.mark.parametrize(
    ("defocus", "said"), [([-8, 8], True), ([0.0, 12.0], True), (8.0, False), ([-150, 150], False)]
)
def test_a_defocus_that_may_be_in_nm_is_questioned(caplog, defocus, said):
    with caplog.at_level(logging.WARNING):
        microscope(defocus=defocus)
    assert ("in nm it would be" in caplog.text) == said


@pytest.mark.parametrize("Cs", [0.0, 1.2e7, [-2e5, 2e5]])
def test_real_aberrations_pass(Cs):
    microscope(Cs=Cs)

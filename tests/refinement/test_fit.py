"""Derivatives against finite differences, and fits of sheets and columns whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import recipe
from hydra.utils import instantiate
from omegaconf import OmegaConf

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.imaging import Imaging
from hrtem.refinement import choose_stack, refine
from hrtem.refinement.derivatives import OF_COLUMN, differentiate_columns
from hrtem.refinement.forward import ForwardModel
from hrtem.refinement.instrument import find_unknowns, parse_known, start_instrument
from hrtem.refinement.specimen import Specimen
from hrtem.waves.differentiable import Slices, Species
from hrtem.waves.multislice import Multislice


def stages(*words):
    config = recipe(*words)
    return [instantiate(OmegaConf.to_container(config[name], resolve=True)) for name in ("sample", "optics", "noise")]


@pytest.fixture(scope="module")
def small():
    """Three columns of gold, tilted, with a fraction of an atom and a gap, in a microscope with aberrations."""
    _, optics, noise = stages("sample=gold", "focal=3", "target=count_classes")

    def array(*values):
        return torch.tensor(values, dtype=torch.float64)

    places = torch.tensor([[7.0, 7.1], [9.8, 7.0], [7.1, 9.9]], dtype=torch.float64)
    crystal = Specimen(
        places, array(2.0, 3.4, 5.0), array(-2.0, -3.0, -4.0), array(1.0, 1.0, 0.8), array(0.0, 0.5, 0.0),
        array(2.88, 2.88, 2.88), array(0.01, -0.02), (Species("Au", 0.085),), torch.zeros(3, dtype=torch.long),
    )  # fmt: skip
    slices = Slices((96, 96), 0.2, optics.energy, -20.0, 20.0, 20)
    field = ForwardModel(optics, slices, (80, 80), 8, 4)
    instrument = start_instrument(optics, noise, {})
    changed = {"coma": array(150.0, -80.0), "astigmatism": array(4.0, 3.0), "drift": array(0.1, 0.05)}
    instrument = replace(instrument, values={**instrument.values, **changed})
    return field, crystal, instrument, find_unknowns(optics, noise, {})


@pytest.mark.parametrize("name", OF_COLUMN)
def test_derivatives_of_columns_are_differences(small, name):
    field, crystal, instrument, _ = small
    passage = field.slices.trace(field.potential(crystal))
    amplitudes = field.amplitudes(field.slices.leave(passage.behind, 0.0), instrument)
    parts = list(differentiate_columns(field, crystal, instrument, passage, amplitudes))
    for column, (change, rows, columns) in enumerate(parts):
        step = torch.zeros(3, 5, dtype=torch.float64)
        step[column, OF_COLUMN.index(name)] = 0.01 if name in "xy" else 0.05
        up, down = (
            field.image(field.amplitudes(field.wave(crystal.moved(sign * step)), instrument), instrument)
            for sign in (1.0, -1.0)
        )
        expected = ((up - down) / (2.0 * float(step.max())))[:, rows[:, None], columns]
        found = change[OF_COLUMN.index(name)]
        assert float((found - expected).std() / expected.std()) < 0.06


def test_derivatives_of_the_instrument_are_differences(small):
    field, crystal, instrument, unknowns = small
    wave = field.wave(crystal)
    changes = field.differentiate_instrument(wave, field.amplitudes(wave, instrument), instrument, unknowns)
    steps = {"Cs": 4e3, "C5": 1e6, "defocus": 2.0, "focal_spread": 1.0, "coma": 20.0, "threefold": 20.0}
    for one, change in zip(unknowns, changes, strict=True):
        step = steps.get(one.name, 0.02)
        up, down = (
            field.image(field.amplitudes(wave, there), there)
            for there in (instrument.moved(one, step), instrument.moved(one, -step))
        )
        width = instrument.moved(one, step).value(one) - instrument.moved(one, -step).value(one)
        expected = (up - down) / width
        # The modes of the focal spread are interpolated between tabulated ones.
        tolerance = 0.1 if one.name == "focal_spread" else 0.05
        assert float((change - expected).abs().max()) < tolerance * float(expected.abs().max()), one


@pytest.mark.slow
def test_a_sheet_is_placed_from_one_image():
    """Atoms of graphene start 15 pm away and end within the error that the fit says."""
    sample, optics, noise = stages("sample=graphene", "sample.extent=25.6", "noise=counting")
    atoms, true = sample(np.random.default_rng(3))
    imaging = Imaging(optics, noise, 0.2, 0)
    settings = imaging.draw(np.random.default_rng(1), 1e5)
    wave = torch.from_numpy(Multislice(optics.energy, 0.2)(atoms))[None]
    batch = {name: torch.as_tensor(value)[None] for name, value in settings.items()}
    counts = imaging.simulate_counts(wave, batch)[0].numpy()
    away = np.random.default_rng(2).normal(scale=0.15, size=true.positions.shape)
    inside = ((true.positions > 5.0) & (true.positions < 20.0)).all(axis=1)
    start = replace(true, positions=np.where(inside[:, None], true.positions + away, true.positions))
    known = {"defocus": float(settings["defocus"][0]), "Cs": float(settings["Cs"]), "C5": float(settings["C5"])}
    result = refine(counts, 0.2, start, choose_stack(sample), optics, noise, known)
    error = (result.columns.positions - true.positions)[inside]
    assert result.better
    # Near focus, coma and threefold astigmatism move the two sublattices against each other.
    assert np.sqrt(np.mean(error**2)) < 0.075
    assert np.sqrt(np.mean(error**2)) < 1.5 * np.median(result.columns.sigmas[inside])
    assert result.misfit == pytest.approx(1.0, abs=0.1)
    assert {one.name for one in result.settings} >= {"tilt_x", "focal_spread", "astigmatism_x"}


@pytest.mark.parametrize(
    ("known", "named"),
    [(5, "known=5"), ({"Cc": 1.0}, "known.Cc"), ({"defocus": [1.0]}, "3 values in Å"), ({"Cs": "much"}, "known.Cs")],
)
def test_what_cannot_be_known_is_refused(known, named):
    with pytest.raises(InputError, match=named):
        parse_known(known, 3)
    assert parse_known({"Cs": None, "defocus": [1, 2, 3.5]}, 3) == {"defocus": [1.0, 2.0, 3.5]}


def test_a_fit_needs_columns_and_a_structure_that_it_knows():
    sample, optics, noise = stages("sample=gold", "focal=3", "target=count_classes")
    nothing = Columns(np.zeros((0, 2)), np.zeros(0, int), ("Au",))
    with pytest.raises(InputError, match="at least one column"):
        refine(np.ones((3, 64, 64)), 0.2, nothing, choose_stack(sample), optics, noise)

    class Other:
        name, classes, rms_displacement = "file", ("Sr", "TiO"), {}

    with pytest.raises(InputError, match="knows graphene, MoS2 and cubic metals, and the model has learnt file"):
        choose_stack(Other())


def test_a_fit_that_is_too_large_is_refused():
    sample, optics, noise = stages("sample=graphene")
    many = Columns(np.random.default_rng(0).uniform(0.0, 300.0, (3000, 2)), np.zeros(3000, int), ("C",))
    with pytest.raises(InputError, match=r"fit needs 1\d\d GiB for 3000 columns in 1500 x 1500 px, .*crop="):
        refine(np.ones((1, 1500, 1500)), 0.2, many, choose_stack(sample), optics, noise)

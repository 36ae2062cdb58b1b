"""Joint limits: against whole waves, against plain algebra with Poisson counts, and against what must hold always."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

from benchmarks import joint
from hrtem.errors import InputError
from hrtem.imaging import Imaging
from hrtem.limits import PRIORS, Changes, Exposure, Window, compute_joint_limits, differentiate_series, exact_chance
from hrtem.limits.particle import pose_particle, vary_columns
from hrtem.noise import Physical, Poisson
from hrtem.optics import Optics
from hrtem.waves.multislice import Multislice

SAMPLING = 0.2
WAVE = Multislice(300e3, SAMPLING)
SPACING = 4.078 / np.sqrt(2.0)
CAMERA = dict(half=0.4, power=2.0, correlation=0.6, readout=0.0, camera_sampling=0.2)
COLUMN = ("x", "y", "top", "bottom")
POSE = ("tilt", "rotation", "strain")
MICROSCOPE = tuple(name for name in PRIORS if name not in (*COLUMN, *POSE))


def gold(*places, atoms=3, side=12.8):
    """Columns of gold along the beam."""
    heights = 2.0 + SPACING * np.arange(atoms)
    positions = [(*place, height) for place in places for height in heights]
    particle = Atoms(f"Au{len(positions)}", positions, cell=[side, side, heights[-1] + 2.0], pbc=[True, True, False])
    particle.set_array("rms_displacement", np.full(len(particle), 0.085))
    particle.set_array("column", np.repeat(np.arange(len(places)), atoms))
    return particle


PAIR = gold((5.0, 6.4), (7.9, 6.4))
PLANE = float(PAIR.positions[:, 2].max())


def exposure(noise=None, images=2, dose=1e3, **changes):
    settings = {"vibration": 0.2, "drift": 0.3, "astigmatism": 15.0, "coma": 100.0, "threefold": 100.0, "C5": 1e7}
    settings |= {"misalignment": 0.1, **changes}
    optics = Optics(images, 300e3, -80.0, 40.0, Cs=-1e5, focal_spread=30.0, angular_spread=0.0, dose=dose, **settings)
    imaging = Imaging(optics, noise or Poisson(), SAMPLING, margin=0)
    return Exposure(imaging, imaging.draw(np.random.default_rng(0)))


def frame(side=12.8, margin=0):
    return Window(0, 0, round(side / SAMPLING), margin, SAMPLING)


@pytest.fixture(scope="module")
def changes():
    return differentiate_series(exposure(Physical(**CAMERA)), WAVE, PAIR, frame())


def only(changes, *names):
    """Priors under which all is known but these."""
    return {name: PRIORS[name] if name in names else 0.0 for name in PRIORS if name not in ("top", "bottom")}


def image_change(one, up, down, step, modes):
    images = one.expected(np.stack([up, down]), modes)
    return (images[0] - images[1]) / (2.0 * step)


def relative(first, second):
    return float((first - second).norm() / second.norm())


@pytest.mark.parametrize("occupancy", [0.0, 1.0])
def test_an_occupancy_of_one_changes_nothing_and_one_of_zero_removes_the_atom(occupancy):
    atoms = PAIR.copy()
    weights = np.ones(len(atoms))
    weights[[0, 4]] = occupancy
    atoms.set_array("occupancy", weights)
    wave = WAVE(atoms, plane=PLANE)
    if occupancy == 1.0:
        np.testing.assert_array_equal(wave, WAVE(PAIR, plane=PLANE))
    else:
        np.testing.assert_allclose(wave, WAVE(PAIR[np.flatnonzero(weights)], plane=PLANE), atol=1e-5)


def test_half_an_atom_is_one_of_half_the_potential():
    atoms = PAIR.copy()
    atoms.set_array("occupancy", np.full(len(atoms), 0.5))
    grid = (64, 64)
    np.testing.assert_allclose(WAVE.potential(atoms, grid), 0.5 * WAVE.potential(PAIR, grid), rtol=1e-4, atol=1e-3)


def test_atoms_that_reach_through_slices_have_no_occupancy():
    atoms = PAIR.copy()
    atoms.set_array("occupancy", np.ones(len(atoms)))
    with pytest.raises(InputError, match="must be infinite"):
        Multislice(300e3, SAMPLING, projection="finite")(atoms)


def test_small_cells_give_the_changes_of_the_whole_wave():
    """A column of six atoms among neighbours, in a view that is cut from a larger cell."""
    places = [(2.0 + 2.88 * i, 3.0 + 2.88 * j) for i in range(7) for j in range(7)]
    atoms = gold(*places, atoms=6, side=25.6)
    column = 7 * 3 + 3
    # All others are support, which needs no changes of its own.
    members = np.flatnonzero(atoms.get_array("column") == column)
    atoms.set_array("column", np.where(np.isin(np.arange(len(atoms)), members), column, -1))
    plane = float(atoms.positions[:, 2].max())
    one, view = exposure(images=1), Window(20, 16, 100, 8, SAMPLING)
    whole = WAVE(atoms, plane=plane)
    modes = one.modes_needed(view.cut(whole)[None]) + 2
    changes = differentiate_series(one, WAVE, atoms, view)
    assert changes.columns.tolist() == [column]
    step = 0.02
    for offset in (0, 2):
        waves = []
        for sign in (1.0, -1.0):
            moved = atoms.copy()
            if offset == 0:
                moved.positions[members, 0] += sign * step
            else:
                weights = np.ones(len(atoms))
                weights[members[-1]] += sign * step
                moved.set_array("occupancy", weights)
            waves.append(view.cut(WAVE(moved, plane=plane)))
        full = view.seen(image_change(one, *waves, step, modes))
        assert relative(changes.images[offset], full) < 0.02


def test_a_column_at_the_border_of_the_cell_has_neighbours_across_it():
    middle, corner = gold((9.6, 9.6), (12.48, 9.6), side=19.2), gold((0.2, 0.2), (3.08, 0.2), side=19.2)
    first, second = (vary_columns(WAVE, atoms, 0, PLANE) for atoms in (middle, corner))
    assert second[1] == (first[1][0] - 47, first[1][1] - 47)
    np.testing.assert_allclose(second[0], first[0], atol=1e-3 * np.abs(first[0]).max())


def test_the_pose_moves_columns_alone_and_about_their_middle():
    atoms = PAIR.copy()
    atoms.arrays["column"][3:] = -1
    tilted = pose_particle(atoms, tilt=(1.0, 0.0))
    np.testing.assert_array_equal(tilted.positions[3:], atoms.positions[3:])
    shifts = tilted.positions[:3] - atoms.positions[:3]
    # A positive turn about x moves what is higher to smaller y.
    np.testing.assert_allclose(shifts[:, 1], -np.sin(np.radians(1.0)) * SPACING * np.array([-1.0, 0.0, 1.0]), atol=1e-9)
    np.testing.assert_allclose(pose_particle(atoms, strain=0.01).get_all_distances()[0, 1], 1.01 * SPACING)


def test_information_is_that_of_poisson_counts_and_their_scatter_that_of_the_limits():
    """One image of two columns, by whole waves and plain algebra; then the estimates from counts that were drawn."""
    one = exposure(images=1)
    changes = differentiate_series(one, WAVE, PAIR, frame())
    (limits,) = compute_joint_limits(changes, priors=only(changes, "x", "y", "defocus"))
    modes = one.modes_needed(WAVE(PAIR, plane=PLANE)[None]) + 2
    derivatives, deviations = [], []
    for column in range(2):
        members = np.flatnonzero(PAIR.get_array("column") == column)
        for name, atom in (("x", 0), ("y", 0), ("top", -1), ("bottom", 0)):
            waves = []
            for sign in (1.0, -1.0):
                atoms = PAIR.copy()
                if name in ("x", "y"):
                    atoms.positions[members, "xy".index(name)] += sign * 0.02
                else:
                    weights = np.ones(len(atoms))
                    weights[members[atom]] += sign * 0.02
                    atoms.set_array("occupancy", weights)
                waves.append(WAVE(atoms, plane=PLANE))
            derivatives.append(image_change(one, *waves, 0.02, modes))
            deviations.append(PRIORS[name])
    whole = WAVE(PAIR, plane=PLANE)[None]
    sharp, blunt = (one.at(defocus=float(one.settings["defocus"][0]) + step) for step in (1.0, -1.0))
    derivatives.append((sharp.expected(whole, modes)[0] - blunt.expected(whole, modes)[0]) / 2.0)
    deviations.append(PRIORS["defocus"])
    electrons = 1e3 * SAMPLING**2
    jacobian = electrons * torch.stack(derivatives).flatten(1).numpy()
    mean = electrons * one.expected(whole, modes)[0].flatten().numpy()
    precision = np.diag(np.array(deviations) ** -2.0)
    covariance = np.linalg.inv(jacobian / mean @ jacobian.T + precision)
    sums = np.zeros((2, len(deviations)))
    sums[0, 2:4], sums[1, 6:8] = 1.0, 1.0
    np.testing.assert_allclose(limits.count, np.sqrt((sums @ covariance @ sums.T).diagonal()), rtol=0.02)
    places = covariance.diagonal()[[0, 1, 4, 5]].reshape(2, 2)
    np.testing.assert_allclose(limits.position, 100.0 * np.sqrt(places), rtol=0.02)
    np.testing.assert_allclose(limits.others["defocus"], np.sqrt(covariance[-1, -1]), rtol=0.02)
    # Truths scatter as the priors say, and counts as Poisson's distribution about what they then are, to first order.
    rng = np.random.default_rng(0)
    counts = rng.poisson(mean, size=(600, len(mean))) - mean
    truth = rng.normal(size=(600, len(deviations))) * deviations
    estimates = (counts + truth @ jacobian) / mean @ jacobian.T @ covariance
    np.testing.assert_allclose(((estimates - truth) @ sums.T).std(axis=0), limits.count, rtol=0.1)


def test_what_is_unknown_has_its_names_and_numbers(changes):
    (limits,) = compute_joint_limits(changes)
    assert changes.names[:8] == COLUMN * 2
    numbers = {name: len(values) for name, values in limits.others.items()}
    twice = dict.fromkeys(("tilt", "defocus", "shift", "astigmatism", "coma", "threefold", "drift"), 2)
    once = ("rotation", "strain", "Cs", "C5", "focal_spread", "vibration", "scale", "offset", "half", "power")
    assert numbers == twice | dict.fromkeys(once, 1)
    assert limits.count.shape == (2,)
    assert limits.position.shape == (2, 2)
    assert changes.images.shape == (8 + sum(numbers.values()), 2, 64, 64)


def test_changes_with_the_camera_are_those_of_what_it_reports(changes):
    """The MTF is changed itself, and the mean image that the detector gives compared."""
    one = changes.exposure
    step = 1e-3
    means = []
    for sign in (1.0, -1.0):
        settings = {name: torch.as_tensor(value).double()[None] for name, value in one.settings.items()}
        settings["half"] = settings["half"] + sign * step
        means.append(one.imaging.noise.mean(changes.expected[None], settings, SAMPLING)[0])
    direct = (means[0] - means[1]) / (2.0 * step)
    settings = {name: torch.as_tensor(value).double()[None] for name, value in one.settings.items()}
    said = one.imaging.noise.mean(changes.images[changes.names.index("half")][None] + 10.0, settings, SAMPLING)[0]
    assert relative(said - 10.0 * 1e3 * SAMPLING**2, direct) < 1e-3


def test_components_of_an_aberration_that_is_zero_have_a_derivative():
    one = exposure(images=1, astigmatism=0.0)
    changes = differentiate_series(one, WAVE, PAIR, frame())
    strengths = [
        float(image.norm()) for image, name in zip(changes.images, changes.names, strict=True) if name == "astigmatism"
    ]
    assert len(strengths) == 2
    assert min(strengths) > 0.0


def test_joint_is_never_better_than_single_and_an_unknown_microscope_never_helps(changes):
    (joint_ones,) = compute_joint_limits(changes)
    (known,) = compute_joint_limits(changes, priors=dict.fromkeys(MICROSCOPE, 0.0))
    (wider,) = compute_joint_limits(changes, priors={name: 3.0 * PRIORS[name] for name in MICROSCOPE})
    assert np.all(known.single <= known.count * (1.0 + 1e-9))
    assert np.all(known.count < joint_ones.count)
    assert np.all(joint_ones.count <= wider.count * (1.0 + 1e-9))
    assert np.all(known.position <= joint_ones.position * (1.0 + 1e-9))
    assert np.all(joint_ones.exact <= joint_ones.exact_single)


def test_without_priors_limits_fall_with_the_root_of_the_dose(changes):
    nothing_known = only(changes) | dict.fromkeys(("x", "y", "top", "bottom", "defocus", "scale", "tilt"), np.inf)
    low, high = compute_joint_limits(changes, doses=(500.0, 2000.0), priors=nothing_known)
    np.testing.assert_allclose(low.count, 2.0 * high.count, rtol=1e-6)
    np.testing.assert_allclose(low.single, 2.0 * high.single, rtol=1e-6)
    assert low.tilt == pytest.approx(2.0 * high.tilt, rel=1e-6)


def test_readout_noise_is_solved_for_at_each_dose(changes):
    """Without it the information is scaled; a little of it must give nearly the same, and much of it less."""
    doses = (300.0, 3000.0)
    clean = compute_joint_limits(changes, doses)
    for readout, most in ((0.02, 1.01), (3.0, np.inf)):
        noise = Physical(**{**CAMERA, "readout": readout})
        settings = {**changes.exposure.settings, "readout": np.float32(readout)}
        noisy = compute_joint_limits(
            replace(changes, exposure=Exposure(replace(changes.exposure.imaging, noise=noise), settings)), doses
        )
        for one, other in zip(clean, noisy, strict=True):
            ratio = other.count / one.count
            assert np.all(ratio > 0.999)
            assert np.all(ratio < most)
    assert np.all(ratio > 1.0)


def test_an_image_that_is_missing_tells_nothing():
    one = exposure(images=2)
    settings = one.settings | {"present": np.array([0.0, 1.0], np.float32)}
    changes = differentiate_series(replace(one, settings=settings), WAVE, PAIR, frame())
    assert float(changes.images[:, 0].abs().max()) == 0.0
    assert float(changes.images[:, 1].abs().max()) > 0.0


def test_only_columns_inside_are_counted():
    atoms = gold((2.0, 6.4), (6.4, 6.4))
    (limits,) = compute_joint_limits(differentiate_series(exposure(images=1), WAVE, atoms, frame()))
    assert limits.columns.tolist() == [1]


def test_chance_of_an_exact_count():
    np.testing.assert_allclose(exact_chance(np.array([0.5, 0.25])), [0.6827, 0.9545], atol=1e-4)
    assert exact_chance(np.array([1e-3]))[0] == 1.0


def test_what_cannot_be_is_said(changes):
    with pytest.raises(InputError, match="at least one column"):
        differentiate_series(exposure(), WAVE, gold((5.0, 6.4), side=51.2), Window(150, 150, 64, 0, SAMPLING))
    with pytest.raises(InputError, match="frozen_phonons must be 0"):
        differentiate_series(exposure(), Multislice(300e3, SAMPLING, frozen_phonons=2), PAIR, frame())
    with pytest.raises(InputError, match="got weather"):
        compute_joint_limits(changes, priors={"weather": 1.0})
    with pytest.raises(InputError, match="must not be known"):
        compute_joint_limits(changes, priors={"top": 0.0})
    with pytest.raises(InputError, match="need a prior"):
        compute_joint_limits(
            Changes(**{**vars(changes), "images": 0.0 * changes.images}), priors=dict.fromkeys(PRIORS, np.inf)
        )


@pytest.mark.parametrize("word", ["views=0", "views=many", "doses=", "doses=1000,-1"])
def test_words_of_the_benchmark_are_checked(word):
    with pytest.raises(InputError, match=word.partition("=")[0]):
        joint.main(word)


@pytest.mark.slow
def test_views_of_compact_gold_are_counted_nearly_all(capsys):
    recipe = ("sample.longest=null", "sample.zone_axes=[[1,1,0],[1,0,0],[1,1,1]]", "noise=counting")
    joint.main("views=1", "doses=1000,10000", *recipe)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│    0")]
    low, high = (float(line.split("│")[4]) for line in lines)
    assert 0.9 < low <= high
    assert high > 0.999

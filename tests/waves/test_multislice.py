"""Exit waves: known physics, and how far they may be trusted."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import numpy as np
import pytest
import torch
from abtem.parametrizations import LobatoParametrization
from ase import Atoms
from conftest import ROOT

from benchmarks import convergence
from benchmarks.convergence import column, difference, seen
from hrtem.errors import InputError
from hrtem.optics import Optics, wavelength
from hrtem.waves.multislice import Multislice

SAMPLING = 0.2


def carbon(*positions, side=12.8, displacement=0.0):
    atoms = Atoms("C" * len(positions), [(*p, 1.0) for p in positions], cell=[side, side, 2.0], pbc=[True, True, False])
    atoms.set_array("rms_displacement", np.full(len(atoms), displacement))
    return atoms


def propagate(atoms, seed=0, plane=None, **changes):
    wave = Multislice(**{"energy": 80e3, "sampling": SAMPLING, **changes})
    return wave(atoms, np.random.default_rng(seed), plane=plane)


def image(wave, energy):
    """Image ``(Y, X)`` of one wave without noise, defocused so that atoms are seen."""
    fixed = {"Cs": 0.0, "astigmatism": 0.0, "focal_spread": 30.0, "angular_spread": 0.0, "vibration": 0.0}
    optics = Optics(num_images=1, energy=energy, defocus=30.0, defocus_step=0.0, dose=1e4, **fixed)
    settings = {
        name: torch.from_numpy(np.asarray(value))[None] for name, value in optics.draw(np.random.default_rng(0)).items()
    }
    return optics(torch.from_numpy(wave)[None], settings, SAMPLING)[0, 0].numpy()


def test_an_atom_is_where_its_columns_say():
    """x is the last axis, y the one before; the origin is the centre of the first pixel."""
    phase = np.angle(propagate(carbon((4.0, 9.0))))
    assert np.unravel_index(phase.argmax(), phase.shape) == (45, 20)


def test_handedness():
    """Three atoms in an L keep their hand."""
    phase = np.angle(propagate(carbon((2.0, 2.0), (8.0, 2.0), (2.0, 6.0))))
    for x, y in [(2, 2), (8, 2), (2, 6)]:
        assert phase[round(y / SAMPLING), round(x / SAMPLING)] > 0.5 * phase.max()
    assert phase[round(6 / SAMPLING), round(8 / SAMPLING)] < 0.1 * phase.max()


def test_vacuum_is_one():
    np.testing.assert_array_equal(propagate(carbon()), 1.0 + 0.0j)


def test_intensity_is_kept():
    wave = propagate(carbon((4, 4), (5.4, 4)))
    assert wave.dtype == np.complex64
    assert float((np.abs(wave) ** 2).mean()) == pytest.approx(1.0, abs=1e-3)


def test_thermal_motion_is_the_debye_waller_factor():
    """For a thin, weak object the Fourier transform of the phase carries exp(-2 π² u² k²)."""
    u = 0.1
    still, moving = (np.fft.fft2(propagate(carbon((6.4, 6.4), displacement=d)) - 1.0) for d in (0.0, u))
    k = np.fft.fftfreq(64, SAMPLING)
    low = slice(1, 9)
    ratio = np.abs(moving[0, low] / still[0, low])
    np.testing.assert_allclose(ratio, np.exp(-2 * np.pi**2 * u**2 * k[low] ** 2), rtol=0.01)


def test_coarse_storage_loses_nothing_in_band():
    """The same wave on a grid twice as fine agrees where both have pixels, up to what the coarse one can't hold."""
    atoms = carbon((4.0, 4.0), (5.42, 4.1), displacement=0.06)
    coarse = propagate(atoms, oversampling=4)
    fine = propagate(atoms, sampling=0.1, oversampling=2)
    spectrum = np.fft.fft2(fine) * (coarse.size / fine.size)
    kept = np.r_[0:32, 96:128]
    k = np.abs(np.fft.fftfreq(64, SAMPLING))
    passed = (k[:, None] < 2.0) & (k[None] < 2.0)
    difference = np.abs(spectrum[np.ix_(kept, kept)] - np.fft.fft2(coarse))[passed]
    assert difference.max() < 1e-3 * np.abs(np.fft.fft2(coarse - 1))[passed].max()


def test_slices_of_a_thick_column_matter():
    """A column of gold is no phase grating: its intensity is not 1 everywhere."""
    atoms = Atoms("Au8", [(4, 4, 1 + 2.88 * n) for n in range(8)], cell=[8, 8, 24], pbc=[True, True, False])
    atoms.set_array("rms_displacement", np.full(8, 0.085))
    intensity = np.abs(propagate(atoms, energy=300e3)) ** 2
    assert np.ptp(intensity) > 0.5


def test_a_field_that_is_no_whole_number_of_pixels_is_refused():
    with pytest.raises(InputError, match=r"sample\.extent.*12\.9"):
        propagate(carbon((1, 1), side=12.9))


@pytest.mark.parametrize("place", [(np.nan, 1.0), (np.inf, 1.0)])
def test_atoms_without_a_place_are_refused(place):
    with pytest.raises(InputError, match="positions are no numbers"):
        propagate(carbon(place))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"energy": -1}, "energy"),
        ({"oversampling": 0}, "oversampling"),
        ({"slice_thickness": 0}, "slice_thickness"),
        ({"parametrization": "gauss"}, "parametrization.*lobato.*gauss"),
        ({"projection": "none"}, "projection.*finite.*none"),
        ({"frozen_phonons": -1}, "frozen_phonons.*-1"),
        ({"frozen_phonons": 2.5}, r"frozen_phonons.*2\.5"),
    ],
)
def test_bad_settings_are_refused(change, word):
    with pytest.raises(InputError, match=word):
        propagate(carbon((1, 1)), **change)


def test_the_potential_is_that_of_the_atom():
    """The projected potential of Lobato's carbon in real space, off the grid and beyond the pixels of its centre."""
    side, gpts = 12.8, 512
    slices = Multislice(80e3, SAMPLING).potential(carbon((6.41, 6.387)), (gpts, gpts))
    x = np.arange(gpts) * side / gpts
    r = np.hypot(x[:, None] - 6.41, x[None] - 6.387)
    ring = (r > 0.2) & (r < 2.0)
    expected = LobatoParametrization().projected_potential("C")(r[ring])
    # A periodic potential's zero lies elsewhere by what the neighbouring cells and the tails add.
    np.testing.assert_allclose(slices.sum(axis=0)[ring], expected, rtol=0.02, atol=0.5)


def test_an_atom_is_shared_by_the_slices_that_it_lies_between():
    atoms = carbon((6.4, 6.4))
    atoms.cell[2, 2] = 8.0
    atoms.positions[:, 2] = 3.5
    totals = Multislice(80e3, SAMPLING).potential(atoms, (128, 128)).sum(axis=(1, 2))
    # Slices of 2 Å have their middles at 1, 3, 5 and 7 Å.
    np.testing.assert_allclose(totals / totals.sum(), [0.0, 0.75, 0.25, 0.0], atol=1e-6)


def test_the_wave_crosses_what_lies_behind_the_atom():
    """Fresnel: in vacuum of thickness z each spatial frequency of the scattered wave turns by -π λ z k²."""
    waves = []
    for height in (1.0, 13.0):
        atoms = carbon((6.4, 6.4))
        atoms.cell[2, 2] = 14.0
        atoms.positions[:, 2] = height
        waves.append(np.fft.fft2(propagate(atoms, plane=14.0) - 1.0))
    k = np.fft.fftfreq(64, SAMPLING)
    k2 = k[:, None] ** 2 + k**2
    turn = np.angle(waves[0] / waves[1])[k2 < 1.5]
    expected = -np.pi * wavelength(80e3) * 12.0 * k2[k2 < 1.5]
    np.testing.assert_allclose(np.exp(1j * turn), np.exp(1j * expected), atol=0.01)


def test_defocus_counts_from_the_last_atom_wherever_the_cell_ends():
    """Vacuum above and below changes nothing, and a plane that is given is where the wave is."""
    waves = []
    for vacuum in (0.0, 14.0):
        atoms = Atoms("Au3", [(4.0, 4.0, 2.0 + 2.88 * n) for n in range(3)], cell=[8.0, 8.0, 10.0])
        atoms.set_array("rms_displacement", np.full(3, 0.085))
        atoms.positions[:, 2] += vacuum
        atoms.cell[2, 2] += 2 * vacuum
        waves.append(propagate(atoms, energy=300e3))
    assert np.linalg.norm(waves[1] - waves[0]) < 0.01 * np.linalg.norm(waves[0] - 1.0)
    farther = propagate(atoms, energy=300e3, plane=float(atoms.positions[-1, 2]) + 5.0)
    k = np.fft.fftfreq(40, SAMPLING)
    k2 = k[:, None] ** 2 + k**2
    there = np.fft.ifft2(np.fft.fft2(waves[1]) * np.exp(-1j * np.pi * wavelength(300e3) * 5.0 * k2))
    np.testing.assert_allclose(farther, there, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("projection", ["infinite", "finite"])
def test_every_process_computes_the_same_wave(projection):
    """Plans of the Fourier transform that were chosen by timing would differ from process to process."""
    code = (
        "import sys; sys.path[:0] = ['tests', 'tests/waves']\n"
        "from test_multislice import column, propagate\n"
        f"wave = propagate(column(4, 1.5), energy=300e3, projection='{projection}')\n"
        "import hashlib; print(hashlib.sha256(wave.tobytes()).hexdigest())"
    )
    # Fresh ones: plans that other tests of this process were timed for would be used again.
    said = set()
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        said.add(done.stdout.strip())
    assert len(said) == 1
    assert len(said.pop()) == 64


def test_the_settings_of_abtem_hold_while_a_wave_is_computed(monkeypatch):
    """Its own default plans Fourier transforms by timing."""
    import abtem

    seen = []
    real = abtem.PlaneWave.multislice

    def looked(self, *args, **words):
        seen.append(abtem.config.get("fftw.planning_effort"))
        return real(self, *args, **words)

    monkeypatch.setattr(abtem.PlaneWave, "multislice", looked)
    propagate(carbon((4, 4)))
    assert seen == ["FFTW_ESTIMATE"]


def test_the_propagator_is_fresnels_and_its_library_is_pinned():
    """Between slices of vacuum, whatever the default of the library is; its potentials decide waves too."""
    pins = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in ("abtem", "ase"):
        assert f"{name}=={pins[name]}" in project["dependencies"]
    # Two slices: what the first scatters crosses to the plane of the second by exp(-iπλΔz k²).
    atoms = carbon((6.4, 6.4))
    atoms.cell[2, 2] = 4.0
    atoms.positions[:, 2] = 1.0
    far, near = (np.fft.fft2(propagate(atoms, plane=plane) - 1.0) for plane in (3.0, 1.0))
    k = np.fft.fftfreq(64, SAMPLING)
    k2 = k[:, None] ** 2 + k**2
    inside = k2 < 2.0
    np.testing.assert_allclose(
        np.exp(1j * np.angle(far / near))[inside],
        np.exp(-1j * np.pi * wavelength(80e3) * 2.0 * k2)[inside],
        atol=1e-3,
    )


def test_a_column_is_the_same_wherever_it_lies_between_pixels():
    """Ten gold atoms seen end-on, moved by fractions of a pixel: wave to 0.1 %, peak to 0.2 %, total to 0.1 %."""
    propagate = convergence.ours()
    waves = [seen(propagate(column(10, 0.0, x, y)), x, y) for x, y in convergence.ACROSS]
    assert max(difference(wave, waves[0]) for wave in waves) < 1e-3
    intensities = np.abs(waves) ** 2
    assert np.ptp(intensities[:, 32, 32]) < 2e-3 * intensities[0, 32, 32]
    totals = intensities[:, 28:37, 28:37].sum(axis=(1, 2))
    assert np.ptp(totals) < 1e-3 * totals[0]


def test_a_column_is_the_same_wherever_slices_begin():
    """The same column moved along the beam by fractions of a slice, and the wave moved back: to 0.6 %."""
    propagate = convergence.ours()
    waves = [seen(propagate(column(10, 0.0, z=z)), z=z) for z in convergence.ALONG]
    assert max(difference(wave, waves[0]) for wave in waves) < 6e-3


def test_slices_and_grid_of_the_default_are_fine_enough():
    """docs/convergence.md: 1 % of slices, 1 % of oversampling 3, 7 % of 2 and half of that for a tilted column."""
    end_on, tilted = column(10, 0.0), column(10, 1.5)
    fine = {atoms: seen(convergence.ours(4, 0.5)(one)) for atoms, one in enumerate((end_on, tilted))}
    assert difference(seen(convergence.ours(3, 2.0)(end_on)), fine[0]) < 0.01
    assert difference(seen(convergence.ours()(end_on)), seen(convergence.ours(2, 0.5)(end_on))) < 0.01
    assert difference(seen(convergence.ours()(end_on)), fine[0]) < 0.07
    assert difference(seen(convergence.ours()(tilted)), fine[1]) < 0.035


@pytest.mark.slow
def test_finite_projection_agrees_within_the_error_of_the_model():
    for tilt, most in ((0.0, 0.15), (1.5, 0.03)):
        atoms = column(10, tilt)
        assert difference(seen(convergence.ours(4, 0.5, "finite")(atoms)), seen(convergence.ours(4, 0.5)(atoms))) < most


def test_elements_and_displacements_add_up():
    """The potential of a mixed structure is the sum of those of its parts, each with its own displacement."""
    atoms = Atoms("MoS2", [(3, 3, 1), (5, 3, 2), (5, 4, 0.5)], cell=[12.8, 12.8, 4.0], pbc=[True, True, False])
    atoms.set_array("rms_displacement", np.array([0.06, 0.07, 0.09]))
    wave = Multislice(80e3, SAMPLING)
    parts = sum(wave.potential(atoms[[n]], (128, 128)) for n in range(3))
    np.testing.assert_allclose(wave.potential(atoms, (128, 128)), parts, atol=1e-3 * parts.max())


def sheet(side=12.8):
    """A square net of carbon, thin and light."""
    places = np.arange(0.8, side, 1.6)
    return carbon(*((x, y) for x in places for y in places), side=side, displacement=0.12)


def test_snapshots_are_waves_of_moved_atoms():
    waves = propagate(sheet(), frozen_phonons=3)
    assert waves.shape == (3, 64, 64)
    assert waves.dtype == np.complex64
    assert not np.array_equal(waves[0], waves[1])
    np.testing.assert_array_equal(waves, propagate(sheet(), frozen_phonons=3))
    assert not np.array_equal(waves, propagate(sheet(), frozen_phonons=3, seed=1))
    assert propagate(carbon(), frozen_phonons=2).shape == (2, 64, 64)


def test_without_snapshots_no_random_number_is_drawn():
    rng = np.random.default_rng(0)
    Multislice(80e3, SAMPLING)(carbon((4, 4), displacement=0.1), rng)
    assert rng.random() == np.random.default_rng(0).random()


def test_snapshots_need_a_generator():
    with pytest.raises(InputError, match=r"wave\.frozen_phonons must be 0 .* got 2"):
        Multislice(80e3, SAMPLING, frozen_phonons=2)(carbon((4, 4)))


def test_snapshots_of_a_thin_light_sheet_average_to_debye_waller():
    """The mean image agrees within its sampling error: a few percent of the contrast for 100 snapshots."""
    smeared = image(propagate(sheet()), 80e3)
    mean = np.mean([image(wave, 80e3) for wave in propagate(sheet(), frozen_phonons=100)], axis=0)
    assert smeared.std() > 0.03
    assert np.sqrt(np.mean((mean - smeared) ** 2)) < 0.08 * smeared.std()
    still = sheet()
    still.arrays["rms_displacement"][:] = 0.0
    # What thermal motion takes from the contrast is more than that.
    assert np.sqrt(np.mean((image(propagate(still), 80e3) - smeared) ** 2)) > 0.1 * smeared.std()


def test_snapshots_of_gold_hold_the_thermal_diffuse_part():
    """A tenth of what a short gold column scatters is diffuse, and far more of the highest angles."""
    gold = column(4, 1.5)
    smeared = np.fft.fft2(propagate(gold, energy=300e3), norm="forward")
    waves = np.fft.fft2(propagate(gold, energy=300e3, frozen_phonons=50), norm="forward")
    total, coherent = (np.abs(waves) ** 2).mean(axis=0), np.abs(waves.mean(axis=0)) ** 2
    diffuse = (total - coherent).sum() / (total.sum() - coherent[0, 0])
    assert diffuse == pytest.approx(0.10, abs=0.02)
    # Both keep all electrons: smearing only makes the diffuse ones coherent at lower angles.
    assert total.sum() == pytest.approx((np.abs(smeared) ** 2).sum(), abs=1e-3)
    k = np.fft.fftfreq(64, SAMPLING)
    high = np.hypot(k[:, None], k) > 2.4
    assert total[high].sum() > 2.0 * (np.abs(smeared[high]) ** 2).sum()

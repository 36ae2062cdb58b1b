"""Exit waves and their cache."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
from ase import Atoms

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.exitwave import Multislice, WaveCache
from hrtem.samples import Sample

SAMPLING = 0.2


def carbon(*positions, side=12.8, displacement=0.0):
    atoms = Atoms("C" * len(positions), [(*p, 1.0) for p in positions], cell=[side, side, 2.0], pbc=[True, True, False])
    atoms.set_array("rms_displacement", np.full(len(atoms), displacement))
    return atoms


def propagate(atoms, **changes):
    return Multislice(**{"energy": 80e3, "sampling": SAMPLING, **changes})(atoms)


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


@pytest.mark.parametrize(("change", "word"), [({"energy": -1}, "energy"), ({"oversampling": 0}, "oversampling")])
def test_bad_settings_are_refused(change, word):
    with pytest.raises(InputError, match=word):
        propagate(carbon((1, 1)), **change)


class Pair(Sample):
    """Two atoms at random places; module level, so that other processes can draw it."""

    known_classes = ("C",)

    def __call__(self, rng):
        positions = rng.uniform(2, 10, size=(2, 2))
        atoms = self.in_cell(Atoms("C2", np.column_stack([positions, [0, 0]])), thickness=2.0)
        return atoms, Columns(positions, [0, 0], self.classes, counts=[1, 1])


def cache(root, **recipe):
    sample = Pair("pair", ["C"], 12.8, {"C": 0.06})
    return WaveCache(root, sample, Multislice(80e3, SAMPLING), {"sample": {"extent": 12.8}, **recipe}, seed=0)


def fill(store, **numbers):
    return list(store.fill(numbers, scheduler="inline"))


def test_cache_counts_down_and_then_has_nothing_to_do(tmp_path):
    store = cache(tmp_path)
    assert fill(store, train=2, val=1) == [3, 2, 1, 0]
    assert fill(store, train=2, val=1) == [0]
    assert fill(store, train=3, val=1) == [1, 0]


def test_records_hold_wave_and_columns_and_do_not_depend_on_order(tmp_path):
    one, other = cache(tmp_path / "a"), cache(tmp_path / "b")
    fill(one, train=3)
    other.compute("train", 2)
    (wave, columns), (again, same) = one.load("train", 2), other.load("train", 2)
    np.testing.assert_array_equal(wave, again)
    np.testing.assert_array_equal(columns.positions, same.positions)
    assert columns.classes == ("C",)
    assert not np.array_equal(wave, one.load("train", 1)[0])


def test_key_depends_on_recipe_and_seed_only(tmp_path):
    store = cache(tmp_path)
    assert store.key == cache(tmp_path / "elsewhere").key
    assert store.key != cache(tmp_path, wave={"energy": 1}).key


def test_key_depends_on_what_the_sample_read(tmp_path):
    store, other = cache(tmp_path), cache(tmp_path)
    other.sample.fingerprint = "of a file"
    assert store.key != other.key


def test_a_killed_computation_leaves_no_record(tmp_path, monkeypatch):
    store = cache(tmp_path)

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", stop)
    with pytest.raises(KeyboardInterrupt):
        store.compute("train", 0)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert store.missing("train", 1) == [0]


def _fill_in_process(root):
    fill(cache(root), train=4)


def test_two_processes_may_fill_one_cache(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_fill_in_process, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    store = cache(tmp_path)
    assert store.missing("train", 4) == []
    assert {path.suffix for path in (store.folder / "train").iterdir()} == {".npz"}
    assert len([store.load("train", n) for n in range(4)]) == 4


def test_dask_workers_fill_the_cache(tmp_path):
    """Real worker processes, and the same waves as without them."""
    store, inline = cache(tmp_path / "dask"), cache(tmp_path / "inline")
    assert list(store.fill({"train": 3}, scheduler="local")) == [3, 2, 1, 0]
    fill(inline, train=3)
    for n in range(3):
        # Another number of threads may add up in another order.
        np.testing.assert_allclose(store.load("train", n)[0], inline.load("train", n)[0], atol=2e-6)


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"127\.0\.0\.1:9 does not answer"):
        list(cache(tmp_path).fill({"train": 1}, scheduler="tcp://127.0.0.1:9"))


def test_unknown_scheduler_is_refused(tmp_path):
    with pytest.raises(InputError, match="cloud"):
        list(cache(tmp_path).fill({"train": 1}, scheduler="cloud"))

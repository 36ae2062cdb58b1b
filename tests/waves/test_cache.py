"""The wave cache: what it keeps, what it notices, and what it says."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.samples import Sample
from hrtem.waves import cache as wavecache
from hrtem.waves.cache import WaveCache
from hrtem.waves.multislice import Multislice

SAMPLING = 0.2


class Pair(Sample):
    """Two atoms at random places; module level, so that other processes can draw it."""

    known_classes = ("C",)

    def __call__(self, rng):
        positions = rng.uniform(2, 10, size=(2, 2))
        atoms = self.in_cell(Atoms("C2", np.column_stack([positions, [0, 0]])), thickness=2.0)
        return atoms, Columns(positions, [0, 0], self.classes, counts=[1, 1])


class Triangle(Sample):
    """Columns of one, two and three atoms on a triangle whose sides all differ: never its own mirror image."""

    known_classes = ("C",)

    def __call__(self, rng):
        positions = np.array([[3.0, 3.0], [9.0, 4.0], [5.0, 10.0]]) + rng.uniform(-0.5, 0.5, size=2)
        atoms = [(*place, 1.5 * n) for number, place in enumerate(positions, 1) for n in range(number)]
        return self.in_cell(Atoms(f"C{len(atoms)}", atoms), thickness=6.0), Columns(
            positions, [0, 0, 0], self.classes, counts=[1, 2, 3]
        )


def cache(root, sample=Pair, frozen_phonons=0, **recipe):
    wave = Multislice(80e3, SAMPLING, frozen_phonons=frozen_phonons)
    recipe = {"sample": {"extent": 12.8}, "wave": {"frozen_phonons": frozen_phonons}, **recipe}
    return WaveCache(root, sample("pair", ["C"], 12.8, {"C": 0.06}), wave, recipe, seed=0)


def fill(store, **numbers):
    return list(store.fill(numbers, scheduler="inline"))


def files(root):
    return sorted(path.name for path in root.rglob("*") if path.is_file())


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


def test_snapshots_come_from_the_generator_of_the_record(tmp_path):
    one, other = cache(tmp_path / "a", frozen_phonons=2), cache(tmp_path / "b", frozen_phonons=2)
    fill(one, train=2)
    other.compute("train", 1)
    wave = one.load("train", 1)[0]
    assert wave.shape == (2, 64, 64)
    np.testing.assert_array_equal(wave, other.load("train", 1)[0])
    assert one.key != cache(tmp_path).key
    # The structure itself is the one that has no snapshots.
    still = cache(tmp_path / "c")
    fill(still, train=2)
    np.testing.assert_array_equal(one.load("train", 1)[1].positions, still.load("train", 1)[1].positions)


def test_a_chiral_structure_keeps_its_hand(tmp_path):
    """From atoms to wave to columns: the phase is as high as the column at its (x, y) is thick."""
    store = cache(tmp_path, sample=Triangle)
    for n in range(3):
        store.compute("train", n)
        wave, columns = store.load("train", n)
        x, y = np.rint(columns.positions / SAMPLING).astype(int).T
        phases = np.angle(wave)[y, x]
        np.testing.assert_allclose(phases / phases[0], columns.counts, rtol=0.25)
        # Its mirror image, where rows and columns are exchanged, shows vacuum at two of the three places.
        assert np.sum(np.angle(wave).T[y, x] > 0.5 * phases[0]) < 3
        (a, b), (c, d) = np.diff(columns.positions[np.argsort(phases)], axis=0)
        assert a * d - b * c > 0.0


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
    assert files(tmp_path) == []
    assert store.missing("train", 1) == [0]


def test_what_a_killed_process_was_writing_is_removed_once_it_is_old(tmp_path):
    store = cache(tmp_path)
    fill(store, train=1)
    old, new = store.folder / "train" / ".000000.0123.partial.npz", store.folder / "train" / "new.partial"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, time.time() - 2 * wavecache.STALE))
    fill(store, train=2)
    assert files(store.folder / "train") == ["000000.npz", "000001.npz", "new.partial"]


def _fill_in_process(root):
    fill(cache(root), train=4)


@pytest.mark.slow
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


def test_a_record_that_is_there_is_not_simulated_again(tmp_path):
    """So that a task that runs again because its worker died late changes nothing."""
    store = cache(tmp_path)
    fill(store, train=1)
    before = store.path("train", 0).stat()
    store.compute("train", 0)
    assert store.path("train", 0).stat() == before


@pytest.mark.parametrize("size", [0, 1, 1000, -1])
def test_a_truncated_record_is_made_again_by_the_next_fill(tmp_path, caplog, size):
    store = cache(tmp_path)
    fill(store, train=2)
    path = store.path("train", 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    assert store.missing("train", 2) == [1]
    assert fill(store, train=2) == [1, 0]
    assert path.read_bytes() == whole
    assert [line.levelno for line in caplog.records] == [logging.WARNING]
    assert str(path) in caplog.text
    assert "damaged" in caplog.text


def test_a_damaged_record_is_made_again_when_it_is_read(tmp_path, caplog):
    """Any byte may be the wrong one: in the arrays, in their headers, in the archive's directory."""
    store = cache(tmp_path)
    fill(store, train=1)
    path = store.path("train", 0)
    whole = path.read_bytes()
    wave, columns = store.load("train", 0)
    expected = wave.copy()
    rng, noticed = np.random.default_rng(0), 0
    for place in [0, 10, 30, 60, 100, len(whole) - 10, *rng.integers(len(whole), size=60)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        caplog.clear()
        wave, again = store.load("train", 0)
        np.testing.assert_array_equal(wave, expected)
        np.testing.assert_array_equal(again.positions, columns.positions)
        if caplog.records:
            noticed += 1
            assert len(caplog.records) == 1
            assert path.name in caplog.text
            # One line, and a sound record in the same place.
            assert "\n" not in caplog.records[0].getMessage()
            assert path.read_bytes() == whole
    # A few bytes of the archive, such as its dates, mean nothing.
    assert noticed > 55


@pytest.mark.parametrize("frozen_phonons", [0, 2])
def test_waves_are_mapped_read_only(tmp_path, frozen_phonons):
    store = cache(tmp_path, frozen_phonons=frozen_phonons)
    fill(store, train=1)
    wave, _ = store.load("train", 0)
    with np.load(store.path("train", 0)) as record:
        np.testing.assert_array_equal(wave, record["wave"])
        assert wave.dtype == record["wave"].dtype == np.complex64
    with pytest.raises(ValueError, match="read-only"):
        wave[...] = 0
    if sys.platform == "linux":
        assert str(store.path("train", 0)) in Path("/proc/self/maps").read_text()


def test_a_record_replaced_or_removed_stays_what_it_was_where_it_is_mapped(tmp_path):
    store = cache(tmp_path)
    fill(store, train=2)
    wave, _ = store.load("train", 0)
    expected = wave.copy()
    os.replace(store.path("train", 1), store.path("train", 0))
    np.testing.assert_array_equal(wave, expected)
    store.path("train", 0).unlink()
    np.testing.assert_array_equal(wave, expected)


def test_a_file_system_that_maps_no_files_serves_arrays(tmp_path, monkeypatch):
    store = cache(tmp_path)
    fill(store, train=1)
    expected = store.load("train", 0)[0]

    def refuse(*args, **words):
        raise RuntimeError("unable to mmap")

    monkeypatch.setattr(torch, "from_file", refuse)
    wave = store.load("train", 0)[0]
    np.testing.assert_array_equal(wave, expected)
    assert not wave.flags.writeable


def test_a_record_that_someone_has_compressed_is_made_again(tmp_path, caplog):
    store = cache(tmp_path)
    fill(store, train=1)
    expected = store.load("train", 0)[0].copy()
    with np.load(store.path("train", 0)) as record:
        arrays = dict(record)
    np.savez_compressed(store.path("train", 0), **arrays)
    np.testing.assert_array_equal(store.load("train", 0)[0], expected)
    assert "damaged" in caplog.text


def test_a_process_can_only_simulate_without_torch(tmp_path):
    """So that the workers of a scheduler start seconds faster."""
    code = "import sys, hrtem.waves.cache; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


HELD = """
import os, sys
from pathlib import Path
from test_cache import cache

def held():
    return {line.split(":")[0]: int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith(("RssAnon", "RssFile"))}

store = cache(Path(sys.argv[1]), frozen_phonons=40)
records = [store.load("train", 0)]
before, files = held(), len(os.listdir("/proc/self/fd"))
records += [store.load("train", n) for n in range(1, 24)]
after = held()
print(after["RssAnon"] - before["RssAnon"], after["RssFile"] - before["RssFile"])
assert len(os.listdir("/proc/self/fd")) == files
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_waves_that_are_kept_cost_neither_memory_nor_open_files(tmp_path):
    """Of 23 waves of 1.3 MB, all that grows is what the process shares with all others."""
    store = cache(tmp_path, frozen_phonons=40)
    fill(store, train=1)
    with np.load(store.path("train", 0)) as record:
        arrays = {name: record[name] for name in record.files if name != "checksum"}
    for n in range(1, 24):
        checksum = np.array(store._checksum("train", n, arrays))
        np.savez(store.path("train", n), **arrays, checksum=checksum)
    run = subprocess.run(
        [sys.executable, "-c", HELD, str(tmp_path)],
        cwd=Path(__file__).parent, check=True, capture_output=True, text=True,
    )  # fmt: skip
    own, shared = map(int, run.stdout.split())
    waves = 23 * 40 * 64 * 64 * 8 // 1024
    assert own < waves / 4
    assert shared > waves


def test_a_record_of_another_place_is_noticed(tmp_path, caplog):
    store = cache(tmp_path)
    fill(store, train=2)
    expected = store.load("train", 1)[0].copy()
    store.path("train", 1).write_bytes(store.path("train", 0).read_bytes())
    np.testing.assert_array_equal(store.load("train", 1)[0], expected)
    assert "damaged" in caplog.text


def test_a_cache_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(InputError, match=r"data\.cache must be a folder .*cache cannot be used: "):
        fill(cache(tmp_path / "cache"), train=1)
    assert files(tmp_path) == ["cache"]


def test_lack_of_memory_is_no_damage(tmp_path, monkeypatch):
    store = cache(tmp_path)
    fill(store, train=1)
    before = store.path("train", 0).read_bytes()
    load = np.load

    def lack(*_, **__):
        raise MemoryError

    monkeypatch.setattr(np, "load", lack)
    with pytest.raises(MemoryError):
        store.load("train", 0)
    assert store.path("train", 0).read_bytes() == before
    # A damaged header may describe an array without end.
    harmed = bytearray(before)
    harmed[len(before) // 2] ^= 1
    store.path("train", 0).write_bytes(harmed)
    monkeypatch.setattr(wavecache.WaveCache, "compute", lambda *_: monkeypatch.setattr(np, "load", load))
    with pytest.raises(InputError, match="cannot be used"):
        store.load("train", 0)


def test_other_users_may_read_a_record(tmp_path):
    store = cache(tmp_path)
    fill(store, train=1)
    (tmp_path / "plain").write_text("")
    modes = {path.stat().st_mode for path in (tmp_path / "plain", store.path("train", 0), store.folder / "recipe.yaml")}
    assert len(modes) == 1


@pytest.mark.parametrize("name", ["abtem", "ase", "numpy", "scipy"])
def test_key_depends_on_the_versions_that_decide_waves(tmp_path, monkeypatch, name):
    before, version = cache(tmp_path).key, wavecache.version
    monkeypatch.setattr(wavecache, "version", lambda one: "99.9.0" if one == name else version(one))
    assert cache(tmp_path).key != before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("function", ["write", "mkdir", "rename"])
def test_a_full_or_read_only_folder_is_told_and_leaves_nothing(tmp_path, monkeypatch, number, function):
    store = cache(tmp_path)

    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    def half(file, **arrays):
        file.write(b"half")
        refuse()

    target = {"write": (np, "savez"), "mkdir": (os, "mkdir"), "rename": (os, "replace")}[function]
    monkeypatch.setattr(*target, half if function == "write" else refuse)
    with pytest.raises(InputError, match=rf"data\.cache .*{os.strerror(number)}\.$") as told:
        fill(store, train=1)
    assert "\n" not in str(told.value)
    assert set(files(tmp_path)) <= {"recipe.yaml"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"data\.cache .*Permission denied"):
        fill(cache(tmp_path), train=1)


def test_a_complete_cache_is_only_read(tmp_path, monkeypatch):
    store = cache(tmp_path)
    fill(store, train=1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert fill(store, train=1) == [0]
    store.load("train", 0)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_record_that_cannot_be_read_is_told(tmp_path):
    store = cache(tmp_path)
    store.path("train", 0).mkdir(parents=True)
    with pytest.raises(InputError, match=r"data\.cache .*000000\.npz"):
        store.load("train", 0)

"""Movies of files of one frame each, and folders that a camera writes to."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from hrtem.errors import Failures, InputError
from hrtem.micrograph import Region, await_files, open_movies


def picture(seed, shape=(40, 30)):
    return np.random.default_rng(seed).normal(100.0, 10.0, shape).astype(np.float32)


def save(path, seed=0, shape=(40, 30)):
    tifffile.imwrite(path, picture(seed, shape))
    return path


class Clock:
    """Time that passes when something sleeps, and what happens then."""

    def __init__(self):
        self.now, self.plans = 0.0, []

    def at(self, when, action):
        self.plans.append((when, action))

    def sleep(self, seconds):
        self.now += seconds
        for plan in [one for one in self.plans if one[0] <= self.now]:
            self.plans.remove(plan)
            plan[1]()

    def arrive(self, folder, quiet=1.0, **words):
        return await_files(folder, quiet, clock=lambda: self.now, sleep=self.sleep, **words)


def test_a_folder_of_frames_is_one_movie_in_the_order_of_numbers(tmp_path):
    for number in (2, 10, 1):
        save(tmp_path / f"frame{number}.tif", number)
    (movie,) = open_movies(tmp_path, sampling=0.2)
    assert len(movie) == 3
    assert (movie.shape, movie.sampling, movie.name) == ((40, 30), 0.2, tmp_path.name)
    for place, number in enumerate((1, 2, 10)):
        np.testing.assert_array_equal(movie[place].images[0], picture(number))
    (same,) = open_movies([str(path) for path in movie.sources], sampling=0.2)
    assert same.sources == movie.sources
    assert [one.images.shape for one in movie[1:]] == [(1, 40, 30)] * 2


def test_a_damaged_file_that_a_pattern_matches_keeps_its_place(tmp_path):
    for number in range(3):
        save(tmp_path / f"frame{number}.tif", number)
    (tmp_path / "frame1.tif").write_bytes(b"no image")
    failures = Failures()
    (movie,) = open_movies(str(tmp_path / "*.tif"), sampling=0.2, failures=failures)
    assert ([path.stem for path in movie.sources], list(movie.errors)) == (["frame0", "frame1", "frame2"], [1])
    assert len(failures.sentences) == 1


@pytest.mark.parametrize("given", [{"mask": np.ones((9, 9))}, {"crop": [0, 0, 31, 20]}])
def test_a_region_that_does_not_fit_is_told_before_a_pixel_is_read(tmp_path, given):
    np.save(tmp_path / "film.npy", np.zeros((3, 40, 30)))
    with pytest.raises(InputError, match=r"30 x 40 px of .*film\.npy"):
        open_movies(tmp_path / "film.npy", 0.2, Region.parse(**given))


def test_stacks_in_a_list_are_movies_each(tmp_path):
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.stack([picture(n) for n in range(3)]))
    made = open_movies([tmp_path / "a.npy", tmp_path / "b.npy"], sampling=0.2)
    assert [(movie.name, len(movie)) for movie in made] == [("a", 3), ("b", 3)]


def test_frames_that_differ_are_refused(tmp_path):
    save(tmp_path / "a.tif")
    save(tmp_path / "b.tif", shape=(41, 30))
    with pytest.raises(InputError, match=r"must have one size, and .*b.tif has 30 x 41 px, the first 30 x 40"):
        open_movies(tmp_path, sampling=0.2)
    (tmp_path / "b.tif").unlink()
    with pytest.raises(InputError, match="two frames at least"):
        open_movies(tmp_path, sampling=0.2)
    with pytest.raises(InputError, match="does not exist"):
        open_movies(tmp_path / "nowhere", sampling=0.2)
    with pytest.raises(InputError, match="has the list"):
        open_movies([["a.tif", "b.tif"]], sampling=0.2)


def test_files_are_given_as_they_come_and_the_end_is_silence(tmp_path):
    clock = Clock()
    save(tmp_path / "f1.tif", 1)
    clock.at(0.5, lambda: save(tmp_path / "f2.tif", 2))
    clock.at(1.2, lambda: save(tmp_path / "f3.tif", 3))
    clock.at(9.0, lambda: save(tmp_path / "f4.tif", 4))
    assert [path.name for path in clock.arrive(tmp_path)] == ["f1.tif", "f2.tif", "f3.tif"]
    assert clock.now == pytest.approx(1.2 + 0.3 + 1.0, abs=0.3)


def test_a_half_written_file_is_waited_for_and_never_misread(tmp_path):
    """It stays half for two seconds, as long as it likes; and what comes after it waits."""
    clock = Clock()
    whole = save(tmp_path / "whole.tif", 5).read_bytes()
    (tmp_path / "whole.tif").unlink()
    late = tmp_path / "f1.tif"
    late.write_bytes(whole[: len(whole) // 2])
    save(tmp_path / "f2.tif", 6)
    clock.at(2.0, lambda: late.write_bytes(whole))
    given = []
    for path in clock.arrive(tmp_path):
        assert clock.now >= 2.0
        given.append(tifffile.imread(path))
    np.testing.assert_array_equal(given, [picture(5), picture(6)])


def test_a_file_that_grows_is_not_read_before_it_stops(tmp_path):
    clock, path = Clock(), tmp_path / "f.npy"
    np.save(path, picture(7))
    whole = path.read_bytes()
    # An array whose header is whole and whose pixels are not; each step changes the size.
    for step in range(1, 9):
        clock.at(0.2 * step, lambda step=step: path.write_bytes(whole[: len(whole) * step // 8]))
    assert [(one.name, clock.now >= 1.6) for one in clock.arrive(tmp_path)] == [("f.npy", True)]


def test_a_file_that_stays_broken_delays_the_others_for_a_while(tmp_path):
    (tmp_path / "f.tif").write_bytes(b"II*\0 nothing")
    assert list(Clock().arrive(tmp_path, patience=2.0)) == [tmp_path / "f.tif"]
    with pytest.raises(InputError, match="nowhere does not exist"):
        list(Clock().arrive(tmp_path / "nowhere"))


def test_an_empty_folder_ends_in_silence(tmp_path):
    assert list(Clock().arrive(tmp_path, quiet=0.5)) == []

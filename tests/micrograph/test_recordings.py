"""What `images=` may name: files, stacks, movies, series in several files, and folders."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
import recorded
from omegaconf import OmegaConf

from hrtem.errors import InputError
from hrtem.micrograph import open_recordings, recordings
from hrtem.micrograph.stack import Stack, stack_array


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng([0, 1]).integers(50, 200, (3, 24, 32)).astype(np.float32)


def saved(folder: Path, images: np.ndarray, *names: str) -> list[str]:
    """One NPY file an image."""
    for name, image in zip(names, images, strict=True):
        np.save(folder / name, image)
    return [str(folder / name) for name in names]


@pytest.mark.parametrize("kind", [kind for kind in recorded.KINDS if kind not in recorded.SINGLE])
def test_a_stack_is_a_movie_for_a_model_of_one_image(tmp_path: Path, images: np.ndarray, kind: str) -> None:
    path = recorded.write(tmp_path, kind, images)
    (movie,) = open_recordings(str(path), focal=1, sampling=0.2)
    assert (len(movie), movie.is_movie, movie.name, movie.shape) == (3, True, "image", (24, 32))
    assert movie.sampling == 0.2
    for number in (2, 0):  # from anywhere
        frame = movie[number]
        np.testing.assert_array_equal(frame.images, images[number : number + 1])
        assert (frame.name, frame.frame, frame.sampling) == (f"image-{number:05d}", number, 0.2)
    np.testing.assert_array_equal(np.concatenate([frame.images for frame in movie]), images)
    movie.close()
    assert movie[-1].frame == 2
    with pytest.raises(IndexError):
        movie[3]
    movie.close()


def test_frames_are_read_one_by_one(tmp_path: Path) -> None:
    """A movie of a gigabyte and a half, most of which is a hole in its file, costs the memory of a frame."""
    import tracemalloc

    shape = (400, 1024, 1024)
    pixels = np.lib.format.open_memmap(tmp_path / "movie.npy", "w+", np.float32, shape)
    pixels[250] = np.random.default_rng(0).normal(size=shape[1:])
    del pixels
    tracemalloc.start()
    (movie,) = open_recordings(tmp_path / "movie.npy", focal=1, sampling=0.2)
    assert movie[250].images.std() == pytest.approx(1.0, abs=0.01)
    assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    tracemalloc.stop()
    with pytest.raises(InputError, match=r"movie\.npy, frame 3, is constant"):
        movie[3]


def test_defocus_of_a_movie_goes_to_its_frames(tmp_path: Path, images: np.ndarray) -> None:
    (movie,) = open_recordings(recorded.write(tmp_path, "velox", images), focal=1)
    assert movie[1].acquisition.defocus == pytest.approx((80.0,))
    movie.close()


def test_a_stack_is_a_series_for_a_model_of_several_images(tmp_path: Path, images: np.ndarray) -> None:
    np.save(tmp_path / "series.npy", images)
    (series,) = open_recordings(tmp_path / "series.npy", focal=3, sampling=0.2, register=False)
    assert (len(series), series.is_movie) == (1, False)
    np.testing.assert_array_equal(series[0].images, images)
    assert (series[0].name, series[0].frame, series[0].shifts) == ("series", None, None)
    (series,) = open_recordings(tmp_path / "series.npy", focal=3, sampling=0.2, defocus=[30, 20, 10])
    np.testing.assert_array_equal(series[0].images, images[::-1])
    assert series[0].acquisition.defocus == (10.0, 20.0, 30.0)
    np.testing.assert_array_equal(series[0].shifts, 0.0)  # noise, which a remark says
    assert "could not be registered" in series[0].remarks[0]


def test_files_of_one_image_each_are_a_series(tmp_path: Path, images: np.ndarray) -> None:
    files = saved(tmp_path, images, "gold_df-40.npy", "gold_df0.npy", "gold_df40.npy")
    for named in (files, [files], OmegaConf.create([files])):
        (series,) = open_recordings(named, focal=3, sampling=0.2, register=False)
        np.testing.assert_array_equal(series[0].images, images)
        assert series.name == "gold_df"
    two = open_recordings([files, files[::-1]], focal=3, sampling=0.2, register=False)
    np.testing.assert_array_equal(two[1][0].images, images[::-1])
    assert len(open_recordings(files, focal=1, sampling=0.2)) == 3


def test_defocus_in_several_files_orders_them(tmp_path: Path, images: np.ndarray) -> None:
    for n, defocus in enumerate([50.0, -10.0, 20.0]):
        np.savez(tmp_path / f"{n}.npz", image=images[n], sampling=0.2, defocus=defocus)
    (series,) = open_recordings(tmp_path, focal=3, register=False)
    np.testing.assert_array_equal(series[0].images, images[[1, 2, 0]])
    assert series[0].acquisition.defocus == (-10.0, 20.0, 50.0)


def test_a_folder_is_its_files(tmp_path: Path, images: np.ndarray) -> None:
    folder = tmp_path / "day 1"
    folder.mkdir()
    saved(folder, images, "a10.npy", "a9.npy", "a1.npy")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.npy").write_text("no image")
    assert [one.name for one in open_recordings(folder, focal=1)] == ["a1", "a9", "a10"]
    (series,) = open_recordings(folder, focal=3, sampling=0.2, register=False)
    assert series.name == "day 1"
    np.testing.assert_array_equal(series[0].images, images[[2, 1, 0]])


def test_a_pattern_is_the_files_that_match(tmp_path: Path, images: np.ndarray, monkeypatch) -> None:
    saved(tmp_path, images, "a10.npy", "a9.npy", "\u00b21.npy")
    (tmp_path / "a.txt").write_text("no image")
    monkeypatch.chdir(tmp_path)
    assert [one.name for one in open_recordings("a*", focal=1)] == ["a9", "a10"]
    assert [one.name for one in open_recordings(["\u00b2*.npy", "a9.npy"], focal=1)] == ["\u00b21", "a9"]
    for named in ("*.npy", ["*.npy"], [["*.npy"]], [[str(tmp_path)]], str(tmp_path), [["a*.npy", "\u00b21.npy"]]):
        (series,) = open_recordings(named, focal=3, sampling=0.2, register=False)
        np.testing.assert_array_equal(series[0].images, images[[1, 0, 2]])
    np.save("a[9].npy", images[0])
    assert [one.name for one in open_recordings("a[9].npy", focal=1)] == ["a[9]"]
    assert "is a pattern that no image matches" in sentence("b*.npy")


def test_one_image_of_each_stack(tmp_path: Path, images: np.ndarray) -> None:
    np.save(tmp_path / "stack.npy", images)
    (one,) = open_recordings(tmp_path / "stack.npy", 1, sampling=0.2, frame=2)
    assert (len(one), one.name) == (1, "stack-00002")
    np.testing.assert_array_equal(one[0].images, images[2:])
    (series,) = open_recordings([[tmp_path / "stack.npy"] * 2], 2, sampling=0.2, register=False, frame=1)
    np.testing.assert_array_equal(series[0].images, images[[1, 1]])
    told = sentence(tmp_path / "stack.npy", 2)
    assert "frame=NUMBER" in told
    assert "hrtem movie" in told


def test_looking_at_two_thousand_files_keeps_none(tmp_path: Path, images: np.ndarray, monkeypatch) -> None:
    """Neither an image in memory nor a stack that is open."""
    live = 0
    made = Stack.__init__

    def counted(self, *arguments, **words):
        nonlocal live
        made(self, *arguments, **words)
        live += 1
        weakref.finalize(self, gone)

    def gone() -> None:
        nonlocal live
        live -= 1

    def opened(path: Path, item: object = None, frame: object = None) -> Stack:
        pixels = images if path.stem.endswith("0") else images[0]
        return stack_array(pixels.copy(), [], close=lambda: closed.append(path))

    closed: list[Path] = []
    monkeypatch.setattr(Stack, "__init__", counted)
    monkeypatch.setattr(recordings, "open_file", opened)
    given = open_recordings([f"{number}.npy" for number in range(2000)], focal=1, sampling=0.2)
    closed.clear()
    for one in given:
        one.look()
        assert live <= 1
    assert len(closed) == 2000


def sentence(images: object, focal: int = 1, **words: object) -> str:
    with pytest.raises(InputError) as error:
        open_recordings(images, focal, **words)  # type: ignore[arg-type]
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_refusals(tmp_path: Path, images: np.ndarray) -> None:
    a, b, c = saved(tmp_path, images, "a.npy", "b.npy", "c.npy")
    np.save(tmp_path / "stack.npy", images)
    np.save(tmp_path / "other.npy", images[0, :20])
    (tmp_path / "empty").mkdir()
    for nothing in ([], "", [""], ()):
        assert "must name at least one file" in sentence(nothing)
    for nothing in (None, True, 3):
        assert "images must be names of files" in sentence(nothing)
    for wrong in (-1, 1.5, True, "first"):
        assert f"from 0, got {wrong}" in sentence(tmp_path / "stack.npy", 1, frame=wrong)
    assert "is a folder without images" in sentence(tmp_path / "empty")
    assert "focal series of 5 images, and" in sentence(tmp_path / "stack.npy", 5)
    assert "holds 3" in sentence(tmp_path / "stack.npy", 5)
    assert "images=[[first,second,...]]" in sentence(a, 3)
    assert "holds 2" in sentence([[a, b]], 3)
    assert "names of files or lists of these, got [['" in sentence([[[a, b, c]]], 3)
    assert "takes single images" in sentence([[a, b]], 1)
    assert "must have images of one size" in sentence([[a, b, str(tmp_path / "other.npy")]], 3)
    assert "does not exist" in sentence([[a, b, str(tmp_path / "none.npy")]], 3)
    assert "a list of 3 numbers in Å" in sentence([[a, b, c]], 3, defocus=[1, 2])
    assert "a list of 3 numbers in Å" in sentence([[a, b, c]], 3, defocus=["far", 2, 3])
    assert "left out for a model of single images" in sentence(a, 1, defocus=[1])
    assert "sampling must be one number" in sentence(a, 1, sampling=-1.0)
    np.savez(tmp_path / "fine.npz", image=images[0], sampling=0.1)
    np.savez(tmp_path / "coarse.npz", image=images[1], sampling=0.2)
    assert "one pixel size, and has 0.1 Å, 0.2 Å" in sentence([[tmp_path / "fine.npz", tmp_path / "coarse.npz"]], 2)


def test_arrays_in_a_list_are_named_in_short():
    with pytest.raises(InputError, match=r"^images must be .*, got array.{1,40} in the list\.$"):
        open_recordings([np.zeros((64, 64)), np.zeros((64, 64))], focal=1)

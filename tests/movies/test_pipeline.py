"""Movies from their frames to tables, figures and a page, with a predictor that knows the truth."""

from __future__ import annotations

import csv
import json
import logging
import re
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from pyarrow import parquet
from skimage.io import imread
from synthetic_movies import EXTENT, Knowing, detected, truth

from hrtem.errors import Failures, InputError
from hrtem.micrograph import open_movies
from hrtem.movies import pipeline

SAMPLING, SIDE, FRAMES = 0.4, 111, 24
TABLES = ("columns", "events", "frames", "occupancy", "rates", "sites")
FIGURES = ("frames", "map", "motion", "occupancy")


def drawn(found, seed):
    """An image with a spot at each column."""
    x = np.arange(SIDE) * SAMPLING
    image = np.random.default_rng(seed).normal(10.0, 0.2, (SIDE, SIDE))
    for px, py in found.positions:
        image += 3.0 * np.exp(-(((x[:, None] - py) ** 2 + (x[None] - px) ** 2) / 0.5))
    return image.astype(np.float32)


@pytest.fixture(scope="module")
def frames():
    return detected(truth(1, frames=FRAMES), 1)


@pytest.fixture(scope="module")
def images(frames):
    return [drawn(found, number) for number, found in enumerate(frames)]


@pytest.fixture
def film(images, tmp_path):
    path = tmp_path / "film.npy"
    np.save(path, np.stack(images))
    (movie,) = open_movies(path, sampling=SAMPLING)
    return movie


@pytest.fixture
def log():
    return logging.getLogger("hrtem.movies.pipeline")


def words(**said):
    return {
        "frame_time": 0.5,
        "frames": None,
        "watch": None,
        "sampling": SAMPLING,
        "images": "film.npy",
        "item": None,
        "frame": None,
        "mask": None,
        "crop": None,
    } | said


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_movie_becomes_tables_figures_and_a_page(film, frames, tmp_path, log):
    predictor = pipeline.prepare_predictor(Knowing(frames))
    pipeline.predict(predictor, words(frames=[0, 10, 20]), tmp_path, log, [film])
    folder = tmp_path / "film"
    names = {f"{name}.{kind}" for name in TABLES for kind in ("csv", "parquet")}
    names |= {f"{name}.png" for name in FIGURES} | {"rates.json", "report.html"}
    assert {path.name for path in folder.iterdir()} == names
    assert not (tmp_path / "film.frames").exists()
    for name in TABLES:
        table = parquet.read_table(folder / f"{name}.parquet")
        listed = rows(folder / f"{name}.csv")
        assert table.num_rows == len(listed)
        assert table.column_names == list(listed[0])
        assert all(table.schema.field(column).metadata[b"about"] for column in table.column_names)
    sites, occupancy = rows(folder / "sites.csv"), rows(folder / "occupancy.csv")
    assert len(occupancy) == FRAMES * len(sites)
    assert {row["kind"] for row in sites} >= {"bulk", "surface"}
    assert all((float(row["probability"]) >= 0.5) == (row["occupied"] == "1") for row in occupancy)
    assert len(rows(folder / "columns.csv")) == sum(map(len, frames))
    events = rows(folder / "events.csv")
    assert sum(int(row["appearances"]) + int(row["disappearances"]) for row in sites) == len(events) > 5
    rates = json.loads((folder / "rates.json").read_text())
    assert rates["time_unit"] == "s"
    assert rates["leave"]["low"] < rates["leave"]["value"] < rates["leave"]["high"]
    for name in FIGURES:
        assert np.ptp(imread(folder / f"{name}.png")[..., :3].astype(int)) > 100
    page = (folder / "report.html").read_text()
    data = json.loads(re.search(r'id="data"[^>]*>(.*?)</script>', page, re.S).group(1))
    assert data["allFrames"] == FRAMES
    assert [frame["number"] for frame in data["frames"]] == list(range(FRAMES))
    assert len(data["curve"]["values"]) == FRAMES
    assert {mark["kind"] for frame in data["frames"] for mark in frame["marks"]} >= {"surface", "appears", "vanishes"}


def test_frames_are_found_once_also_after_a_stop(film, frames, tmp_path):
    predictor = pipeline.prepare_predictor(Knowing(frames))

    find = predictor.find
    predictor.find = lambda micrograph: (
        find(micrograph) if len(predictor.seen) < 9 else (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        pipeline.follow_movie(predictor, film, tmp_path / "kept", 0.5)
    predictor.find = find
    result = pipeline.follow_movie(predictor, film, tmp_path / "kept", 0.5)
    assert predictor.seen == list(range(FRAMES))
    whole = pipeline.follow_movie(pipeline.prepare_predictor(Knowing(frames)), film, tmp_path / "other", 0.5)
    np.testing.assert_array_equal(result.history.occupancy.probability, whole.history.occupancy.probability)
    assert result.history.rates.leave.value == whole.history.rates.leave.value
    again = pipeline.follow_movie(predictor, film, tmp_path / "kept", 0.5)
    assert again.rate is None
    assert predictor.seen == list(range(FRAMES))


@pytest.mark.parametrize("bad", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (FRAMES // 2, FRAMES - 1))])
def test_a_bad_frame_is_left_out(images, frames, tmp_path, log, bad):
    spoilt = np.stack(images)
    spoilt[bad] = 7.0
    np.save(tmp_path / "film.npy", spoilt)
    given = words(images=str(tmp_path / "film.npy"), frames=[bad, 5])
    predictor = pipeline.prepare_predictor(Knowing(frames))
    failures = Failures()
    (movie,) = pipeline.look_at_movies(predictor, given, failures)
    pipeline.predict(predictor, given, tmp_path, log, [movie], failures)
    (sentence,) = failures.sentences
    assert f"frame {bad}, is constant" in sentence
    listed = rows(tmp_path / "film" / "frames.csv")
    assert len(listed) == FRAMES
    assert [(row["found"], row["registered"]) for row in listed][bad] == ("", "0")
    assert all(row["seen"] == "" for row in rows(tmp_path / "film" / "occupancy.csv") if row["frame"] == str(bad))
    with pytest.raises(InputError, match=f"frame {bad}"):
        pipeline.follow_movie(predictor, movie, tmp_path / "other", 0.5)


@pytest.mark.parametrize("bad", [0, 2, 4])
def test_a_bad_file_keeps_its_place_in_a_movie(images, tmp_path, bad):
    folder = tmp_path / "film"
    folder.mkdir()
    for number in range(5):
        tifffile.imwrite(folder / f"{number}.tif", images[number])
    cut = folder / f"{bad}.tif"
    cut.write_bytes(b"no image")
    for given in (folder, sorted(folder.iterdir())):
        failures = Failures()
        (movie,) = open_movies(given, SAMPLING, failures=failures)
        assert len(movie) == 5
        assert [cut.name in sentence for sentence in failures.sentences] == [True]
        np.testing.assert_array_equal(movie[3].images[0], images[3])
        with pytest.raises(InputError, match=cut.name):
            movie[bad]
        with pytest.raises(InputError, match=cut.name):
            open_movies(given, SAMPLING)


@pytest.mark.parametrize("content", [b"", b"PK no archive", None])
def test_a_damaged_kept_frame_is_found_again(film, frames, tmp_path, content):
    predictor = pipeline.prepare_predictor(Knowing(frames))
    kept = tmp_path / "kept"
    pipeline.follow_movie(predictor, film, kept, 0.5)
    whole = (kept / "00007.npz").read_bytes()
    (kept / "00007.npz").write_bytes(whole[: len(whole) // 2] if content is None else content)
    pipeline.follow_movie(predictor, film, kept, 0.5)
    assert predictor.seen == [*range(FRAMES), 7]
    assert (kept / "00007.npz").read_bytes()[:200] == whole[:200]


def test_two_movies_are_compared(film, frames, tmp_path, log):
    report = pipeline.follow_movie(pipeline.prepare_predictor(Knowing(frames)), film, tmp_path / "kept", 0.5)
    (sentence,) = pipeline.write_comparison({"one": report, "other": report}, tmp_path, "s")
    assert "columns of other leave" in sentence
    said = json.loads((tmp_path / "comparison.json").read_text())
    assert [one["event"] for one in said] == ["leave", "arrive"]
    assert all(one["low"] < 1.0 < one["high"] and one["p"] > 0.5 for one in said)
    assert np.ptp(imread(tmp_path / "comparison.png")[..., :3].astype(int)) > 100


def test_movies_of_one_name_are_told_by_their_folders(tmp_path):
    places = [tmp_path / "vacuum" / "movie.mrc", tmp_path / "oxygen" / "movie.mrc", tmp_path / "other.mrc"]
    given = [SimpleNamespace(name=place.stem, source=place) for place in [*places, places[0]]]
    assert pipeline.name_movies(given) == ["vacuum-movie", "oxygen-movie", "other", "vacuum-movie-2"]


def test_a_watched_folder_is_the_movie_of_its_frames(images, frames, tmp_path, caplog):
    folder = tmp_path / "camera"
    folder.mkdir()
    (folder / "f-0.tif").write_bytes(b"")
    coming = iter(range(FRAMES))

    def sleep(_):
        number = next(coming, None)
        if number is not None:
            tifffile.imwrite(folder / f"f-{number}.tif", images[number])
        clock[0] += 0.4

    clock = [0.0]
    predictor = pipeline.prepare_predictor(Knowing(frames))
    log = logging.getLogger("hrtem.movies.pipeline")
    with caplog.at_level(logging.INFO):
        movie = pipeline.watch_folder(
            predictor, folder, tmp_path / "kept", 3.0, SAMPLING, log, settled=0.3, clock=lambda: clock[0], sleep=sleep
        )
    assert len(movie) == FRAMES
    assert predictor.seen == list(range(FRAMES))
    lines = [line for line in caplog.messages if "frames/s" in line]
    assert len(lines) == FRAMES
    assert re.fullmatch(r"f-23.tif: frame 23, \d+ columns, drift [+-]\d.\d\d [+-]\d.\d\d Å, [\d.]+ frames/s", lines[-1])
    live = pipeline.follow_movie(predictor, movie, tmp_path / "kept", 0.5, live=True)
    assert predictor.seen == list(range(FRAMES))
    (film,) = open_movies(folder, sampling=SAMPLING)
    later = pipeline.follow_movie(pipeline.prepare_predictor(Knowing(frames)), film, tmp_path / "later", 0.5)
    np.testing.assert_array_equal(live.history.occupancy.probability, later.history.occupancy.probability)


def test_what_is_held_of_a_frame_is_small(frames):
    held = [one.positions.nbytes + one.probabilities.nbytes for one in frames]
    assert max(held) < 2000
    assert EXTENT[0] == pytest.approx((SIDE - 1) * SAMPLING)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"frame_time": -1}, "frame_time must be between"),
        ({"frames": [0, 24]}, "frames must be a list of numbers of frames from 0 to 23"),
        ({"frames": []}, "frames must be a list"),
        ({"watch": 5}, "images must be one folder to watch"),
        ({"watch": -5}, "watch must be between"),
        ({"images": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_words_of_no_use_are_told(film, frames, said, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        pipeline.look_at_movies(Knowing(frames), words(images=str(film.source)) | said)


def test_models_of_focal_series_are_refused(film, frames):
    with pytest.raises(InputError, match="this one takes focal series of 3 images"):
        pipeline.look_at_movies(Knowing(frames, num_images=3), words(images=str(film.source)))


def test_an_empty_folder_is_told(tmp_path, frames, log):
    predictor = pipeline.prepare_predictor(Knowing(frames))
    clock = iter(np.arange(1000.0))
    with pytest.raises(InputError, match="no frame came into"):
        pipeline.watch_folder(
            predictor, tmp_path, tmp_path / "kept", 2.0, SAMPLING, log, clock=lambda: next(clock), sleep=lambda _: None
        )

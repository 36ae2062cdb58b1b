"""Networks on images of any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import TINY
from hydra.utils import instantiate
from plain_preparation import remove_hot_pixels, resample
from scipy.spatial import cKDTree

from hrtem.errors import InputError
from hrtem.inference import Predictor
from hrtem.inference.prediction import Canvas
from hrtem.inference.preparation import Prepared
from hrtem.inference.tiles import cover, measure_sight
from hrtem.micrograph import Micrograph
from hrtem.movies.frames import follow
from hrtem.normalisation import LocalContrast


@pytest.fixture
def task(configuration):
    torch.manual_seed(0)
    return instantiate(configuration(*TINY, "target=gaussian", "peaks.threshold=0.0").task).eval()


def micrograph(images, sampling=0.2):
    return Micrograph(np.asarray(images, np.float32), sampling, "test", "test.npy")


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(64, 64), (33, 70), (129, 97)])
def test_any_size(task, shape):
    prediction = Predictor(task).find(micrograph(noise(1, *shape)))
    assert prediction.maps.shape == (1, *shape)
    assert prediction.images.shape == (1, *shape)
    x, y = prediction.columns.positions.T / 0.2
    assert x.max() <= shape[1] - 0.5
    assert y.max() <= shape[0] - 0.5


def same(one, other, position=1e-3, probability=1e-4):
    """Whether two tables hold the same columns, in any order."""
    assert len(one) == len(other) > 20
    distance, index = cKDTree(one.positions).query(other.positions)
    assert len(set(index)) == len(one)
    assert distance.max() < position
    np.testing.assert_allclose(one.probabilities[index], other.probabilities, atol=probability)
    np.testing.assert_allclose(one.sigmas[index], other.sigmas, atol=position)
    np.testing.assert_array_equal(one.labels[index], other.labels)


def within(columns, low, high):
    """The columns whose x and y are between two numbers, Å."""
    return columns[((columns.positions > low) & (columns.positions < high)).all(axis=1)]


@pytest.mark.parametrize(("sampling", "precision"), [(0.2, "32-true"), (0.15, "32-true"), (0.2, "bf16-mixed")])
def test_the_size_of_tiles_changes_nothing(task, sampling, precision):
    image = micrograph(noise(1, round(80 / sampling), round(120 / sampling)), sampling)
    whole = Predictor(task, tile=1024, precision=precision).find(image)
    tiled = Predictor(task, tile=448, precision=precision)
    assert len(cover(whole.maps.shape[-2:], tiled.halo, tiled.area)) > 1
    prediction = tiled.find(image)
    same(whole.columns, prediction.columns)
    np.testing.assert_allclose(whole.maps, prediction.maps, atol=2e-5)
    np.testing.assert_allclose(whole.images, prediction.images, atol=2e-5)


def test_the_size_of_tiles_changes_no_uncertainty(configuration):
    """Of votes too, by a law that looks far around."""
    torch.manual_seed(0)
    task = instantiate(configuration(*TINY, "peaks.threshold=0.0").task).eval()
    task.uncertainty.copy_(torch.tensor([-3.0, 0.5, 0.8, 0.05, -0.2, 0.05, -3.0, 5.0, -3.0, 5.0]))
    image = micrograph(noise(1, 400, 600), 0.2)
    whole, tiled = (Predictor(task, tile=tile, precision="32-true").find(image).columns for tile in (1024, 448))
    same(whole, tiled)
    assert whole.sigmas.std() > 0.001


def test_half_the_digits_move_columns_by_less_than_their_error(task):
    image = micrograph(noise(1, 200, 220), 0.2)
    single, half = (Predictor(task, precision=word).find(image).columns for word in ("32-true", "bf16-mixed"))
    distance, index = cKDTree(half.positions).query(single.positions)
    near = distance < 0.3
    assert near.mean() > 0.9
    assert np.sqrt(np.square(distance[near]).mean()) < 0.02
    assert np.abs(half.probabilities[index] - single.probabilities)[near].mean() < 0.02


def test_unknown_precisions_are_refused(task):
    with pytest.raises(InputError, match=r"precision must be auto or one of 32-true.* got 8-bit"):
        Predictor(task, precision="8-bit")


def test_every_pixel_has_one_tile_that_sees_far_enough():
    for shape in ((64, 64), (33, 70), (1000, 700)):
        answered = np.zeros([-(-size // 32) * 32 for size in shape], int)
        for tile in cover(shape, 64, 300**2):
            top, bottom, left, right = tile.own
            answered[top:bottom, left:right] += 1
            for (low, high), (first, last), size in zip(
                ((top, bottom), (left, right)), (tile.seen[:2], tile.seen[2:]), answered.shape, strict=True
            ):
                assert first == max(0, low - 64)
                assert last == min(size, high + 64)
        assert answered.min() == answered.max() == 1


def test_a_network_sees_as_far_as_its_filters():
    two = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 7, padding=3), torch.nn.Conv2d(4, 1, 5, padding=2))
    assert measure_sight(two, 1)[0] == 5
    # 4 channels go into the second layer and 1 comes out, of 4 bytes each.
    assert measure_sight(two, 1)[1] >= 20


@pytest.mark.parametrize("sampling", [0.2, 0.1, 0.31])
def test_a_micrograph_is_prepared_window_by_window_as_in_one_go(sampling):
    images = 50.0 + 10.0 * noise(2, 210, 260)
    images[0, 100, 90] += 1e4
    clean = np.stack([resample(remove_hot_pixels(image), sampling, 0.2) for image in images])
    expected = LocalContrast(12.0)(torch.from_numpy(clean)[None], 0.2)[0]
    prepared = Prepared(images, sampling, 0.2, LocalContrast(12.0))
    rows, columns = prepared.shape
    assert clean.shape[-2:] == prepared.shape
    whole = prepared.window(0, rows, 0, columns)
    # Coarsening, the filter of one goes on for ever and that of the other does not.
    torch.testing.assert_close(whole, expected, atol=5e-3 if sampling < 0.2 else 2e-5, rtol=0)
    prepared._kept = None  # as for an image that is too large
    window = prepared.window(40, 81, 30, 100)
    torch.testing.assert_close(window, whole[:, 40:81, 30:100], atol=3e-6, rtol=0)
    beyond = prepared.window(40, rows + 9, 30, columns + 5)
    assert (beyond[:, rows - 40 :] == beyond[:, rows - 41 : rows - 40]).all()
    assert (beyond[:, :, columns - 30 :] == beyond[:, :, columns - 31 : columns - 30]).all()


def test_a_crop_of_any_size_has_the_same_columns(task):
    """Further from its edges than the network sees and the normalisation reaches."""
    task.normalise = LocalContrast(1.5)
    image = noise(1, 430, 430)
    whole = Predictor(task, precision="32-true").find(micrograph(image)).columns
    for size in (416, 411, 397):
        crop = Predictor(task, precision="32-true").find(micrograph(image[:, :size, :size])).columns
        same(within(whole, 28.0, 48.0), within(crop, 28.0, 48.0))


def test_columns_at_the_edges_are_kept(task):
    class Spots(torch.nn.Module):
        def forward(self, images):
            return 4.0 * (images - 3.0)

    task.net = Spots()
    task.find_peaks.threshold = 0.3
    for shape in ((96, 128), (90, 101)):
        y, x = np.mgrid[: shape[0], : shape[1]] * 0.2
        corners = [(a, b) for a in (0.1, x.max() - 0.1) for b in (0.1, y.max() - 0.1)]
        spots = sum(np.exp(-0.5 * ((x - a) ** 2 + (y - b) ** 2) / 0.3**2) for a, b in corners)
        columns = Predictor(task).find(micrograph(spots[None] + 0.01 * noise(1, *shape))).columns
        # Half of a spot is seen, whose middle lies further in.
        distance, _ = cKDTree(columns.positions).query(corners)
        assert distance.max() < 0.4


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_image_has_the_turned_columns(task, turn):
    """To 10⁻³ Å and 10⁻⁴, of a symmetric predictor and sides that pooling divides."""
    from hrtem.nets import Dihedral

    task.net = Dihedral(task.net)
    image = noise(1, 64, 96)
    predictor = Predictor(task)
    columns = predictor.find(micrograph(image)).columns

    def turned(array):
        array = np.rot90(array, turn % 4, axes=(-2, -1))
        return array[..., ::-1] if turn >= 4 else array

    # Where each pixel of the turned image was.
    x = turned(np.broadcast_to(np.arange(96.0), (64, 96)))
    y = turned(np.broadcast_to(np.arange(64.0)[:, None], (64, 96)))
    found = predictor.find(micrograph(np.ascontiguousarray(turned(image)))).columns
    i, j = (found.positions / 0.2).T
    back = [plane[0, 0] + i * (plane[0, 1] - plane[0, 0]) + j * (plane[1, 0] - plane[0, 0]) for plane in (x, y)]
    same(columns, found.moved(0.2 * np.stack(back, axis=1)))


@pytest.fixture
def tile():
    (one,) = cover((64, 96), 0, 10**6)
    return one


def test_a_large_picture_is_reduced(monkeypatch, tile):
    monkeypatch.setattr("hrtem.inference.prediction.LARGE", 2000)
    picture = torch.from_numpy(noise(2, 64, 96))
    canvas = Canvas((61, 90))
    canvas.paint(tile, picture)
    assert canvas.reduction == 2
    answer = canvas.finished()
    assert answer.shape == (2, 31, 45)
    np.testing.assert_allclose(answer[1, 3, 7], picture[1, 6:8, 14:16].mean(), atol=1e-6)
    np.testing.assert_allclose(answer[0, 30, 7], picture[0, 60, 14:16].mean(), atol=1e-6)


def test_whole_maps_on_disk(task, tmp_path, monkeypatch):
    monkeypatch.setattr("hrtem.inference.prediction.LARGE", 2000)
    image = micrograph(noise(1, 70, 101))
    small = Predictor(task).find(image)
    assert small.reduction == 2
    assert small.sampling == 0.4
    assert small.origin == pytest.approx(0.1)
    whole = Predictor(task).find(image, folder=tmp_path)
    assert (whole.reduction, whole.sampling, whole.origin) == (1, 0.2, 0.0)
    assert isinstance(whole.maps, np.memmap)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.npy", "maps.npy"]
    np.testing.assert_allclose(small.maps[0, 2, 3], whole.maps[0, 4:6, 6:8].mean(), atol=1e-3)
    same(small.columns, whole.columns, 1e-12, 1e-12)


def test_a_failure_leaves_no_file(task, tmp_path, monkeypatch):
    monkeypatch.setattr("hrtem.inference.ensemble.Ensemble.find", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Predictor(task).find(micrograph(noise(1, 64, 64)), folder=tmp_path)
    assert not list(tmp_path.iterdir())


class Movie(list):
    name, sampling, shape = "movie", 0.2, (64, 64)

    def __init__(self, source):
        super().__init__(micrograph(np.random.default_rng(n).normal(size=(1, 64, 64))) for n in range(4))
        self.source = source


def test_a_movie_goes_on_after_a_kill(task, tmp_path, monkeypatch):
    movie, predictor = Movie(tmp_path / "movie.npy"), Predictor(task)
    run = follow(predictor, movie, tmp_path / "frames")
    first = [next(run), next(run)]
    run.close()
    # What a kill leaves of the frame that it met.
    (tmp_path / "frames" / ".00002.old.partial.npz").write_bytes(b"half")
    seen = []
    find = Predictor.find
    monkeypatch.setattr(Predictor, "find", lambda self, image: seen.append(1) or find(self, image))
    frames = list(follow(predictor, movie, tmp_path / "frames"))
    assert len(seen) == 2
    assert [frame.number for frame in frames] == [0, 1, 2, 3]
    assert [frame.prediction is None for frame in frames] == [True, True, False, False]
    for frame, before in zip(frames, first, strict=False):
        same(frame.columns, before.columns, 1e-12, 1e-12)
    # A frame in a movie has what it has alone.
    same(frames[3].columns, find(predictor, movie[3]).columns, 1e-12, 1e-12)


def test_frames_of_another_run_are_refused(task, tmp_path):
    next(follow(Predictor(task), Movie(tmp_path / "a.npy"), tmp_path / "frames"))
    with pytest.raises(InputError, match=r"its movie is .*a\.npy, not .*b\.npy"):
        next(follow(Predictor(task), Movie(tmp_path / "b.npy"), tmp_path / "frames"))
    with torch.no_grad():
        list(task.net.parameters())[-1].add_(0.1)
    with pytest.raises(InputError, match="its model is"):
        next(follow(Predictor(task), Movie(tmp_path / "a.npy"), tmp_path / "frames"))
    (tmp_path / "frames" / "settings.json").write_text("[")
    with pytest.raises(InputError, match="give another folder"):
        next(follow(Predictor(task), Movie(tmp_path / "a.npy"), tmp_path / "frames"))


@pytest.fixture
def members(configuration):
    """Three tasks of one recipe, by name; the last knows two classes."""
    words = {"a": (), "b": (), "other": ("sample.classes=[C,N]",), "wide": ("target.sigma=0.3",)}
    answer = {}
    for seed, (name, more) in enumerate(words.items()):
        torch.manual_seed(seed)
        answer[name] = instantiate(configuration(*TINY, "target=gaussian", "peaks.threshold=0.0", *more).task).eval()
    return answer


def test_members_answer_with_their_mean(members, monkeypatch):
    monkeypatch.setattr("hrtem.inference.network.ColumnNetwork.load", lambda path: members[path])
    images = torch.from_numpy(noise(1, 1, 64, 96))
    one, other, both = (Predictor.load(names).maps(images) for names in ("a", "b", ["a", "b"]))
    torch.testing.assert_close(both, 0.5 * (one + other))
    symmetric = Predictor.load(["a", "b"], symmetric=True)
    torch.testing.assert_close(symmetric.maps(images.flip(-1)), symmetric.maps(images).flip(-1), atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match=r"same classes, and number 1 has \['C'\], number 2 has \['C', 'N'\]"):
        Predictor.load(["a", "other"])
    with pytest.raises(InputError, match="same target"):
        Predictor.load(["a", "wide"])
    with pytest.raises(InputError, match="at least one"):
        Predictor.load([])


def test_members_that_disagree_are_less_sure(members):
    """Places 0.2 Å apart have a standard deviation of 0.1 Å; a column that one of two sees has half the probability."""
    a, b = members["a"], members["b"]
    both = Predictor([a, b]).ensemble
    at = torch.tensor([[[6.0, 6.0], [3.0, 3.0]]]), torch.tensor([[0, 0]])
    moved = torch.tensor([[[6.2, 6.0]]]), torch.tensor([[0]])
    one, other = (a.target(*where, (64, 64), 0.2) for where in (at, moved))
    (alone,), (found,) = Predictor(a).ensemble.find(one), both.find(0.5 * (one + other))
    place = np.argmin(np.hypot(*(found.positions - [6.1, 6.0]).T))
    np.testing.assert_allclose(found.positions[place], [6.1, 6.0], atol=0.01)
    # Along x only, so that the mean over both axes is half of it.
    assert found.sigmas[place] == pytest.approx(0.1 / np.sqrt(2), abs=0.015)
    assert alone.sigmas.max() < 0.03
    single = np.argmin(np.hypot(*(found.positions - [3.0, 3.0]).T))
    assert found.probabilities[single] == pytest.approx(0.5, abs=0.02)
    assert found.probabilities[place] > 0.9


def test_members_count_where_they_see_a_column(configuration):
    """Of two members with discs of 0.9 and 0.1 that say other numbers and places, the first is believed nine times."""
    words = (*TINY, "sample=gold", "target=count_classes")
    a, b = (instantiate(configuration(*words).task).eval() for _ in range(2))
    said = []
    for task, disc, number, place in ((a, 0.9, 3, 0.2), (b, 0.1, 8, -0.3)):
        maps = torch.zeros(1, 23, 8, 8)
        maps[:, 0], maps[:, number], maps[:, -2:] = disc, 1.0, place
        task.forward = lambda images, maps=maps: maps
        said.append(maps)
    (both,) = Predictor([a, b]).ensemble(torch.zeros(1, 1, 8, 8))
    found = both[:, 4, 4]
    assert len(found) == 23
    torch.testing.assert_close(found[0], torch.tensor(0.5))
    torch.testing.assert_close(found[[3, 8]], torch.tensor([0.9, 0.1]))
    torch.testing.assert_close(found[-2:], torch.full((2,), 0.9 * 0.2 - 0.1 * 0.3))


@pytest.mark.slow
def test_a_large_image_needs_little_memory():
    from benchmarks.inference import ours

    assert ours(4096, None)["memory"] < 1024


def test_tiles_leave_no_seam(task):
    images = torch.from_numpy(noise(1, 1, 420, 500))
    whole = Predictor(task, tile=1024).maps(images)
    tiled = Predictor(task, tile=384, halo=128).maps(images)
    torch.testing.assert_close(whole, tiled, atol=2e-5, rtol=1e-4)


def test_positions_are_those_of_the_input(task):
    """A network that lights up where the image does finds a bright spot at its place, whatever the pixel size."""

    class Spots(torch.nn.Module):
        def forward(self, images):
            # The normalised image is far above 1 only at the spot.
            return 4.0 * (images - 3.0)

    task.net = Spots()
    task.find_peaks.threshold = 0.5
    for sampling in (0.1, 0.2, 0.31):
        y, x = np.mgrid[:120, :150] * sampling
        spot = np.exp(-0.5 * ((x - 7.3) ** 2 + (y - 4.4) ** 2) / 0.3**2)
        prediction = Predictor(task).find(micrograph(spot[None] + 0.01 * noise(1, 120, 150), sampling))
        best = prediction.columns.probabilities.argmax()
        np.testing.assert_allclose(prediction.columns.positions[best], [7.3, 4.4], atol=0.03)


def test_gain_offset_and_hot_pixel_do_not_matter(task):
    image = noise(1, 96, 96)
    hot = image.copy()
    hot[0, 50, 40] += 1e4
    predictor = Predictor(task)
    plain = predictor.find(micrograph(image)).maps
    np.testing.assert_allclose(predictor.find(micrograph(300 * image + 5000)).maps, plain, atol=2e-3)
    far = np.hypot(*(np.mgrid[:96, :96] - np.array([50, 40])[:, None, None])) > 45
    np.testing.assert_allclose(predictor.find(micrograph(hot)).maps[0][far], plain[0][far], atol=0.02)


def test_a_symmetric_finder_turns_with_the_image(task, monkeypatch):
    """Its maps of a mirrored image are the mirrored maps, which those of the plain network are not."""
    monkeypatch.setattr("hrtem.inference.network.ColumnNetwork.load", lambda path: task)
    images = torch.from_numpy(noise(1, 1, 64, 96))
    plain = Predictor.load("any").maps(images)
    symmetric = Predictor.load("any", symmetric=True)
    torch.testing.assert_close(symmetric.maps(images.flip(-1)), symmetric.maps(images).flip(-1), atol=1e-5, rtol=1e-5)
    assert (symmetric.maps(images) - plain).abs().max() > 1e-3


def test_what_the_model_cannot_take_is_refused(task):
    predictor = Predictor(task)
    with pytest.raises(InputError, match=r"single images.*test\.npy holds 2"):
        predictor.find(micrograph(noise(2, 64, 64)))
    with pytest.raises(InputError, match="sampling"):
        predictor.find(micrograph(noise(1, 64, 64), sampling=None))
    with pytest.raises(InputError, match="tile"):
        Predictor(task, tile=100)
    with pytest.raises(InputError, match=r"device.*quantum"):
        Predictor(task, device="quantum")


def test_the_dose_of_an_image_of_a_series_does_not_matter(configuration):
    """Nor do images that the network has seen, of equal dose, change."""
    task = instantiate(configuration(*TINY, "focal=2", "target=gaussian", "peaks.threshold=0.0").task).eval()
    images = 100.0 + 5.0 * np.stack([noise(64, 64), noise(65, 64)[1:]])
    one, other = (Predictor(task).find(micrograph(series)).images for series in (images, images * [[[1.0]], [[0.3]]]))
    np.testing.assert_allclose(other, one, atol=5e-3)

"""Examples and their loader."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY
from hydra.utils import instantiate

from hrtem.errors import InputError
from hrtem.training.data import View, collate, columns_of
from hrtem.waves.cache import WaveCache


@pytest.fixture
def data(configuration):
    module = instantiate(configuration(*TINY).data)
    module.prepare_data()
    return module


def test_an_example(data):
    example = data.images("train", 4)[0]
    assert example["wave"].shape == (96, 96)  # 64 px and twice the margin of 16
    assert example["wave"].dtype == torch.complex64
    positions = example["columns"].positions
    assert len(positions) > 0
    assert positions.min() >= -1.5
    assert positions.max() <= 63 * 0.2 + 1.5


def test_columns_lie_on_the_atoms_in_every_orientation(data):
    """The phase of the wave is high at each column that lies inside, whatever window and mirror was drawn."""
    seen = set()
    for n in range(40):
        rng = np.random.default_rng(n)
        wave, columns = data.images("train", 1)._view(*data.cache.load("train", 0), rng)
        phase = np.angle(wave)[16:-16, 16:-16]
        inside = columns[columns.inside(12.4, 12.4)]
        x, y = np.round(inside.positions / 0.2).astype(int).T
        assert phase[y, x].min() > phase.mean()
        seen.add(tuple(np.round(inside.positions[0], 3)))
    assert len(seen) > 20


def test_views_turn_the_last_two_axes():
    image = np.arange(2 * 3 * 3).reshape(2, 3, 3)
    for bits in np.ndindex(2, 2, 2):
        view = View(0, 0, *map(bool, bits))
        np.testing.assert_array_equal(view.turned(image), [view.turned(one) for one in image])


def test_examples_depend_on_their_number_only(data):
    one, again = data.images("train", 4)[2], data.images("train", 4)[2]
    later = data.images("train", 2, first=2)[0]
    for other in (again, later):
        torch.testing.assert_close(one["wave"], other["wave"])
        assert {k: v.tolist() for k, v in one["settings"].items()} == {
            k: v.tolist() for k, v in other["settings"].items()
        }
    assert not torch.equal(one["wave"], data.images("train", 4)[3]["wave"])


def test_a_test_view_is_shown_at_every_dose(data):
    images = data.images("test", 4, doses=(1e3, 1e5))
    low, high, other, _ = (images[n] for n in range(4))
    assert [float(e["settings"]["dose"]) for e in (low, high)] == [1e3, 1e5]
    torch.testing.assert_close(low["wave"], high["wave"])
    assert low["settings"]["defocus"].tolist() == high["settings"]["defocus"].tolist()
    assert low["settings"]["defocus"].tolist() != other["settings"]["defocus"].tolist()
    assert int(low["settings"]["seed"]) != int(high["settings"]["seed"])


def test_a_test_at_a_total_dose_shares_it_among_the_images(configuration):
    config = configuration(*TINY, "focal=2", "optics.dose_per=series")
    data = instantiate(config.data)
    data.prepare_data()
    low, high = (data.images("test", 2, doses=(1e3, 1e5))[n] for n in range(2))
    assert [float(e["settings"]["dose"]) for e in (low, high)] == [500.0, 5e4]


def test_a_missing_image_is_seen_as_nothing(configuration):
    config = configuration(*TINY, "focal=3", "optics.missing=0.6")
    data, task = instantiate(config.data), instantiate(config.task)
    data.prepare_data()
    batch = collate([data.images("train", 6)[n] for n in range(6)])
    scene, there = task.simulate(batch), batch["settings"]["present"] > 0
    assert bool(there.any(dim=1).all())
    assert not bool(there.all())
    assert float(scene["counts"][~there].abs().max()) == float(scene["images"][~there].abs().max()) == 0.0
    assert float(scene["images"][there].std(dim=(-2, -1)).min()) > 0.0


def test_collate_and_back(data):
    examples = [data.images("train", 3)[n] for n in range(3)]
    batch = collate(examples)
    assert batch["wave"].shape == (3, 96, 96)
    assert batch["settings"]["defocus"].shape == (3, 1)
    back = columns_of(batch["positions"], batch["labels"], ("C",), batch["atoms"])
    assert not batch["atoms"][batch["labels"] < 0].any()
    for example, columns in zip(examples, back, strict=True):
        np.testing.assert_array_equal(columns.counts, example["columns"].counts)
        np.testing.assert_allclose(columns.positions, example["columns"].positions, atol=1e-5)


def test_the_same_data_for_any_number_of_loader_processes(configuration, data):
    parallel = instantiate(configuration(*TINY, "data.workers=2").data)
    for mine, theirs in zip(data.train_dataloader(), parallel.train_dataloader(), strict=True):
        torch.testing.assert_close(mine["wave"], theirs["wave"], rtol=0, atol=0)
        torch.testing.assert_close(mine["settings"], theirs["settings"], rtol=0, atol=0)


def by_hand(data, n):
    """Training example ``n`` as its definition says, from the arrays of the file: wave, positions and settings."""
    rng = np.random.default_rng([data.seed, 0, n])
    with np.load(data.cache.path("train", int(rng.integers(data.numbers["train"])))) as record:
        whole, positions = record["wave"], record["positions"]
    row, column = (int(rng.integers(size - 96 + 1)) for size in whole.shape[-2:])
    wave = whole[..., row : row + 96, column : column + 96]
    x, y = positions.T - 0.2 * np.array([[column], [row]])
    transpose, flip_x, flip_y = rng.integers(2, size=3)
    if transpose:
        wave, x, y = wave.swapaxes(-1, -2), y, x
    if flip_x:
        wave, x = wave[..., ::-1], 95 * 0.2 - x
    if flip_y:
        wave, y = wave[..., ::-1, :], 95 * 0.2 - y
    settings = data.imaging.draw(rng)
    return wave, np.column_stack([x, y]) - 16 * 0.2, settings


@pytest.mark.parametrize("words", [[], ["sample=gold", "sample.diameter=15", "focal=3"], ["wave.frozen_phonons=2"]])
def test_examples_are_cut_from_the_files_bit_for_bit(configuration, words):
    data = instantiate(configuration(*TINY, *words).data)
    data.prepare_data()
    images = data.images("train", 12)
    for n in range(12):
        wave, positions, settings = by_hand(data, n)
        example = images[n]
        np.testing.assert_array_equal(example["wave"].numpy(), wave)
        kept = example["columns"].positions
        nearest = np.abs(kept[:, None] - positions).max(axis=-1).min(axis=1, initial=np.inf)
        assert nearest.max(initial=0.0) < 1e-12
        assert example["settings"].keys() == settings.keys()
        for name, value in settings.items():
            np.testing.assert_array_equal(example["settings"][name], value)


def test_waves_are_read_from_the_maps_of_their_files_and_do_not_travel(data):
    images = data.images("train", 8)
    examples = [images[n] for n in range(8)]
    assert sorted(data.records["train"]) == [0, 1]
    assert not any(wave.flags.writeable or wave.flags.owndata for wave, _ in data.records["train"].values())
    # What is cut belongs to its example and may be changed.
    examples[0]["wave"].zero_()
    assert bool((images[0]["wave"] != 0).all())
    assert len(pickle.dumps(images)) < 20_000


def test_every_loader_process_inherits_checked_records(configuration, monkeypatch):
    data = instantiate(configuration(*TINY, "data.workers=1").data)
    data.prepare_data()
    loader = data.train_dataloader()

    def refuse(*record):
        raise AssertionError("a record was read again")

    monkeypatch.setattr(WaveCache, "load", refuse)
    assert len(list(loader)) == 2


def test_each_of_several_processes_needs_an_example(configuration):
    data = instantiate(configuration(*TINY).data)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(world_size=2, global_rank=1, num_devices=2, strategy=strategy)
    with pytest.raises(InputError, match=r"data\.numbers\.val gives 1 examples, and each of 2 processes needs one"):
        data.val_dataloader()
    assert [len(data.test_dataloader()), len(data.images("test", 2))] == [1, 2]


def test_comparing_noise_models_and_focal_series_simulates_nothing_again(configuration):
    keys = {
        instantiate(configuration(*TINY, *words).data).cache.key
        for words in (
            [],
            ["focal=3"],
            ["noise=poisson"],
            ["model=msdnet"],
            ["optics.defocus=50"],
            ["target.radius=0.4"],
            ["wave.scheduler=local"],
        )
    }
    assert len(keys) == 1
    others = {
        instantiate(configuration(*TINY, *words).data).cache.key
        for words in (["seed=1"], ["sample.vacancy=0.5"], ["wave.slice_thickness=1.0"], ["wave.frozen_phonons=1"])
    }
    assert len(others | keys) == 5


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["data.patch=100"], ["data.patch", "32", "100"]),
        (["data.batch_size=0"], ["data.batch_size", "0"]),
        (["data.empty=-0.1"], ["data.empty", "between 0", "-0.1"]),
        (["data.empty=[0.0,0.1]"], ["data.empty", "range"]),
        (["data.workers=-1"], ["data.workers", "auto", "-1"]),
        (["data.workers=many"], ["data.workers", "auto", "many"]),
        (["data.numbers.val=0"], ["data.numbers.val", "between 1", "0"]),
        (["wave.scheduler=cloud"], ["wave.scheduler", "tcp://", "cloud"]),
        (["optics.test_doses=[-5]"], ["optics.test_doses", "-5"]),
        (["optics.test_doses=[]"], ["optics.test_doses", "at least one"]),
        (["data.patch=256"], ["data.patch", "fit", "25.6"]),
        (["sample.extent=25.7"], []),
    ],
)
def test_bad_settings_are_refused(configuration, words, named):
    def use():
        instantiate(configuration(*TINY, *words).data).prepare_data()

    with pytest.raises(Exception) as refusal:
        use()
    error = refusal.value
    while not isinstance(error, InputError):
        error = error.__cause__
    assert all(word in str(error) for word in named)


def test_a_share_of_the_training_images_has_no_specimen(configuration):
    data = instantiate(configuration(*TINY, "data.empty=0.4").data)
    data.prepare_data()
    examples = [data.images("train", 100)[n] for n in range(100)]
    empty = [bool((one["wave"] == 1.0).all()) for one in examples]
    assert 20 < sum(empty) < 60
    assert all((len(one["columns"]) == 0) == bare for one, bare in zip(examples, empty, strict=True))
    assert not bool((data.images("val", 1)[0]["wave"] == 1.0).all())

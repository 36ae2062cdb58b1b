"""The benchmark of models: scores, limits, classical controls, and what is written."""

from __future__ import annotations

import json

import numpy as np
import pytest
import pytorch_lightning as lightning
from ase import Atoms
from conftest import TINY
from hydra.utils import instantiate

from benchmarks import evaluation, mixture, oracle, tables
from benchmarks import models as benchmark
from hrtem import models
from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.inference import Predictor
from hrtem.matching import Score
from hrtem.recipes import compose
from hrtem.samples import MoS2
from hrtem.training.testsets import simulate_test_set

CLASSES = ("Mo", "S2", "S", "Mo vacancy", "S2 vacancy")


@pytest.fixture
def predictor(configuration):
    task = instantiate(configuration("sample=mos2", "focal=2", *TINY).task).eval()
    return Predictor(task)


@pytest.fixture
def views(predictor):
    return simulate_test_set(predictor.network, views=1, patch=64, changes={"sample": {"hole": 0.0, "edge": 0.0}})


def truth(test_set):
    """Answers that are the truth."""
    for number, example in enumerate(test_set):
        true = example["columns"]
        yield evaluation.Answer(number, np.zeros((2, 64, 64)), true, true, example["group"])


def test_who_answers_the_truth_is_right_in_all(predictor, views):
    rows = evaluation.scores(predictor, views, truth(views))
    assert [row["dose_total"] for row in rows] == [2e3, 2e5]
    assert [row["dose_image"] for row in rows] == [1e3, 1e5]
    for row in rows:
        table = np.array(row["confusion"])
        assert row["all"]["f1"] == 1.0
        assert row["all"]["error_pm"] == 0.0
        assert table.sum() == np.trace(table) == row["all"]["true"]
        assert row["classes"]["Mo"]["recall"] == 1.0
    json.loads(json.dumps(rows, allow_nan=False))


def test_answers_are_those_of_the_model_to_each_image(predictor, views):
    given = list(evaluation.answers(predictor, views))
    assert [one.number for one in given] == [0, 1]
    assert [one.group for one in given] == [0, 1]
    assert given[0].counts.shape == (2, 64, 64)
    assert given[1].counts.mean() == pytest.approx(100 * given[0].counts.mean(), rel=0.3)
    assert len(given[0].true) == len(views.images[0]["columns"])


def test_false_vacancies_of_a_perfect_lattice():
    confusion = np.zeros((6, 6), int)
    confusion[0, 0], confusion[1, 1] = 490, 495
    confusion[0, 3], confusion[1, 2], confusion[1, 5], confusion[5, 4] = 10, 3, 2, 7
    assert evaluation.false_vacancies(CLASSES, confusion.tolist()) == {
        "vacancy": 10.0, "one_atom": 3.0, "missed": 2.0, "invented": 7.0,
    }  # fmt: skip


def test_errors_between_two_classes():
    confusion = [[90, 10, 5], [20, 60, 0], [5, 0, 0]]
    assert evaluation.pair_error(confusion, 0, 1) == pytest.approx(0.5 * (10 / 100 + 20 / 80))
    score = Score.of(90, 90, 115, 105, 0.0)
    assert evaluation.pair_error(confusion, 0, -1) == pytest.approx(1.0 - score.f1)
    assert evaluation.pair_error([[3, 0], [0, 0]], 0, 1) is None


def test_the_decisions_between_classes():
    assert benchmark.pairs(CLASSES) == {
        "Mo | Mo vacancy": (0, 3), "S2 | S2 vacancy": (1, 4), "S2 | S": (1, 2), "Mo | S2": (0, 1),
    }  # fmt: skip
    assert benchmark.pairs(("C",)) == {"C | nothing": (0, -1)}


def test_a_mixture_finds_its_components_and_their_number():
    """Five kinds of columns three standard deviations and more apart, as in the publication."""
    rng = np.random.default_rng(0)
    true = rng.integers(5, size=400)
    values = 10.0 * true + rng.normal(scale=1.0, size=400)
    found = mixture.selected(values, 9)
    assert len(found.means) == 5
    np.testing.assert_allclose(found.means, 10.0 * np.arange(5), atol=0.5)
    assert found.sigma == pytest.approx(1.0, rel=0.1)
    assert found.weights.sum() == pytest.approx(1.0)
    np.testing.assert_array_equal(found.members, true)
    assert mixture.fitted(values, 1).criterion > found.criterion


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_atoms_are_counted_from_intensities_that_rise_or_fall(sign):
    """Blobs as high as their counts; nearest pixels keep neighbours apart."""
    grid = 12.0 + 3.0 * np.stack(np.meshgrid(np.arange(6), np.arange(6)), axis=-1).reshape(-1, 2)
    counts = np.arange(36) % 4 + 2
    rows, columns = np.indices((200, 200)) * 0.2
    image = sum(
        n * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 0.3) for n, (x, y) in zip(counts, grid, strict=True)
    )
    noise = np.random.default_rng(0).normal(size=image.shape)
    images = np.stack([noise, 10.0 + sign * image + 0.01 * noise])
    np.testing.assert_array_equal(mixture.counted(images, grid, counts, 0.2, 9), counts)


def mos2():
    atoms, columns = MoS2("mos2", list(CLASSES), 20.0, {"Mo": 0.06, "S": 0.07})(np.random.default_rng(0))
    return atoms, columns


def test_what_else_could_stand_at_a_site():
    atoms, columns = mos2()
    middle = np.linalg.norm(columns.positions - 10.0, axis=1)
    metal, pair = (int(np.where(columns.labels == label, middle, np.inf).argmin()) for label in (0, 1))
    options = oracle.alternatives(atoms, columns, metal, counts=False)
    assert set(options) == {"Mo | Mo vacancy", "Mo | S2"}
    assert len(options["Mo | Mo vacancy"]) == len(atoms) - 1
    assert len(options["Mo | S2"]) == len(atoms) + 1
    options = oracle.alternatives(atoms, columns, pair, counts=False)
    assert {name: len(one) - len(atoms) for name, one in options.items()} == {
        "S2 | S2 vacancy": -2, "S2 | S": -1, "Mo | S2": -1,
    }  # fmt: skip
    guest = options["Mo | S2"][-1]
    place = atoms.positions[atoms.get_array("column") == pair].mean(axis=0)
    np.testing.assert_allclose(guest.position, place, atol=1e-9)
    assert guest.symbol == "Mo"


def test_one_atom_more_and_one_less():
    atoms = Atoms("Au3", [(5, 5, 3), (5.1, 5, 6), (9, 9, 3)], cell=[12, 12, 14])
    atoms.set_array("column", np.array([0, 0, 1]))
    columns = Columns(np.array([[5.05, 5.0], [9.0, 9.0]]), np.zeros(2, int), ("Au",), np.array([2, 1]))
    options = oracle.alternatives(atoms, columns, 0, counts=True)
    assert {name: len(one) for name, one in options.items()} == {"Au | nothing": 1, "count - 1": 2, "count + 1": 4}
    np.testing.assert_allclose(options["count + 1"].positions[-1], (5.2, 5.0, 9.0))
    assert "count - 1" not in oracle.alternatives(atoms, columns, 1, counts=True)


@pytest.mark.slow
def test_an_oracle_sees_better_with_more_electrons(views):
    decisions, limits = oracle.decided(views, 1, counts=False)
    assert set(decisions) & {"Mo | S2", "S2 | S", "Mo | Mo vacancy", "S2 | S2 vacancy"}
    for errors in decisions.values():
        for low, high in errors:
            assert 0.0 <= high < low < 0.5
    ((low, high),) = limits
    # Shot noise decides: a hundred times the dose, a tenth of the error.
    assert low / high == pytest.approx(10.0, rel=0.15)


def test_the_window_of_a_site_is_about_it_in_every_orientation(views):
    """The brightest pixel of a wave that is zero but for the site lies in the middle of its window."""
    from hrtem.training.data import View

    side = views.images.side
    for turn in range(8):
        view = View(3, 5, *(bool(turn >> bit & 1) for bit in range(3)))
        seen = oracle._Window(views, view)
        wave = np.zeros((side + 10, side + 10))
        wave[3 + 53, 5 + 42] = 1.0
        rows, columns = seen.around(np.array([42.0, 53.0]) * views.images.imaging.sampling)
        window = seen.cut(wave)[rows, columns]
        assert np.abs(np.argwhere(window)[0] - np.array(window.shape) / 2).max() <= 1


@pytest.fixture
def checkpoint(configuration, tmp_path):
    task = instantiate(configuration(*TINY).task)
    trainer = lightning.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu", default_root_dir=tmp_path)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / "tiny.ckpt")
    return tmp_path / "tiny.ckpt"


@pytest.mark.parametrize("decisions", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_what_the_command_writes(checkpoint, tmp_path, monkeypatch, capsys, decisions):
    monkeypatch.setattr("hrtem.training.testsets.PATCH", 64)
    monkeypatch.delenv("HRTEM_REAL_DATA", raising=False)
    benchmark.main(f"models=[{checkpoint}]", "views=1", f"decisions={decisions}", f"output={tmp_path / 'bench'}")
    results = json.loads((tmp_path / "bench" / "benchmark.json").read_text())
    (model,) = results["models"].values()
    assert set(model["sets"]) == {"own", "perfect"}
    row = model["sets"]["perfect"]["doses"][0]
    if decisions:
        assert 0.0 < row["limits"]["C | nothing"] < 0.5
        assert row["limits"]["position_pm"] > 1.0
        assert 0.0 < row["laplacian"]["f1"] <= 1.0
    assert row["per_1000_sites"]["vacancy"] == 0.0
    assert len(model["sets"]["own"]["checksum"]) == 64
    assert model["sets"]["own"]["verified"] is None
    text = (tmp_path / "bench" / "benchmark.md").read_text()
    assert results["command"] in text
    for line in ("F1, position error (pm)", "C or nothing", "per 1000 sites") + ("Laplacian of Gaussian",) * decisions:
        assert line in text
    assert (tmp_path / "bench" / "tiny.png").stat().st_size > 10_000
    assert "Tables, numbers and figures" in capsys.readouterr().out


def test_a_test_set_that_has_changed_is_refused(views, monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "CHECKSUMS", tmp_path / "checksums.json")
    assert benchmark.verified("mos2", views, 1, record=False) is None
    assert benchmark.verified("mos2", views, 1, record=True)
    assert benchmark.verified("mos2", views, 1, record=False)
    assert benchmark.verified("mine.ckpt", views, 1, record=True) is None
    known = json.loads((tmp_path / "checksums.json").read_text())["mos2, own, 1 views"]
    other_images = {**known, "contrasts": [1.1 * value for value in known["contrasts"]]}
    for wrong, said in (
        (known | {"checksum": "0" * 64}, "have the checksum 0000"),
        (other_images, "contrast of view 0"),
    ):
        (tmp_path / "checksums.json").write_text(json.dumps({"mos2, own, 1 views": wrong}))
        with pytest.raises(InputError, match=f"mos2, own, 1 views must .*{said}"):
            benchmark.verified("mos2", views, 1, record=False)


def test_checksums_are_of_models_and_sets_that_there_are():
    """Of a set that is gone or renamed none stays behind."""
    if benchmark.CHECKSUMS.is_file():
        sets = compose(name="benchmark").sets
        known = {
            name: {"own", *(sets.get(name) or sets.get(models.load(name).network.settings["sample"]["name"]) or {})}
            for name in models.names()
        }
        for key in json.loads(benchmark.CHECKSUMS.read_text()):
            name, set_name, _ = key.split(", ")
            assert set_name in known[name]


@pytest.mark.parametrize(
    ("words", "named"),
    [(["views=0"], "views must be"), (["decisions=x"], "decisions must be"), (["models=[diamond]"], "diamond")],
)
def test_bad_words_are_refused(words, named, tmp_path):
    with pytest.raises(InputError, match=named):
        benchmark.main(*words, f"output={tmp_path / 'bench'}")
    assert not list(tmp_path.iterdir())


def test_a_table_without_numbers_is_left_out():
    assert list(tables._table("nothing", ["a"], {"x": [""]})) == []
    assert list(tables._table("some", ["a"], {"x": [""], "y | z": ["1"]}))[-2] == "| y or z | 1 |"


def test_intervals_are_those_of_views_that_differ():
    """Of views whose counts are all right or all wrong the share scatters by √(p q / V), whatever their columns."""
    rng = np.random.default_rng(3)
    right = rng.random(200) < 0.7
    confusion = np.zeros((200, 2, 2))
    confusion[:, 0, 0] = 50
    counts = np.column_stack([np.full(200, 50), 50 * right, np.full(200, 50)])
    low, high = evaluation.intervals(("Au",), confusion, counts)["count_exact"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.21 / 200), rel=0.1)
    assert low < right.mean() < high
    assert evaluation.intervals(("Au",), confusion, counts)["f1"] == [1.0, 1.0]


def test_intervals_of_classes_without_counts():
    confusion = np.tile([[5.0, 1.0, 0.0], [0.0, 4.0, 1.0], [1.0, 0.0, 0.0]], (3, 1, 1))
    found = evaluation.intervals(("a", "b"), confusion, np.zeros((3, 3)))
    assert found == {
        "f1": pytest.approx([20 / 22] * 2), "f1 a": pytest.approx([10 / 12] * 2), "f1 b": pytest.approx([0.8] * 2)
    }  # fmt: skip


def test_antisites_are_told_by_their_neighbours():
    sample = MoS2("mos2", list(CLASSES), 60.0, {"Mo": 0.06, "S": 0.07}, metal_antisite=0.03, chalcogen_antisite=0.03)
    _, columns = sample(np.random.default_rng(0))
    found = evaluation.antisites(columns)
    inside = columns.inside(60.0, 60.0, 3.0)
    assert found[inside].mean() == pytest.approx(0.03, abs=0.012)
    assert {columns.classes[label] for label in columns.labels[found]} == {"Mo", "S2", "S"}
    _, perfect = MoS2("mos2", list(CLASSES), 40.0, {"Mo": 0.06, "S": 0.07})(np.random.default_rng(0))
    assert not evaluation.antisites(perfect).any()
    gold = Columns(np.random.default_rng(0).random((9, 2)), np.zeros(9, int), ("Au",))
    assert not evaluation.antisites(gold).any()


def test_scores_count_by_number_of_atoms_and_by_antisite(predictor):
    ordered = {"disorder": 0.0, "metal_antisite": 0.1, "chalcogen_antisite": 0.1}
    views = simulate_test_set(predictor.network, views=2, patch=64, changes={"sample": ordered})
    truth = [evaluation.Answer(n, np.zeros((2, 64, 64)), one["columns"], one["columns"], one["group"])
             for n, one in enumerate(views)]  # fmt: skip
    for row in evaluation.scores(predictor, views, truth):
        assert row["all"]["f1"] == 1.0
        assert row["intervals"]["f1"] == [1.0, 1.0]
        assert sum(total for total, _ in row["antisites"].values()) > 3
        assert all(total == right for total, right in row["antisites"].values())
        found, right = row["by_count"]
        assert found == right
        assert sum(found) == row["all"]["true"]
    disordered = simulate_test_set(predictor.network, views=1, patch=64, changes={"sample": {"disorder": 1.0}})
    assert not evaluation.on_a_lattice(disordered)


def test_what_is_known_of_a_score_stands_in_its_table():
    row = {
        "dose_image": 1e3,
        "all": {"f1": 0.9, "error_pm": 7.0},
        "intervals": {"f1": [0.88, 0.91], "count_exact": [0.5, 0.625]},
        "antisites": {"Mo": [4, 3]},
        "by_count": [[0, 4, 0, 2], [0, 3, 0, 1]],
    }
    assert tables._found(row) == "0.900 (0.880 … 0.910), 7.0"
    assert tables._interval("count_exact")(row) == "0.500 … 0.625"
    assert tables._interval("count_exact")({}) == ""
    assert tables._antisite("Mo")(row) == "0.75 (4)"
    assert tables._antisite("S2")(row) == ""
    lines = list(tables._by_count({"own": {"doses": [row]}}))
    assert lines[2] == "| | 1 | 2 | 3 |"
    assert lines[4] == "| own, 1,000 e/Å² | 0.75 (4) |  | 0.50 (2) |"

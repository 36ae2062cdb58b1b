"""Models by name: exported, listed, loaded, told about."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, tiny
from hydra.utils import instantiate
from untrained import micrograph, save

from hrtem import models, provenance
from hrtem.command.models import main
from hrtem.errors import InputError
from hrtem.inference import Predictor, weights
from hrtem.inference.network import ColumnNetwork
from hrtem.micrograph import Micrograph
from hrtem.training import recalibration, resume, testsets


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A package folder of its own."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(models, "SHIPPED", folder)
    return folder


@pytest.fixture
def checkpoint(configuration, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    torch.manual_seed(0)
    return save(configuration, tmp_path / "run" / "checkpoints" / "best.ckpt", "peaks.threshold=0.0")


def answer(predictor):
    return predictor.find(Micrograph(micrograph(), 0.15, "a", "a.npy"))


def test_an_exported_model_answers_as_its_checkpoint(shipped, checkpoint, capsys):
    main(["export", str(checkpoint), "tiny"])
    assert "card.md" in capsys.readouterr().out
    assert models.names() == ["tiny"]
    ours, theirs = answer(models.load("tiny")), answer(Predictor.load(checkpoint))
    assert len(theirs.columns) > 0
    np.testing.assert_array_equal(ours.maps, theirs.maps)
    np.testing.assert_array_equal(ours.columns.positions, theirs.columns.positions)
    # Optimizer and epoch are left behind.
    assert (shipped / "tiny" / "model.safetensors").stat().st_size < 1.1 * checkpoint.stat().st_size


def test_a_folder_and_a_checkpoint_work_as_names(shipped, checkpoint, tmp_path):
    folder = models.export(checkpoint, str(tmp_path / "mine" / "sheet"))
    assert folder == tmp_path / "mine" / "sheet"
    assert models.names() == []
    for model in (folder, str(folder), checkpoint):
        assert len(answer(models.load(model)).columns) > 0
    assert models.checksum(checkpoint) == provenance.sha256(checkpoint)
    assert models.checksum(folder) == weights.checksum(folder)


def test_the_card_says_what_a_user_must_know(shipped, checkpoint, tmp_path):
    scores = {"f1": 0.91, "precision": 0.92, "recall": 0.9, "error_pm": 12.3, "found": 9, "true": 10}
    (checkpoint.parent.parent / "metrics.json").write_text(json.dumps({"1000": {"all": scores, "C": scores}}))
    (tmp_path / "notes.md").write_text("## Limits\n\nHoles.\n")
    text = (models.export(checkpoint, "tiny", tmp_path / "notes.md") / "card.md").read_text()
    for words in (
        "# tiny",
        "Finds C in single images",
        "0.2 Å/px",
        provenance.sha256(checkpoint),
        "`defocus` | [-",
        "`dose`",
    ):
        assert words in text, words
    assert "| 1,000 | all | 0.910 | 0.920 | 0.900 | 12.3 |" in text
    assert text.endswith("## Limits\n\nHoles.\n")
    assert "whether an image is like those of the training, is not known" in text


def test_models_are_listed(shipped, checkpoint, capsys):
    main([])
    assert "No models" in capsys.readouterr().out
    models.export(checkpoint, "tiny")
    main([])
    assert "tiny: C from 1 image" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["export"], "say"),
        (["import", "a", "b"], "say"),
        (["export", "none.ckpt", "b"], "none.ckpt"),
        (["export", "CHECKPOINT", "a b"], "a b"),
        (["export", "CHECKPOINT", ".."], "name of a model"),
        (["export", "CHECKPOINT", "b", "notes=none.md"], "none.md"),
    ],
)
def test_what_cannot_be_exported_is_told(shipped, checkpoint, words, told):
    with pytest.raises(InputError, match=told):
        main([str(checkpoint) if word == "CHECKPOINT" else word for word in words])
    assert not list(shipped.iterdir())


def test_an_unknown_model_is_told_with_those_that_are_known(shipped, checkpoint, tmp_path):
    models.export(checkpoint, "tiny")
    for name in ("graphen", str(tmp_path), "../tiny"):
        with pytest.raises(InputError, match="tiny") as caught:
            models.load(name)
        assert name in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", pytest.param("checkpoint", marks=pytest.mark.slow)])
def test_a_model_is_calibrated_and_finds_what_it_found(shipped, checkpoint, capsys, kind):
    path = models.export(checkpoint, "tiny") if kind == "folder" else checkpoint
    before, old = models.load(path), models.checksum(path)
    main(["calibrate", "tiny" if kind == "folder" else str(path), "views=1"])
    assert str(path) in capsys.readouterr().out
    assert models.checksum(path) != old
    after = models.load(path)
    measured = {"presence", "uncertainty"}
    for name, value in before.network.state_dict().items():
        theirs = after.network.state_dict()[name]
        assert torch.equal(theirs.nan_to_num(), value.nan_to_num()) is (name not in measured), name
    np.testing.assert_array_equal(answer(after).maps, answer(before).maps)
    if kind == "checkpoint":
        assert "optimizer_states" in torch.load(path, weights_only=True)
    # The same images, the same measure.
    main(["calibrate", str(path), "views=1"])
    torch.testing.assert_close(models.load(path).network.uncertainty, after.network.uncertainty)


def test_a_calibration_has_seeds_of_its_own():
    assert recalibration.SEED != testsets.SEED
    assert recalibration.SEED > 1000


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "say"),
        (["tiny", "views=1", "views=2"], "say"),
        (["tiny", "views=0"], "at least 1"),
        (["tiny", "views=many"], "got many"),
        (["none"], "none"),
    ],
)
def test_what_cannot_be_calibrated_is_told(shipped, checkpoint, words, told):
    models.export(checkpoint, "tiny")
    before = models.checksum("tiny")
    with pytest.raises(InputError, match=told):
        main(["calibrate", *words])
    assert models.checksum("tiny") == before


def test_predict_takes_a_model_by_name(shipped, checkpoint, tmp_path, start):
    models.export(checkpoint, "tiny")
    np.save(tmp_path / "a.npy", micrograph())
    words = ("images=a.npy", "sampling=0.15", "output=out")
    status, _, stderr = start("predict.py", "model=tiny", *words)
    assert status == 0, stderr
    said = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert said["model_sha256"] == models.checksum("tiny")
    for both in ([], ["model=tiny", f"checkpoint={checkpoint}"]):
        status, _, stderr = start("predict.py", *both, "images=a.npy", "sampling=0.15")
        assert status == 2
        assert "model=NAME (tiny) or checkpoint=FILE" in stderr


@pytest.mark.parametrize("name", models.names())
def test_every_shipped_model_loads_and_has_its_card(name):
    predictor = models.load(name)
    assert predictor.network.domain.known
    card = (models.find(name) / "card.md").read_text()
    assert "## Limits" in card
    assert "Scores on simulated images" in card


@pytest.mark.parametrize("name", models.names())
def test_no_shipped_model_sees_atoms_in_white_noise(name, rng):
    predictor = models.load(name)
    noise = rng.normal(100.0, 10.0, (predictor.network.optics.num_images, 256, 256)).astype(np.float32)
    found = predictor.find(Micrograph(noise, predictor.network.sampling, "noise", Path("noise.npy"))).columns
    assert len(found) <= 2


def test_package_data_name_every_file_of_a_model(shipped, checkpoint):
    """What an installation would leave out cannot be loaded there."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    folder = models.export(checkpoint, "tiny")
    for path in folder.iterdir():
        assert any(path.relative_to(shipped).match(pattern) for pattern in settings["hrtem.models"]), path.name


def test_a_training_starts_from_the_weights_of_a_model(configuration):
    """Of one that ships; its calibration and the state of its training stay behind."""
    words = (*tiny("sample=gold"), "sample=gold", "target=count_classes", "model=folded_context")
    task = instantiate(configuration(*words, "focal=3").task)
    shipped = ColumnNetwork.load(models.find("gold"))
    resume.start_from(task, "gold")
    for name, weight in task.net.state_dict().items():
        torch.testing.assert_close(weight, shipped.net.state_dict()[name], rtol=0, atol=0)
    other = instantiate(configuration(*words, "focal=2").task)
    with pytest.raises(InputError, match=r"start must be a model with the network that is trained, and of .*gold "):
        resume.start_from(other, "gold")

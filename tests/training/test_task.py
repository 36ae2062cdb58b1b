"""The Lightning task: what it learns from, what it scores, and what its checkpoint holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, tiny
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from hrtem.calibration import UNCORRECTED, Peaks
from hrtem.calibration.widening import KNOTS
from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.training.data import collate
from hrtem.training.task import Task


def build(configuration, *words):
    config = configuration(*tiny(*words), *words)
    data = instantiate(config.data)
    data.prepare_data()
    torch.manual_seed(0)
    return config, data, instantiate(config.task)


@pytest.mark.parametrize(
    ("sample", "focal", "classes"),
    [
        ("graphene", 1, ("C",)),
        ("gold", 3, ("Au",)),
        ("mos2", 3, ("Mo", "S2", "S", "Mo vacancy", "S2 vacancy")),
    ],
)
def test_channels_and_classes_follow_from_the_words(configuration, sample, focal, classes):
    _, data, task = build(configuration, f"sample={sample}", f"focal={focal}", "sample.extent=25.6")
    batch = task.simulate(collate([data.images("train", 2)[n] for n in range(2)]))
    assert task.classes == classes
    assert batch["images"].shape == (2, focal, 64, 64)
    # A map for each class, and the way to the column along x and y.
    assert batch["target"].shape == (2, len(classes) + 2, 64, 64)
    assert task(batch["images"]).shape == (2, len(classes) + 2, 64, 64)


def test_targets_lie_on_the_atoms_in_the_image(configuration):
    """Without noise, in strong underfocus of a perfect microscope, atoms are dark where the target is high."""
    words = ["optics.defocus=60", "optics.Cs=0", "optics.astigmatism=0", "optics.vibration=0", "noise=none"]
    _, data, task = build(configuration, *words, "sample.edge=0", "sample.hole=0")
    batch = task.simulate(collate([data.images("train", 2)[n] for n in range(2)]))
    image, target = batch["images"][:, 0], batch["target"][:, 0]
    assert float(image[target > 0.8].mean()) < float(image.mean()) - 0.5


def test_a_network_that_answers_the_target_scores_perfectly(configuration):
    _, data, task = build(configuration)
    batch = task.simulate(collate([data.images("train", 2)[n] for n in range(2)]))
    task.net = torch.nn.Identity()
    batch["images"] = INVERSE["offsets"](batch["target"])
    task.log = lambda *args, **kwargs: None
    task.validation_step(batch, 0)
    (scores,) = task.metrics["validation"].scores()
    assert scores["all"].f1 > 0.99
    assert scores["all"].error_pm < 3.0


#: What a network must say for its target to be found in its maps.
INVERSE = {
    "gaussian": lambda target: torch.logit(target, eps=1e-6),
    "gaussian_softmax": lambda target: target.clamp_min(1e-6).log(),
    "offsets": lambda target: torch.cat([torch.logit(target[:, :-2], eps=1e-6), target[:, -2:]], dim=1),
    "count_classes": lambda target: counted(target, lambda n, k: -9.0 * (n - k).abs()),
    "count_ordinal": lambda target: counted(target, lambda n, k: 9.0 * (n - k - 0.5))[:, _without(20)],
    "count_regression": lambda target: counted(
        target, lambda n, k: torch.cat([n / 10.0 - 1.0, torch.full_like(n, -9.0)], dim=1)
    ),
}


def counted(target, logits):
    """A perfect answer with count logits of the number at each pixel and of all numbers up to 20."""
    numbers = torch.arange(1.0, 21.0)[:, None, None]
    discs = torch.logit(target[:, :1], eps=1e-6)
    return torch.cat([discs, logits(target[:, 1:2], numbers), target[:, -2:]], dim=1)


def _without(channel):
    return [n for n in range(23) if n != channel]


@pytest.mark.parametrize("target", sorted(path.stem for path in (ROOT / "conf" / "target").glob("*.yaml")))
def test_each_target_can_be_answered_perfectly(configuration, target):
    _, data, task = build(configuration, "sample=gold", f"target={target}")
    batch = task.simulate(collate([data.images("train", 2)[n] for n in range(2)]))
    task.net = torch.nn.Identity()
    batch["images"] = INVERSE[target](batch["target"])
    task.log = lambda *args, **kwargs: None
    maps, true, size = task._answer(batch, "val")
    task.metrics["validation"].update(task.find(maps), true, *size, groups=[0, 0])
    (scores,) = task.metrics["validation"].scores()
    assert scores["all"].f1 > 0.98
    assert scores["all"].error_pm < 3.0
    if target.startswith("count"):
        assert scores["all"].count_exact > 0.95
        assert scores["all"].count_within_one > 0.98
    else:
        assert scores["all"].count_exact is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["target=count_ordinal", "peaks=mass", "peaks.sigma=0.25"], "peaks must read the counted offsets"),
        (["target=gaussian", "peaks=offsets", "peaks.radius=0.5"], "peaks must read the classes of the target"),
        (["target=offsets", "loss=bce"], "loss=offsets"),
        (["target=gaussian", "loss=softmax"], "single maps"),
        (["loss=mse"], "loss=offsets"),
        (["sample=gold", "target=count_classes", "loss=offsets"], "loss=counted_offsets"),
        (["sample=mos2", "target=count_classes"], "one class"),
    ],
)
def test_words_that_do_not_fit_are_refused(configuration, words, message):
    with pytest.raises((InputError, InstantiationException), match=message):
        instantiate(configuration(*words).task)


@pytest.mark.parametrize(("target", "steps"), [("gaussian", 15), pytest.param("offsets", 80, marks=pytest.mark.slow)])
def test_loss_falls_on_a_fixed_batch(configuration, target, steps):
    """Offsets are learnt after the discs."""
    _, data, task = build(configuration, f"target={target}")
    batch = task.simulate(collate([data.images("train", 2)[n] for n in range(2)]))
    optimizer = torch.optim.AdamW(task.net.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        loss = task.loss(task.net(batch["images"]), batch["target"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


def trained(configuration, folder, *words, **fit):
    config, data, task = build(configuration, *words)
    import pytorch_lightning as lightning

    lightning.seed_everything(0, verbose=False)
    checkpoint = lightning.callbacks.ModelCheckpoint(dirpath=folder, filename="best", save_last=True)
    trainer = instantiate(
        config.trainer,
        callbacks=[checkpoint],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
    )
    task = instantiate(config.task)
    trainer.fit(task, data, weights_only=True, **fit)
    return task, checkpoint


def test_training_repeats_itself_with_the_same_seed(configuration, tmp_path):
    one, _ = trained(configuration, tmp_path / "a")
    same, _ = trained(configuration, tmp_path / "b")
    for name, value in one.net.state_dict().items():
        torch.testing.assert_close(value, same.net.state_dict()[name], atol=1e-6, rtol=1e-5, msg=name)


def test_a_resumed_training_ends_like_an_uninterrupted_one(configuration, tmp_path):
    words = ["task.scheduler=null"]
    whole, _ = trained(configuration, tmp_path / "whole", "trainer.max_epochs=2", *words)
    _, half = trained(configuration, tmp_path / "half", "trainer.max_epochs=1", *words)
    resumed, _ = trained(
        configuration, tmp_path / "half", "trainer.max_epochs=2", *words, ckpt_path=half.last_model_path
    )
    assert resumed.global_step == whole.global_step == 4
    for name, value in whole.net.state_dict().items():
        torch.testing.assert_close(value, resumed.net.state_dict()[name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.slow
def test_a_checkpoint_loads_in_a_fresh_process_without_configuration_files(configuration, tmp_path):
    task, checkpoint = trained(configuration, tmp_path)
    task.eval()
    images = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    np.save(tmp_path / "images.npy", images.numpy())
    program = """
import json, sys, numpy as np, torch
torch.serialization.safe_globals([])
from hrtem.training.task import Task
state = torch.load(sys.argv[1], weights_only=True)
task = Task.load(sys.argv[1])
with torch.inference_mode():
    maps = task(torch.from_numpy(np.load(sys.argv[2])))
print(json.dumps({"classes": task.classes, "maps": maps.flatten()[:50].tolist()}))
"""
    words = [sys.executable, "-c", program, checkpoint.best_model_path, str(tmp_path / "images.npy")]
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["classes"] == ["C"]
    with torch.inference_mode():
        np.testing.assert_allclose(answer["maps"], task(images).flatten()[:50].numpy(), atol=1e-4)


def test_what_an_uncertainty_means_is_measured_in_validation_and_kept(configuration, tmp_path):
    task, checkpoint = trained(configuration, tmp_path)
    state = torch.load(checkpoint.best_model_path, weights_only=True)
    torch.testing.assert_close(state["state_dict"]["uncertainty"], task.uncertainty)
    assert task.uncertainty.isfinite().all()
    # Checkpoints from before positions had an uncertainty still load.
    for name in (
        "uncertainty",
        "position_variance",
        "domain.side",
        "domain.mean",
        "domain.precision",
        "domain.distances",
    ):
        del state["state_dict"][name]
    torch.save(state, tmp_path / "old.ckpt")
    old = Task.load(tmp_path / "old.ckpt")
    torch.testing.assert_close(old.position_variance, torch.tensor(UNCORRECTED))
    assert not old.domain.known


def test_a_model_from_before_says_what_it_always_said(configuration):
    """Of the width of a peak alone, by its own measure."""
    _, _, task = build(configuration)
    old = {name: value for name, value in task.state_dict().items() if name != "uncertainty"}
    said = torch.tensor(UNCORRECTED) * 0.6 + 0.01
    old["position_variance"] = said
    checkpoint = {"state_dict": old}
    task.on_load_checkpoint(checkpoint)
    task.load_state_dict(checkpoint["state_dict"])
    sigma = task.find_peaks.sigma
    columns = Columns([[5, 5], [9, 9]], [0, 0], ("C",), probabilities=[0.9, 0.8], sigmas=sigma * np.sqrt([1.03, 1.5]))
    judged = task.judge(Peaks(columns, np.array([0.001, 0.3])))
    excess = [0.03, 0.5]
    np.testing.assert_allclose(judged.sigmas**2, sigma**2 * np.interp(excess, KNOTS, said.numpy()), rtol=1e-6)


def test_a_test_says_how_reliable_the_answer_is(configuration):
    _, data, task = build(configuration)
    batch = task.simulate(collate([data.images("test", 2, doses=(1e3, 1e5))[n] for n in range(2)]))
    task.net = torch.nn.Identity()
    batch["images"] = INVERSE["offsets"](batch["target"])
    task.log = lambda *args, **kwargs: None
    task.validation_step(batch | {"group": torch.zeros(2, dtype=int)}, 0)
    task.on_validation_epoch_end()
    task.test_step(batch, 0)
    task.on_test_epoch_end()
    assert list(task.test_reliability) == ["all", "1000", "100000"]
    result = task.test_reliability["all"]
    assert result.missed == 0
    assert result.ece < 0.05
    # Almost no error, and after a validation the task knows: the prior of a few columns aside.
    assert max(result.sigma_pm) < 6.0


def test_what_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    for name in ("text.ckpt", "other.ckpt", "none.ckpt"):
        with pytest.raises(InputError, match=name):
            Task.load(tmp_path / name)

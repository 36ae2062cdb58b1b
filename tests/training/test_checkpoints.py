"""Safeguards: checkpoints that stay whole, and trainings that end in order."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY, told

from hrtem.errors import InputError, Stopped
from hrtem.training.checkpoints import AtomicCheckpoints, Checkpoints, Safeguard


@pytest.mark.parametrize("full", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, monkeypatch, full):
    def refuse(_):
        raise OSError(full, os.strerror(full))

    disk = AtomicCheckpoints()
    path = tmp_path / "checkpoints" / "last.ckpt"
    disk.save_checkpoint({"epoch": 0}, path)
    monkeypatch.setattr(os, "fsync", refuse)
    disk.save_checkpoint({"epoch": 1}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 0}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    assert os.strerror(full) in disk.failure
    assert "the one before it is whole" in disk.failure
    monkeypatch.undo()
    disk.save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 0}, "the best and the last checkpoint fell apart"


def test_a_kill_while_writing_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    disk = AtomicCheckpoints()
    disk.save_checkpoint({"epoch": 0}, tmp_path / "last.ckpt")
    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        disk.save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True) == {"epoch": 0}


def state(folder: Path) -> dict:
    best = str(folder / "best.ckpt")
    score = torch.tensor(0.5)
    return {
        "dirpath": str(folder), "best_model_path": best, "best_model_score": score, "current_score": score,
        "best_k_models": {best: score}, "kth_best_model_path": best, "kth_value": score,
        "last_model_path": str(folder / "last.ckpt"),
    }  # fmt: skip


def test_the_best_checkpoint_comes_along_into_another_folder(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    (old / "best.ckpt").write_text("weights")
    checkpoint = Checkpoints(dirpath=new, monitor="val/f1", mode="max", filename="best")
    checkpoint.load_state_dict(state(old))
    assert (new / "best.ckpt").read_text() == "weights"
    assert checkpoint.best_model_path == str(new / "best.ckpt")
    assert float(checkpoint.best_model_score) == 0.5
    assert list(checkpoint.best_k_models) == [str(new / "best.ckpt")]


def test_a_best_checkpoint_that_was_removed_is_forgotten(tmp_path):
    checkpoint = Checkpoints(dirpath=tmp_path / "new", monitor="val/f1", mode="max", filename="best")
    checkpoint.load_state_dict(state(tmp_path / "old"))
    assert checkpoint.best_model_path == ""
    assert checkpoint.best_k_models == {}


def test_minutes_must_be_positive(tmp_path):
    with pytest.raises(InputError, match=r"callbacks\.safeguard\.minutes must be at least .*, got 0"):
        Safeguard(str(tmp_path), minutes=0)


@pytest.fixture
def module(tmp_path):
    """What a safeguard sees of a training of five steps an epoch that is alone."""
    trainer = SimpleNamespace(
        num_training_batches=5, current_epoch=1, accumulate_grad_batches=1, world_size=1, global_rank=0,
        is_global_zero=True, checkpoint_callback=Checkpoints(dirpath=tmp_path), saved=[],
        strategy=SimpleNamespace(reduce=lambda tensor, reduce_op: tensor),
    )  # fmt: skip
    trainer.save_checkpoint = trainer.saved.append
    return SimpleNamespace(device=torch.device("cpu"), trainer=trainer)


def step(guard: Safeguard, module: SimpleNamespace, number: int, loss: float = 1.0) -> None:
    batch = {"images": torch.zeros(1), "settings": {"dose": torch.ones(1)}}
    guard.on_train_batch_end(module.trainer, module, {"loss": torch.tensor(loss)}, batch, number - 1)


def test_the_newest_checkpoint_is_written_when_it_is_time(tmp_path, module, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    guard = Safeguard(str(tmp_path), minutes=10)
    guard.saved = 1000.0
    for seconds in (300, 599, 601, 700, 1202):
        now[0] = 1000.0 + seconds
        step(guard, module, 2)
    assert module.trainer.saved == [tmp_path / "last.ckpt"] * 2


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_saves_and_stops_after_the_step(tmp_path, module, name):
    number = getattr(signal, name)
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    guard = Safeguard(str(tmp_path), minutes=10)
    try:
        guard.on_train_start(module.trainer, module)
        os.kill(os.getpid(), number)
        step(guard, module, 5)  # the end of an epoch saves by itself
        assert not module.trainer.saved
        with pytest.raises(Stopped, match=f"{name} ended .* step 1 of 5 in epoch 1; .* resume=.*last.ckpt") as end:
            step(guard, module, 1)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert end.value.status == 128 + number
    assert module.trainer.saved == [tmp_path / "last.ckpt"]


def test_after_the_last_epoch_a_signal_stops_before_the_test(tmp_path, module):
    guard = Safeguard(str(tmp_path), minutes=10)
    guard.on_train_end(module.trainer, module)
    guard.signal = signal.SIGTERM
    with pytest.raises(Stopped, match="before the test"):
        guard.on_train_end(module.trainer, module)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_keeps_its_batch(tmp_path, module, loss):
    with pytest.raises(InputError, match=r"step 3 of 5 in epoch 1 is not finite; .*nan_batch\.pt"):
        step(Safeguard(str(tmp_path), minutes=10), module, 3, loss)
    kept = torch.load(tmp_path / "nan_batch.pt", weights_only=True)
    assert set(kept) == {"images", "settings", "epoch", "step", "loss"}
    assert kept["step"] == 3


def test_other_processes_leave_in_silence(tmp_path, module):
    module.trainer.is_global_zero = False
    with pytest.raises(SystemExit) as end:
        step(Safeguard(str(tmp_path), minutes=10), module, 3, float("nan"))
    assert end.value.code == 0


def test_a_training_that_diverges(tmp_path, start):
    status, _, stderr = start("train.py", *TINY, "task.optimizer.lr=1e35", "hydra.run.dir=run")
    assert status == 2
    assert "is not finite" in told(stderr)
    batch = torch.load(tmp_path / "run" / "nan_batch.pt", weights_only=True)
    assert batch["images"].shape == batch["counts"].shape == (2, 1, 64, 64)
    assert batch["settings"]["dose"].shape == (2,)


def test_the_newest_checkpoint_is_that_of_the_last_epoch_also_if_an_earlier_one_was_better(tmp_path, start):
    words = ["trainer.max_epochs=2", "monitor=val/loss", "monitor_mode=max", "hydra.run.dir=run"]
    status, _, stderr = start("train.py", *TINY, *words)
    assert status == 0, stderr
    best, last = (
        torch.load(tmp_path / "run" / "checkpoints" / name, weights_only=True) for name in ("best.ckpt", "last.ckpt")
    )
    assert (best["epoch"], best["global_step"]) == (0, 2)
    assert (last["epoch"], last["global_step"]) == (1, 4)

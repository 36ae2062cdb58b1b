"""Safeguards of a training against a kill, a signal, a full disk and a loss that is not finite."""

from __future__ import annotations

import io
import math
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning_fabric.utilities import move_data_to_device
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_only

from hrtem.errors import InputError, Stopped
from hrtem.ranges import parse_folder, parse_number

#: Signals that end a job: SIGTERM from a batch system at the time limit, SIGINT from a user at the keyboard, SIGUSR1
#: from a batch system that will start the job again.
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)]
#: File name of the newest checkpoint of a run.
LAST = "last.ckpt"


class AtomicCheckpoints(TorchCheckpointIO):
    """Write checkpoints to a temporary file that is then renamed; a kill or a full disk leaves the previous checkpoint.

    A failure is stored in ``failure`` instead of raised: only the first of several processes writes, and all processes
    must be informed before any of them ends. After a failure nothing more is written, so that the best and the newest
    checkpoint remain consistent.
    """

    failure: str | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``, completely or not at all."""
        if self.failure:
            return
        path = Path(path)
        partial = path.with_suffix(".partial")
        # torch reports a full disk as a RuntimeError; Python's own write reports the cause.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            before = "the one before it is whole" if path.is_file() else "there was none before it"
            self.failure = f"the checkpoint {path} cannot be written ({error.strerror}); {before}."


class Checkpoints(ModelCheckpoint):
    """Lightning's ModelCheckpoint that saves after every epoch, and copies the best checkpoints to a new run folder."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the newest checkpoint also after an epoch that was not the best, which Lightning does not."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._last_global_step_saved != trainer.global_step:
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the scores of the continued run, and copy its best checkpoints into the folder of this run."""
        assert self.dirpath is not None
        if state_dict["dirpath"] != self.dirpath:
            here = Path(self.dirpath)
            # Only checkpoints: a stranger's file could name any file.
            theirs = [old for old in state_dict["best_k_models"] if old.endswith(".ckpt") and Path(old).is_file()]
            moved = {old: here / Path(old).name for old in theirs}
            here.mkdir(parents=True, exist_ok=True)
            for old, new in moved.items():
                rank_zero_only(shutil.copy2)(old, new)
            state_dict = state_dict | {
                "dirpath": self.dirpath,
                "last_model_path": "",
                "best_model_path": str(moved.get(state_dict["best_model_path"], "")),
                "kth_best_model_path": str(moved.get(state_dict["kth_best_model_path"], "")),
                "best_k_models": {
                    str(moved[old]): score for old, score in state_dict["best_k_models"].items() if old in moved
                },
            }
        super().load_state_dict(state_dict)


class Safeguard(Callback):
    """Save the newest checkpoint often, and end a training in an orderly way.

    * Every ``minutes``, and at a signal, ``last.ckpt`` is written after the current step. Resuming from it, in the
      middle of an epoch or at its end, gives the weights of an uninterrupted run.
    * A loss that is not finite ends the run; the batch is saved in ``nan_batch.pt``.
    * A checkpoint that cannot be written ends the run, since the results of further training might be lost.

    All processes of a training decide together, since the other processes would wait for a process that ended alone.

    Args:
        folder: folder of the run.
        minutes: time between two checkpoints within an epoch; a checkpoint is also saved at the end of each epoch.
    """

    def __init__(self, folder: str, minutes: float) -> None:
        self.folder = parse_folder("callbacks.safeguard.folder", folder)
        self.minutes = parse_number("callbacks.safeguard.minutes", minutes, unit="minutes", minimum=1e-6)
        self.signal = 0
        self.saved = 0.0
        self.disk = AtomicCheckpoints()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set up atomic writing of all checkpoints, into the folder of the first process."""
        trainer.strategy.checkpoint_io = self.disk
        self.folder = Path(trainer.strategy.broadcast(str(self.folder)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install signal handlers; Lightning installs its own handlers just before, and restores all in the end."""
        self.saved = time.monotonic()
        # Lightning's handlers save, or communicate with the other processes, at an arbitrary point of the program.
        with suppress(ValueError):  # signal handlers are possible in the main thread only
            for number in SIGNALS:
                signal.signal(number, self._heard)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        # A second Ctrl-C ends the run without waiting for the end of the step. A batch system may send SIGTERM twice.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the loss, and save or stop if necessary."""
        loss = float(outputs["loss"])
        if not math.isfinite(loss):
            self._keep(trainer, batch, batch_idx, loss)
        late = time.monotonic() - self.saved > 60.0 * self.minutes
        due, number, unwritten, broken = self._agreed(
            pl_module, late, self.signal, bool(self.disk.failure), not math.isfinite(loss)
        )
        place = f"step {batch_idx + 1} of {trainer.num_training_batches} in epoch {trainer.current_epoch}"
        if broken:
            kept = self.folder / _nan_batch(trainer, "*")
            advice = f"its batch is kept in {kept}, and a lower task.optimizer.lr often helps"
            self._end(trainer, InputError(f"the loss of {place} is not finite; {advice}."))
        self._check_disk(trainer, unwritten)
        # At the end of an epoch a checkpoint is saved anyway, after the validation.
        if batch_idx + 1 == trainer.num_training_batches or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if due or number:
            trainer.save_checkpoint(self._last(trainer))
            self.saved = time.monotonic()
        if number:
            self._check_disk(trainer, bool(self.disk.failure))
            self._stop(trainer, number, f"after {place}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handle a signal or a failed write after the last step."""
        _, number, unwritten, _ = self._agreed(pl_module, 0, self.signal, bool(self.disk.failure), 0)
        self._check_disk(trainer, unwritten)
        if number:
            self._stop(trainer, number, "after its last epoch, before the test")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the other processes if the first process fails; they would wait for it."""
        launcher = trainer.strategy.launcher
        if launcher is not None and not isinstance(exception, (InputError, Stopped, SystemExit)):
            launcher.kill(signal.SIGKILL)

    def _agreed(self, module: LightningModule, *flags: int) -> list[int]:
        """Largest value of each flag over all processes."""
        mine = torch.tensor(flags, dtype=torch.int64, device=module.device)
        return module.trainer.strategy.reduce(mine, reduce_op="max").tolist()

    def _keep(self, trainer: Trainer, batch: Any, batch_idx: int, loss: float) -> None:
        """Save a batch: images, targets, microscope settings, and its epoch, step and loss."""
        facts = {"epoch": trainer.current_epoch, "step": batch_idx + 1, "loss": loss}
        with suppress(OSError):
            path = self.folder / _nan_batch(trainer, trainer.global_rank)
            torch.save(move_data_to_device(batch, "cpu") | facts, path)

    def _check_disk(self, trainer: Trainer, unwritten: int) -> None:
        if unwritten:
            self._end(trainer, InputError(self.disk.failure or ""))

    def _stop(self, trainer: Trainer, number: int, place: str) -> None:
        name = signal.Signals(number).name
        sentence = f"{name} ended the training {place}; continue it with resume={self._last(trainer)}"
        self._end(trainer, Stopped(sentence, number))

    def _last(self, trainer: Trainer) -> Path:
        checkpoint = trainer.checkpoint_callback
        assert isinstance(checkpoint, ModelCheckpoint)
        return Path(checkpoint.dirpath or self.folder) / LAST

    def _end(self, trainer: Trainer, how: BaseException) -> None:
        """Raise an exception in the first process, which reports for all; the other processes exit without a message.

        The other processes exit with status 0, since any other status makes Lightning kill the first process at once.
        """
        if trainer.is_global_zero:
            raise how
        sys.exit(0)


def _nan_batch(trainer: Trainer, rank: int | str) -> str:
    """File name for a batch whose loss is not finite; each of several processes has its own file."""
    return "nan_batch.pt" if trainer.world_size == 1 else f"nan_batch_{rank}.pt"

"""Checkpoints of untrained networks, and an image that they take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from conftest import TINY
from hydra.utils import instantiate


def save(configuration, path: Path, *words: str) -> Path:
    """A checkpoint of an untrained network, as Lightning writes it."""
    import pytorch_lightning as lightning

    task = instantiate(configuration(*TINY, *words).task)
    trainer = lightning.Trainer(
        logger=False, enable_progress_bar=False, accelerator="cpu", default_root_dir=path.parent
    )
    trainer.strategy.connect(task)
    trainer.save_checkpoint(path)
    return path


def micrograph(shape=(100, 90)):
    x = np.arange(shape[1]) * 0.15
    y = np.arange(shape[0])[:, None] * 0.15
    noise = np.random.default_rng(0).normal(size=shape)
    return (1000 + 20 * np.cos(2 * np.pi * x / 2.1) + 20 * np.cos(2 * np.pi * y / 2.4) + noise).astype(np.float32)

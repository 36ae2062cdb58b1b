"""Continuation of a training from a checkpoint, initial weights, and checks of parallel processes."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.utilities import rank_zero_info

from hrtem import models
from hrtem.errors import InputError
from hrtem.inference.network import ColumnNetwork
from hrtem.inference.weights import rename_classes


def checkpoint_to_resume(config: DictConfig, folder: Path) -> str | None:
    """Path of the checkpoint given by ``resume=``; ``resume=auto`` selects the newest unfinished run of this recipe.

    Args:
        config: configuration of the run.
        folder: folder of the run; if it already has a ``last.ckpt``, ``auto`` continues it.

    Raises:
        InputError: the file does not exist or is not a checkpoint, or it contains another network.
    """
    if config.resume is None:
        return None
    if config.resume == "auto":
        path = unfinished(config, folder)
        rank_zero_info(f"resume=auto {f'continues {path}' if path else 'finds nothing to continue'}.")
        return path
    path = str(config.resume)
    if not Path(path).is_file():
        raise InputError(f"resume must be a checkpoint file of an earlier run or auto, and {path} does not exist.")
    try:
        theirs = torch.load(path, map_location="cpu", weights_only=True)["hyper_parameters"]["model"]
    except Exception as error:
        raise InputError(f"resume must be a checkpoint file of an earlier run, and {path} is not.") from error
    ours = OmegaConf.to_container(config.model, resolve=True)
    if rename_classes(theirs) != ours:
        raise InputError(f"resume={path} holds another network than this run: {theirs} instead of {ours}.")
    return path


def unfinished(config: DictConfig, folder: Path) -> str | None:
    """Newest ``last.ckpt`` of an unfinished run with the same recipe and seed, or None.

    A ``last.ckpt`` in ``folder`` itself has priority over runs in neighbouring folders. A run is unfinished if it has
    no test results.
    """
    own = folder / "checkpoints" / "last.ckpt"
    if own.is_file():
        return str(own)
    recipe = OmegaConf.to_container(config, resolve=True)
    assert isinstance(recipe, dict)
    candidates = folder.parent.glob("*/checkpoints/last.ckpt")
    for last in sorted(candidates, key=lambda path: path.stat().st_mtime, reverse=True):
        run = last.parent.parent
        if (run / "metrics.json").exists() or not (run / "config.yaml").is_file():
            continue
        theirs = rename_classes(yaml.safe_load((run / "config.yaml").read_text()))
        if all(theirs.get(key) == recipe[key] for key in ("study", "seed", "task")):
            return str(last)
    return None


def check_processes(trainer: Trainer) -> None:
    """Refuse settings that do not work with several processes.

    Raises:
        InputError: the run is part of a sweep, since each process would start the whole sweep again; or another program
            has started the processes without a common run folder, since each would name its folder by its own clock.
    """
    hydra = HydraConfig.get()
    launcher = trainer.strategy.launcher
    if trainer.world_size == 1 or not isinstance(launcher, _SubprocessScriptLauncher):
        return
    if not launcher.cluster_environment.creates_processes_externally:
        if hydra.mode == RunMode.MULTIRUN:
            raise InputError(
                f"a sweep (-m) must run each of its trials in one process, and trainer.devices makes "
                f"{trainer.world_size}; several sweep with `wandb agent` or a launcher of batch jobs."
            )
    elif not any(word.startswith("hydra.run.dir=") for word in hydra.overrides.hydra):
        raise InputError("processes that torchrun or srun starts need one run folder: say hydra.run.dir=FOLDER.")


def start_from(network: ColumnNetwork, model: str | Path) -> None:
    """Initialise a network with the weights of a trained network.

    Weights that the trained network lacks, such as those of ``model=folded_context`` that ``model=folded_segresnet``
    does not have, keep their own initial values.

    Args:
        network: network to be trained.
        model: name, folder or checkpoint file, see :func:`hrtem.models.find`.

    Raises:
        InputError: the model does not exist, or its weights do not fit the network.
    """
    path = models.find(model)
    state, mine = ColumnNetwork.load(path).net.state_dict(), network.net.state_dict()
    for name, weight in sorted(state.items()):
        needed = tuple(mine[name].shape) if name in mine else "absent"
        if tuple(weight.shape) != needed:
            raise InputError(
                f"start must be a model with the network that is trained, and of {path} {name} is "
                f"{tuple(weight.shape)} where {needed} is needed."
            )
    network.net.load_state_dict(mine | state)

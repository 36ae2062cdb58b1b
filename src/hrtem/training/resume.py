"""Which checkpoint a training continues, and which processes may train together."""

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
    """The checkpoint that ``resume=`` names; ``resume=auto`` names the newest of this recipe that was not finished.

    Args:
        config: of the run.
        folder: of the run; where it has a ``last.ckpt`` already, ``auto`` continues that.

    Raises:
        InputError: there is no such file, or it holds a network of another shape.
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
    """The newest ``last.ckpt`` of a run beside ``folder`` with the same recipe and seed that has no test results."""
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
    """Refuse what several processes cannot do together.

    Raises:
        InputError: in a sweep, they would start the whole sweep again; where something else started them, each
            would name its run folder by its own clock.
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
    """Give a network the weights of a trained network, to go on from what that has learnt.

    What the trained network does not have, such as a part of ``model=folded_context`` that ``model=folded_segresnet``
    lacks, begins as it would by itself.

    Args:
        network: to be trained.
        model: name, folder or checkpoint file, see :func:`hrtem.models.find`.

    Raises:
        InputError: there is no such model, or its network is another one.
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

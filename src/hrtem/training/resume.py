"""Continuation of a training from a checkpoint, initial weights, and checks of parallel processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.utilities import rank_zero_info

from hrtem import models, provenance
from hrtem.errors import InputError
from hrtem.inference import weights
from hrtem.inference.network import ColumnNetwork
from hrtem.inference.trust import rename_classes

#: Settings without influence on the weights, by the part of the recipe: where and how a training runs and is watched.
FREE = {
    # A checkpoint has the arguments of the task alone.
    "task": {"_target_", "_recursive_", "_convert_"},
    "data": {"cache", "workers"},
    "wave": {"scheduler"},
    "trainer": {
        "accelerator", "strategy", "precision", "default_root_dir", "log_every_n_steps", "num_sanity_val_steps",
        "enable_model_summary", "enable_progress_bar", "enable_checkpointing",
    },
}  # fmt: skip


def checkpoint_to_resume(config: DictConfig, folder: Path) -> str | None:
    """Path of the checkpoint given by ``resume=``; ``resume=auto`` selects the newest unfinished run of this recipe.

    Args:
        config: configuration of the run.
        folder: folder of the run; if it already has a ``last.ckpt``, ``auto`` continues it.

    Raises:
        InputError: the file does not exist or is not a checkpoint, or it belongs to another recipe; see
            :func:`differences`. With ``auto``, ``folder`` holds a finished run or a run of another recipe.
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
    # The settings of the file pass the gate although the recipe of this run is built: equal settings are required.
    settings, _ = weights.read_checkpoint(Path(path), word="resume")
    ours = _plain(config)
    theirs = _recipe_of(Path(path).resolve().parents[1])
    # The number of epochs may grow; a run that has ended is trained on.
    different = differences({"task": settings}, ours)
    if theirs is not None and not different:
        different = [one for one in differences(theirs, ours) if not one.startswith("trainer.max_epochs ")]
    if different:
        raise InputError(f"resume={path} is a run of another recipe than this one: {_listed(different)}.")
    return path


def unfinished(config: DictConfig, folder: Path) -> str | None:
    """Newest ``last.ckpt`` of an unfinished run with the same recipe, or None.

    A ``last.ckpt`` in ``folder`` itself has priority over runs in neighbouring folders. A run is unfinished if it has
    no test results, and no other run has continued it.

    Raises:
        InputError: ``folder`` itself holds a finished run, or a run of another recipe.
    """
    ours = _plain(config)
    own = folder / "checkpoints" / "last.ckpt"
    if own.is_file():
        theirs = _recipe_of(folder)
        if theirs is not None and (different := differences(theirs, ours)):
            raise InputError(
                f"resume=auto: {folder} holds a run of another recipe than this one: {_listed(different)}."
            )
        if (folder / "metrics.json").exists():
            raise InputError(
                f"resume=auto: the run in {folder} is finished; resume={own} trains it on in a new folder."
            )
        return str(own)
    candidates = list(folder.parent.glob("*/checkpoints/last.ckpt"))
    continued = {provenance.continued(last.parents[1]) for last in candidates}
    for last in sorted(candidates, key=lambda path: path.stat().st_mtime, reverse=True):
        run = last.parents[1]
        theirs = _recipe_of(run)
        if theirs is None or (run / "metrics.json").exists() or str(last.resolve()) in continued:
            continue
        if theirs.get("study") == ours["study"] and not differences(theirs, ours):
            return str(last)
    return None


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Settings of two recipes that decide the weights and differ, as ``data.batch_size is 8 there and 4 here``.

    Args:
        theirs: resolved recipe of an earlier run, or parts of it; the classes may have names of an older version.
        ours: resolved recipe of this run, or the same parts.
    """
    answer = []
    for part in ("task", "data", "wave", "trainer", "seed"):
        if part not in theirs:
            continue
        one, other = (_flat(rename_classes(recipe.get(part)), part) for recipe in (theirs, ours))
        for name in [*one, *(name for name in other if name not in one)]:
            owner, _, word = name.rpartition(".")
            # The data have copies of the settings of other parts.
            if word in FREE.get(owner, ()) or (part == "data" and owner not in ("data", "data.numbers")):
                continue
            if one.get(name) != other.get(name):
                stage = name.removeprefix("task.")
                said = stage if stage.partition(".")[0] in ours else name
                answer.append(f"{said} is {one.get(name, 'absent')} there and {other.get(name, 'absent')} here")
    return answer


def _flat(part: Any, name: str) -> dict[str, Any]:
    """Values of nested settings by their full names."""
    if not isinstance(part, Mapping):
        return {name: part}
    return {key: one for inner, value in part.items() for key, one in _flat(value, f"{name}.{inner}").items()}


def _listed(different: Sequence[str]) -> str:
    """The first few differences in one sentence."""
    more = f", and {len(different) - 3} more" if len(different) > 3 else ""
    return "; ".join(different[:3]) + more


def _plain(config: DictConfig) -> dict[str, Any]:
    """The resolved recipe as plain values."""
    recipe = OmegaConf.to_container(config, resolve=True)
    assert isinstance(recipe, dict)
    return {str(key): value for key, value in recipe.items()}


def _recipe_of(run: Path) -> dict[str, Any] | None:
    """Resolved recipe of an earlier run, or None if it is absent or damaged."""
    try:
        recipe = yaml.safe_load((run / "config.yaml").read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return recipe if isinstance(recipe, dict) else None


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

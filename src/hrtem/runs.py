"""Runs: their folders, what they were made of, what they continue, and how they end when the user made a mistake."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning import Trainer
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.utilities import rank_zero_info
from pytorch_lightning.utilities.exceptions import MisconfigurationException

import hrtem
from hrtem import recipes
from hrtem.errors import InputError, Stopped

#: Distributions whose versions decide a result.
DECISIVE = ("torch", "pytorch-lightning", "abtem", "ase", "numpy", "scipy", "monai")

#: What the operating system says where a disk, a quota or a file is full.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: What Lightning says in every run of ours, and why it is no news.
EXPECTED = (
    "You have overridden `on_after_batch_transfer`",  # on purpose: the task images the waves
    "Experiment logs directory",  # Hydra has just made it
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # theirs
    "The '\\w+_dataloader' does not have many workers",  # waves come from memory; imaging is the work
    "Checkpoint directory .* exists and is not empty",
    "The `srun` command is available",
    "It is recommended to use `self.log\\(.*sync_dist=True",  # the scores are those of all processes already
)


def prepare() -> None:
    """Make a process ready for our configuration files, and quiet about what is no news."""
    recipes.register()
    for message in EXPECTED:
        warnings.filterwarnings("ignore", message=message)
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda line: "litlogger" not in line.getMessage())


@contextmanager
def told_in_one_sentence() -> Iterator[None]:
    """End the process with one sentence on stderr where the user made a mistake, the disk is full, or a signal came.

    The status is 2, or 128 and the signal.

    Everything else that goes wrong is ours, and keeps its traceback.
    """
    # Hydra prints a shortened traceback and leaves by itself unless this is set.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        yield
    except Stopped as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.status)
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(2)


def sentence_of(error: BaseException) -> str | None:
    """The sentence that tells a user's mistake, or None where ``error`` is no such thing."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None:
        chain.append(link)
        link = link.__cause__
    for link in reversed(chain):
        if isinstance(link, InputError):
            return str(link)
        if isinstance(link, OSError) and link.errno in FULL:
            return f"nothing more can be written{f' to {link.filename}' if link.filename else ''}: {link.strerror}."
        if isinstance(link, MisconfigurationException):
            return " ".join(str(link).split())
        if isinstance(link, InstantiationException) and isinstance(link.__cause__, (TypeError, ValueError)):
            # What another library's constructor refuses, or a word that ours does not have, came from a recipe.
            ours = "'hrtem." in str(link).splitlines()[0]
            if not ours or "unexpected keyword argument" in str(link.__cause__):
                return f"the configuration cannot be used: {' '.join(str(link.__cause__).split())}"
        if isinstance(link, OmegaConfBaseException) or (
            isinstance(link, HydraException) and not isinstance(link, InstantiationException)
        ):
            # Hydra adds its search path, OmegaConf the place in its tree; neither helps the user.
            lines = str(link).partition("Config search path:")[0].splitlines()
            helpful = [line for line in lines if "full_key" not in line and "object_type" not in line]
            return " ".join(" ".join(helpful).split())
    return None


@contextmanager
def folder_kept_on_success(folder: Path) -> Iterator[None]:
    """Remove a run folder that was only just made when its settings turn out to be a mistake."""
    try:
        yield
    except Exception as error:
        if sentence_of(error) is not None and not (folder / "provenance.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            # Its parents were made with it, unless something else lies in them.
            with suppress(OSError):
                folder.parent.rmdir()
                folder.parent.parent.rmdir()
        raise


def new_folder(output: str | None, parent: str) -> Path:
    """Make the folder that ``output`` names, or ``parent/<date>_<time>`` where it is None.

    Raises:
        InputError: it exists already or cannot be made.
    """
    folder = Path(output) if output else Path(parent) / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"output must be a new folder, and {folder} exists.") from None
    except OSError as error:
        raise InputError(f"output must be a folder that can be made, and {folder} cannot: {error.strerror}.") from None
    return folder


def parted(words: Iterable[str], known: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The values of the ``known`` keys, those that ``key=value`` among the words say instead, and all other words."""
    said, others = dict(known), []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in said:
            said[key] = value
        else:
            others.append(word)
    return said, others


def distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that occurred before."""
    seen: dict[str, int] = {}
    answer = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        answer.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return answer


def sha256(path: str | Path) -> str:
    """Checksum of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    if theirs != ours:
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
        theirs = yaml.safe_load((run / "config.yaml").read_text())
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


def quoted(words: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Command-line words in which the values of ``keys`` are quoted for Hydra, as file names need it.

    A value in brackets is a list, and one in quotes is quoted already; both stay as they are.
    """
    answer = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in keys and value and value[0] not in "[\"'":
            value = "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        answer.append(key + equals + value)
    return answer


def git_revision() -> str:
    """Revision of the code, with ``+`` if the working tree differs from it; ``unknown`` outside a checkout."""

    def git(*words: str) -> str:
        where = Path(__file__).resolve().parent
        return subprocess.run(["git", *words], cwd=where, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def provenance() -> dict[str, Any]:
    """Code, versions, machine and command line of this process."""
    versions = {"hrtem": hrtem.__version__, "python": platform.python_version()}
    for name in DECISIVE:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return {
        "revision": git_revision(),
        "command": shlex.join(sys.argv),
        "versions": versions,
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
    }


def record(config: DictConfig | None, folder: Path, **facts: Any) -> None:
    """Write the resolved configuration, unless that is kept elsewhere, and the provenance into a run folder."""
    if config is not None:
        resolved = OmegaConf.to_container(config, resolve=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False))
    (folder / "provenance.json").write_text(json.dumps(provenance() | facts, indent=2) + "\n")


@contextmanager
def logged(path: Path) -> Iterator[logging.Logger]:
    """A logger that writes to the terminal and to ``path``, until the end of the block."""
    log = logging.getLogger("hrtem")
    before = log.level, log.propagate, log.handlers
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout), logging.FileHandler(path)]
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.setLevel(logging.INFO)
    log.propagate, log.handlers = False, handlers
    try:
        yield log
    finally:
        level, log.propagate, log.handlers = before
        log.setLevel(level)
        for handler in handlers:
            handler.close()

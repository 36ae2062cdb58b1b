"""Runs: their folders, their loggers, what they were made of, and how they end when the user made a mistake."""

from __future__ import annotations

import hashlib
import json
import logging
import netrc
import os
import platform
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import yaml
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.utilities.exceptions import MisconfigurationException

import hrtem
from hrtem import recipes
from hrtem.errors import InputError

#: Distributions whose versions decide a result.
DECISIVE = ("torch", "pytorch-lightning", "abtem", "ase", "numpy", "scipy", "monai")


#: What Lightning says in every run of ours, and why it is no news.
EXPECTED = (
    "You have overridden `on_after_batch_transfer`",  # on purpose: the task images the waves
    "Experiment logs directory",  # Hydra has just made it
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # theirs
    "The '\\w+_dataloader' does not have many workers",  # waves come from memory; imaging is the work
    "Checkpoint directory .* exists and is not empty",
    "The `srun` command is available",
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
    """End the process with one sentence on stderr and status 2 where the user made a mistake.

    Everything else that goes wrong is ours, and keeps its traceback.
    """
    # Hydra prints a shortened traceback and leaves by itself unless this is set.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        yield
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


def checkpoint_to_resume(path: str | None) -> str | None:
    """The checkpoint that ``resume=`` names.

    Raises:
        InputError: there is no such file.
    """
    if path is not None and not Path(path).is_file():
        raise InputError(f"resume must be a checkpoint file of an earlier run, and {path} does not exist.")
    return path


def check_multirun(trainer: Any, multirun: bool) -> None:
    """Refuse a multirun whose trainer starts further processes: each of them would begin the whole multirun again.

    Raises:
        InputError: so it is.
    """
    processes = trainer.num_devices * trainer.num_nodes
    environment = getattr(trainer.strategy, "cluster_environment", None)
    started_by_others = environment is not None and environment.creates_processes_externally
    if multirun and processes > 1 and not started_by_others:
        raise InputError(
            f"trainer.devices must be 1 in a multirun, got {processes} processes; train on several devices one run "
            "at a time, or through `wandb agent`."
        )


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


def record(config: DictConfig, folder: Path, **facts: Any) -> None:
    """Write the resolved configuration and the provenance into a run folder."""
    (folder / "config.yaml").write_text(yaml.safe_dump(OmegaConf.to_container(config, resolve=True), sort_keys=False))
    (folder / "provenance.json").write_text(json.dumps(provenance() | facts, indent=2) + "\n")


def logger(config: DictConfig) -> Any:
    """The Lightning logger of the configuration.

    Weights & Biases runs offline where no login exists and ``WANDB_MODE`` does not say otherwise; such a run
    is sent later with ``wandb sync``. It receives the resolved configuration and the code's revision.
    """
    if not config.logger._target_.endswith("WandbLogger"):
        return instantiate(config.logger)
    offline = "WANDB_MODE" not in os.environ and not _wandb_login()
    # Hydra keeps the word config for itself.
    make = instantiate(config.logger, _partial_=True, _convert_="all", offline=offline)
    settings: Any = OmegaConf.to_container(config, resolve=True)
    return make(config={**settings, "provenance": provenance()})


def _wandb_login() -> bool:
    """Whether `wandb login` has left a key: in the environment, in W&B's settings or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    import wandb

    settings = wandb.setup().settings
    # W&B reads its environment once; whoever sets WANDB_MODE next must be heard.
    wandb.teardown()
    try:
        keys = netrc.netrc(os.environ.get("NETRC") or Path.home() / ".netrc")
    except (OSError, netrc.NetrcParseError):
        return bool(settings.api_key)
    return bool(settings.api_key or keys.authenticators(urlparse(settings.base_url).hostname or ""))


def log_figure(logger: Any, name: str, path: Path) -> None:
    """Send a picture to a logger that takes pictures."""
    if hasattr(logger, "log_image"):
        logger.log_image(key=name, images=[str(path)])


def close(logger: Any) -> None:
    """Wait until a logger has written everything; W&B does so in another process."""
    if type(logger).__name__ == "WandbLogger":
        logger.experiment.finish()


def file_log(path: Path) -> logging.Logger:
    """A logger that writes to the terminal and to ``path``."""
    log = logging.getLogger("hrtem")
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    for handler in (logging.StreamHandler(sys.stdout), logging.FileHandler(path)):
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)
    return log

"""The command line: words, logs, and how a process ends when the user made a mistake."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, InstantiationException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hrtem import recipes
from hrtem.errors import InputError, Stopped

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
def end_in_one_sentence() -> Iterator[None]:
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
    # Whoever only finds atoms has not imported Lightning, and then it raised nothing.
    lightning = sys.modules.get("pytorch_lightning.utilities.exceptions")
    misconfigured = getattr(lightning, "MisconfigurationException", None)
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
        if misconfigured is not None and isinstance(link, misconfigured):
            return " ".join(str(link).split())
        if isinstance(link, InstantiationException) and isinstance(link.__cause__, (TypeError, ValueError)):
            # What another library's constructor refuses, or a word that ours does not have, came from a recipe.
            ours = "'hrtem." in str(link).splitlines()[0]
            if not ours or "unexpected keyword argument" in str(link.__cause__):
                return f"the configuration cannot be used: {' '.join(str(link.__cause__).split())}"
        if isinstance(link, OmegaConfBaseException) or (
            isinstance(link, HydraException) and not isinstance(link, InstantiationException)
        ):
            meant = recipes.suggestion(link)
            if meant is not None:
                return meant
            # Hydra adds its search path, OmegaConf the place in its tree; neither helps the user.
            lines = str(link).partition("Config search path:")[0].splitlines()
            helpful = [line for line in lines if "full_key" not in line and "object_type" not in line]
            return " ".join(" ".join(helpful).split())
    return None


def split_words(words: Iterable[str], known: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The values of the ``known`` keys, those that ``key=value`` among the words say instead, and all other words."""
    said, others = dict(known), []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in said:
            said[key] = value
        else:
            others.append(word)
    return said, others


def quote_words(words: Sequence[str], keys: Sequence[str]) -> list[str]:
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


def settings(words: Sequence[str], name: str, files: Sequence[str] = ()) -> dict[str, Any]:
    """What the words of a command line say, with what they leave out as the recipe has it.

    Args:
        words: ``key=value`` each.
        name: of the recipe, see :func:`hrtem.recipes.compose`.
        files: words whose values are names of files.

    Raises:
        InputError: a word is none of the recipe.
    """
    config = recipes.compose(*quote_words(words, keys=files), name=name)
    answer = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(answer, dict)
    return {str(key): value for key, value in answer.items()}


@contextmanager
def log_to(path: Path) -> Iterator[logging.Logger]:
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

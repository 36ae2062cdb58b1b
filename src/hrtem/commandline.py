"""The command line: words, logs, and the end of a process after a user's mistake."""

from __future__ import annotations

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
from hrtem.errors import FULL, InputError, Stopped

#: Warnings of Lightning that every run causes, with the reason why they can be ignored.
EXPECTED = (
    "You have overridden `on_after_batch_transfer`",  # on purpose: the task simulates images from the waves
    "Experiment logs directory",  # Hydra has just made it
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # code of Lightning, not ours
    "The '\\w+_dataloader' does not have many workers",  # waves are read from memory; the imaging takes the time
    "Checkpoint directory .* exists and is not empty",
    "The `srun` command is available",
    "It is recommended to use `self.log\\(.*sync_dist=True",  # the scores already include all processes
)


def prepare() -> None:
    """Register the configuration files in a process, and silence the expected warnings."""
    recipes.register()
    for message in EXPECTED:
        warnings.filterwarnings("ignore", message=message)
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda line: "litlogger" not in line.getMessage())


@contextmanager
def end_in_one_sentence() -> Iterator[None]:
    """End the process with one sentence on stderr after a user's mistake, a full disk or a signal.

    The exit status is 2, or 128 plus the number of the signal.

    All other errors are errors of the program and keep their traceback.
    """
    # Without this variable, Hydra prints a shortened traceback and ends the process itself.
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
    """Return the sentence that describes a user's mistake, or None if ``error`` is another error."""
    # The command `find` does not import Lightning; in that case Lightning cannot be the source of the error.
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
            # A value that another library's constructor refuses, or an unknown argument of ours, comes from a recipe.
            ours = "'hrtem." in str(link).splitlines()[0]
            if not ours or "unexpected keyword argument" in str(link.__cause__):
                return f"the configuration cannot be used: {' '.join(str(link.__cause__).split())}"
        if isinstance(link, OmegaConfBaseException) or (
            isinstance(link, HydraException) and not isinstance(link, InstantiationException)
        ):
            meant = recipes.suggestion(link)
            if meant is not None:
                return meant
            # Hydra adds its search path and OmegaConf the position in its tree; neither helps the user.
            lines = str(link).partition("Config search path:")[0].splitlines()
            helpful = [line for line in lines if "full_key" not in line and "object_type" not in line]
            return " ".join(" ".join(helpful).split())
    return None


def split_words(words: Iterable[str], known: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Split words into values of the ``known`` keys and all other words; ``known`` contains the default values."""
    said, others = dict(known), []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in said:
            said[key] = value
        else:
            others.append(word)
    return said, others


def quote_words(words: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Quote the values of ``keys`` in command-line words for Hydra, which is necessary for file names.

    A value in brackets is a list, and a value in quotes is already quoted; both stay unchanged.
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
    """Remove a new run folder if its settings turn out to be invalid."""
    try:
        yield
    except Exception as error:
        if sentence_of(error) is not None and not (folder / "provenance.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            # Its parent folders were made together with it, unless they contain other files.
            with suppress(OSError):
                folder.parent.rmdir()
                folder.parent.parent.rmdir()
        raise


def settings(words: Sequence[str], name: str, files: Sequence[str] = ()) -> dict[str, Any]:
    """Return the settings of a recipe, changed by the words of a command line.

    Args:
        words: words of the form ``key=value``.
        name: name of the recipe, see :func:`hrtem.recipes.compose`.
        files: keys whose values are file names.

    Raises:
        InputError: a word does not belong to the recipe.
    """
    config = recipes.compose(*quote_words(words, keys=files), name=name)
    answer = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(answer, dict)
    return {str(key): value for key, value in answer.items()}


@contextmanager
def log_to(path: Path) -> Iterator[logging.Logger]:
    """Provide a logger that writes to the terminal and to ``path`` until the end of the block."""
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

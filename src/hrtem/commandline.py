"""The command line: words, logs, and the end of a process after a user's mistake."""

from __future__ import annotations

import io
import logging
import os
import re
import shutil
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from rich.console import Console

from hrtem import recipes
from hrtem.errors import FULL, InputError, Stopped, lack_of_memory

#: A quoted name in a list, with the comma or bracket after it.
QUOTED = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?=\s*[,\]])""", re.DOTALL)

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
    # The reader of the output may end first. A line of a log is then lost without a traceback, and Rich, which would
    # end the process, reports it like print.
    logging.raiseExceptions = False
    setattr(Console, "on_broken_pipe", _raise_again)  # noqa: B010  (mypy refuses to assign to a method)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name need not be UTF-8, and not all terminals are
            stream.reconfigure(errors="backslashreplace")
    for message in EXPECTED:
        warnings.filterwarnings("ignore", message=message)
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda line: "litlogger" not in line.getMessage())


@contextmanager
def end_in_one_sentence() -> Iterator[None]:
    """End the process with one sentence on stderr after a user's mistake, a full disk, little memory or a signal.

    The exit status is 2, or 128 plus the number of the signal.

    All other errors are errors of the program and keep their traceback.
    """
    # Without this variable, Hydra prints a shortened traceback and ends the process itself.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        yield
        sys.stdout.flush()
    except Stopped as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.status)
    except KeyboardInterrupt:
        print("stopped by SIGINT.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _drop_output():
            print("stopped, because the program that read the output has ended.", file=sys.stderr)
            sys.exit(128 + 13)  # SIGPIPE, which not all systems have
        sentence = sentence_of(error)
        if sentence is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(2)


def _raise_again(console: Console) -> None:
    """Raise the error that is being handled."""
    raise


def _drop_output() -> bool:
    """Send the rest of stdout nowhere if its reader has ended; otherwise Python complains once more at its own end."""
    try:
        print(flush=True)  # a line without words, in case that another pipe broke
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


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
        if told := lack_of_memory(link):
            return told
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
            if isinstance(link, MissingMandatoryValue) and (name := getattr(link, "full_key", None)):
                return f"{name} must be given: {name}=…"
            if isinstance(link, OverrideParseException) and "missing EQUAL" in str(link):
                return f"{link.override} must have a value: {link.override}=…"
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
    """Quote the values of ``keys``, which are file names or lists of these, for Hydra and OmegaConf.

    A value in brackets is a list, unless a file has this name. Commas separate the files of a list, unless a file has a
    comma in its name. ``null`` and a value in quotes stay unchanged. A value of another key is quoted if it does not
    follow Hydra's grammar.
    """
    answer = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in keys:
            value = value if _is_quoted(value) else _quoted(read_list(value))
        elif equals and not word.startswith("-") and not _is_hydra(word) and _is_hydra(f"{key}={quote(value)}"):
            value = quote(value, literal=False)
        answer.append(key + equals + value)
    return answer


def quote(text: str, literal: bool = True) -> str:
    """Quote a text for Hydra; OmegaConf does not replace ``${...}`` in a ``literal`` text."""
    if literal:
        text = re.sub(r"(\\*)\$\{", lambda found: rf"{found[1] * 2}\${{", text)
    return QuotedString(text=text, quote=Quote.single).with_quotes()


def _quoted(value: str | list[Any]) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_quoted, value))}]"
    return value if value == "null" else quote(value)


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] in "'\"" and value[-1] == value[0] and not os.path.lexists(value)


def _is_hydra(word: str) -> bool:
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return True


def read_list(text: str) -> str | list[Any]:
    """Read a list of file names in brackets, with inner lists; any other text is a name itself."""
    if not text.startswith("[") or os.path.lexists(text):
        return text
    try:
        names, end = _read_names(text, 1)
    except IndexError:  # a bracket is not closed
        return text
    return names if end == len(text) else text


def _read_names(text: str, start: int) -> tuple[list[Any], int]:
    """Read names up to the closing bracket of a list; returns them and the place after the bracket."""
    names: list[Any] = []
    while True:
        while text[start] == " ":
            start += 1
        name: str | list[Any]
        # A file may have commas and brackets in its name. No path is longer than 4096; "." and ".." are no files.
        ends = [place for place in range(start, min(len(text), start + 4096)) if text[place] in ",]"]
        known = (place for place in ends if place > start + 2 and os.path.lexists(text[start:place].rstrip()))
        end = next(known, 0)
        if end:
            name = text[start:end].rstrip()
        elif text[start] == "[":
            name, end = _read_names(text, start + 1)
        elif text[start] in "'\"" and (found := QUOTED.match(text, start)):
            name, end = re.sub(r"\\(['\"\\])", r"\1", found[1][1:-1]), found.end(1)
        else:
            end = ends[0] if ends else len(text)
            name = text[start:end].rstrip()
        while text[end] == " ":
            end += 1
        if name or text[end] == ",":
            names.append(name)
        if text[end] == "]":
            return names, end + 1
        if text[end] != ",":
            raise IndexError
        start = end + 1


@contextmanager
def folder_kept_on_success(folder: Path) -> Iterator[None]:
    """Remove a new run folder if its settings turn out to be invalid, or the user stops the run before it begins.

    Files that are not Hydra's stay, and with them the folder: ``hydra.run.dir`` may name a folder of the user.
    """
    try:
        yield
    except BaseException as error:
        mistaken = isinstance(error, KeyboardInterrupt) or sentence_of(error) is not None
        if mistaken and not (folder / "provenance.json").exists():
            shutil.rmtree(folder / ".hydra", ignore_errors=True)
            # Its parent folders were made together with it, unless they contain other files.
            with suppress(OSError):
                for place in (folder, folder.parent, folder.parent.parent):
                    place.rmdir()
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


class _Terminal(logging.StreamHandler):
    """Handler that raises errors of writing, such as a broken pipe, where logging would print a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the name that logging calls)
        raise


class _LogFile(_Terminal, logging.FileHandler):
    """The same for a file, in which a file name need not be UTF-8."""


@contextmanager
def log_to(path: Path) -> Iterator[logging.Logger]:
    """Provide a logger that writes to the terminal and to ``path`` until the end of the block."""
    log = logging.getLogger("hrtem")
    before = log.level, log.propagate, log.handlers
    handlers: list[logging.Handler] = [
        _Terminal(sys.stdout),
        _LogFile(path, encoding="utf-8", errors="backslashreplace"),
    ]
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

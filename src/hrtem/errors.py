"""Exceptions that are not errors of the program, and failures of single items in a long job."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

#: Error numbers of the operating system for a full disk, an exceeded quota and a file that is too large.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: What torch, oneDNN and the operating system say when there is too little memory.
MEMORY = (
    "could not create a primitive",
    "could not create a memory",
    "DefaultCPUAllocator",
    "out of memory",
    "not enough memory",
    "Cannot allocate memory",
    "std::bad_alloc",
)


class InputError(ValueError):
    """Invalid input of the user.

    The message is one sentence with the name of the input, its value and the allowed values; the command
    line prints it without a traceback.
    """


class Stopped(BaseException):
    """Stop of a run after a signal; the message explains how to continue.

    Like ``KeyboardInterrupt`` it is no ``Exception``: a signal may arrive within code, of hrtem or of a library, that
    takes any exception for a damaged file or for a network that cannot be traced, and goes on.

    Args:
        sentence: description of the point where the run stopped and how to resume it.
        signal: number of the signal; the exit status of the process is 128 + ``signal``, as in a shell.

    Attributes:
        requests: what a signal has raised in this run. Compiled code may drop an exception that is raised within it.
    """

    requests: ClassVar[list[Stopped]] = []

    def __init__(self, sentence: str, signal: int) -> None:
        super().__init__(sentence)
        self.status = 128 + signal

    @classmethod
    def obey(cls) -> None:
        """Raise the request to stop once more, if there is one."""
        for request in cls.requests:
            raise request


class Failures:
    """Failures of single images, frames or runs, collected so that the others are still processed.

    A request to stop, a full disk and the end of the program that reads the output are never collected.

    Args:
        on_error: ``continue`` collects the failures, ``stop`` raises the first.

    Attributes:
        sentences: one sentence per failure, in order; a failure that happens twice counts once.

    Raises:
        InputError: ``on_error`` has another value.
    """

    def __init__(self, on_error: str = "continue") -> None:
        if on_error not in ("continue", "stop"):
            raise InputError(f"on_error must be continue or stop, got {on_error}.")
        self.stop = on_error == "stop"
        self.sentences: list[str] = []

    def fresh(self) -> Failures:
        """An empty collection that treats errors in the same way."""
        return Failures("stop" if self.stop else "continue")

    @contextmanager
    def collect(self, name: str) -> Iterator[None]:
        """Collect an exception of the block, which works on the item ``name``."""
        try:
            yield
        except Exception as error:
            self.add(name, error)

    def add(self, name: str, error: Exception) -> None:
        """Collect the failure of the item ``name``, or raise it."""
        if self.stop or (isinstance(error, OSError) and error.errno in (*FULL, errno.EPIPE)):
            raise error
        text = " ".join(str(error).split())
        text = text if isinstance(error, InputError) else lack_of_memory(error) or f"{type(error).__name__}: {text}"
        sentence = text if name in text else f"{name}: {text}"
        if sentence not in self.sentences:
            self.sentences.append(sentence)

    def table(self) -> list[str]:
        """Lines of a numbered list of all failures; empty without failures."""
        lines = [f"{number:4d}  {sentence}" for number, sentence in enumerate(self.sentences, start=1)]
        return ["Could not be used:", *lines] if lines else []

    def conclude(self, result: str) -> None:
        """Raise one sentence about all failures at the end of a job whose ``result`` lacks the failed items.

        Raises:
            InputError: there are failures.
        """
        if self.sentences:
            number = "1 item" if len(self.sentences) == 1 else f"{len(self.sentences)} items"
            raise InputError(f"{result} lacks {number} that could not be used; {self.summary()}")

    def summary(self) -> str:
        """The first sentence, and how many there are if there are more."""
        first, *others = self.sentences
        return f"the first of {len(self.sentences)} reasons: {first}" if others else first


def lack_of_memory(error: BaseException) -> str | None:
    """The sentence for an error by too little memory, or None if ``error`` is another error."""
    if not isinstance(error, MemoryError) and not any(text in str(error) for text in MEMORY):
        return None
    return f"there is too little memory ({(str(error).splitlines() or ['it is used up'])[0].rstrip('.')})."

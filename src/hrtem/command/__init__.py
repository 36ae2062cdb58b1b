"""The installed command ``hrtem``, also available as ``python -m hrtem``.

For example: ``hrtem find model=graphene images=image.dm3``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import hrtem
from hrtem.errors import InputError

#: Commands and their descriptions; each command is the module of the same name in this package.
COMMANDS = {
    "find": "find the atoms in images, focal series and movies",
    "train": "simulate, train and test a network",
    "movie": "follow the columns of movies through time",
    "gallery": "pictures of training images and of answers of models",
    "models": "list models, export a model from a checkpoint, or repeat its calibration",
    "score": "score a table of atoms against true positions",
    "compare": "compare trained runs: scores against dose, size and speed",
    "simulate": "a movie of a particle whose surface diffuses, with its truth",
}
#: Words that ask for a description.
HELP = {"-h", "--help"}


def main(words: Sequence[str] | None = None) -> None:
    """Run the command in the first word with the other words as its arguments."""
    # Imported here, where a stop by the keyboard has no traceback: the import of Hydra takes half a second.
    try:
        from hrtem import commandline

        commandline.prepare()
    except KeyboardInterrupt:
        sys.exit(130)
    with commandline.end_in_one_sentence():
        command, *rest = (sys.argv[1:] if words is None else words) or ["--help"]
        if command in {*HELP, "help"}:
            print(usage())
        elif command == "--version":
            print(f"hrtem {hrtem.__version__}")
        elif command in COMMANDS and set(rest) & HELP:
            print(describe(command))
        elif command in COMMANDS:
            import_module(f"hrtem.command.{command}").main(rest)
        else:
            raise InputError(f"the first word must be one of {', '.join(COMMANDS)}, got {command}.")


def describe(command: str) -> str:
    """Describe a command: the docstring of its module, then the words of its recipe if it has a ``RECIPE``."""
    from hrtem import recipes

    module = import_module(f"hrtem.command.{command}")
    recipe = getattr(module, "RECIPE", None)
    return f"{module.__doc__}\n{recipes.help_of(recipe)}" if recipe else str(module.__doc__)


def usage() -> str:
    """Return a list of all commands with their descriptions."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {about}" for name, about in COMMANDS.items()]
    return "\n".join(["hrtem COMMAND WORDS …", "", *lines, "", "hrtem COMMAND --help says what its words mean."])

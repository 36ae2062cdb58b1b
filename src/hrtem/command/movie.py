"""Follow the columns of movies through time: ``hrtem movie model=gold_frames images=movie.mrc frame_time=0.5``.

This is the same as ``hrtem find … task=dynamics``, with the same words.
"""

from __future__ import annotations

from collections.abc import Sequence

from hrtem.command import find

#: Recipe that defines the words of the command.
RECIPE = find.RECIPE


def main(words: Sequence[str]) -> None:
    """Follow the columns of the movies that the words of a command line specify."""
    find.main([*words, "task=dynamics"])

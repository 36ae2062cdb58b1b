"""Score a table of atoms against true positions: ``hrtem score FOUND.csv TRUE.csv SAMPLING [MASK]``.

FOUND and TRUE are tables with columns ``x_px`` and ``y_px`` or ``x_A`` and ``y_A``; SAMPLING is the pixel size in Å/px,
and MASK an image whose black pixels are excluded from the score. Atoms are matched one to one within 0.5 Å.
"""

from __future__ import annotations

from collections.abc import Sequence

from hrtem.errors import InputError
from hrtem.matching import score_files
from hrtem.ranges import parse_number


def main(words: Sequence[str]) -> None:
    """Print precision, recall, F1 and position error.

    Raises:
        InputError: a file or the pixel size cannot be used.
    """
    if len(words) not in (3, 4):
        raise InputError("say: hrtem score FOUND.csv TRUE.csv SAMPLING [MASK], with SAMPLING in Å/px.")
    result = score_files(words[0], words[1], parse_number("SAMPLING", words[2]), words[3] if len(words) == 4 else None)
    names = {"precision": "precision", "recall": "recall", "f1": "F1"}
    parts = [f"{name} {_number(getattr(result, key), 3)}" for key, name in names.items()]
    error = f"position error {_number(result.error_pm, 1)} pm"
    print(f"{', '.join(parts)}, {error} ({result.found} found, {result.true} true)")


def _number(value: float, digits: int) -> str:
    """A number, or a dash if it is undefined because no columns were found or none are true."""
    return f"{value:.{digits}f}" if value == value else "–"

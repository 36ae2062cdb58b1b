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
    print(
        f"precision {result.precision:.3f}, recall {result.recall:.3f}, F1 {result.f1:.3f}, "
        f"position error {result.error_pm:.1f} pm ({result.found} found, {result.true} true)"
    )

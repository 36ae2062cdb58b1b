"""Tables and pictures: of what was found, and of what training sees (``python -m hrtem.report gallery``)."""

from __future__ import annotations

from hrtem.report.pictures import examples_figure, overlay
from hrtem.report.reliability import save_reliability
from hrtem.report.tables import HEADER, print_scores, save_scores, write_table

__all__ = [
    "HEADER",
    "examples_figure",
    "overlay",
    "print_scores",
    "save_reliability",
    "save_scores",
    "write_table",
]

"""Tables, pictures and pages: of what was found, and of what training sees (``python -m hrtem.report gallery``)."""

from __future__ import annotations

from hrtem.report.files import write_files
from hrtem.report.frame import Frame
from hrtem.report.overlay import overlay, overlay_svg
from hrtem.report.page import write_page
from hrtem.report.pictures import examples_figure
from hrtem.report.reliability import save_reliability
from hrtem.report.tables import fields_of, print_scores, save_scores, write_csv, write_parquet

__all__ = [
    "Frame",
    "examples_figure",
    "fields_of",
    "overlay",
    "overlay_svg",
    "print_scores",
    "save_reliability",
    "save_scores",
    "write_csv",
    "write_files",
    "write_page",
    "write_parquet",
]

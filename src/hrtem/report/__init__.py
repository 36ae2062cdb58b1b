"""Output files of a prediction: tables, structures, overlays and an HTML page."""

from __future__ import annotations

from hrtem.report.files import write_files
from hrtem.report.frame import Frame
from hrtem.report.overlay import overlay, overlay_svg
from hrtem.report.page import write_page
from hrtem.report.tables import fields_of, write_csv, write_parquet

__all__ = ["Frame", "fields_of", "overlay", "overlay_svg", "write_csv", "write_files", "write_page", "write_parquet"]

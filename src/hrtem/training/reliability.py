"""Reliability of a trained network as a JSON file and a picture in its run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from matplotlib.figure import Figure

from hrtem.calibration import Diagram
from hrtem.folders import replace_file
from hrtem.report.drawing import save


def save_reliability(diagrams: Mapping[str, Diagram], folder: Path) -> None:
    """Write ``reliability.json``, with the fields of each :class:`Diagram`, and draw ``reliability.png``.

    Args:
        diagrams: diagrams of the test, under ``all`` and under each dose in e/Å².
        folder: folder of the run.
    """
    plain = {name: asdict(diagram) for name, diagram in diagrams.items()}
    with replace_file(folder / "reliability.json") as partial:
        partial.write_text(json.dumps(plain, indent=2) + "\n")
    _draw(diagrams, folder / "reliability.png")


def _draw(diagrams: Mapping[str, Diagram], path: Path) -> None:
    """Draw observed against predicted probabilities and position errors, for all doses together and for each dose."""
    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, diagram in diagrams.items():
        style = {"color": "black", "linewidth": 2} if name == "all" else {"linewidth": 1}
        label = name if name == "all" else f"{float(name):,.0f} e/Å²"
        left.plot(diagram.probability, diagram.observed, ".-", label=label, **style)
        right.plot(diagram.sigma_pm, diagram.error_pm, ".-", label=label, **style)
    overall = diagrams["all"]
    if overall.count_ece is not None:
        label = f"numbers of atoms ({overall.count_ece:.3f})"
        left.plot(overall.count_probability, overall.count_observed, ".--", label=label, color="black")
    if overall.ece is not None:
        left.set_title(f"expected calibration error {overall.ece:.3f}, Brier score {overall.brier:.3f}", fontsize=9)
    left.set(xlabel="predicted probability", ylabel="share that is there")
    right.set(xlabel="predicted sigma along x or y (pm)", ylabel="root mean square error along x or y (pm)")
    for axes, end in ((left, 1.0), (right, max([1.0, *overall.sigma_pm, *overall.error_pm]))):
        axes.plot([0.0, end], [0.0, end], ":", color="grey")
        axes.grid(alpha=0.3)
    left.legend(fontsize=8)
    save(figure, path)

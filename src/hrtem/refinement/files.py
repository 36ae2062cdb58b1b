"""Output files of a fit: ``fit.json`` with tilt and microscope, ``fit.png`` with expected image and residual."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from hrtem import folders
from hrtem.refinement.strategy import Refinement
from hrtem.report.drawing import grey, save

#: Standard deviation, Å, of the Gaussian over which the map of χ² averages.
AROUND = 2.0
#: Residuals up to this many standard deviations are in colour, and χ² up to the second number.
LARGEST, WORST = 4.0, 2.0


def write_fit(fit: Refinement, folder: Path) -> None:
    """Write ``fit.json`` and ``fit.png`` into a folder."""
    facts = {
        "better_than_the_network": fit.better,
        "held_out": {"network": fit.held[0], "fit": fit.held[1]},
        "chi_squared": fit.misfit,
        "settings": {
            one.name: {"value": one.value, "interval_90": [one.low, one.high], "unit": one.unit} for one in fit.settings
        },
    }
    with folders.replace_file(folder / "fit.json") as partial:
        partial.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    save(draw_fit(fit), folder / "fit.png")


def list_settings(fit: Refinement) -> dict[str, str]:
    """Value and 90 % interval of each fitted setting as text, for the page."""
    test = f"{fit.held[1]:.4f}, network {fit.held[0]:.4f}"
    answer = {"chi_squared": f"{fit.misfit:.3f}", "chi_squared_of_held_out_pixels": test}
    for one in fit.settings:
        digits = max(0, min(4, 1 - int(np.floor(np.log10(max(one.high - one.low, 1e-9))))))
        low, high = (f"{number:.{digits}f}" for number in (one.low, one.high))
        answer[one.name] = f"{one.value:.{digits}f} ({low} to {high}) {one.unit}".rstrip()
    return answer


def draw_fit(fit: Refinement) -> Figure:
    """Draw recorded and expected images, residuals, and their local mean square; one row for each image."""
    number = len(fit.recorded)
    figure = Figure(figsize=(14.0, 3.6 * number), layout="constrained")
    axes = figure.subplots(number, 4, squeeze=False)
    for row, recorded, expected, residual in zip(axes, fit.recorded, fit.expected, fit.residual, strict=True):
        low, high = np.percentile(recorded, (0.5, 99.5))
        row[0].imshow(grey(recorded), cmap="gray")
        row[1].imshow(expected, cmap="gray", vmin=low, vmax=high)
        shown = row[2].imshow(residual, cmap="RdBu_r", vmin=-LARGEST, vmax=LARGEST)
        figure.colorbar(shown, ax=row[2], shrink=0.8)
        squares, share = (gaussian_filter(one, AROUND / fit.sampling) for one in (residual**2, fit.used.astype(float)))
        mean = np.where(fit.used, squares / np.maximum(share, 1e-6), np.nan)
        local = row[3].imshow(mean, cmap="magma", vmin=0.0, vmax=WORST)
        figure.colorbar(local, ax=row[3], shrink=0.8)
        for one, title in zip(row, ("recorded", "expected", "residual (σ)", "local χ²"), strict=True):
            one.set_title(title)
            one.set_axis_off()
    return figure

"""Figures of the history of a movie: frames, map of events, occupancy, motion, and comparison of rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hrtem.movies.tracking import History, compare_rates
from hrtem.movies.tracking.motion import OCCUPIED
from hrtem.movies.tracking.sites import KINDS
from hrtem.report.drawing import circles, save, show_image, show_maps
from hrtem.report.frame import Frame
from hrtem.structure import Mark

#: Colours of columns in the bulk, on the surface and at a support, and of columns that just appeared or will vanish.
COLOURS = {"bulk": "#4c78a8", "surface": "#f2b701", "support": "#8a8a8a", "appears": "#2ca02c", "vanishes": "#d62728"}
#: Radius of the circle around a column, Å.
RADIUS = 0.9
#: Largest number of sites in the occupancy raster.
ROWS = 60


def states(history: History, number: int) -> dict[str, np.ndarray]:
    """Occupied sites of frame ``number`` by state: bulk, surface, support, appears, vanishes.

    A column has the state "appears" in its first frame and "vanishes" in its last frame.
    """
    there = history.occupancy.probability >= OCCUPIED
    now = there[number]
    appears = now & ~there[number - 1] if number else np.zeros_like(now)
    vanishes = now & ~there[number + 1] if number + 1 < len(there) else np.zeros_like(now)
    answer = {name: now & (history.occupancy.kinds == kind) & ~appears & ~vanishes for kind, name in enumerate(KINDS)}
    return {name: np.flatnonzero(mask) for name, mask in (answer | {"appears": appears, "vanishes": vanishes}).items()}


def marks(history: History, number: int) -> list[Mark]:
    """Occupied sites as shapes over frame ``number``, for the page; bulk columns are left out."""
    places = history.poses[number].away(history.sites.positions)
    answer = []
    for kind, sites in states(history, number).items():
        for site in sites.tolist() if kind != "bulk" else ():
            chance = history.occupancy.probability[number, site]
            text = f"site {site}, {kind}, column {history.numbers[number, site]}, occupied {chance:.2f}"
            answer.append(Mark(kind, places[site][None], text, COLOURS[kind]))
    return answer


def frames_figure(history: History, frames: Mapping[int, Frame], path: Path, unit: str) -> None:
    """Draw some frames, their network output, and their columns as circles, after figure 1 of arXiv 1802.03008."""
    figure = Figure(figsize=(2.6 * len(frames), 8.3), layout="constrained")
    axes = figure.subplots(3, len(frames), squeeze=False)
    for (number, frame), column in zip(frames.items(), axes.T, strict=True):
        show_image(column[0], frame.image)
        column[0].set_title(f"frame {number}, {number * history.frame_time:g} {unit}", fontsize=9)
        if frame.maps is not None:
            show_maps(column[1], frame.class_maps())
        rows, width = frame.image.shape
        column[2].set(xlim=(-0.5, width - 0.5), ylim=(rows - 0.5, -0.5), xticks=[], yticks=[], aspect="equal")
        places = history.poses[number].away(history.sites.positions) / frame.sampling
        for kind, sites in states(history, number).items():
            _circles(column[2], places[sites], 2.0 * RADIUS / frame.sampling, COLOURS[kind])
    for row, name in enumerate(("image", "network output", "columns")):
        axes[row, 0].set_ylabel(name)
    _legend(figure, COLOURS)
    save(figure, path)


def map_figure(history: History, frame: Frame, number: int, path: Path) -> None:
    """Draw the number of events of each site over a frame."""
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.subplots()
    show_image(axes, frame.image)
    changes = np.bincount([event.site for event in history.events], minlength=len(history.sites))
    places = history.poses[number].away(history.sites.positions) / frame.sampling
    top = max(int(changes.max(initial=0)), 1)
    palette = colormaps["inferno"]
    ever = history.occupancy.probability.max(axis=0) >= OCCUPIED
    for site in np.flatnonzero(ever):
        colour = to_hex(palette(0.25 + 0.7 * changes[site] / top)) if changes[site] else "#4c78a8"
        _circles(axes, places[[site]], 2.0 * RADIUS / frame.sampling, colour, alpha=0.85 if changes[site] else 0.35)
    ticks = np.unique(np.linspace(0, top, min(top, 6) + 1).round())
    figure.colorbar(_scale(top), ax=axes, ticks=ticks, label="times that a column appears or vanishes", shrink=0.8)
    axes.set_title(f"{int(changes.sum())} events on {int((changes > 0).sum())} of {int(ever.sum())} sites", fontsize=10)
    save(figure, path)


def occupancy_figure(history: History, path: Path, unit: str) -> None:
    """Draw the occupancy probability of the changing sites, and the number of surface columns, against time."""
    there = history.occupancy.probability
    frames = len(there)
    changes = np.bincount([event.site for event in history.events], minlength=len(history.sites))
    chosen = np.argsort(-changes, kind="stable")[: min(ROWS, int((changes > 0).sum()))]
    chosen = chosen[np.lexsort([history.sites.positions[chosen, 0], history.sites.positions[chosen, 1]])]
    figure = Figure(figsize=(9.0, 6.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1.3], sharex=True)
    end = frames * history.frame_time
    if len(chosen):
        step = -(-frames // 2000)
        raster = there[: frames - frames % step if step > 1 else frames, chosen].T
        raster = raster.reshape(len(chosen), -1, step).mean(axis=2)
        picture = upper.imshow(
            raster,
            aspect="auto",
            cmap="Greys",
            vmin=0,
            vmax=1,
            extent=(0, end, len(chosen), 0),
            interpolation="nearest",
        )
        figure.colorbar(picture, ax=upper, label="probability that it is occupied")
    upper.set(ylabel="sites that change", yticks=[])
    surface = history.occupancy.kinds == 1
    edges = np.arange(frames + 1) * history.frame_time
    lower.stairs((there[:, surface] >= OCCUPIED).sum(axis=1), edges, color=COLOURS["surface"], baseline=None)
    lower.set(xlabel=f"time ({unit})", ylabel="surface columns", xlim=(0, end))
    lower.yaxis.set_major_locator(MaxNLocator(integer=True))
    save(figure, path)


def motion_figure(history: History, path: Path, unit: str) -> None:
    """Draw drift, strain and mean square displacement."""
    figure = Figure(figsize=(11.0, 3.4), layout="constrained")
    drift, strain, moved = figure.subplots(1, 3)
    time = np.arange(len(history.poses)) * history.frame_time
    for column, name in enumerate("xy"):
        drift.plot(time, history.drift[:, column], label=name, linewidth=1)
    drift.set(xlabel=f"time ({unit})", ylabel="drift (Å)")
    drift.legend()
    for column, name in enumerate(("xx", "yy", "xy")):
        strain.plot(time, 100.0 * history.strain[:, column], label=name, linewidth=0.8)
    strain.set(xlabel=f"time ({unit})", ylabel="strain against the mean (%)")
    strain.legend()
    lag, square, _ = history.displacement.T
    moved.plot(lag * history.frame_time, square, marker=".", linewidth=0.8)
    moved.set(xlabel=f"lag ({unit})", ylabel="mean square displacement by hops (Å²)", ylim=(0, None))
    save(figure, path)


def comparison_figure(histories: Mapping[str, History], path: Path, unit: str) -> None:
    """Draw the rates of several movies with intervals, and the p-values of their differences from the first movie."""
    figure = Figure(figsize=(4.4 + 1.5 * len(histories), 4.4), layout="constrained")
    axes = figure.subplots(1, 2)
    names = list(histories)
    for panel, what in zip(axes, ("leave", "arrive"), strict=True):
        rates = [getattr(history.rates, what) for history in histories.values()]
        middle = np.array([rate.value for rate in rates])
        ends = np.array([[rate.value - rate.low, rate.high - rate.value] for rate in rates]).T
        panel.errorbar(range(len(rates)), middle, yerr=ends, fmt="o", capsize=5, color="#333333")
        panel.set(xticks=range(len(rates)), xlim=(-0.5, len(rates) - 0.5), ylim=(0, None))
        panel.set_xticklabels(names, rotation=20, ha="right", parse_math=False)  # a name may contain $
        whose = "a surface column leaves" if what == "leave" else "a vacant site is taken"
        panel.set(ylabel=f"{whose} (1/{unit})")
        lines = []
        for name, rate in zip(names[1:], rates[1:], strict=True):
            result = compare_rates(rates[0], rate)
            ratio = f"× {result.ratio:.2f} ({result.low:.2f} to {result.high:.2f})"
            lines.append(f"{name}: {ratio}\np = {result.p:.2g}")
        panel.set_title("\n".join(lines), fontsize=8, parse_math=False)
    save(figure, path)


def _circles(axes: Axes, places: np.ndarray, diameter: float, colour: str, alpha: float = 0.9) -> None:
    circles(axes, places, diameter, facecolors=colour, edgecolors="black", linewidths=0.3, alpha=alpha)


def _legend(figure: Figure, colours: Mapping[str, str]) -> None:
    handles: Sequence[Line2D] = [
        Line2D([], [], marker="o", linestyle="", color=colour, label=name) for name, colour in colours.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def _scale(top: int) -> ScalarMappable:
    """Colour scale for 0 to ``top`` changes."""
    palette = colormaps["inferno"]
    shades = ListedColormap([palette(0.25 + 0.7 * share) for share in np.linspace(0.0, 1.0, 64)])
    return ScalarMappable(Normalize(0, top), shades)

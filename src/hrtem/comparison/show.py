"""A comparison as a table on the terminal, a figure, a CSV file and a Markdown table."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from hrtem.comparison.entries import Entry

#: Heads of the columns behind the doses.
COSTS = ("parameters", "kFLOP/px", "s/image", "steps", "training (s)")
#: Heads of the CSV file, a line for each recipe and dose.
HEADER = (
    "name", "runs", "dose_e_per_A2", "f1", "f1_sd", "error_pm", "error_pm_sd", "limit_pm", "error_over_limit",
    "parameters", "flops_per_px", "seconds_per_image", "training_steps", "training_seconds",
)  # fmt: skip


def all_doses(entries: Sequence[Entry]) -> list[float]:
    """Doses at which any entry was tested, e/Å²."""
    return sorted({dose for entry in entries for dose in entry.doses})


def print_table(entries: Sequence[Entry], limits: Mapping[float, float]) -> None:
    """Print F1 and, below it, the position error at each dose, and what it cost."""
    table = Table(title=f"F1 and position error (pm{', × limit' if limits else ''}) at doses in e/Å²")
    for number, head in enumerate(_heads(entries)):
        table.add_column(head, justify="right" if number else "left", overflow="fold")
    for entry in entries:
        cells = (_score(entry, dose, limits, "\n") for dose in all_doses(entries))
        table.add_row(entry.name, str(len(entry.runs)), *cells, *_costs(entry), end_section=True)
    console = Console()
    # Piped into a file there is no terminal to fit into.
    (console if console.is_terminal else Console(width=180)).print(table)


def write_markdown(entries: Sequence[Entry], limits: Mapping[float, float], path: Path) -> None:
    """Write the printed table as Markdown."""
    heads = _heads(entries)
    rows = [
        [f"`{entry.name}`", str(len(entry.runs)), *(_score(entry, dose, limits, ", ") for dose in all_doses(entries)),
         *_costs(entry)]
        for entry in entries
    ]  # fmt: skip
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    path.write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))


def write_csv(entries: Sequence[Entry], limits: Mapping[float, float], path: Path) -> None:
    """Write all numbers, a line for each recipe and dose; ``HEADER`` names and units."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for entry in entries:
            cost = entry.cost
            rest = (cost.parameters, cost.flops, cost.seconds, entry.training("steps"), entry.training("seconds"))
            for dose in entry.doses:
                f1, error = entry.score("f1", dose), entry.score("error_pm", dose)
                assert f1 is not None
                assert error is not None
                limit = limits.get(dose)
                ratio = error[0] / limit if limit else None
                writer.writerow([entry.name, len(entry.runs), f"{dose:g}", *f1, *error, limit, ratio, *rest])


def figure(entries: Sequence[Entry], limits: Mapping[float, float], path: Path) -> None:
    """Draw F1 and position error against dose, with the standard deviation of repetitions, as PNG."""
    canvas = Figure(figsize=(11, 5 + 0.2 * len(entries)), dpi=100, layout="constrained")
    axes = canvas.subplots(1, 2)
    for number, entry in enumerate(entries):
        for one, quantity in zip(axes, ("f1", "error_pm"), strict=True):
            scores = [score for dose in entry.doses if (score := entry.score(quantity, dose))]
            one.errorbar(
                entry.doses, [value for value, _ in scores], [deviation or 0.0 for _, deviation in scores],
                marker="o", capsize=3, color=f"C{number % 10}", linestyle=("-", "--", ":")[number // 10 % 3],
                label=f"{entry.name} ({len(entry.runs)})" if len(entry.runs) > 1 else entry.name,
            )  # fmt: skip
    # Where no run has found anything there is no error to draw.
    known = any(value > 0.0 for line in axes[1].get_lines() for value in line.get_ydata())
    if limits:
        axes[1].plot(sorted(limits), [limits[dose] for dose in sorted(limits)], "k-.", label="limit")
    axes[0].set(xscale="log", xlabel="dose (e/Å²)", ylabel="F1")
    axes[1].set(
        xscale="log", yscale="log" if known or limits else "linear", xlabel="dose (e/Å²)", ylabel="position error (pm)"
    )
    for one in axes:
        one.grid(alpha=0.3)
    canvas.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", fontsize=8)
    FigureCanvasAgg(canvas)
    canvas.savefig(path)


def _heads(entries: Sequence[Entry]) -> list[str]:
    return ["recipe", "runs", *(f"{dose:,.0f}" for dose in all_doses(entries)), *COSTS]


def _score(entry: Entry, dose: float, limits: Mapping[float, float], between: str) -> str:
    f1, error = entry.score("f1", dose), entry.score("error_pm", dose)
    if f1 is None or error is None:
        return "–"
    against = f" ({error[0] / limits[dose]:.1f}×)" if dose in limits else ""
    return f"{_number(f1, 3)}{between}{_number(error, 1)}{against}"


def _number(value: tuple[float, float | None], digits: int) -> str:
    middle, deviation = value
    return f"{middle:.{digits}f}" + (f" ± {deviation:.{digits}f}" if deviation is not None else "")


def _costs(entry: Entry) -> list[str]:
    steps, seconds = entry.training("steps"), entry.training("seconds")
    return [
        f"{entry.cost.parameters:,}",
        f"{entry.cost.flops / 1000:,.1f}",
        f"{entry.cost.seconds:.3g}",
        "–" if steps is None else f"{steps:,.0f}",
        "–" if seconds is None else f"{seconds:,.0f}",
    ]

"""Output of a comparison as a table on the terminal, a figure, a CSV file and a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from hrtem import csv_files
from hrtem.sweeps.entries import Entry

#: Headings of the table columns to the right of the doses.
COSTS = ("parameters", "kFLOP/px", "s/image", "steps", "training (s)")
#: Headings of the CSV file, which has one line per recipe and dose.
HEADER = (
    "name", "runs", "dose_e_per_A2", "f1", "f1_sd", "error_pm", "error_pm_sd", "limit_pm", "error_over_limit",
    "parameters", "flops_per_px", "seconds_per_image", "training_steps", "training_seconds", "class_f1", "class_f1_sd",
    "count_exact", "count_exact_sd", "dose_per",
)  # fmt: skip


#: Names of the scores in the tables, in order, and the number of decimals; the last two are shown only if known.
SCORES = {
    "f1": ("F1", 3),
    "error_pm": ("position error (pm)", 1),
    "class_f1": ("mean F1 of the classes", 3),
    "count_exact": ("share of exact counts", 3),
}


def all_doses(entries: Sequence[Entry]) -> list[float]:
    """Return all doses at which any entry was tested, e/Å²."""
    return sorted({dose for entry in entries for dose in entry.doses})


def caption(entries: Sequence[Entry], limits: Mapping[float, float]) -> str:
    """Describe the cells of a table, and whether its doses are per image or per series."""
    said = [SCORES[name][0] for name in _known(entries)]
    text = ", ".join(f"{one} (× limit)" if one == SCORES["error_pm"][0] and limits else one for one in said)
    kinds = {run.dose_per for entry in entries for run in entry.runs}
    whose = {"image": "each image", "series": "the whole series"}
    of = whose[kinds.pop()] if len(kinds) == 1 else "each image or of the whole series, as the recipe says"
    return f"{text}, at doses in e/Å² of {of}"


def print_table(entries: Sequence[Entry], limits: Mapping[float, float]) -> None:
    """Print a table with the scores at each dose and the cost of each entry."""
    table = Table(title=caption(entries, limits))
    for number, head in enumerate(_heads(entries)):
        table.add_column(head, justify="right" if number else "left", overflow="fold")
    for entry in entries:
        cells = (_score(entry, dose, limits, "\n") for dose in all_doses(entries))
        table.add_row(entry.name, str(len(entry.runs)), *cells, *_costs(entry), end_section=True)
    console = Console()
    # Output to a file or a pipe has no terminal width.
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
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    path.write_text(f"{caption(entries, limits)}:\n\n{text}")


def write_csv(entries: Sequence[Entry], limits: Mapping[float, float], path: Path) -> None:
    """Write all numbers as CSV, one line per recipe and dose; ``HEADER`` contains names and units."""
    rows = []
    for entry in entries:
        cost = entry.cost
        rest = (cost.parameters, cost.flops, cost.seconds, entry.training("steps"), entry.training("seconds"))
        for dose in entry.doses:
            f1, error = entry.score("f1", dose), entry.score("error_pm", dose)
            assert f1 is not None
            assert error is not None
            limit = limits.get(dose)
            ratio = error[0] / limit if limit else None
            more = [value for name in ("class_f1", "count_exact") for value in entry.score(name, dose) or (None, None)]
            head = [entry.name, len(entry.runs), f"{dose:g}", *f1, *error, limit, ratio]
            rows.append([*head, *rest, *more, entry.runs[0].dose_per])
    csv_files.write_rows(path, HEADER, rows)


def figure(entries: Sequence[Entry], limits: Mapping[float, float], path: Path) -> None:
    """Plot the scores against dose, with the standard deviation over repetitions as error bars, as PNG."""
    quantities = _known(entries)
    canvas = Figure(figsize=(5.5 * len(quantities), 5 + 0.2 * len(entries)), dpi=100, layout="constrained")
    axes = canvas.subplots(1, len(quantities))
    for number, entry in enumerate(entries):
        for one, quantity in zip(axes, quantities, strict=True):
            scores = {dose: score for dose in entry.doses if (score := entry.score(quantity, dose))}
            one.errorbar(
                list(scores), [value for value, _ in scores.values()], [spread or 0.0 for _, spread in scores.values()],
                marker="o", capsize=3, color=f"C{number % 10}", linestyle=("-", "--", ":")[number // 10 % 3],
                label=f"{entry.name} ({len(entry.runs)})" if len(entry.runs) > 1 else entry.name,
            )  # fmt: skip
    # If no run has found any column, there is no position error to plot.
    known = any(value > 0.0 for line in axes[1].get_lines() for value in line.get_ydata())
    if limits:
        axes[1].plot(sorted(limits), [limits[dose] for dose in sorted(limits)], "k-.", label="limit")
    for one, quantity in zip(axes, quantities, strict=True):
        one.set(xscale="log", xlabel="dose (e/Å²)", ylabel=SCORES[quantity][0])
        one.grid(alpha=0.3)
    axes[1].set(yscale="log" if known or limits else "linear")
    canvas.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", fontsize=8)
    FigureCanvasAgg(canvas)
    canvas.savefig(path)


def _heads(entries: Sequence[Entry]) -> list[str]:
    return ["recipe", "runs", *(f"{dose:,.0f}" for dose in all_doses(entries)), *COSTS]


def _known(entries: Sequence[Entry]) -> list[str]:
    """Return the names of the scores that at least one entry has."""
    return [name for name in SCORES if any(entry.score(name, dose) for entry in entries for dose in entry.doses)]


def _score(entry: Entry, dose: float, limits: Mapping[float, float], between: str) -> str:
    cells = []
    for name in _known([entry]):
        value = entry.score(name, dose)
        if value is not None:
            against = f" ({value[0] / limits[dose]:.1f}×)" if name == "error_pm" and dose in limits else ""
            cells.append(_number(value, SCORES[name][1]) + against)
    return between.join(cells) or "–"


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

"""Results of all models as Markdown, and of each model as a figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

#: Table texts for the false vacancies in a perfect lattice.
FALSE = {
    "vacancy": "called a vacancy",
    "one_atom": "said to lack one atom",
    "missed": "not found",
    "invented": "found where nothing is",
}
#: Error probabilities up to this value are shown as 0.
LEAST = 1e-6
Row = dict[str, Any]


def markdown(results: Mapping[str, Any]) -> str:
    """Format all results as Markdown; unknown numbers are omitted.

    Args:
        results: results collected by :func:`benchmarks.models.main`.
    """
    lines = [
        "# Benchmark",
        "",
        f"`{results['command']}`: {results['views']} views of each test set, or as many as stand beside its checksum, "
        f"from seed {results['seed']}, which no training draws from. Images are exact, whatever a model was trained "
        "with. Brackets after a score are its 95 % interval over views. Doses are in e/Å², of each image and, in "
        "brackets, of the whole series. Columns are "
        "matched one to one within 0.5 Å. Limits are those of an oracle that knows the microscope, and all of the "
        "structure but for what it decides: a bound, not what any method has met.",
        "",
    ]
    for name, model in results["models"].items():
        lines += _model(name, model)
    return "\n".join(lines).rstrip() + "\n"


def _model(name: str, model: Mapping[str, Any]) -> Iterator[str]:
    sets = model["sets"]
    yield from (f"## {name}", "", f"Focal series of {model['focal']}, SHA-256 `{model['sha256']}`.", "")
    heads = _heads(next(iter(sets.values()))["doses"])
    yield from _table("F1, position error (pm)", heads, {one: _each(sets[one], _found) for one in sets})
    limits = {f"{one}, limit of the position error (pm)": _each(sets[one], _position) for one in sets}
    blobs = {f"{one}, Laplacian of Gaussian, tuned on each image, F1": _each(sets[one], _laplacian) for one in sets}
    yield from _table("Beside it", heads, limits | blobs)
    if len(model["classes"]) > 1:
        for one in sets:
            rows = {name: _each(sets[one], _class(name)) for name in model["classes"]}
            yield from _table(f"{one}: precision / recall / F1 of each class", heads, rows)
    decisions: dict[str, list[str]] = {}
    for one in sets:
        for pair in sets[one]["doses"][0]["pairs"]:
            decisions[f"{one}, {pair}"] = _each(sets[one], _pair(pair))
    yield from _table("Wrong decisions between two fillings of a site, %: model (limit)", heads, decisions)
    rows = {f"{one}, {text}": _each(sets[one], _false(key)) for one in sets for key, text in FALSE.items()}
    yield from _table("Of a perfect lattice, per 1000 sites", heads, rows)
    counts: dict[str, list[str]] = {}
    for one in sets:
        counts[f"{one}, exact / within 1"] = _each(sets[one], _counts)
        counts[f"{one}, 95 % interval of exact"] = _each(sets[one], _interval("count_exact"))
        counts[f"{one}, calibration error"] = _each(sets[one], lambda row: _number(row["count_ece"], 3))
        counts[f"{one}, limit of exact counts"] = _each(sets[one], _count_limit)
        counts[f"{one}, limit of exact counts, all unknown"] = _each(sets[one], _joint_limit)
        counts[f"{one}, mixture of intensities, exact / within 1"] = _each(sets[one], _mixture)
    yield from _table("Number of atoms in the columns that were found, shares", heads, counts)
    yield from _by_count(sets)
    rows = {
        f"{one}, {name}": _each(sets[one], _antisite(name))
        for one in sets
        for name in sorted({name for row in sets[one]["doses"] for name in row.get("antisites", {})})
    }
    yield from _table("Antisites by what stands there: recall (number)", heads, rows)
    sigmas = {one: _each(sets[one], lambda row: _number(row.get("sigma_ratio"), 2)) for one in sets}
    yield from _table("Standard deviation of position errors in units of sigma_pm", heads, sigmas)
    eces = {one: _each(sets[one], lambda row: _number(row["ece"], 3)) for one in sets}
    yield from _table("Calibration error of what is there", heads, eces)
    if len(model["classes"]) > 1:
        for one in sets:
            middle = sets[one]["doses"][len(sets[one]["doses"]) // 2]
            yield from _confusion(
                f"{one}: true (rows) by found, {middle['dose_image']:,.0f} e/Å²", model["classes"], middle
            )
    real = {case: [f"{s['f1']:.3f}", f"{s['precision']:.3f}", f"{s['recall']:.3f}", f"{s['error_pm']:.1f}"]
            for case, s in model["real"].items()}  # fmt: skip
    yield from _table("Real micrographs", ["F1", "precision", "recall", "position error (pm)"], real)
    yield "Checksums: " + "; ".join(
        f"{one} `{sets[one]['checksum'][:16]}`"
        + (f", {sets[one]['views']} views" if "views" in sets[one] else "")
        + (" (verified)" if sets[one].get("verified") else "")
        for one in sets
    )
    yield ""


def _heads(rows: Sequence[Row]) -> list[str]:
    return [
        f"{row['dose_image']:,.0f}"
        + (f" ({row['dose_total']:,.0f})" if row["dose_total"] > 1.01 * row["dose_image"] else "")
        for row in rows
    ]


def _each(one: Mapping[str, Any], cell: Callable[[Row], str]) -> list[str]:
    return [cell(row) for row in one["doses"]]


def _table(title: str, heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table without its empty rows; no line if all rows are empty."""
    known = {name: cells for name, cells in rows.items() if any(cells)}
    if known:
        yield from (f"**{title}**", "", f"| | {' | '.join(heads)} |", "|---" + "|---:" * len(heads) + "|")
        yield from (f"| {name.replace('|', 'or')} | {' | '.join(cells)} |" for name, cells in known.items())
        yield ""


def _confusion(title: str, classes: Sequence[str], row: Row) -> Iterator[str]:
    names = [*classes, "nothing"]
    rows = {name: [str(number) for number in cells] for name, cells in zip(names, row["confusion"], strict=True)}
    yield from _table(title, names, rows)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _found(row: Row) -> str:
    return f"{_number(row['all']['f1'], 3)}{_bracket(row, 'f1')}, {_number(row['all']['error_pm'], 1)}"


def _bracket(row: Row, name: str) -> str:
    """Format the interval of a score in brackets; empty if unknown."""
    ends = row.get("intervals", {}).get(name)
    return "" if ends is None else f" ({ends[0]:.3f} … {ends[1]:.3f})"


def _interval(name: str) -> Callable[[Row], str]:
    return lambda row: _bracket(row, name).strip(" ()")


def _antisite(name: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        total, right = row["antisites"].get(name, (0, 0))
        return f"{right / total:.2f} ({total})" if total else ""

    return cell


def _by_count(sets: Mapping[str, Any]) -> Iterator[str]:
    """Yield a table of exact counts by true number of atoms, at the middle dose of each test set."""
    middle = {name: one["doses"][len(one["doses"]) // 2] for name, one in sets.items()}
    known = {name: row for name, row in middle.items() if row.get("by_count")}
    most = max(
        (number for row in known.values() for number, total in enumerate(row["by_count"][0]) if total), default=0
    )
    rows = {
        f"{name}, {row['dose_image']:,.0f} e/Å²": [
            f"{row['by_count'][1][number] / row['by_count'][0][number]:.2f} ({row['by_count'][0][number]})"
            if row["by_count"][0][number]
            else ""
            for number in range(1, most + 1)
        ]
        for name, row in known.items()
    }
    yield from _table("Exact counts by number of atoms: share (columns)", [str(n) for n in range(1, most + 1)], rows)


def _position(row: Row) -> str:
    return _number(row["limits"].get("position_pm"), 1)


def _laplacian(row: Row) -> str:
    return _number((row["laplacian"] or {}).get("f1"), 3)


def _class(name: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        score = row["classes"][name]
        return (
            " / ".join(_number(score[key], 3) or "–" for key in ("precision", "recall", "f1")) if score["true"] else ""
        )

    return cell


def _pair(name: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        mine, limit = row["pairs"][name], row["limits"].get(name)
        if mine is None and limit is None:
            return ""
        said = "–" if mine is None else f"{100 * mine:.2g}"
        return said if limit is None else f"{said} ({100 * limit:.2g})" if limit > LEAST else f"{said} (0)"

    return cell


def _false(key: str) -> Callable[[Row], str]:
    return lambda row: _number(row["per_1000_sites"][key], 1) if "per_1000_sites" in row else ""


def _counts(row: Row) -> str:
    exact, near = row["all"]["count_exact"], row["all"]["count_within_one"]
    return "" if exact is None else f"{exact:.3f} / {near:.3f}"


def _count_limit(row: Row) -> str:
    limit = row["limits"].get("count")
    return "" if limit is None else f"{1.0 - limit:.3f}"


def _joint_limit(row: Row) -> str:
    limit = row["limits"].get("count_joint")
    return "" if limit is None else f"{limit[0]:.3f} ({limit[1]:.3f} … {limit[2]:.3f})"


def _mixture(row: Row) -> str:
    return "" if not row["mixture"] else f"{row['mixture']['exact']:.3f} / {row['mixture']['within_one']:.3f}"


def figure(name: str, model: Mapping[str, Any]) -> Figure:
    """Plot F1, position error and, if atoms are counted, exact counts against the total dose for each test set."""
    sets = model["sets"]
    counted = any(row["all"]["count_exact"] is not None for one in sets.values() for row in one["doses"])
    several = len(model["classes"]) > 1
    panels = 2 + counted + several
    canvas = Figure(figsize=(5.2 * panels, 4.6), dpi=100, layout="constrained")
    axes = canvas.subplots(1, panels)
    for number, (set_name, one) in enumerate(sets.items()):
        style = {"marker": "o", "color": f"C{number % 10}", "label": set_name}
        rows = one["doses"]
        doses = [row["dose_total"] for row in rows]
        axes[0].plot(doses, [row["all"]["f1"] for row in rows], **style)
        axes[1].plot(doses, [row["all"]["error_pm"] for row in rows], **style)
        if set_name == "own":
            bounds = [row["limits"].get("position_pm") for row in rows]
            axes[1].plot(doses, bounds, "k-.", label="limit, known microscope")
            axes[0].plot(
                doses, [(row["laplacian"] or {}).get("f1") for row in rows], "k:", label="own, Laplacian of Gaussian"
            )
        if counted:
            axes[2].plot(doses, [row["all"]["count_exact"] for row in rows], **style)
            if set_name == "own":
                limits = [row["limits"].get("count") for row in rows]
                axes[2].plot(
                    doses, [None if one is None else 1 - one for one in limits], "k-.", label="limit, known microscope"
                )
                axes[2].plot(
                    doses,
                    [(row["mixture"] or {}).get("exact") for row in rows],
                    "k:",
                    label="own, mixture of intensities",
                )
    if several:
        rows = sets["own"]["doses"]
        for label, each in enumerate(model["classes"]):
            values = [row["classes"][each]["f1"] for row in rows]
            axes[-1].plot([row["dose_total"] for row in rows], values, "o-", color=f"C{label}", label=each)
        axes[-1].set(ylabel="F1 of the class, own")
    for panel, text in zip(axes, ("F1", "position error (pm)", *(["exact counts"] if counted else [])), strict=False):
        panel.set(ylabel=text)
    for panel in axes:
        panel.set(xscale="log", xlabel="dose of the whole series (e/Å²)")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    canvas.suptitle(name, fontsize=10)
    FigureCanvasAgg(canvas)
    return canvas

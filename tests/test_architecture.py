"""The table of stages is a rule, not a wish: who may import whom."""

from __future__ import annotations

import ast

import pytest
from conftest import ROOT

PACKAGE = ROOT / "src" / "hrtem"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))

#: What every module may use.
GROUND = {"columns", "errors", "ranges"}
#: The stages of the line; they do not know each other, but for the two words beside a name.
STAGES: dict[str, set[str]] = {
    "samples": set(),
    "exitwave": set(),
    "workers": set(),
    "wavecache": {"samples", "exitwave", "workers"},  # the type of what is propagated, and where
    "optics": set(),
    "noise": {"optics"},  # spatial frequencies and filters
    "normalisation": set(),
    "counts": set(),
    "targets": {"counts"},  # what a network says of a number of atoms, and how it is taken
    "nets": set(),
    "losses": {"counts"},
    "schedule": set(),
    "peaks": set(),
    "metrics": set(),
    "domain": set(),
    "calibration": {"metrics"},  # what counts as found
    "micrograph": set(),
    "structure": set(),
    "tracks": {"structure"},  # the lattice that columns come and go on
}
JOINERS = {
    "limits", "loading", "imaging", "data", "task", "inference", "recipes", "report", "runs", "safeguards", "journal",
    "benchmark", "comparison", "search", "dynamics", "histories", "precision", "testsets", "weights", "models",
    "interface",
}  # fmt: skip
FORBIDDEN_NAMES = {"utils", "core", "common", "helpers", "misc"}


def stage(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path):
    """Full names of all modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def stages_used(path):
    names = {name.split(".")[1] for name in imported(path) if name.startswith("hrtem.")}
    return {name for name in names if (PACKAGE / f"{name}.py").exists() or (PACKAGE / name).is_dir()}


def test_every_module_has_its_place():
    assert {stage(path) for path in MODULES} == GROUND | set(STAGES) | JOINERS | {"__init__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_data_flow_one_way(path):
    name = stage(path)
    used = stages_used(path) - {name}
    if name in GROUND:
        assert used <= GROUND
    elif name in STAGES:
        assert used <= GROUND | STAGES[name]
    elif name == "__init__":
        assert used <= {"interface"}  # when it is called, not when the package is imported


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_exit_wave_knows_abtem(path):
    uses = any(name.split(".")[0] == "abtem" for name in imported(path))
    # The benchmark measures us against abTEM.
    assert not uses or stage(path) in ("exitwave", "benchmark")


def test_joiners_do_not_form_a_circle():
    graph = {stage(path): stages_used(path) & JOINERS for path in MODULES if stage(path) in JOINERS}
    order: list[str] = []
    while len(order) < len(graph):
        ready = [name for name in graph if name not in order and graph[name] - {name} <= set(order)]
        assert ready, f"a circle among {sorted(set(graph) - set(order))}"
        order += ready


def test_no_drawer_for_odds_and_ends():
    parts = {part for path in MODULES for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert not parts & FORBIDDEN_NAMES


def test_every_module_has_its_test():
    tested = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    assert (set(STAGES) | JOINERS | GROUND) - {"errors"} <= tested


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_are_short_and_say_what_they_are(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_global_generator(path):
    """Random numbers come from generators that are passed in."""
    text = path.read_text()
    assert "np.random.seed" not in text
    assert "torch.manual_seed" not in text
    for name in ("rand(", "randn(", "normal(", "uniform(", "choice(", "integers(", "poisson("):
        assert f"np.random.{name}" not in text

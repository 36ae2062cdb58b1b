"""The table of stages is a rule, not a wish: who may import whom."""

from __future__ import annotations

import ast

import pytest
from conftest import ROOT

PACKAGE = ROOT / "src" / "hrtem"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))

#: What each room may import, apart from itself and the ground; the order is that of the line from structure to table.
GROUND = {"columns", "errors", "ranges"}
ROOMS: dict[str, set[str]] = {
    "recipes": set(),
    "folders": set(),
    "csv_files": {"folders"},
    "matching": set(),
    "metrics": {"matching"},
    "provenance": {"folders"},
    "commandline": {"recipes"},
    "samples": set(),
    "waves": {"folders", "optics", "samples"},  # the type of what is propagated, and Fresnel propagators
    "optics": set(),
    "noise": {"optics"},  # spatial frequencies and filters
    "imaging": {"noise"},
    "limits": {"imaging", "optics", "waves"},
    "normalisation": set(),
    "targets": set(),
    "nets": set(),
    "peaks": set(),
    "calibration": {"matching"},  # what counts as found
    "micrograph": set(),
    "structure": set(),
    "inference": {"calibration", "folders", "micrograph", "nets", "normalisation"},
    "models": {"inference", "provenance"},
    "report": {"csv_files", "folders", "structure"},
    "training": {
        "calibration", "commandline", "folders", "imaging", "inference", "matching", "metrics", "models", "nets",
        "provenance", "recipes", "report", "waves",
    },
    "movies": {
        "calibration", "csv_files", "folders", "inference", "micrograph", "noise", "recipes", "report", "samples",
        "structure", "waves",
    },
    "gallery": {
        "folders", "inference", "matching", "micrograph", "models", "recipes", "report", "structure", "training",
    },
    "sweeps": {"commandline", "csv_files", "inference"},
    "command": {
        "api", "commandline", "folders", "gallery", "inference", "matching", "micrograph", "models", "movies",
        "provenance", "recipes", "report", "structure", "sweeps", "training",
    },
    "refinement": {"folders", "optics", "report", "structure", "waves"},
    "api": {"inference", "micrograph", "models", "refinement", "report", "structure"},
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
    assert {stage(path) for path in MODULES} == GROUND | set(ROOMS) | {"__init__", "__main__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_data_flow_one_way(path):
    name = stage(path)
    used = stages_used(path) - {name}
    if name in GROUND:
        assert used <= GROUND
    elif name == "__init__":
        assert used <= {"api"}  # when it is called, not when the package is imported
    elif name == "__main__":
        assert used <= {"command"}
    else:
        assert used <= GROUND | ROOMS[name]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_exit_wave_knows_abtem(path):
    uses = any(name.split(".")[0] == "abtem" for name in imported(path))
    assert not uses or stage(path) == "waves"


def test_rooms_do_not_form_a_circle():
    order: list[str] = []
    while len(order) < len(ROOMS):
        ready = [name for name in ROOMS if name not in order and ROOMS[name] <= set(order)]
        assert ready, f"a circle among {sorted(set(ROOMS) - set(order))}"
        order += ready


def test_nothing_imports_the_benchmarks():
    assert not [path for path in MODULES if any(name.split(".")[0] == "benchmarks" for name in imported(path))]


def test_each_class_has_a_name_of_its_own():
    names = [
        node.name
        for path in [*MODULES, *(ROOT / "benchmarks").rglob("*.py")]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    assert sorted(names) == sorted(set(names))


def test_no_drawer_for_odds_and_ends():
    parts = {part for path in MODULES for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert not parts & FORBIDDEN_NAMES


def test_every_module_has_its_test():
    tests = ROOT / "tests"
    tested = {path.stem.removeprefix("test_") for path in tests.glob("test_*.py")}
    tested |= {path.name for path in tests.iterdir() if any(path.glob("test_*.py"))}
    assert (set(ROOMS) | GROUND) - {"errors"} <= tested


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

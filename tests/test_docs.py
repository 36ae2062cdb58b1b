"""The documentation is short where it must be, its commands and links exist, and everything public is described."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, tiny
from test_architecture import GROUND, MODULES, PACKAGE, ROOMS

from benchmarks.__main__ import BENCHMARKS
from hrtem import recipes
from hrtem.command import COMMANDS
from hrtem.command.find import FILES
from hrtem.commandline import quote_words, settings

DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
#: A block of commands, and the comment before it that makes its trainings tests.
BLOCK = re.compile(r"(<!-- tested\b[^\n]*-->\n)?```bash\n(.*?)```", flags=re.DOTALL)
TRAIN = (["hrtem", "train"], ["python", "train.py"])
FIND = (["hrtem", "find"], ["hrtem", "movie"], ["python", "predict.py"])


def commands(block: str) -> list[str]:
    """The lines of a block, without comments and indents; a line that ends with a backslash goes on."""
    lines = [line.strip() for line in block.replace("\\\n", " ").splitlines()]
    return [line.split(" #")[0].strip() for line in lines if line and not line.startswith("#")]


def blocks(path: Path, tested: bool = False) -> list[str]:
    """The blocks of commands of a page, or only those whose trainings are tests."""
    return [block for mark, block in BLOCK.findall(path.read_text()) if mark or not tested]


COMMAND_LINES = sorted({line for path in PAGES for block in blocks(path) for line in commands(block)})
#: Words that only a shell can fill in, and those that a sweeper or a launcher reads.
OPAQUE = re.compile(r"\$|\(|\bhydra\.(?:sweeper|launcher)\b")


def lines_of(*starts: list[str]) -> list[str]:
    return [line for line in COMMAND_LINES if line.split()[:2] in starts and not OPAQUE.search(line)]


def several(line: str) -> bool:
    return " -m " in line or " sweep=" in line


TRAININGS = sorted(
    {
        line
        for block in [*blocks(ROOT / "README.md"), *blocks(DOCS / "train.md", tested=True)]
        for line in commands(block)
        if line.split()[:2] in TRAIN and not several(line)
    }
)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 8000


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_every_command_exists(line):
    words = line.split()
    if words[0] == "make" and len(words) > 1:
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    elif words[0] == "hrtem":
        assert words[1] in COMMANDS
    elif words[:2] == ["python", "-m"]:
        assert words[2] == "benchmarks"
        assert words[3] in BENCHMARKS
    elif words[0] == "python":
        assert words[1] in {"train.py", "predict.py"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_benchmark_in_the_text_exists(path):
    for name in re.findall(r"`python -m benchmarks (\w+)", path.read_text()):
        assert name in BENCHMARKS
    assert "python -m hrtem." not in path.read_text()


@pytest.mark.parametrize("line", [line for line in lines_of(*TRAIN) if not several(line)])
def test_every_training_composes(configuration, line):
    config = configuration(*shlex.split(line)[2:])
    assert config.optics.num_images == config.focal


@pytest.mark.parametrize("line", [line for line in lines_of(*TRAIN) if several(line)])
def test_every_job_of_a_multirun_composes(configuration, line):
    """The first and the last of each list; tests/sweeps runs a few."""
    words = [word.partition("=") for word in shlex.split(line)[2:] if word != "-m"]
    for end in (0, -1):
        config = configuration(*(f"{key}={values.split(',')[end]}" for key, _, values in words))
        assert config.optics.num_images == config.focal


@pytest.mark.parametrize("line", lines_of(*FIND))
def test_every_prediction_composes(line):
    """All words are known; the tests of the command run it on files."""
    given = settings(shlex.split(line)[2:], "prediction/find", files=FILES)
    assert given["checkpoint"] or given["model"]
    assert given["images"]


@pytest.mark.parametrize("line", lines_of(["hrtem", "gallery"], ["hrtem", "simulate"]))
def test_every_simulation_composes(line):
    name, *words = shlex.split(line)[1:]
    if words and "=" not in words[0]:
        assert words[0] in {"probabilities", "counts"}
        return
    words = quote_words(words, keys=("micrograph", "output"))
    assert recipes.compose(*words, name={"gallery": "gallery", "simulate": "movie"}[name]).sample.name


def test_few_trainings_are_tests():
    assert 0 < len(TRAININGS) <= 8


@pytest.mark.slow
@pytest.mark.parametrize("line", TRAININGS)
def test_marked_trainings_train(start, monkeypatch, tmp_path, line):
    """Shortened by one list of overrides; the words of the line come last, except those that set its length.

    By the script, which calls the same function as ``hrtem train``.
    """
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "docs").symlink_to(DOCS)
    left = ("trainer=gpu", "data.epoch_size=", "data.numbers.", "trainer.max_epochs=")
    words = [word for word in shlex.split(line)[2:] if not word.startswith(left)]
    short = [word for word in tiny(*words) if word.split("=")[0] not in {given.split("=")[0] for given in words}]
    status, stdout, stderr = start("train.py", *words, *short)
    assert status == 0, stderr
    assert "Test on simulated images" in stdout
    assert list(tmp_path.glob("runs/*/*/checkpoints/best.ckpt"))


def anchors(path: Path) -> set[str]:
    """What a link can name in a page: its headings, as the site spells them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", one).strip().lower()) for one in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"https?:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link
        # A page of the site cannot link to what lies outside.
        assert not path.is_relative_to(DOCS) or target.is_relative_to(DOCS), link


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_in_the_text_exists(path):
    for named in re.findall(r"`((?:conf|docs|src|tests|benchmarks)/[\w./-]+)`", path.read_text()):
        # x is the name of an addition that does not exist yet.
        assert (ROOT / named).exists() or re.fullmatch(r"(test_)?x", Path(named).stem), named


def test_every_page_has_its_place_in_the_site():
    nav = set(re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE))
    assert nav == {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}


@pytest.mark.parametrize("path", sorted((DOCS / "api").glob("*.md")), ids=lambda path: path.stem)
def test_the_reference_names_modules(path):
    names = re.findall(r"^::: ([\w.]+)$", path.read_text(), flags=re.MULTILINE)
    assert names
    for name in names:
        module = PACKAGE.parent / name.replace(".", "/")
        assert module.with_suffix(".py").is_file() or (module / "__init__.py").is_file(), name


def test_every_word_of_every_group_is_listed():
    text = (DOCS / "train.md").read_text()
    for folder in sorted(path for path in (ROOT / "conf").iterdir() if path.is_dir()):
        for recipe in sorted(folder.glob("*.yaml")):
            if folder.name not in {"wave", "target", "data", "task", "peaks", "callbacks", "prediction", "wandb"}:
                assert f"`{recipe.stem}`" in text, f"docs/train.md does not mention {folder.name}={recipe.stem}"


def test_the_page_of_the_architecture_states_the_rule_of_imports():
    text = (DOCS / "architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|$", text, flags=re.MULTILINE)
    assert {name: set(re.findall(r"`(\w+)`", cell)) for name, cell in rows} == ROOMS
    assert all(f"`{name}`" in text for name in GROUND)


def undescribed(tree: ast.Module | ast.ClassDef, prefix: str = "") -> list[str]:
    """Public classes, functions and methods without a docstring."""
    answer = []
    for node in tree.body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            answer.append(prefix + node.name)
        if isinstance(node, ast.ClassDef):
            answer += undescribed(node, f"{prefix}{node.name}.")
    return answer


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_everything_public_is_described(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assert not undescribed(tree)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    if not all(importlib.util.find_spec(name) for name in ("mkdocs", "material", "mkdocstrings_handlers")):
        pytest.skip("mkdocs is not installed; `make docs` installs it")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "site" / "index.html").is_file()

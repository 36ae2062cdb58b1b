"""Damaged files of every format: read, or refused in one sentence, and never more memory than they could fill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import recorded
from conftest import ROOT

#: Growth of the peak memory that thousands of mutations of a 10 kB file may cause, MiB.
GROWTH = 200


def attempts(folder: Path, seed: int, number: int, kinds: list[str]) -> list[dict]:
    script = ROOT / "tests" / "mutated_micrographs.py"
    words = [sys.executable, str(script), str(folder), str(seed), str(number), *kinds]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-2000:]}"
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["kind"] for result in results] == kinds
    return results


def test_some_mutations_of_every_format(tmp_path: Path) -> None:
    for result in attempts(tmp_path / "files", 0, 15, list(recorded.KINDS)):
        assert result["read"] + result["refused"] == 15
        assert result["refused"] > 0
        assert result["grown_mib"] < GROWTH


@pytest.mark.slow
@pytest.mark.parametrize("kind", recorded.KINDS)
def test_a_thousand_mutations_of_each_format(tmp_path: Path, kind: str) -> None:
    (result,) = attempts(tmp_path / "files", 1, 1000, [kind])
    assert result["read"] + result["refused"] == 1000
    assert result["refused"] > 0
    assert result["grown_mib"] < GROWTH

"""Provenance of results: code revision, versions, machine, command line and checksums of files."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

import hrtem
from hrtem.folders import replace_file

#: Python packages whose versions affect results.
DECISIVE = ("torch", "pytorch-lightning", "abtem", "ase", "numpy", "scipy", "monai")


def sha256(path: str | Path) -> str:
    """Calculate the SHA-256 checksum of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_revision() -> str:
    """Return the git revision of the code, with ``+`` for a modified working tree; ``unknown`` outside a checkout."""

    def git(*words: str) -> str:
        where = Path(__file__).resolve().parent
        return subprocess.run(["git", *words], cwd=where, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def provenance() -> dict[str, Any]:
    """Collect code revision, versions, machine and command line of this process."""
    versions = {"hrtem": hrtem.__version__, "python": platform.python_version()}
    for name in DECISIVE:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return {
        "revision": git_revision(),
        "command": shlex.join(sys.argv),
        "versions": versions,
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
    }


def record(config: DictConfig | None, folder: Path, **facts: Any) -> None:
    """Write the provenance and, if ``config`` is not None, the resolved configuration into a run folder."""
    if config is not None:
        resolved = OmegaConf.to_container(config, resolve=True)
        with replace_file(folder / "config.yaml") as partial:
            partial.write_text(yaml.safe_dump(resolved, sort_keys=False))
    with replace_file(folder / "provenance.json") as partial:
        partial.write_text(json.dumps(provenance() | facts, indent=2) + "\n")


def continued(folder: Path) -> str | None:
    """Path of the checkpoint from which the run in ``folder`` was continued; None if it began anew."""
    try:
        facts = json.loads((folder / "provenance.json").read_text())
    except (OSError, ValueError):
        return None
    return facts.get("continues") if isinstance(facts, dict) else None

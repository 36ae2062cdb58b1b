"""Trained networks as folders without executable code: weights as safetensors, settings as JSON, and checksums."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

import hrtem
from hrtem.errors import InputError

WEIGHTS, SETTINGS, CARD, CHECKSUMS = "model.safetensors", "config.json", "card.md", "SHA256SUMS"
#: Version of the file format.
FORMAT = 1
#: Packages whose classes the settings of a stage may name. Other classes could execute a stranger's code.
ALLOWED = {
    "sample": ("hrtem.samples",),
    "optics": ("hrtem.optics",),
    "noise": ("hrtem.noise",),
    "normalisation": ("hrtem.normalisation",),
    "target": ("hrtem.targets",),
    "model": ("hrtem.nets", "monai.networks.nets"),
    "loss": ("hrtem.targets", "torch.nn"),
    "peaks": ("hrtem.peaks",),
    "optimizer": ("torch.optim",),
    "scheduler": ("hrtem.training.schedule", "torch.optim.lr_scheduler"),
}
#: Environment variable with the user's own trusted packages, comma-separated; see :func:`trusted`.
TRUST = "HRTEM_TRUST"
#: Packages whose classes need no trust of the user.
OURS = ("hrtem", "monai", "torch")
#: Present modules of classes that settings of version 0.1.0 name by an older path.
RENAMED = {
    "hrtem.counts": "hrtem.targets",
    "hrtem.losses": "hrtem.targets",
    "hrtem.schedule": "hrtem.training.schedule",
}


def write(folder: Path, settings: Mapping[str, Any], state: Mapping[str, Tensor], card: str) -> Path:
    """Write a trained network to a new folder, which appears complete or not at all.

    Args:
        folder: the new folder.
        settings: arguments of :class:`hrtem.inference.network.ColumnNetwork`.
        state: state of the network; stored bit for bit.
        card: description of the model in Markdown.

    Raises:
        InputError: the folder exists or cannot be created, or the settings name a class that is not allowed.
    """
    check(settings, folder.name)
    if folder.exists():
        raise InputError(f"a model is exported into a new folder, and {folder} exists.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise InputError(f"a model's folder must be one that can be made, and {folder} cannot: {error}.") from None
    try:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        safetensors.torch.save_file(weights, place / WEIGHTS)
        said = {"format": FORMAT, "hrtem": hrtem.__version__, "task": dict(settings)}
        (place / SETTINGS).write_text(json.dumps(said, indent=1, allow_nan=False) + "\n")
        (place / CARD).write_text(card)
        _sum(place)
        place.chmod(0o755)
        place.rename(folder)
    except OSError as error:
        shutil.rmtree(place, ignore_errors=True)
        if folder.exists():  # made by another process meanwhile
            raise InputError(f"a model is exported into a new folder, and {folder} exists.") from None
        raise error
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return folder


def change(folder: Path, values: Mapping[str, Tensor]) -> None:
    """Change values in the state of a model; everything else stays bit for bit.

    The folder is replaced as a whole. A process that reads it at the same time finds the old folder, the new folder or
    none.

    Args:
        folder: folder written by :func:`write`.
        values: new values by name; names that the state lacks are added.

    Raises:
        InputError: see :func:`read`; or the folder cannot be replaced.
    """
    _, state = read(folder)
    folder = folder.resolve()
    try:
        place = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise InputError(f"a model must be in a folder that can be written, and {folder} is not: {error}.") from None
    old, new = place / "old", place / "new"
    try:
        shutil.copytree(folder, new)
        changed = {name: value.detach().cpu().contiguous() for name, value in {**state, **values}.items()}
        safetensors.torch.save_file(changed, new / WEIGHTS)
        shutil.copymode(folder / WEIGHTS, new / WEIGHTS)
        _sum(new)
        folder.rename(old)
        try:
            new.rename(folder)
        except BaseException:
            old.rename(folder)
            raise
    except OSError as error:
        raise InputError(f"the model {folder} cannot be replaced: {error}.") from None
    finally:
        shutil.rmtree(place, ignore_errors=True)


def change_checkpoint(path: Path, values: Mapping[str, Tensor]) -> None:
    """Change values in the state of a checkpoint file written by ``train.py``, like :func:`change`.

    Args:
        path: path of the file, which is replaced in one step.
        values: new values by name; names that the state lacks are added.

    Raises:
        InputError: the file cannot be read or replaced.
    """
    path = path.resolve()
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["state_dict"].update({name: value.detach().cpu() for name, value in values.items()})
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
            place = Path(file.name)
    except (OSError, RuntimeError, KeyError, UnpicklingError) as error:
        raise InputError(f"the checkpoint {path} cannot be changed: {(str(error).splitlines() or ['?'])[0]}.") from None
    try:
        torch.save(checkpoint, place)
        shutil.copymode(path, place)
        place.replace(path)
    except (OSError, RuntimeError) as error:
        raise InputError(f"the checkpoint {path} cannot be replaced: {error}.") from None
    finally:
        place.unlink(missing_ok=True)


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read settings and state of a trained network.

    Args:
        folder: folder written by :func:`write`.

    Raises:
        InputError: files are missing or damaged, or the settings name a class that is not allowed.
    """
    sums = _sums(folder)
    for name in (WEIGHTS, SETTINGS):
        if name not in sums or not (folder / name).is_file():
            raise InputError(f"the model {folder} must have {name} and its checksum in {CHECKSUMS}.")
        if _sha256(folder / name) != sums[name]:
            raise InputError(f"the model {folder} is damaged: {name} has not the checksum that {CHECKSUMS} says.")
    try:
        said = json.loads((folder / SETTINGS).read_text())
        known, settings = said["format"], rename_classes(said["task"])
        state = safetensors.torch.load_file(folder / WEIGHTS)
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise InputError(f"the model {folder} cannot be read: {(str(error).splitlines() or ['empty'])[0]}.") from None
    if known != FORMAT:
        raise InputError(f"the model {folder} has the format {known}, and this version of hrtem reads {FORMAT}.")
    check(settings, folder.name)
    return settings, state


def rename_classes(part: Any) -> Any:
    """Replace every ``_target_`` of an older version by its present path, in nested settings."""
    if isinstance(part, Mapping):
        return {key: _renamed(value) if key == "_target_" else rename_classes(value) for key, value in part.items()}
    return [rename_classes(value) for value in part] if isinstance(part, (list, tuple)) else part


def _renamed(target: Any) -> Any:
    module, _, name = str(target).rpartition(".")
    return f"{RENAMED[module]}.{name}" if module in RENAMED else target


def checksum(folder: Path) -> str:
    """SHA-256 of a model: the checksum of its list of checksums, which changes with weights and settings."""
    _sums(folder)
    return _sha256(folder / CHECKSUMS)


def check(settings: Any, name: str) -> None:
    """Refuse settings that would create objects other than the stages of a task.

    Raises:
        InputError: a ``_target_`` is not a class of its stage's packages, or a value is an interpolation (``${…}``).
    """
    if not isinstance(settings, Mapping):
        raise InputError(f"the settings of the model {name} must be those of a task, got {type(settings).__name__}.")
    for stage, part in settings.items():
        for key, value in _leaves(part):
            if key == "_target_" and not _allowed(value, (*ALLOWED.get(stage, ()), *trusted())):
                raise InputError(
                    f"{stage}._target_ of the model {name} must be a class of "
                    f"{' or '.join(ALLOWED.get(stage, ('no package',)))}, got {value}.{_advice(stage, value)}"
                )
            if isinstance(value, str) and "${" in value:
                raise InputError(f"{stage}.{key} of the model {name} must be a plain value, got {value}.")


def trusted() -> tuple[str, ...]:
    """Packages outside hrtem that the user trusts, from the environment variable :data:`TRUST`.

    Loading a model imports the packages named in its settings. A stranger's model must not choose which packages are
    imported, so an installed package is not trusted by default.
    """
    return tuple(filter(None, (name.strip() for name in os.environ.get(TRUST, "").split(","))))


def _advice(stage: str, target: Any) -> str:
    """Advice how to allow a class of the user's own code, if ``target`` may be such a class; else empty."""
    package, dot, _ = str(target).partition(".")
    if stage not in ALLOWED or not dot or package in {*sys.stdlib_module_names, *OURS}:
        return ""
    return f" If {package} is code that you have and trust, put it on PYTHONPATH and set {TRUST}={package}."


def foreign(settings: Mapping[str, Any]) -> list[str]:
    """Classes in settings that do not belong to hrtem, torch or MONAI, sorted and without repetition."""
    targets = (str(value) for part in settings.values() for key, value in _leaves(part) if key == "_target_")
    return sorted({target for target in targets if target.partition(".")[0] not in OURS})


def _leaves(part: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """All values of nested settings with their keys."""
    if isinstance(part, Mapping):
        for name, value in part.items():
            yield from _leaves(value, str(name))
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from _leaves(value, key)
    else:
        yield key, part


def _allowed(target: Any, packages: tuple[str, ...]) -> bool:
    """Whether ``target``, as ``package.module.Class``, is a class defined in one of the packages."""
    module, _, name = str(target).rpartition(".")
    if not any(module == package or module.startswith(package + ".") for package in packages):
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:  # also for a name imported into a module, such as hrtem.optics.microscope.subprocess
        return False
    home = getattr(found, "__module__", "")
    return isinstance(found, type) and any(home == package or home.startswith(package + ".") for package in packages)


def _sum(folder: Path) -> None:
    """Write the checksums of a model, without the card, which may be edited and has no influence on results."""
    lines = (f"{_sha256(folder / name)}  {name}\n" for name in (WEIGHTS, SETTINGS))
    (folder / CHECKSUMS).write_text("".join(lines))


def _sums(folder: Path) -> dict[str, str]:
    """Read the checksums of a model by file."""
    try:
        lines = (folder / CHECKSUMS).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"a model must be a folder that was exported, and {folder} has no {CHECKSUMS}.") from None
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Trained tasks as folders that run nothing: weights as safetensors, settings as JSON, and their checksums."""

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
#: What the settings' file is called by; another number is one of a later version.
FORMAT = 1
#: The packages whose classes a stage may name. Anything else could be made to run a stranger's code.
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
#: Packages of one's own whose classes a model may name too, with commas between them; see :func:`trusted`.
TRUST = "HRTEM_TRUST"
#: Where classes are now that settings of version 0.1.0 name by an older path.
RENAMED = {
    "hrtem.counts": "hrtem.targets",
    "hrtem.losses": "hrtem.targets",
    "hrtem.schedule": "hrtem.training.schedule",
}


def write(folder: Path, settings: Mapping[str, Any], state: Mapping[str, Tensor], card: str) -> Path:
    """Write a trained task into a new folder, which appears complete or not at all.

    Args:
        folder: to make.
        settings: arguments of :class:`hrtem.inference.network.ColumnNetwork`.
        state: its state; kept bit for bit.
        card: what people should know, in Markdown.

    Raises:
        InputError: the folder exists or cannot be made, or the settings name a class of no stage of ours.
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
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return folder


def change(folder: Path, values: Mapping[str, Tensor]) -> None:
    """Give some of a model's state other values; all else stays bit for bit.

    The folder is replaced in one piece. Whoever reads it meanwhile finds the old one, the new one or none.

    Args:
        folder: that :func:`write` made.
        values: by name; those that the state lacks are added.

    Raises:
        InputError: what :func:`read` raises, or the folder cannot be replaced.
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
    """As :func:`change`, of a checkpoint file that ``train.py`` wrote.

    Args:
        path: of the file, which is replaced in one step.
        values: by name; those that the state lacks are added.

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
    """Settings and state of a trained task.

    Args:
        folder: that :func:`write` made.

    Raises:
        InputError: files are missing or damaged, or the settings name a class of no stage of ours.
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
    """Settings, however nested, in which every ``_target_`` of an older version has the path of today."""
    if isinstance(part, Mapping):
        return {key: _renamed(value) if key == "_target_" else rename_classes(value) for key, value in part.items()}
    return [rename_classes(value) for value in part] if isinstance(part, (list, tuple)) else part


def _renamed(target: Any) -> Any:
    module, _, name = str(target).rpartition(".")
    return f"{RENAMED[module]}.{name}" if module in RENAMED else target


def checksum(folder: Path) -> str:
    """SHA-256 of a model: that of its list of checksums, which changes with weights and settings."""
    _sums(folder)
    return _sha256(folder / CHECKSUMS)


def check(settings: Any, name: str) -> None:
    """Refuse settings that would make anything but the stages of a task.

    Raises:
        InputError: a ``_target_`` is no class of its stage's package, or a value is to be looked up elsewhere.
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

    Loading a model imports the packages that it names. A stranger's model must not choose which, so nothing that is
    merely installed is trusted.
    """
    return tuple(filter(None, (name.strip() for name in os.environ.get(TRUST, "").split(","))))


def _advice(stage: str, target: Any) -> str:
    """How a class of one's own is allowed, where ``target`` may be such a class."""
    package, dot, _ = str(target).partition(".")
    if stage not in ALLOWED or not dot or package in {*sys.stdlib_module_names, "hrtem", "monai", "torch"}:
        return ""
    return f" If {package} is code that you have and trust, put it on PYTHONPATH and set {TRUST}={package}."


def foreign(settings: Mapping[str, Any]) -> list[str]:
    """The classes of settings that are neither hrtem's nor those of torch and MONAI, without repetition."""
    targets = (str(value) for part in settings.values() for key, value in _leaves(part) if key == "_target_")
    return sorted({target for target in targets if target.partition(".")[0] not in ("hrtem", "monai", "torch")})


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
    """Whether ``package.module.Class`` is a class that one of the packages defines itself."""
    module, _, name = str(target).rpartition(".")
    if not any(module == package or module.startswith(package + ".") for package in packages):
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:  # also what stands for a package within a module, such as hrtem.optics.microscope.subprocess
        return False
    home = getattr(found, "__module__", "")
    return isinstance(found, type) and any(home == package or home.startswith(package + ".") for package in packages)


def _sum(folder: Path) -> None:
    """Write the checksums of a model; the card may be edited, for it decides no answer."""
    lines = (f"{_sha256(folder / name)}  {name}\n" for name in (WEIGHTS, SETTINGS))
    (folder / CHECKSUMS).write_text("".join(lines))


def _sums(folder: Path) -> dict[str, str]:
    """The checksums of a model by file."""
    try:
        lines = (folder / CHECKSUMS).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"a model must be a folder that was exported, and {folder} has no {CHECKSUMS}.") from None
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

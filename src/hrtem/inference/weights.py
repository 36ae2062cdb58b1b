"""Trained networks as folders without executable code: weights as safetensors, settings as JSON, and checksums."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

import hrtem
from hrtem.errors import InputError
from hrtem.inference.trust import admit

WEIGHTS, SETTINGS, CARD, CHECKSUMS = "model.safetensors", "config.json", "card.md", "SHA256SUMS"
#: Version of the file format.
FORMAT = 1


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
    settings = admit(settings, f"the model {folder.name}")
    if folder.exists():
        raise InputError(f"a model is exported into a new folder, and {folder} exists.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise InputError(f"a model's folder must be one that can be made, and {folder} cannot: {error}.") from None
    try:
        # Made here, because temporary folders and the files of safetensors are closed to other users.
        new = place / folder.name
        new.mkdir()
        said = {"format": FORMAT, "hrtem": hrtem.__version__, "task": settings}
        (new / SETTINGS).write_text(json.dumps(said, indent=1, allow_nan=False) + "\n")
        (new / CARD).write_text(card)
        _save(state, new / WEIGHTS, like=new / SETTINGS)
        _write_sums(new, {name: [_sha256(new / name)] for name in (WEIGHTS, SETTINGS)})
        new.rename(folder)
    except (OSError, SafetensorError) as error:
        if folder.exists():  # made by another process meanwhile
            raise InputError(f"a model is exported into a new folder, and {folder} exists.") from None
        raise InputError(f"a model's folder must be one that can be written, and {folder} cannot: {error}.") from None
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return folder


def change(folder: Path, values: Mapping[str, Tensor]) -> None:
    """Change values in the state of a model; everything else stays bit for bit.

    A kill at any moment leaves a model that can be read, with the old or the new values: while the weights are
    replaced, the list of checksums has those of the old and of the new weights.

    Args:
        folder: folder written by :func:`write`.
        values: new values by name; names that the state lacks are added.

    Raises:
        InputError: see :func:`read`; or the folder cannot be written.
    """
    _, state = read(folder)
    old = _sha256(folder / WEIGHTS)
    new = folder / f".{WEIGHTS}.partial"
    try:
        _save({**state, **values}, new, like=folder / WEIGHTS)
        sums = {WEIGHTS: [old, _sha256(new)], SETTINGS: [_sha256(folder / SETTINGS)]}
        _write_sums(folder, sums)
        os.replace(new, folder / WEIGHTS)
        _write_sums(folder, sums | {WEIGHTS: sums[WEIGHTS][1:]})
    except (OSError, SafetensorError) as error:
        raise InputError(f"a model must be in a folder that can be written, and {folder} is not: {error}.") from None
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


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
        # torch reports a full disk as an error of its own; Python's write reports the cause.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        place.write_bytes(buffer.getbuffer())
        shutil.copymode(path, place)
        place.replace(path)
    except OSError as error:
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
        if _sha256(folder / name) not in sums[name]:
            raise InputError(f"the model {folder} is damaged: {name} has not the checksum that {CHECKSUMS} says.")
    try:
        said = json.loads((folder / SETTINGS).read_text())
        known, settings = said["format"], said["task"]
        state = safetensors.torch.load_file(folder / WEIGHTS)
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise InputError(f"the model {folder} cannot be read: {(str(error).splitlines() or ['empty'])[0]}.") from None
    if known != FORMAT:
        raise InputError(f"the model {folder} has the format {known}, and this version of hrtem reads {FORMAT}.")
    return admit(settings, f"the model {folder.name}"), state


def read_checkpoint(path: Path, word: str = "checkpoint") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read settings and state of a checkpoint written by ``train.py``.

    Args:
        path: path of the file.
        word: word of the command line that names the file.

    Raises:
        InputError: the file does not exist or is not a checkpoint, or the settings name a class that is not allowed.
    """
    if not path.is_file():
        raise InputError(f"{word} must be a file that train.py wrote, and {path} does not exist.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        settings, state = checkpoint["hyper_parameters"], dict(checkpoint["state_dict"])
    except Exception as error:  # a damaged file may raise any error
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        if isinstance(error, pickle.UnpicklingError):  # torch advises to switch its protection off
            named = re.search(r"unsupported (?:global|class):? (?:GLOBAL )?(\w+\.[\w.]+)", str(error), re.IGNORECASE)
            reason = f"{named[1]} is not allowed" if named else "it is damaged or of another kind"
        raise InputError(f"{word} must be a file that train.py wrote, and {path} is not: {reason}.") from error
    return admit(settings, f"the checkpoint {path}"), state


def checksum(folder: Path) -> str:
    """SHA-256 of a model: the checksum of its list of checksums, which changes with weights and settings."""
    _sums(folder)
    return _sha256(folder / CHECKSUMS)


def _save(state: Mapping[str, Tensor], path: Path, like: Path) -> None:
    """Write weights, readable by the users who may read the file ``like``."""
    safetensors.torch.save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, path)
    shutil.copymode(like, path)


def _write_sums(folder: Path, sums: Mapping[str, Sequence[str]]) -> None:
    """Write the checksums of a model, without the card, which may be edited and has no influence on results."""
    partial = folder / f".{CHECKSUMS}.partial"
    partial.write_text("".join(f"{digest}  {name}\n" for name, digests in sums.items() for digest in digests))
    os.replace(partial, folder / CHECKSUMS)


def _sums(folder: Path) -> dict[str, list[str]]:
    """Read the checksums of a model by file; a file that is being replaced has two."""
    try:
        lines = (folder / CHECKSUMS).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"a model must be a folder that was exported, and {folder} has no {CHECKSUMS}.") from None
    sums: dict[str, list[str]] = {}
    for digest, _, name in (line.partition("  ") for line in lines):
        sums.setdefault(name, []).append(digest)
    return sums


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

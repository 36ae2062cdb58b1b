"""Models by name: the models shipped with the package, and the export of a checkpoint as a model.

A model is a folder with ``model.safetensors``, ``config.json``, ``SHA256SUMS`` of both, and ``card.md``. The card
describes the training data, the scores and the limits of use. Weights are in single precision, as in the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hrtem import provenance
from hrtem.errors import InputError
from hrtem.inference import Predictor, weights
from hrtem.inference.network import ColumnNetwork
from hrtem.models.card import card

#: Folder of the shipped models.
SHIPPED = Path(__file__).resolve().parent


def names() -> list[str]:
    """Names of the models shipped with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{weights.CHECKSUMS}"))


def find(model: str | Path) -> Path:
    """Path of a model, given the name of a shipped model, a model's folder or a checkpoint file.

    Raises:
        InputError: ``model`` is none of these.
    """
    if str(model) in names():
        return SHIPPED / str(model)
    path = Path(model)
    if path.is_file() or (path / weights.CHECKSUMS).is_file():
        return path
    known = ", ".join(names()) or "none"
    raise InputError(
        f"model must be the name of a shipped model ({known}), a model's folder or a checkpoint file, got {model}."
    )


def choose(model: str | None, checkpoint: str | Sequence[str] | None) -> list[str]:
    """List of the models given by exactly one of ``model`` and ``checkpoint``; several models form an ensemble.

    Raises:
        InputError: both arguments are given, or none.
    """
    if (model is None) == (checkpoint is None):
        known = ", ".join(names()) or "none is shipped"
        raise InputError(
            f"say either model=NAME ({known}) or checkpoint=FILE, got {'neither' if model is None else 'both'}."
        )
    said = checkpoint if model is None else model
    return [said] if isinstance(said, str) else [str(one) for one in said or ()]


def load(
    model: str | Path | Sequence[str | Path], device: str = "cpu", symmetric: bool = False, precision: str = "auto"
) -> Predictor:
    """Load a model, or an ensemble of several models, for finding columns.

    Args:
        model: name, folder or checkpoint file, see :func:`find`, or a list of these.
        device: device of the network.
        symmetric: average over the orientations of the image, as :class:`hrtem.nets.Dihedral` does.
        precision: precision of matrix products, see :func:`hrtem.inference.precision.reduce_precision`.

    Raises:
        InputError: the model does not exist or is damaged, or the device is not available.
    """
    several = [model] if isinstance(model, (str, Path)) else model
    return Predictor.load([find(one) for one in several], device=device, symmetric=symmetric, precision=precision)


def checksum(model: str | Path | Sequence[str | Path]) -> str:
    """SHA-256 of a model or of a checkpoint file, for the provenance; comma-separated for several models."""
    paths = map(find, [model] if isinstance(model, (str, Path)) else model)
    return ",".join(weights.checksum(path) if path.is_dir() else provenance.sha256(path) for path in paths)


def export(checkpoint: str | Path, name: str, notes: str | Path | None = None) -> Path:
    """Export a checkpoint as a model.

    Only weights and settings are exported; other parts of a checkpoint, such as the state of the optimizer, are left
    out. The scores in the card are those in ``metrics.json`` of the checkpoint's run folder.

    Args:
        checkpoint: checkpoint file written by ``train.py``.
        name: name of a new shipped model, or path, with at least one ``/``, of a new folder.
        notes: Markdown file that is appended to the card.

    Returns:
        The folder of the model.

    Raises:
        InputError: the checkpoint or the notes cannot be read, the folder exists, or the name is not valid.
    """
    checkpoint = Path(checkpoint)
    network = ColumnNetwork.load(checkpoint)
    folder = Path(name) if "/" in str(name) else SHIPPED / name
    if not folder.name.replace("-", "").replace("_", "").isalnum():
        raise InputError(f"the name of a model must be letters, digits, - and _, got {folder.name}.")
    text = ""
    if notes is not None:
        try:
            text = Path(notes).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"notes must be a text file, and {notes} cannot be read: {error}.") from None
    settings = _plain(dict(network.settings))
    return weights.write(folder, settings, network.state_dict(), card(folder.name, network, checkpoint, text))


def _plain(value: Any) -> Any:
    """Convert settings to plain dicts and lists, as read from JSON."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return value

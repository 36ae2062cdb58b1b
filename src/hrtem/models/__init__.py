"""Models by name: those that come with the package, and how a checkpoint becomes one.

A model is a folder: ``model.safetensors``, ``config.json``, ``SHA256SUMS`` of both, and ``card.md``, which says what it
learnt from, how well it does and where it should not be used. Weights are in single precision, as they were trained.
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

#: Where the shipped models lie.
SHIPPED = Path(__file__).resolve().parent


def names() -> list[str]:
    """The models that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{weights.CHECKSUMS}"))


def find(model: str | Path) -> Path:
    """Where a model is: a shipped one by its name, or the folder or checkpoint file that a path names.

    Raises:
        InputError: it is none of these.
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
    """The models that one of two words names, several of which answer together.

    Raises:
        InputError: both are, or none.
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
    """A model, ready to find columns, or several that answer together.

    Args:
        model: name, folder or checkpoint file, see :func:`find`, or a list of them.
        device: where the network runs.
        symmetric: average over the orientations of the image, as :class:`hrtem.nets.Dihedral` does.
        precision: of matrix products, see :func:`hrtem.inference.precision.reduce_precision`.

    Raises:
        InputError: there is no such model, it is damaged, or the device is not there.
    """
    several = [model] if isinstance(model, (str, Path)) else model
    return Predictor.load([find(one) for one in several], device=device, symmetric=symmetric, precision=precision)


def checksum(model: str | Path | Sequence[str | Path]) -> str:
    """SHA-256 of a model or of a checkpoint file, for the record; of several with commas between them."""
    paths = map(find, [model] if isinstance(model, (str, Path)) else model)
    return ",".join(weights.checksum(path) if path.is_dir() else provenance.sha256(path) for path in paths)


def export(checkpoint: str | Path, name: str, notes: str | Path | None = None) -> Path:
    """Make a model of a checkpoint.

    What a checkpoint holds beyond weights and settings, such as the optimizer's state, is left out. The scores in its
    card are those in ``metrics.json`` of the run folder that the checkpoint lies in.

    Args:
        checkpoint: file that ``train.py`` wrote.
        name: of a model that is to come with the package, or a path with at least one ``/`` of a folder to make.
        notes: Markdown file to put at the end of the card.

    Returns:
        The folder.

    Raises:
        InputError: the checkpoint or the notes cannot be read, the folder exists, or the name is no name.
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
    """Settings in dicts and lists only, as JSON gives them back."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return value

"""Construction of a network from its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hydra.utils import instantiate
from torch import nn

from hrtem.errors import InputError
from hrtem.ranges import parse_number

#: Largest number in the settings of a network: features, layers, pixels.
LARGEST = 4096


def build(settings: Mapping[str, Any]) -> nn.Module:
    """Build a network from its ``_target_`` and the arguments of its constructor.

    Raises:
        InputError: a number of a network of hrtem or MONAI is negative, not finite or above :data:`LARGEST`, or the
            network cannot be built with these arguments.
    """
    if not isinstance(settings, Mapping) or "_target_" not in settings:
        raise InputError(f"model must be a network, as in conf/model, got {settings}.")
    if str(settings["_target_"]).startswith(("hrtem.", "monai.")):
        for name, value in _numbers(settings, "model"):
            parse_number(name, value, minimum=0.0, maximum=LARGEST)
    try:
        network = instantiate(settings, _convert_="all")
    except Exception as error:
        # Constructors of other libraries raise any error for a wrong number.
        cause = error.__cause__ or error
        if isinstance(cause, InputError):
            raise cause from None
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0].rstrip(".")
        raise InputError(f"model cannot be built with {_said(settings)}: {reason}.") from None
    if not isinstance(network, nn.Module):
        raise InputError(f"model must be a network, got {type(network).__name__}.")
    return network


def _numbers(part: Any, name: str) -> Iterator[tuple[str, Any]]:
    """All numbers of nested settings with their paths."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            yield from _numbers(value, f"{name}.{key}")
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from _numbers(value, name)
    elif isinstance(part, (int, float)) and not isinstance(part, bool):
        yield name, part


def _said(settings: Mapping[str, Any]) -> str:
    """Settings in one line, as in a recipe."""
    return ", ".join(f"{key}={value}" for key, value in settings.items() if key != "_target_")

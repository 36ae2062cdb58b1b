"""Numbers in a recipe: a fixed value, or a range from which a value is drawn for each image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrtem.errors import InputError


@dataclass(frozen=True)
class Range:
    """A closed interval ``[low, high]`` with a uniform or log-uniform density.

    A fixed value has ``low == high``.
    """

    low: float
    high: float
    log: bool = False

    @classmethod
    def parse(
        cls,
        name: str,
        value: Any,
        *,
        unit: str = "",
        minimum: float = -math.inf,
        maximum: float = math.inf,
        log: bool = False,
    ) -> Range:
        """Read ``3.0``, ``[1.0, 5.0]`` or ``{low: 1.0, high: 5.0, log: true}``.

        Raises:
            InputError: the value is not a number or range, its ends are swapped, or it lies outside
                ``[minimum, maximum]``.
        """
        if isinstance(value, Mapping):
            unknown = set(value) - {"low", "high", "log"}
            if unknown or not {"low", "high"} <= set(value):
                raise InputError(f"{name} must have the keys low and high (and log), got {dict(value)}.")
            low, high, log = value["low"], value["high"], bool(value.get("log", log))
        elif isinstance(value, Sequence) and not isinstance(value, str):
            if len(value) != 2:
                raise InputError(f"{name} must be one number or a range of two, got {list(value)}.")
            low, high = value
        else:
            low = high = value
        try:
            low, high = float(low), float(high)
        except (TypeError, ValueError):
            raise InputError(f"{name} must be one number or a range of two, got {value!r}.") from None
        unit = f" {unit}" if unit else ""
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InputError(f"{name} must be finite, got {value!r}{unit}.")
        if low > high:
            raise InputError(
                f"{name} is a range whose ends are swapped: {low:g} is above {high:g}{unit}; write [{high:g}, {low:g}]."
            )
        if low < minimum or high > maximum:
            allowed = f"at least {minimum:g}" if maximum == math.inf else f"between {minimum:g} and {maximum:g}"
            raise InputError(f"{name} must be {allowed}{unit}, got {value!r}.")
        if log and low <= 0.0:
            raise InputError(f"{name} is drawn on a log scale and must be above 0{unit}, got {value!r}.")
        return cls(low, high, log)

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value; a fixed value does not use the generator."""
        if self.low == self.high:
            return self.low
        if self.log:
            return math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        return float(rng.uniform(self.low, self.high))


def parse_number(
    name: str, value: Any, *, unit: str = "", minimum: float = -math.inf, maximum: float = math.inf
) -> float:
    """Read a setting that has one value for all images.

    Raises:
        InputError: the value is a range, is not a number, or lies outside ``[minimum, maximum]``.
    """
    if isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str)):
        shown = dict(value) if isinstance(value, Mapping) else list(value)
        raise InputError(f"{name} takes one number{f' in {unit}' if unit else ''}, not a range, got {shown}.")
    return Range.parse(name, value, unit=unit, minimum=minimum, maximum=maximum).low


def parse_whole(name: str, value: Any, *, unit: str = "", minimum: float = -math.inf, maximum: float = math.inf) -> int:
    """Read a setting that is one integer for all images.

    Raises:
        InputError: for the reasons of :func:`parse_number`, or because the number is not an integer.
    """
    number = parse_number(name, value, unit=unit, minimum=minimum, maximum=maximum)
    if number % 1.0:
        raise InputError(f"{name} must be a whole number{f' of {unit}' if unit else ''}, got {value}.")
    return int(number)


def parse_flag(name: str, value: Any) -> bool:
    """Read a setting that is true or false.

    Raises:
        InputError: the value is neither.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, got {value!r}.")
    return value


def parse_choice(name: str, value: str, choices: Sequence[str]) -> str:
    """Read a setting that must be one of ``choices``.

    Raises:
        InputError: the value is not one of the choices.
    """
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, got {value}.")
    return value


def parse_folder(name: str, value: Any) -> Path:
    """Read a setting that is the path of a folder, which need not exist.

    Raises:
        InputError: the value is not a text.
    """
    if not isinstance(value, (str, Path)) or not str(value):
        raise InputError(f"{name} must be a folder, got {value}.")
    return Path(value)


def parse_list(name: str, value: Any) -> list[Any]:
    """Read a setting that is a list.

    Raises:
        InputError: the value is not a list.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError(f"{name} must be a list, got {value}.")
    return list(value)

"""Construction of the parts of a training from their settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from hrtem.errors import InputError

#: Classes and functions of ours whose arguments Lightning checks.
OF_LIGHTNING = ("hrtem.training.precision.trainer", "hrtem.training.checkpoints.Checkpoints")


def make(name: str, settings: Any, **more: Any) -> Any:
    """Make the object that ``settings`` describe by their ``_target_``.

    Args:
        name: word of the command line for the settings, such as ``task.optimizer``.
        settings: settings of the recipe.
        more: further arguments of the constructor.

    Raises:
        InputError: the settings name no class, or the class of another library cannot be made with them.
    """
    target = settings.get("_target_") if isinstance(settings, Mapping) else None
    if not isinstance(target, str):
        raise InputError(f"{name} must have a _target_, as in conf/, got {settings}.")
    numbers = {key: value for key, value in settings.items() if isinstance(value, float)}
    for key, value in numbers.items():
        if not math.isfinite(value):
            raise InputError(f"{name}.{key} must be a finite number, got {value}.")
    try:
        return instantiate(settings, **more)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if str(error).startswith("Error locating target"):
            raise InputError(f"{name}._target_ must be a class that can be imported, got {target}.") from None
        # Classes of ours check their arguments themselves; other errors in them are errors of the program.
        if isinstance(cause, InputError) or (target.startswith("hrtem.") and target not in OF_LIGHTNING):
            raise
        texts = [key for key, value in settings.items() if isinstance(value, str) and not str(key).startswith("_")]
        if isinstance(cause, TypeError) and len(texts) == 1:
            raise InputError(f"{name}.{texts[0]} must be a number, got {settings[texts[0]]!r}.") from None
        said = ", ".join(f"{key}={value}" for key, value in settings.items() if not str(key).startswith("_"))
        raise InputError(f"{name} cannot be made with {said}: {' '.join(str(cause).split()).rstrip('.')}.") from None

"""A Lightning trainer with automatic choice of the precision."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as lightning

from hrtem.errors import InputError
from hrtem.inference.precision import choose_precision
from hrtem.ranges import parse_whole


def trainer(precision: str = "auto", **settings: Any) -> lightning.Trainer:
    """Create a Lightning trainer whose ``precision`` may be ``auto``.

    Args:
        precision: ``auto``, see :func:`hrtem.inference.precision.choose_precision`, or any precision of Lightning.
        settings: arguments of :class:`pytorch_lightning.Trainer`.

    Raises:
        InputError: Lightning does not accept a setting.
    """
    for name, minimum in (("max_epochs", 1), ("log_every_n_steps", 0)):
        if settings.get(name) is not None:
            settings[name] = parse_whole(f"trainer.{name}", settings[name], minimum=minimum, maximum=10**6)
    if precision == "auto":
        precision = choose_precision(str(settings.get("accelerator", "auto")))
    try:
        return lightning.Trainer(precision=precision, **settings)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(f"trainer cannot be used as said: {' '.join(str(error).split())}") from error

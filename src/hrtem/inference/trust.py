"""The gate for settings from files: which classes and arguments a checkpoint or a model's folder may name.

Hydra calls whatever ``_target_`` names, and a stranger writes the settings of a stranger's file. Therefore all settings
from files pass :func:`admit` before anything is built from them. It returns a copy, so that exactly the admitted
settings are built.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hrtem.errors import InputError

#: Packages of hrtem whose public classes (``__all__``) the settings of a stage may name.
ROOMS = {
    "sample": "hrtem.samples",
    "optics": "hrtem.optics",
    "noise": "hrtem.noise",
    "target": "hrtem.targets",
    "model": "hrtem.nets",
    "loss": "hrtem.targets",
    "peaks": "hrtem.peaks",
}
#: Networks of MONAI with their allowed arguments: numbers and names of layers. Other networks of MONAI take addresses
#: of weights, or download weights.
MONAI: dict[str, set[str]] = {
    "monai.networks.nets.SegResNet": {
        "spatial_dims", "in_channels", "out_channels", "init_filters", "blocks_down", "blocks_up", "norm", "act",
        "num_groups", "dropout_prob", "use_conv_final", "upsample_mode",
    },
    "monai.networks.nets.AttentionUnet": {
        "spatial_dims", "in_channels", "out_channels", "channels", "strides", "kernel_size", "up_kernel_size",
        "dropout",
    },
    "monai.networks.nets.SwinUNETR": {
        "spatial_dims", "in_channels", "out_channels", "feature_size", "depths", "num_heads", "window_size",
        "patch_size", "norm_name", "drop_rate", "attn_drop_rate", "dropout_path_rate", "normalize", "qkv_bias",
        "mlp_ratio", "use_v2", "downsample",
    },
}  # fmt: skip
#: Classes of other modules that the settings of a stage may name.
OTHERS: dict[str, tuple[str, ...]] = {
    "model": tuple(MONAI),
    "normalisation": ("hrtem.normalisation.LocalContrast",),
    "loss": tuple(
        f"torch.nn.{name}"
        for name in ("BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "L1Loss", "MSELoss", "SmoothL1Loss")
    ),
    "optimizer": tuple(
        f"torch.optim.{name}"
        for name in ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD")
    ),
    "scheduler": (
        "hrtem.training.schedule.WarmupCosine",
        *(
            f"torch.optim.lr_scheduler.{name}"
            for name in (
                "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR",
                "LinearLR", "MultiStepLR", "OneCycleLR", "PolynomialLR", "ReduceLROnPlateau", "StepLR",
            )
        ),
    ),
}  # fmt: skip
#: Stages that are built when a network is loaded.
BUILT = ("optics", "normalisation", "target", "model", "peaks")
#: Largest number of values in the settings of a task, which have about two hundred.
MOST_VALUES = 10_000
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


def admit(settings: Any, name: str) -> dict[str, Any]:
    """Return a plain copy of the settings of a task from a file, with the present names of its classes.

    Args:
        settings: settings from a file, which may have any content.
        name: the file, as named in error messages: ``the checkpoint a.ckpt``.

    Raises:
        InputError: a ``_target_`` is no class that its stage may name, at any depth; a network of MONAI has an argument
            that is not allowed; or a value is an interpolation (``${…}``), a special key of Hydra, or no plain value.
    """
    if not isinstance(settings, Mapping):
        raise InputError(f"the settings of {name} must be those of a task, got {type(settings).__name__}.")
    gate = _Gate(name)
    try:
        admitted = {str(stage): gate.copy(part, str(stage), str(stage)) for stage, part in settings.items()}
    except RecursionError:
        raise InputError(f"the settings of {name} must be those of a task, and are nested without end.") from None
    for stage in BUILT:
        if stage in admitted and not (isinstance(admitted[stage], dict) and "_target_" in admitted[stage]):
            raise InputError(f"{stage}._target_ of {name} must name a class, got {admitted[stage]}.")
    return admitted


class _Gate:
    """Copies admitted values, and counts them: lists that share parts could unfold without end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.left = MOST_VALUES

    def copy(self, value: Any, stage: str, where: str) -> Any:
        """Copy one value of the settings of a ``stage``; ``where`` is its path, such as ``model.network``."""
        self.left -= 1
        if self.left < 0:
            raise InputError(f"the settings of {self.name} must have at most {MOST_VALUES} values.")
        if isinstance(value, Mapping):
            if "_target_" in value:
                value = {**value, "_target_": self.admit_class(value, stage, where)}
            for key in value:
                # A part that a network builds itself, such as the inner network of Folded.
                partial = key == "_partial_" and stage == "model" != where and isinstance(value[key], bool)
                if str(key).startswith("_") and key != "_target_" and not partial:
                    raise InputError(f"{where}.{key} of {self.name} must be absent: only recipes may have it.")
            return {key: self.copy(inner, stage, f"{where}.{key}") for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.copy(inner, stage, where) for inner in value]
        if value is not None and type(value) not in (bool, int, float, str):
            raise InputError(f"{where} of {self.name} must be a plain value, got {type(value).__name__}.")
        if isinstance(value, str) and "${" in value:
            raise InputError(f"{where} of {self.name} must be a plain value, got {value}.")
        return value

    def admit_class(self, part: Mapping[Any, Any], stage: str, where: str) -> str:
        """Return the present path of the class of a part, if the stage may name it with these arguments."""
        target = rename(part["_target_"])
        allowed = allowed_classes(stage)
        own = stage in (*ROOMS, *OTHERS) and _is_trusted(target)
        if not isinstance(target, str) or (target not in allowed and not own):
            raise InputError(
                f"{where}._target_ of {self.name} must be {' or '.join(allowed) or 'no class'}, got {target}."
                f"{_advice(stage, target)}"
            )
        for argument in part:
            if target in MONAI and not str(argument).startswith("_") and argument not in MONAI[target]:
                raise InputError(
                    f"{where} of {self.name} may have {', '.join(sorted(MONAI[target]))} for {target}, got {argument}."
                )
        return target


def allowed_classes(stage: str) -> list[str]:
    """Full names of the classes of hrtem, torch and MONAI that the settings of a stage may name."""
    if stage not in ROOMS:
        return list(OTHERS.get(stage, ()))
    room = importlib.import_module(ROOMS[stage])
    classes = [one for one in room.__all__ if isinstance(getattr(room, one), type)]
    return [*(f"{ROOMS[stage]}.{one}" for one in classes), *OTHERS.get(stage, ())]


def rename(target: Any) -> Any:
    """Replace the path of a class of an older version by its present path."""
    module, _, name = str(target).rpartition(".")
    return f"{RENAMED[module]}.{name}" if module in RENAMED else target


def rename_classes(part: Any) -> Any:
    """Replace every ``_target_`` of an older version by its present path, in nested settings."""
    if isinstance(part, Mapping):
        return {key: rename(value) if key == "_target_" else rename_classes(value) for key, value in part.items()}
    return [rename_classes(value) for value in part] if isinstance(part, (list, tuple)) else part


def trusted() -> tuple[str, ...]:
    """Packages outside hrtem that the user trusts, from the environment variable :data:`TRUST`.

    Loading a model imports the packages named in its settings. A stranger's model must not choose which packages are
    imported, so an installed package is not trusted by default.
    """
    return tuple(filter(None, (name.strip() for name in os.environ.get(TRUST, "").split(","))))


def _is_trusted(target: Any) -> bool:
    """Whether ``target``, as ``package.module.Class``, is a class defined in one of the :func:`trusted` packages."""
    module, _, name = str(target).rpartition(".")

    def inside(path: str) -> bool:
        return any(path == package or path.startswith(package + ".") for package in trusted())

    if not inside(module):
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:  # also for a name imported into a module, such as mine.subprocess
        return False
    return isinstance(found, type) and inside(getattr(found, "__module__", ""))


def _advice(stage: str, target: Any) -> str:
    """Advice how to allow a class of the user's own code, if ``target`` may be such a class; else empty."""
    package, dot, _ = str(target).partition(".")
    if stage not in (*ROOMS, *OTHERS) or not dot or package in {*sys.stdlib_module_names, *OURS}:
        return ""
    return f" If {package} is code that you have and trust, put it on PYTHONPATH and set {TRUST}={package}."


def foreign(settings: Mapping[str, Any]) -> list[str]:
    """Classes in settings that do not belong to hrtem, torch or MONAI, sorted and without repetition."""
    return sorted({target for target in _targets(settings) if target.partition(".")[0] not in OURS})


def _targets(part: Any) -> Iterator[str]:
    """All values of ``_target_`` in nested settings."""
    if isinstance(part, Mapping):
        if "_target_" in part:
            yield str(part["_target_"])
        part = list(part.values())
    if isinstance(part, Sequence) and not isinstance(part, str):
        for value in part:
            yield from _targets(value)

"""In which precision a network trains, chosen by what the processor is fast at."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as lightning
import torch

from hrtem.errors import InputError


def fastest(accelerator: str = "cpu") -> str:
    """Lightning's word for the fastest precision whose trainings end as well as those in float32.

    Weights, optimizer and loss stay in float32; in mixed precision matrices are multiplied in bfloat16, or in float16
    on GPUs that lack it. A processor with tiles for that (AMX) trains a U-Net twice as fast so; one without would have
    to emulate it and take longer.

    Args:
        accelerator: Lightning's word for the device.
    """
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if accelerator in ("cpu", "auto") and torch.cpu.get_capabilities().get("amx_bf16"):
        return "bf16-mixed"
    return "32-true"


#: What each word of a precision multiplies matrices in.
KINDS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def reduced(precision: str, device: str) -> torch.autocast | None:
    """A context in which a trained network answers in some precision, None for float32; ``auto`` is :func:`fastest`.

    Args:
        precision: ``auto`` or one of :data:`KINDS`.
        device: where the network is, ``cpu`` or ``cuda``.

    Raises:
        InputError: it is another word.
    """
    if precision == "auto":
        precision = fastest(device)
    if precision not in KINDS:
        raise InputError(f"precision must be auto or one of {', '.join(KINDS)}, got {precision}.")
    kind = KINDS[precision]
    return None if kind is torch.float32 else torch.autocast(device.partition(":")[0], kind)


def trainer(precision: str = "auto", **settings: Any) -> lightning.Trainer:
    """A Lightning trainer whose ``precision`` may be ``auto``, which is :func:`fastest`.

    Args:
        precision: ``auto``, or any word that Lightning knows.
        settings: of :class:`pytorch_lightning.Trainer`.

    Raises:
        InputError: Lightning does not know one of them.
    """
    if precision == "auto":
        precision = fastest(str(settings.get("accelerator", "auto")))
    try:
        return lightning.Trainer(precision=precision, **settings)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(f"trainer cannot be used as said: {' '.join(str(error).split())}") from error

"""Precision of the matrix products of a network, chosen by the speed of the processor."""

from __future__ import annotations

import time
from functools import cache

import torch

from hrtem.errors import InputError

#: Bfloat16 has larger rounding errors and is used only if it is faster by more than this factor.
WORTH = 1.2


def choose_precision(accelerator: str = "cpu") -> str:
    """Choose the fastest precision, in Lightning's notation, with which trainings are as good as in float32.

    Weights, optimizer and loss stay in float32. In mixed precision, matrices are multiplied in bfloat16, or in float16
    on GPUs without bfloat16. A processor with matrix tiles (AMX) trains a U-Net twice as fast in bfloat16. A processor
    that only has the instructions (AVX-512 BF16) is faster or slower depending on its make, so the gain is measured. A
    processor without them would have to emulate bfloat16, which takes longer.

    Args:
        accelerator: Lightning's name of the device.
    """
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if accelerator in ("cpu", "auto"):
        able = torch.cpu.get_capabilities()
        if able.get("amx_bf16") or (able.get("avx512_bf16") and measure_bfloat16_gain() > WORTH):
            return "bf16-mixed"
    return "32-true"


@cache
@torch.inference_mode(False)
@torch.enable_grad()
def measure_bfloat16_gain() -> float:
    """Speed of a convolution and its gradients in bfloat16 relative to float32, on this processor.

    The layer is the most frequent layer of the default network. The time is the processor time of this process; for
    each precision the fastest of a few alternating runs counts. With wall-clock time, other processes could influence
    the choice of the precision and hence the weights. The measurement takes a tenth of a second.
    """
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4, 64, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
    with torch.random.fork_rng(devices=[]):
        layer = torch.nn.Conv2d(64, 64, 3, padding=1)
    layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(6):
        for reduced, spent in times.items():
            begin = time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
                answer = layer(features.requires_grad_())
            answer.float().sum().backward()
            spent.append(time.process_time() - begin)
    return min(times[False][1:]) / min(times[True][1:])


#: Data type of matrix products for each precision, in Lightning's notation.
KINDS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def reduce_precision(precision: str, device: str) -> torch.autocast | None:
    """Context manager for inference in a reduced precision; None for float32.

    Args:
        precision: ``auto``, see :func:`choose_precision`, or a key of :data:`KINDS`.
        device: device of the network, ``cpu`` or ``cuda``.

    Raises:
        InputError: the precision is unknown.
    """
    if precision == "auto":
        precision = choose_precision(device)
    if precision not in KINDS:
        raise InputError(f"precision must be auto or one of {', '.join(KINDS)}, got {precision}.")
    kind = KINDS[precision]
    return None if kind is torch.float32 else torch.autocast(device.partition(":")[0], kind)

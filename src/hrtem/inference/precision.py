"""In which precision a network multiplies matrices, chosen by what the processor is fast at."""

from __future__ import annotations

import time
from functools import cache

import torch

from hrtem.errors import InputError

#: Bfloat16 rounds, and is only taken where it is faster by more than this factor.
WORTH = 1.2


def choose_precision(accelerator: str = "cpu") -> str:
    """Lightning's word for the fastest precision whose trainings end as well as those in float32.

    Weights, optimizer and loss stay in float32; in mixed precision matrices are multiplied in bfloat16, or in float16
    on GPUs that lack it. A processor with tiles for that (AMX) trains a U-Net twice as fast so. One with the
    instructions alone (AVX-512 BF16) is faster or slower by its make, which is tried; one without would have to emulate
    it and take longer.

    Args:
        accelerator: Lightning's word for the device.
    """
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if accelerator in ("cpu", "auto"):
        able = torch.cpu.get_capabilities()
        if able.get("amx_bf16") or (able.get("avx512_bf16") and measure_bfloat16_gain() > WORTH):
            return "bf16-mixed"
    return "32-true"


@cache
def measure_bfloat16_gain() -> float:
    """How many times faster a convolution and its gradients are in bfloat16 than in float32, on this processor.

    The layer is the most frequent one of the default network. Time is that of the processor for this process, and each
    kind has its fastest of a few tries, taken in turns: with the time of the clock, other processes would now and then
    choose the precision, and with it the weights. It takes a tenth of a second.
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


#: What each word of a precision multiplies matrices in.
KINDS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def reduce_precision(precision: str, device: str) -> torch.autocast | None:
    """A context in which a trained network answers in some precision; None for float32.

    Args:
        precision: ``auto``, see :func:`choose_precision`, or one of :data:`KINDS`.
        device: where the network is, ``cpu`` or ``cuda``.

    Raises:
        InputError: it is another word.
    """
    if precision == "auto":
        precision = choose_precision(device)
    if precision not in KINDS:
        raise InputError(f"precision must be auto or one of {', '.join(KINDS)}, got {precision}.")
    kind = KINDS[precision]
    return None if kind is torch.float32 else torch.autocast(device.partition(":")[0], kind)

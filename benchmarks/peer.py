"""Script that measures AtomAI's training step, for an interpreter with AtomAI; independent of this package.

The first output line describes the network. Each line on stdin starts one step, and its time in s is printed.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from importlib import import_module


def main(batch: str, pixels: str, threads: str) -> None:
    """Run steps with the default network, loss and optimizer of ``atomai.models.Segmentor`` on random images."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    warnings.simplefilter("ignore")
    torch.set_num_threads(int(threads))
    trainer = import_module("atomai.models").Segmentor(nb_classes=1)
    generator = torch.Generator().manual_seed(0)
    shape = int(batch), 1, int(pixels), int(pixels)
    images = torch.randn(shape, generator=generator)
    masks = (torch.rand(shape, generator=generator) > 0.9).float()
    trainer.compile_trainer((images, masks, images, masks), batch_size=int(batch), training_cycles=1)
    images, masks = trainer.X_train[0], trainer.y_train[0]
    counter = FlopCounterMode(display=False)
    with counter:
        trainer.net(images[:1].to(trainer.device))
    facts = {
        "parameters": sum(parameter.numel() for parameter in trainer.net.parameters()),
        "forward": counter.get_total_flops() / images[0].numel(),
        "torch": torch.__version__,
    }
    print("atomai " + json.dumps(facts), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        # The step converts the loss to a number, and therefore waits for a GPU.
        trainer.train_step(images, masks)
        print(f"atomai {time.perf_counter() - start}", flush=True)


if __name__ == "__main__":
    # Do not import modules from the folder of this script.
    sys.path.pop(0)
    main(*sys.argv[1:])

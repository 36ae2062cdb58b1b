"""AtomAI's prediction of one image, for :mod:`benchmarks.inference`: run by the Python that has AtomAI, alone.

``python segmentor.py image.npz threads`` prints its seconds, the memory that it took, MiB, and how many blobs it found.
AtomAI ships no network for this, so that its own, untrained, does the work, and its answer is replaced by the file's
``spots``: blobs to locate, as many as there are atoms.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import time

if __name__ == "__main__":
    import atomai
    import numpy as np
    import torch

    with np.load(sys.argv[1]) as given:
        image, spots = given["image"], torch.from_numpy(given["spots"])
    torch.set_num_threads(int(sys.argv[2]))

    class Reread(torch.nn.Module):
        """A network that takes as long as its own and then says something else."""

        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = self.network(images)
            logits[...] = spots[: images.shape[-2], : images.shape[-1]]
            return logits

    network = Reread(atomai.models.Segmentor(nb_classes=1).net)
    predictor = atomai.predictors.SegPredictor(network, nb_classes=1, use_gpu=False, verbose=False)
    with contextlib.redirect_stdout(io.StringIO()):
        predictor.run(image[:128, :128])
        base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        _, found = predictor.run(image)
        seconds = time.perf_counter() - start
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024
    print(json.dumps({"seconds": seconds, "memory": memory, "columns": len(found[0])}))

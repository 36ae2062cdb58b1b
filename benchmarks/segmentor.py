"""Script that measures AtomAI's prediction of one image for :mod:`benchmarks.inference`, without this package.

``python segmentor.py image.npz threads`` prints the time in s, the memory in MiB and the number of found blobs. AtomAI
has no trained network for this image. An untrained network does the computation, and its output is replaced by
``spots`` from the file, which contain one blob for each atom.
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
        """A network with the computing time of AtomAI's network, whose output is replaced by ``spots``."""

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

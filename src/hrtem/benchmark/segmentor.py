"""AtomAI's prediction of one image, for :mod:`hrtem.benchmark.inference`: run by the Python that has AtomAI, alone.

``python segmentor.py side threads`` prints its seconds, the memory that it took, MiB, and how many blobs it located.
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

    side, threads = (int(word) for word in sys.argv[1:])
    torch.set_num_threads(threads)
    network = atomai.models.Segmentor(nb_classes=1).net
    predictor = atomai.predictors.SegPredictor(network, use_gpu=False, verbose=False)
    place = np.arange(side) * 0.2
    lattice = np.cos(2 * np.pi * place / 2.13)[:, None] + np.cos(2 * np.pi * place / 2.46)
    image = (lattice + np.random.default_rng(0).normal(size=(side, side))).astype(np.float32)
    with contextlib.redirect_stdout(io.StringIO()):
        predictor.run(image[:128, :128])
        base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        _, found = predictor.run(image)
        seconds = time.perf_counter() - start
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024
    print(json.dumps({"seconds": seconds, "memory": memory, "columns": len(found[0])}))

"""Runs Atomap under an interpreter that has it; knows nothing of this package. One job in JSON a line of input."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import numpy as np


def positions(job: dict[str, Any]) -> np.ndarray:
    """Atoms ``(N, 2)`` px of one job, which names an image file, the separation in px, a threshold and a refinement."""
    import atomap.api as atomap  # type: ignore[import-not-found, unused-ignore]
    import hyperspy.api as hyperspy  # type: ignore[import-not-found, unused-ignore]

    image = np.load(job["image"])
    found = atomap.get_atom_positions(
        hyperspy.signals.Signal2D(image), separation=job["separation"], threshold_rel=job["threshold"]
    )
    if job["refine"] and len(found) > 10:
        lattice = atomap.Sublattice(found, image=image)
        lattice.find_nearest_neighbors(nearest_neighbors=4)
        if job["refine"] == "gaussian":
            lattice.refine_atom_positions_using_2d_gaussian(show_progressbar=False)
        else:
            lattice.refine_atom_positions_using_center_of_mass(show_progressbar=False)
        found = np.column_stack([lattice.x_position, lattice.y_position])
    return np.asarray(found, float).reshape(-1, 2)


def main() -> None:
    """Answer jobs until the input ends."""
    warnings.simplefilter("ignore")
    import atomap.api  # type: ignore[import-not-found, unused-ignore]  # noqa: F401  (fails before it says ready)

    answers = sys.stdout
    sys.stdout = sys.stderr  # what it prints is no answer
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            np.save(job["answer"], positions(job))
            print("done", file=answers, flush=True)
        except Exception as error:  # whatever it stumbles over counts as nothing found
            print(f"failed: {type(error).__name__}", file=answers, flush=True)


if __name__ == "__main__":
    main()

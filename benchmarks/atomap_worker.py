"""Worker process for an interpreter that has Atomap, independent of this package. Each input line is a JSON job."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import numpy as np


def positions(job: dict[str, Any]) -> np.ndarray:
    """Find the atoms ``(N, 2)`` px for a job with image file, separation in px, threshold and refinement."""
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
    """Process jobs until the input ends."""
    warnings.simplefilter("ignore")
    import atomap.api  # type: ignore[import-not-found, unused-ignore]  # noqa: F401  (a missing Atomap fails here, before "ready")

    answers = sys.stdout
    sys.stdout = sys.stderr  # output of Atomap must not mix with the answers
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            np.save(job["answer"], positions(job))
            print("done", file=answers, flush=True)
        except Exception as error:  # any error of Atomap counts as an image without found atoms
            print(f"failed: {type(error).__name__}", file=answers, flush=True)


if __name__ == "__main__":
    main()

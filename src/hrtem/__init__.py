"""Find atoms in high-resolution TEM images with networks trained on simulated images only.

Conventions of all modules:

* lengths in Å, energies in eV, doses in electrons per Å², angles in rad, unless a name contains another unit;
* images are arrays ``(Y, X)``, batches of focal series ``(B, F, Y, X)``, maps ``(B, C, Y, X)``;
* positions are ``(x, y)``: x runs along the last axis, y along the second-to-last axis; the origin is the
  *centre* of pixel ``[0, 0]``, so the pixel ``[j, i]`` lies at ``(i, j) * sampling``;
* positive defocus is underfocus: ``defocus = -C10``.

In Python, ``hrtem.load("graphene").find("image.dm4")`` returns a table of atoms, an
:class:`hrtem.api.AtomTable`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hrtem.api import Model

__version__ = "0.2.0"

# Waiting threads of torch spin, which takes processor time from the working threads if another process is busy: on two
# cores a training step then takes twice as long as with one thread. With this limit, threads sleep after 2000 spins.
# Torch reads the variable at its first import. A user's own OMP_WAIT_POLICY takes precedence.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def load(model: str | Path, device: str = "cpu", symmetric: bool = False) -> Model:
    """Load a trained model that finds atoms in images.

    Args:
        model: name of a shipped model, path of a model folder, or path of a checkpoint file.
        device: device on which the network runs, ``cpu`` or ``cuda``.
        symmetric: average over the eight orientations of the image, which takes eight times as long.

    Raises:
        InputError: the model does not exist or is damaged, or the device is not available.
    """
    # Imported here because the import of torch takes seconds, and ``import hrtem`` must be fast.
    from hrtem.api import load as loaded

    return loaded(model, device, symmetric)

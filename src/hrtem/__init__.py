"""Find atoms in high resolution TEM images with networks trained on simulated images only.

Conventions, kept by every module:

* lengths in Å, energies in eV, doses in electrons per Å², angles in rad unless a name says otherwise;
* images are arrays ``(Y, X)``, batches of focal series ``(B, F, Y, X)``, maps ``(B, C, Y, X)``;
* positions are ``(x, y)``: x runs along the last axis, y along the one before; the origin is the
  *centre* of pixel ``[0, 0]``, so the pixel ``[j, i]`` lies at ``(i, j) * sampling``;
* positive defocus is underfocus: ``defocus = -C10``.

From Python, ``hrtem.load("graphene").find("image.dm4")`` gives a table of atoms, an
:class:`hrtem.api.AtomTable`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hrtem.api import Model

__version__ = "0.2.0"

# Threads of torch wait for each other by spinning, and beside another busy process one that spins keeps the other from
# its work: on two cores a training step then takes twice as long as by one thread. After so many spins they sleep. This
# is read when torch is first imported; whoever says how threads wait is left alone.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def load(model: str | Path, device: str = "cpu", symmetric: bool = False) -> Model:
    """A trained model that finds atoms in images.

    Args:
        model: name of a shipped model, or a model's folder or a checkpoint file.
        device: where the network runs, ``cpu`` or ``cuda``.
        symmetric: average over the eight orientations of the image, in eight times the time.

    Raises:
        InputError: there is no such model, it is damaged, or the device is not there.
    """
    # Only here: importing the package alone must not take the seconds that torch does.
    from hrtem.api import load as loaded

    return loaded(model, device, symmetric)

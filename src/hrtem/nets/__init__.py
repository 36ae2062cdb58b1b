"""Networks from normalised images ``(B, in_channels, Y, X)`` to logits ``(B, out_channels, Y, X)``.

Each is built from ``in_channels`` and ``out_channels`` and settings of its own. A network of another library
that takes these two words is used by its ``_target_`` alone. Sides must be multiples of 32 for all of them.
"""

from hrtem.nets.context import ContextSegResNet
from hrtem.nets.dihedral import Dihedral
from hrtem.nets.folded import Folded
from hrtem.nets.fused import fuse
from hrtem.nets.madsen import MadsenNet
from hrtem.nets.msdnet import MSDNet
from hrtem.nets.unet import UNet

__all__ = ["ContextSegResNet", "Dihedral", "Folded", "MSDNet", "MadsenNet", "UNet", "fuse"]

"""Networks from normalised images ``(B, in_channels, Y, X)`` to logits ``(B, out_channels, Y, X)``.

Each network is built from ``in_channels``, ``out_channels`` and its own settings. A network of another library that
takes these two arguments can be used directly by its ``_target_``. The sides of an image must be multiples of 32 px for
all networks.
"""

from hrtem.nets.build import build
from hrtem.nets.context import ContextSegResNet
from hrtem.nets.dihedral import Dihedral
from hrtem.nets.folded import Folded
from hrtem.nets.fused import fuse
from hrtem.nets.madsen import MadsenNet
from hrtem.nets.msdnet import MSDNet
from hrtem.nets.unet import UNet

__all__ = ["ContextSegResNet", "Dihedral", "Folded", "MSDNet", "MadsenNet", "UNet", "build", "fuse"]

"""Image formation: from exit waves to the intensities on an ideal detector, in torch, for a whole batch.

Aberrations follow abTEM: ``C10 = -defocus``, phase error χ in polar coordinates, transfer function ``exp(-iχ)``.
"""

from hrtem.optics.fourier import filter_image, frequencies
from hrtem.optics.microscope import Optics
from hrtem.optics.transfer import Parameters, wavelength

__all__ = ["Optics", "Parameters", "filter_image", "frequencies", "wavelength"]

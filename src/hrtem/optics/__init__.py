"""From exit waves to the images that an ideal detector would see, in torch, for a whole batch.

Aberrations follow abTEM: ``C10 = -defocus``, phase error χ in polar coordinates, transfer ``exp(-iχ)``.
"""

from hrtem.optics.fourier import filter_image, frequencies
from hrtem.optics.microscope import Optics
from hrtem.optics.transfer import Parameters, wavelength

__all__ = ["Optics", "Parameters", "filter_image", "frequencies", "wavelength"]

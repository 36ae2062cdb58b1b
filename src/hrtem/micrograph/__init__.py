"""Real micrographs: read from the files of microscopes, freed of hot pixels, brought to a pixel size.

``recordings`` turns what a user names into images, series and movies, ``movies`` into movies alone. ``files`` knows
the formats, whose readers are ``pictures``, ``arrays``, ``hdf5`` and ``microscopes``; ``stack`` is what they give,
``image`` what has been checked. ``units`` knows pixel sizes, ``lattice`` doubts them, ``series`` registers
and evens out doses, ``cleaning`` has hot pixels and resampling.
"""

from hrtem.micrograph.cleaning import remove_hot_pixels, resample
from hrtem.micrograph.files import FORMATS, read
from hrtem.micrograph.image import Acquisition, Micrograph, calibrated
from hrtem.micrograph.lattice import lattice_factor, lattice_spacings, lattice_warning
from hrtem.micrograph.movies import FrameFiles, Movie, arrivals, movies
from hrtem.micrograph.recordings import Recording, recordings
from hrtem.micrograph.series import evened, in_order, registered

__all__ = [
    "FORMATS", "Acquisition", "FrameFiles", "Micrograph", "Movie", "Recording", "arrivals", "calibrated",
    "evened", "in_order", "lattice_factor", "lattice_spacings", "lattice_warning", "movies", "read", "recordings",
    "registered", "remove_hot_pixels", "resample",
]  # fmt: skip

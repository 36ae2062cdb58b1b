"""Real micrographs, read from the files of microscopes and cameras.

``recordings`` turns the user's ``images=`` into images, focal series and movies; ``movies`` turns it into movies only.
``files`` lists the formats; their readers are in ``pictures``, ``arrays``, ``hdf5`` and ``microscopes``. Readers return
a ``stack`` of unread images; ``image`` defines the checked micrograph. ``units`` converts pixel sizes, ``lattice``
checks them against the crystal, ``series`` registers focal series and equalises their doses. ``validity`` detects
pixels that hold no image, and ``region`` reads the user's mask and rectangle.
"""

from hrtem.micrograph.files import FORMATS, read
from hrtem.micrograph.image import Acquisition, Micrograph, require_calibration
from hrtem.micrograph.lattice import check_lattice, lattice_spacings, measure_lattice_factor
from hrtem.micrograph.movies import FrameFiles, Movie, await_files, open_movies
from hrtem.micrograph.recordings import Recording, is_folder, open_recordings
from hrtem.micrograph.region import Region
from hrtem.micrograph.series import equalise_dose, order_series, register_series
from hrtem.micrograph.stack import STACK, Item

__all__ = [
    "FORMATS",
    "STACK",
    "Acquisition",
    "FrameFiles",
    "Item",
    "Micrograph",
    "Movie",
    "Recording",
    "Region",
    "await_files",
    "check_lattice",
    "equalise_dose",
    "is_folder",
    "lattice_spacings",
    "measure_lattice_factor",
    "open_movies",
    "open_recordings",
    "order_series",
    "read",
    "register_series",
    "require_calibration",
]  # fmt: skip

"""Exit waves: propagated through a structure once, kept on disk, and shared among cores or machines."""

from hrtem.waves.cache import SPLITS, WaveCache
from hrtem.waves.multislice import Multislice

__all__ = ["SPLITS", "Multislice", "WaveCache"]

"""Exit waves: simulated once per structure, in parallel on several cores or machines, and stored on disk."""

from hrtem.waves.cache import SPLITS, WaveCache
from hrtem.waves.multislice import Multislice

__all__ = ["SPLITS", "Multislice", "WaveCache"]

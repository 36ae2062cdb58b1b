"""From maps to columns: where, which class, how sure, how many atoms."""

from hrtem.peaks.mass import HeightPeaks, MassPeaks
from hrtem.peaks.offsets import CountedOffsetPeaks, OffsetPeaks

__all__ = ["CountedOffsetPeaks", "HeightPeaks", "MassPeaks", "OffsetPeaks"]

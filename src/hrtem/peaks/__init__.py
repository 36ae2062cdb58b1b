"""From maps to columns: where, which class, how sure, how many atoms."""

from hrtem.peaks.counts import CountPeaks, MeanCountPeaks, OrdinalPeaks
from hrtem.peaks.mass import HeightPeaks, MassPeaks
from hrtem.peaks.offsets import OffsetPeaks

__all__ = ["CountPeaks", "HeightPeaks", "MassPeaks", "MeanCountPeaks", "OffsetPeaks", "OrdinalPeaks"]

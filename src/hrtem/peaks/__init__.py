"""Conversion of maps to columns: positions, classes, probabilities and numbers of atoms."""

from hrtem.peaks.mass import HeightPeaks, MassPeaks
from hrtem.peaks.offsets import CountedOffsetPeaks, OffsetPeaks

__all__ = ["CountedOffsetPeaks", "HeightPeaks", "MassPeaks", "OffsetPeaks"]

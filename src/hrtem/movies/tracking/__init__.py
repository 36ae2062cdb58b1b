"""Columns through time: what was found in the frames of a movie becomes sites, their occupancy, and rates.

``registration`` takes the drift out, ``sites`` fits the lattice and links what was found to its sites, ``contrast``
measures how bright they are, ``occupancy`` says how probable each column is in each frame, ``rates`` how often columns
leave and arrive, ``motion`` how they move and how the crystal is strained, and ``analysis`` does all of it in order.
"""

from hrtem.movies.tracking.analysis import History, analyse_movie
from hrtem.movies.tracking.detections import Detections
from hrtem.movies.tracking.rates import Rate, Rates, compare_rates

__all__ = ["Detections", "History", "Rate", "Rates", "analyse_movie", "compare_rates"]

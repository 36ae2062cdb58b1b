"""Tracking of columns through time: from the detections in the frames of a movie to sites, occupancies and rates.

``registration`` removes the drift, ``sites`` fits the lattice and assigns detections to sites, ``contrast`` measures
the brightness of the sites, ``occupancy`` computes the probability of each column in each frame, ``rates`` estimates
how often columns leave and arrive, ``motion`` follows hops, vibration and strain, and ``analysis`` runs all steps in
order.
"""

from hrtem.movies.tracking.analysis import History, analyse_movie
from hrtem.movies.tracking.detections import Detections
from hrtem.movies.tracking.rates import Rate, Rates, compare_rates

__all__ = ["Detections", "History", "Rate", "Rates", "analyse_movie", "compare_rates"]

"""Simulated movies of a surface that diffuses.

``states`` keeps the exit wave of each state that a particle passes through, ``movie`` images them frame by frame, and
``truth`` is what the frames show: which column is there when, and how often columns leave.
"""

from hrtem.movies.simulation.movie import Dynamics, SimulatedMovie
from hrtem.movies.simulation.truth import Truth

__all__ = ["Dynamics", "SimulatedMovie", "Truth"]

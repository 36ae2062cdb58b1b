"""Simulated movies of a surface that diffuses: ``python -m hrtem.dynamics dynamics=oxygen output=movie``.

``states`` keeps the exit wave of each state that a particle passes through, ``movie`` images them frame by frame, and
``truth`` is what the frames show: which column is there when, and how often columns leave.
"""

from hrtem.dynamics.movie import Dynamics, SimulatedMovie
from hrtem.dynamics.truth import Truth

__all__ = ["Dynamics", "SimulatedMovie", "Truth"]

"""Simulated movies of surface diffusion.

``hopping`` draws trajectories by kinetic Monte Carlo, ``states`` caches the exit wave of each state of a particle,
``movie`` images the states frame by frame, and ``truth`` is the ground truth: occupancy of the columns in each frame
and the rates at which columns leave.
"""

from hrtem.movies.simulation.movie import Dynamics, SimulatedMovie
from hrtem.movies.simulation.truth import Truth

__all__ = ["Dynamics", "SimulatedMovie", "Truth"]

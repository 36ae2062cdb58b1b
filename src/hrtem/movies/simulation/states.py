"""Cache of the exit waves of particle states, with one record per distinct state."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from hrtem.errors import InputError
from hrtem.movies.simulation.hopping import Hopping, Trajectory
from hrtem.waves.cache import SPLITS, WaveCache

if TYPE_CHECKING:
    from ase import Atoms

    from hrtem.columns import Columns

#: Number of records reserved for the states of one movie.
BLOCK = 10_000


@dataclass(frozen=True)
class StateCache(WaveCache):
    """A wave cache whose records are states: record ``BLOCK · movie + n`` is the n-th distinct state of a movie.

    The particle and its hops are drawn from ``default_rng([seed, split, movie])``. A state to which the particle
    returns has a single record. The records do not depend on drift, optics, dose and exposure.

    Args:
        hopping: generator of the trajectories.
        duration: duration of each trajectory, s.
    """

    hopping: Hopping = None  # type: ignore[assignment]
    duration: float = 0.0

    def trajectory(self, split: str, movie: int) -> Trajectory:
        """Trajectory of the particle in a movie."""
        return _trajectory(_Recipe(self.key, self.hopping), self.duration, self.seed, SPLITS[split], movie)

    def states(self, split: str, movie: int) -> int:
        """Number of distinct states of a movie.

        Raises:
            InputError: the movie has more states than records.
        """
        number = len(self.trajectory(split, movie).distinct[0])
        if number > BLOCK:
            raise InputError(
                f"dynamics.rate must leave a movie at most {BLOCK:,} distinct states, and movie {movie} has {number:,}."
            )
        return number

    def structure(self, split: str, index: int, rng: np.random.Generator) -> tuple[Atoms, Columns]:
        """Atoms and columns of a state; ``rng`` is not used."""
        trajectory = self.trajectory(split, index // BLOCK)
        return trajectory.structure(trajectory.distinct[0][index % BLOCK])

    def missing(self, split: str, number: int) -> list[int]:
        """Records of the first ``number`` movies that are missing or incomplete on disk."""
        return [index for movie in range(number) for _, index in self.lacking(split, movie)]

    def lacking(self, split: str, movie: int) -> list[tuple[str, int]]:
        """Records of one movie that are missing on disk, as arguments of :meth:`compute`."""
        first = BLOCK * movie
        return [
            (split, index) for index in range(first, first + self.states(split, movie)) if not self._whole(split, index)
        ]

    def wave_of(self, split: str, movie: int, state: int) -> np.ndarray:
        """Exit wave of a distinct state of a movie, complex64 ``(Y, X)``."""
        return self.load(split, BLOCK * movie + state)[0]


@dataclass(frozen=True)
class _Recipe:
    """Generator of trajectories, identified by the key of its cache because workers receive a copy with each task."""

    key: str
    hopping: Hopping = field(compare=False)


@lru_cache(maxsize=8)
def _trajectory(recipe: _Recipe, duration: float, seed: int, split: int, movie: int) -> Trajectory:
    """Draw a trajectory once for all states of a movie."""
    return recipe.hopping(duration, np.random.default_rng([seed, split, movie]))

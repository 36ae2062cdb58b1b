"""Movies of a particle with surface diffusion: each frame is the mean over its states, with its own defocus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from hrtem.errors import InputError
from hrtem.movies.simulation.hopping import Hopping, Trajectory
from hrtem.movies.simulation.states import StateCache
from hrtem.movies.simulation.truth import Truth
from hrtem.noise import record_counts
from hrtem.ranges import Range, parse_number, parse_whole
from hrtem.samples import Gold
from hrtem.waves.cache import SPLITS
from hrtem.waves.workers import check, run_tasks, show

#: Settings of the dynamics that determine the states and therefore the content of the cache.
DECISIVE = ("rate", "binding", "rows", "row_length", "shortest", "frames", "frame_time")
#: Random number streams of a movie, in addition to the stream of its trajectory.
MICROSCOPE, DETECTOR = 101, 102


class Dynamics:
    """Condition of a movie: hopping of the rows of a particle, and recording of the frames.

    Args:
        name: name of the condition.
        frames: number of frames.
        frame_time: s, fully exposed: a row that hops during a frame appears at both places.
        drift: steady drift, Å/s, a number or a range, in a random direction.
        wander: standard deviation of an additional random step from frame to frame along x and y, Å.
        defocus_slope: steady change of the defocus, Å/s, a number or a range.
        defocus_wander: standard deviation of an additional random defocus step from frame to frame, Å.
        hopping: rate, binding, rows …, see :class:`hrtem.movies.simulation.hopping.Hopping`.

    Raises:
        InputError: a setting is out of range.
    """

    def __init__(
        self,
        name: str,
        frames: int,
        frame_time: float,
        drift: Any = 0.0,
        wander: float = 0.0,
        defocus_slope: Any = 0.0,
        defocus_wander: float = 0.0,
        **hopping: Any,
    ) -> None:
        if isinstance(frames, bool) or not isinstance(frames, int) or not 2 <= frames <= 100_000:
            raise InputError(f"dynamics.frames must be a whole number from 2 to 100000, got {frames}.")
        self.name = name
        self.frames = frames
        self.frame_time = parse_number("dynamics.frame_time", frame_time, unit="s", minimum=1e-6, maximum=1e6)
        self.drift = Range.parse("dynamics.drift", drift, unit="Å/s", minimum=0.0, maximum=100.0)
        self.wander = parse_number("dynamics.wander", wander, unit="Å", minimum=0.0, maximum=5.0)
        self.defocus_slope = Range.parse("dynamics.defocus_slope", defocus_slope, unit="Å/s", minimum=-1e3, maximum=1e3)
        self.defocus_wander = parse_number(
            "dynamics.defocus_wander", defocus_wander, unit="Å", minimum=0.0, maximum=1e3
        )
        self.settings = hopping

    @property
    def duration(self) -> float:
        """Duration of the movie, s."""
        return self.frames * self.frame_time

    def hopping(self, sample: Gold) -> Hopping:
        """Generator of trajectories for particles of a ``sample``."""
        return Hopping(sample, **self.settings)

    def walk(self, rng: np.random.Generator, reach: float) -> np.ndarray:
        """Draw the position of the specimen in each frame, ``(T, 2)`` Å, 0 in the middle frame, within ``reach`` Å."""
        angle, speed = rng.uniform(0.0, 2.0 * np.pi), self.drift.draw(rng)
        time = (np.arange(self.frames) - (self.frames - 1) / 2) * self.frame_time
        steady = speed * time[:, None] * np.array([np.cos(angle), np.sin(angle)])
        steps = np.cumsum(rng.normal(scale=self.wander, size=(self.frames, 2)), axis=0)
        place = steady + steps - steps[self.frames // 2]
        # Positions beyond the reach are reflected, like an operator who brings the specimen back.
        return reach - np.abs((place + reach) % (4.0 * reach) - 2.0 * reach)

    def defoci(self, rng: np.random.Generator, middle: float, low: float, high: float) -> np.ndarray:
        """Draw the defocus of each frame, ``(T,)`` Å, around ``middle`` and limited to ``low`` and ``high``."""
        time = (np.arange(self.frames) - (self.frames - 1) / 2) * self.frame_time
        steps = np.cumsum(rng.normal(scale=self.defocus_wander, size=self.frames))
        return np.clip(middle + self.defocus_slope.draw(rng) * time + steps - steps[self.frames // 2], low, high)


@dataclass(frozen=True)
class SimulatedMovie:
    """One simulated movie: its trajectory, its microscope parameters, and its frames at any dose.

    The n-th movie of a condition uses separate random number streams for particle and hops, microscope and noise, so
    that the same events appear under the same microscope at another dose.

    Args:
        dynamics: the condition.
        cache: cache of the states.
        optics, noise: optics and detector of the microscope.
        number: number of the movie.
        sampling: Å/px.
        margin: pixels on each side that are simulated and then cut off.
        defocus_limits: lower and upper limit of the defocus, Å.
        split: split of the cache.
    """

    dynamics: Dynamics
    cache: StateCache
    optics: Any
    noise: Any
    number: int
    sampling: float
    margin: int
    defocus_limits: tuple[float, float]
    split: str = "test"

    @classmethod
    def of(cls, config: DictConfig, number: int | None = None) -> SimulatedMovie:
        """Construct the movie from a composed ``conf/movie.yaml``.

        Raises:
            InputError: a setting is invalid.
        """
        plain = settings_of(config)
        sample, dynamics, optics = (instantiate(plain[name]) for name in ("sample", "dynamics", "optics"))
        if optics.num_images != 1:
            raise InputError(f"focal must be 1 for a movie, whose frames are single images, got {optics.num_images}.")
        wave = {key: value for key, value in plain["wave"].items() if key != "scheduler"}
        if wave["frozen_phonons"]:
            raise InputError(f"wave.frozen_phonons must be 0 for a movie, got {wave['frozen_phonons']}.")
        decisive = {name: plain["dynamics"][name] for name in DECISIVE if name in plain["dynamics"]}
        cache = StateCache(
            Path(plain["data"]["cache"]),
            sample,
            instantiate(wave),
            {"sample": plain["sample"], "wave": wave, "dynamics": decisive},
            plain["seed"],
            dynamics.hopping(sample),
            dynamics.duration,
        )
        middle = optics.defocus
        # 30 Å is a sixth of the contrast period, in defocus, of gold's widest fringes.
        limits = (middle.low - 30.0, middle.high + 30.0)
        number = parse_whole("number", plain["number"], minimum=0, maximum=99_999) if number is None else number
        return cls(
            dynamics, cache, optics, instantiate(plain["noise"]), number, plain["data"]["sampling"],
            optics.margin(plain["data"]["sampling"], plain["data"]["margin"]), limits,
        )  # fmt: skip

    @property
    def trajectory(self) -> Trajectory:
        """Trajectory of the particle."""
        return self.cache.trajectory(self.split, self.number)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (Y, X) of a frame, px."""
        side = round(self.cache.sample.extent / self.sampling) - 2 * self.margin
        return side, side

    def simulate(self, scheduler: str = "local") -> None:
        """Compute the exit waves missing in the cache, with a progress bar."""
        simulate([self], scheduler)

    def settings(self) -> dict[str, np.ndarray]:
        """Microscope parameters with a leading frame axis, see :meth:`hrtem.optics.Optics.draw`."""
        rng = self._stream(MICROSCOPE)
        drawn = self.optics.draw(rng)
        frames = self.dynamics.frames
        answer = {name: np.repeat(np.asarray(value)[None], frames, axis=0) for name, value in drawn.items()}
        reach = max(self.margin * self.sampling - 1.0, 0.1)
        answer["shift"] = self.dynamics.walk(rng, reach)[:, None].astype(np.float32)
        answer["defocus"] = self.dynamics.defoci(rng, float(drawn["defocus"][0]), *self.defocus_limits)[:, None].astype(
            np.float32
        )
        return answer

    def expected(self) -> Iterator[Tensor]:
        """Yield the mean image of each frame ``(1, 1, Y, X)`` before the detector, 1 in vacuum, including margins.

        The intensities of the states during a frame are added with their shares of the exposure. This sum is exact: it
        is the limit of many sub-exposures.
        """
        settings, trajectory, edges = self.settings(), self.trajectory, self.edges()
        for frame in range(self.dynamics.frames):
            shares = trajectory.shares(edges[frame], edges[frame + 1])
            waves = torch.from_numpy(np.stack([self.cache.wave_of(self.split, self.number, state) for state in shares]))
            one = {name: torch.from_numpy(value[[frame] * len(shares)]) for name, value in settings.items()}
            weights = torch.tensor(list(shares.values()), dtype=torch.float32)
            images = self.optics(waves, one, self.sampling)
            yield (weights[:, None, None, None] * images).sum(dim=0, keepdim=True)

    def frames(self, dose: float | None = None, expected: Iterator[Tensor] | None = None) -> Iterator[np.ndarray]:
        """Yield the counts of each frame, float32 ``(Y, X)``.

        Args:
            dose: e/Å² in each frame; None uses the dose of the optics.
            expected: result of :meth:`expected`, if it is already available.
        """
        rng = self._stream(DETECTOR)
        drawn, settings = self.noise.draw(rng), self.settings()
        seeds = rng.integers(2**31, size=self.dynamics.frames)
        for frame, image in enumerate(expected or self.expected()):
            # One camera records all frames, with independent noise in each.
            detector: Mapping[str, Any] = drawn | {
                "seed": seeds[frame],
                "dose": np.float32(settings["dose"][frame] if dose is None else dose),
            }
            one = {name: torch.from_numpy(np.asarray(value)[None].copy()) for name, value in detector.items()}
            counts = record_counts(self.noise, image, one, self.sampling, self.margin)
            yield counts[0, 0].numpy().astype(np.float32)

    def truth(self) -> Truth:
        """Ground truth of the frames."""
        settings = self.settings()
        origin = self.margin * self.sampling
        return Truth.of(
            self.trajectory, self.edges(), self.dynamics.name, self.cache.hopping.rate, origin, settings["shift"][:, 0],
            settings["defocus"][:, 0],
        )  # fmt: skip

    def edges(self) -> np.ndarray:
        """Start time of each frame and end of the last frame, ``(T + 1,)`` s."""
        return np.arange(self.dynamics.frames + 1) * self.dynamics.frame_time

    def _stream(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.cache.seed, SPLITS[self.split], self.number, stream])


def settings_of(config: DictConfig) -> dict[str, Any]:
    """Settings of a composed ``conf/movie.yaml`` that affect a movie, as plain containers."""
    names = ("number", "seed", "sample", "wave", "dynamics", "optics", "noise", "data")
    return {name: _plain(config[name]) for name in names}


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def simulate(movies: list[SimulatedMovie], scheduler: str = "local") -> None:
    """Compute all missing exit waves of several movies, with one progress bar.

    Raises:
        InputError: a structure, the cache or the scheduler is invalid.
    """
    check(scheduler)
    tasks = [(movie.cache, *record) for movie in movies for record in movie.cache.lacking(movie.split, movie.number)]
    if not tasks:
        return
    total = sum(movie.cache.states(movie.split, movie.number) for movie in movies)
    done = enumerate(run_tasks(_computed, tasks, scheduler), start=1)
    show((len(tasks) - number for number, _ in done), len(tasks), total, "Simulating states")


def _computed(cache: StateCache, split: str, index: int) -> int:
    return cache.compute(split, index)

"""Analysis of a movie in order, from the detections in its frames to events and rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from hrtem.errors import InputError
from hrtem.movies.tracking.contrast import measure_contrast
from hrtem.movies.tracking.detections import Detections
from hrtem.movies.tracking.motion import Event, Steps, find_events, link_tracks, mean_square_displacement
from hrtem.movies.tracking.occupancy import Occupancy, smooth_occupancy
from hrtem.movies.tracking.rates import Rates, estimate_rates
from hrtem.movies.tracking.registration import Pose, find_poses
from hrtem.movies.tracking.sites import BULK, Sites, average_seen, find_sites, observe_sites, on_support

#: Largest number of frames in the mean image that distinguishes a support from vacuum.
AVERAGED = 64
#: Radius of the disc around a site in which the texture of the mean image is measured, Å.
DISC = 1.3


@dataclass(frozen=True, eq=False)
class History:
    """Analysed history of a movie with T frames.

    Attributes:
        sites: S sites.
        poses: poses of the frames.
        seen: ``(T, S)``, probability of a column from each frame alone; NaN if the site was not visible.
        occupancy: occupancy from all frames.
        events: columns that appear and vanish.
        numbers: ``(T, S)``, number of the column on each site; −1 for none.
        rates: rates per second.
        strain: ``(T, 4)``: xx, yy, xy and rotation (radians) relative to the mean of the movie.
        vibration: ``(S,)`` Å, standard deviation along x or y about the site.
        displacement: ``(lags, 3)``: lag in frames, mean square displacement by hops of columns outside the bulk (Å²),
            and number of pairs.
        frame_time: time from frame to frame, s.
    """

    sites: Sites
    poses: Sequence[Pose]
    seen: np.ndarray
    occupancy: Occupancy
    events: Sequence[Event]
    numbers: np.ndarray
    rates: Rates
    strain: np.ndarray
    vibration: np.ndarray
    displacement: np.ndarray
    frame_time: float

    @property
    def drift(self) -> np.ndarray:
        """Position of the specimen in each frame relative to the first frame, ``(T, 2)`` Å."""
        return np.array([pose.shift for pose in self.poses])

    def lifetimes(self) -> np.ndarray:
        """Lifetimes of columns whose appearing and vanishing were both observed, s."""
        return np.array([event.lifetime for event in self.events if event.lifetime > 0], float) * self.frame_time

    def summary(self, unit: str = "s") -> str:
        """Summarise the movie in one sentence; ``unit`` is the unit of time."""
        leave = self.rates.leave
        kinds = np.bincount(self.occupancy.kinds[self.occupancy.probability.mean(axis=0) > 0.5], minlength=3)
        came = sum(event.appears for event in self.events)
        return (
            f"{len(self.poses)} frames, {kinds[0]} columns in the bulk, {kinds[1]} on the surface, {kinds[2]} at a "
            f"support; {came} appear, {len(self.events) - came} vanish; a surface column leaves at "
            f"{leave.value:.3g} ({leave.low:.3g} to {leave.high:.3g}) 1/{unit}"
        )


def analyse_movie(
    frames: Sequence[Detections],
    extent: tuple[float, float],
    frame_time: float,
    image: Callable[[int], np.ndarray] | None = None,
    sampling: float = 1.0,
    seed: int = 0,
) -> History:
    """Analyse the history of a movie.

    Args:
        frames: detections in each frame.
        extent: largest x and y of a frame, Å.
        frame_time: s from frame to frame.
        image: function that returns frame n as read from the file, ``(Y, X)``; without images, a support is not
            distinguished from vacuum, and the occupancy depends on the detections only.
        sampling: pixel size of these images, Å/px.
        seed: seed of the histories from which rates are drawn.

    Raises:
        InputError: there are fewer than two frames, or too few columns for a lattice or a drift.
    """
    if len(frames) < 2:
        raise InputError(f"task=dynamics needs a movie of two frames at least, and this one has {len(frames)}.")
    laid = find_poses(frames)
    known = sum(pose.known for pose in laid)
    sites = find_sites(frames, laid) if known >= 2 else None
    if sites is None:
        raise InputError(
            f"task=dynamics needs columns that come again from frame to frame, and of {len(frames)} frames {known} "
            "show enough of them."
        )
    seen = np.array([observe_sites(sites, found, pose, extent) for found, pose in zip(frames, laid, strict=True)])
    contrast = None
    if image is not None:
        sites = on_support(sites, average_seen(seen), _texture(sites, laid, image, sampling))
        contrast = measure_contrast(sites, seen, laid, image, sampling)
    occupancy = smooth_occupancy(sites, seen, contrast)
    rng = np.random.default_rng([seed, len(frames)])
    found_rates = estimate_rates(sites, occupancy, frame_time, rng)
    changes = find_events(sites, occupancy.probability, occupancy.appearing, occupancy.vanishing)
    numbers = link_tracks(changes, occupancy.probability)
    steps = Steps(sites)
    strain = np.array([steps.add(found, pose) for found, pose in zip(frames, laid, strict=True)])
    moved = mean_square_displacement(sites, numbers, occupancy.kinds != BULK)
    return History(
        sites, laid, seen, occupancy, changes, numbers, found_rates, strain, steps.vibration, moved, frame_time
    )


def _texture(sites: Sites, laid: Sequence[Pose], image: Callable[[int], np.ndarray], sampling: float) -> np.ndarray:
    """Standard deviation of the mean image around each site, ``(S,)``; NaN if the site is not visible.

    Each frame is smoothed and divided by its standard deviation before the mean is taken.
    """
    chosen = [number for number, pose in enumerate(laid) if pose.known]
    chosen = [chosen[place] for place in np.unique(np.linspace(0, len(chosen) - 1, AVERAGED).astype(int))]
    steps = np.arange(-DISC, DISC + 1e-9, 0.5 * DISC / 2)
    across = np.array([(x, y) for x in steps for y in steps if np.hypot(x, y) <= DISC])
    places = sites.positions[:, None] + across[None]
    total, number = np.zeros(places.shape[:2]), np.zeros(places.shape[:2])
    for frame in chosen:
        pixels = gaussian_filter(np.asarray(image(frame), np.float32), 0.35 / sampling)
        pixels = (pixels - pixels.mean()) / max(float(pixels.std()), 1e-12)
        there = laid[frame].away(places.reshape(-1, 2)).reshape(places.shape) / sampling
        inside = np.all((there >= 0) & (there <= np.array(pixels.shape[::-1]) - 1), axis=2)
        values = map_coordinates(pixels, there[..., ::-1].reshape(-1, 2).T, order=1, mode="nearest")
        total += np.where(inside, values.reshape(inside.shape), 0.0)
        number += inside
    seen = np.all(number >= 0.5 * len(chosen), axis=1)
    mean = total / np.maximum(number, 1.0)
    return np.where(seen, mean.std(axis=1), np.nan)

"""The history of a movie: from what was found in its frames to events and rates, in order."""

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

#: Frames whose mean tells a support from vacuum.
AVERAGED = 64
#: The mean image is looked at in a disc of this radius about a site, Å.
DISC = 1.3


@dataclass(frozen=True, eq=False)
class History:
    """What happened in a movie of T frames.

    Attributes:
        sites: S sites.
        poses: of the frames.
        seen: ``(T, S)``, how probable a column is by each frame alone; NaN where it was not seen.
        occupancy: by all frames.
        events: columns that appear and vanish.
        numbers: ``(T, S)``, which column stands where; −1 none.
        rates: per second.
        strain: ``(T, 4)``: xx, yy, xy and rotation (radians) against the mean of the movie.
        vibration: ``(S,)`` Å, standard deviation along x or y about the site.
        displacement: ``(lags, 3)``: frames apart, mean square displacement by hops of columns on the surface (Å²), and
            pairs of frames.
        frame_time: s.
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
        """Where the specimen lies in each frame, ``(T, 2)`` Å, against the first."""
        return np.array([pose.shift for pose in self.poses])

    def lifetimes(self) -> np.ndarray:
        """Of columns whose appearing and vanishing was both seen, s."""
        return np.array([event.lifetime for event in self.events if event.lifetime > 0], float) * self.frame_time

    def summary(self, unit: str = "s") -> str:
        """One sentence; ``unit`` is that of time."""
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
    """The history of a movie.

    Args:
        frames: what was found in each.
        extent: largest x and y of a frame, Å.
        frame_time: s from frame to frame.
        image: gives frame n as it was read, ``(Y, X)``; without it no support is told from vacuum, and occupancy
            rests on what was found alone.
        sampling: Å/px of these images.
        seed: of the histories that rates are drawn from.

    Raises:
        InputError: there are fewer than two frames, or columns are too few to tell a lattice or a drift.
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
    """Standard deviation of the mean image about each site, ``(S,)``, in that of the noise-free image; NaN unseen."""
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

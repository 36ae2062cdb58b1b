"""Events, the ways of columns that hop, how far they come, and how the crystal is strained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hrtem.movies.tracking.detections import Detections
from hrtem.movies.tracking.registration import Pose
from hrtem.movies.tracking.sites import Sites, link_nearest

#: From this probability on a site counts as occupied.
OCCUPIED = 0.5
#: Columns that strain takes.
FEWEST = 6
#: Frames apart up to which distances are averaged, as a share of the movie.
LONGEST_LAG = 0.25


@dataclass(frozen=True)
class Event:
    """A column that appears or vanishes between a frame and the one before.

    Attributes:
        frame: the first frame in which the site is as it is afterwards.
        site: which.
        appears: else it vanishes.
        probability: that the change lies between these two frames.
        partner: the site that it came from, or went to; −1 where none fits.
        lifetime: frames that it has been there when it vanishes; −1 where its beginning was not seen, or it appears.
    """

    frame: int
    site: int
    appears: bool
    probability: float
    partner: int
    lifetime: int


def find_events(sites: Sites, probability: np.ndarray, appearing: np.ndarray, vanishing: np.ndarray) -> list[Event]:
    """All changes of the most probable occupancy, in the order of frames.

    One that vanishes and a neighbour that appears in the same frame, or in the one before or after, since the frame of
    a hop shows both, are one hop; where several could be, those pairs are taken that are closest in time and place.

    Args:
        sites: of the movie.
        probability: ``(T, S)``.
        appearing, vanishing: ``(T - 1, S)``.
    """
    there = probability >= OCCUPIED
    since = np.where(there[0], -1, 0)
    plain: list[Event] = []
    for frame in range(1, len(there)):
        for site in np.flatnonzero(there[frame] != there[frame - 1]).tolist():
            if there[frame, site]:
                since[site] = frame
                plain.append(Event(frame, site, True, float(appearing[frame - 1, site]), -1, -1))
            else:
                lifetime = frame - int(since[site]) if since[site] >= 0 else -1
                plain.append(Event(frame, site, False, float(vanishing[frame - 1, site]), -1, lifetime))
    partner = _partners(sites, plain)
    return [replace(event, partner=partner.get(number, -1)) for number, event in enumerate(plain)]


def _partners(sites: Sites, changes: Sequence[Event]) -> dict[int, int]:
    """For the number of each change that is half of a hop, the site of the other half."""
    came = {(event.frame, event.site): number for number, event in enumerate(changes) if event.appears}
    possible = []
    for number, event in enumerate(changes):
        if event.appears:
            continue
        for other in sites.beside[event.site].tolist():
            for apart in (-1, 0, 1):
                half = came.get((event.frame + apart, other)) if other >= 0 else None
                if half is not None:
                    away = float(np.linalg.norm(sites.positions[event.site] - sites.positions[other]))
                    possible.append((abs(apart), away, number, half))
    answer: dict[int, int] = {}
    for _, _, number, half in sorted(possible):
        if number not in answer and half not in answer:
            answer[number], answer[half] = changes[half].site, changes[number].site
    return answer


def link_tracks(changes: Sequence[Event], probability: np.ndarray) -> np.ndarray:
    """Which column stands on each site in each frame, int ``(T, S)``, −1 where none: a hop takes its number along."""
    there = probability >= OCCUPIED
    answer = np.full(there.shape, -1, np.int32)
    current = np.where(there[0], np.cumsum(there[0]) - 1, -1).astype(np.int32)
    answer[0] = current
    following = int(current.max(initial=-1)) + 1
    last = current.copy()  # on each site, also after it was left
    by_frame: dict[int, list[Event]] = {}
    for change in changes:
        by_frame.setdefault(change.frame, []).append(change)
    for frame in range(1, len(there)):
        for change in by_frame.get(frame, []):
            if not change.appears:
                current[change.site] = -1
        for change in by_frame.get(frame, []):
            if not change.appears:
                continue
            number = int(last[change.partner]) if change.partner >= 0 else -1
            if number < 0 or np.any(np.delete(current, change.partner) == number):
                number, following = following, following + 1
            else:
                current[change.partner] = -1  # it may be seen there for a frame more
            current[change.site] = number
        last = np.where(current >= 0, current, last)
        answer[frame] = current
    return answer


class Steps:
    """Where columns are against their sites, added up frame by frame, for vibration and strain."""

    def __init__(self, sites: Sites) -> None:
        self.sites = sites
        self.sums, self.squares, self.numbers = np.zeros((len(sites), 2)), np.zeros(len(sites)), np.zeros(len(sites))

    def add(self, found: Detections, pose: Pose) -> np.ndarray:
        """Strain of the frame against the sites: xx, yy, xy and the rotation left over, ``(4,)``; NaN where unknown."""
        if not pose.known:
            return np.full(4, np.nan)
        home = pose.home(found.positions.astype(float))
        mine, theirs = link_nearest(home, self.sites)
        away = home[mine] - self.sites.positions[theirs]
        self.sums[theirs] += away
        self.squares[theirs] += np.sum(away**2, axis=1)
        self.numbers[theirs] += 1
        steady = self.numbers[theirs] >= 0.5 * self.numbers.max(initial=1.0)
        if steady.sum() < FEWEST:
            return np.full(4, np.nan)
        before, after = self.sites.positions[theirs[steady]], home[mine[steady]]
        before, after = before - before.mean(axis=0), after - after.mean(axis=0)
        gradient = np.linalg.lstsq(before, after, rcond=None)[0] - np.eye(2)
        shear, turn = 0.5 * (gradient[0, 1] + gradient[1, 0]), 0.5 * (gradient[0, 1] - gradient[1, 0])
        return np.array([gradient[0, 0], gradient[1, 1], shear, turn])

    @property
    def vibration(self) -> np.ndarray:
        """Standard deviation along x or y of each column about its mean, ``(S,)`` Å, error of the position included."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self.sums / self.numbers[:, None]
            variance = 0.5 * (self.squares / self.numbers - np.sum(mean**2, axis=1))
        return np.sqrt(np.where(self.numbers >= 3, np.maximum(variance, 0.0), np.nan))


def mean_square_displacement(sites: Sites, numbers: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """How far columns have come after 1, 2 … frames, ``(lags, 2)``: Å², and how many pairs of frames were averaged.

    It is that of the hops, from site to site. Columns of :data:`chosen` sites alone are followed, where they begin.

    Args:
        sites: S of them.
        numbers: ``(T, S)`` as :func:`link_tracks` gives them.
        chosen: bool ``(S,)``.
    """
    frames = len(numbers)
    lags = max(1, int(LONGEST_LAG * frames))
    # A lag as long as the movie has few pairs; of a long movie some hundred lags are enough.
    listed = np.unique(np.round(np.geomspace(1, lags, min(lags, 100))).astype(int))
    answer = np.full((len(listed), 3), np.nan)
    total = int(numbers.max(initial=-1)) + 1
    where = np.full((frames, total), -1, np.int32)
    frame, site = np.nonzero(numbers >= 0)
    where[frame, numbers[frame, site]] = site
    mobile = np.zeros(total, bool)
    first = np.argmax(where >= 0, axis=0)
    mobile[:] = chosen[where[first, np.arange(total)]] if total else False
    where = where[:, mobile]
    for row, lag in enumerate(listed):
        one, other = where[:-lag], where[lag:]
        both = (one >= 0) & (other >= 0)
        away = sites.positions[one[both]] - sites.positions[other[both]]
        answer[row] = lag, np.mean(np.sum(away**2, axis=1)) if both.any() else np.nan, both.sum()
    return answer

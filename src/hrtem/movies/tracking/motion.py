"""Events, tracks of hopping columns, their mean square displacement, vibration, and strain of the crystal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hrtem.movies.tracking.detections import Detections
from hrtem.movies.tracking.registration import Pose
from hrtem.movies.tracking.sites import Sites, link_nearest

#: Minimum probability of an occupied site.
OCCUPIED = 0.5
#: Fewest columns for a strain measurement.
FEWEST = 6
#: Longest lag of the mean square displacement, as a share of the movie.
LONGEST_LAG = 0.25


@dataclass(frozen=True)
class Event:
    """A column that appears or vanishes between two consecutive frames.

    Attributes:
        frame: first frame after the change.
        site: index of the site.
        appears: True if the column appears, False if it vanishes.
        probability: probability that the change is between these two frames.
        partner: site that the column came from or went to; −1 if there is no matching event.
        lifetime: number of frames between appearing and vanishing, for a column that vanishes; −1 if its appearing was
            not observed, or if the event is an appearance.
    """

    frame: int
    site: int
    appears: bool
    probability: float
    partner: int
    lifetime: int


def find_events(sites: Sites, probability: np.ndarray, appearing: np.ndarray, vanishing: np.ndarray) -> list[Event]:
    """Find all changes of the most probable occupancy, in the order of frames.

    A column that vanishes and a column that appears at a neighbouring site form one hop, if the two events are at most
    one frame apart: the frame of a hop shows the column at both sites. Among several candidates, pairs closest in time
    and then in space are chosen.

    Args:
        sites: sites of the movie.
        probability: ``(T, S)``, probability of occupancy.
        appearing, vanishing: ``(T - 1, S)``, probabilities of the changes.
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
    """Partner sites of hops: the site of the other event, by the number of each event that is part of a hop."""
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
    """Number of the column on each site in each frame, int ``(T, S)``, −1 for none; a column keeps it when it hops."""
    there = probability >= OCCUPIED
    answer = np.full(there.shape, -1, np.int32)
    current = np.where(there[0], np.cumsum(there[0]) - 1, -1).astype(np.int32)
    answer[0] = current
    following = int(current.max(initial=-1)) + 1
    last = current.copy()  # last column on each site, also after it left
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
                current[change.partner] = -1  # the column may still be detected there for one frame
            current[change.site] = number
        last = np.where(current >= 0, current, last)
        answer[frame] = current
    return answer


class Steps:
    """Displacements of columns from their sites, accumulated frame by frame for vibration and strain."""

    def __init__(self, sites: Sites) -> None:
        self.sites = sites
        self.sums, self.squares, self.numbers = np.zeros((len(sites), 2)), np.zeros(len(sites)), np.zeros(len(sites))

    def add(self, found: Detections, pose: Pose) -> np.ndarray:
        """Add a frame and return its strain ``(4,)`` relative to the sites: xx, yy, xy, residual rotation; or NaN."""
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
        """Standard deviation of each column along x or y about its mean, ``(S,)`` Å, including the position error."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self.sums / self.numbers[:, None]
            variance = 0.5 * (self.squares / self.numbers - np.sum(mean**2, axis=1))
        return np.sqrt(np.where(self.numbers >= 3, np.maximum(variance, 0.0), np.nan))


def mean_square_displacement(sites: Sites, numbers: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean square displacement ``(lags, 3)``: lag in frames, displacement in Å², and number of pairs that are averaged.

    Displacements are those of hops, from site to site. Only columns whose first site is ``chosen`` are followed.

    Args:
        sites: S sites.
        numbers: ``(T, S)``, result of :func:`link_tracks`.
        chosen: bool ``(S,)``, sites on which the tracks begin.
    """
    frames = len(numbers)
    lags = max(1, int(LONGEST_LAG * frames))
    # A lag as long as the movie has few pairs; a hundred lags are enough for a long movie.
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

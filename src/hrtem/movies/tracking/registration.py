"""Drift: where the specimen lies in each frame, and how it is turned, by the columns that most frames share.

No linker of particles from frame to frame is needed, nor would it do: on a crystal all columns look alike, and a hop is
as long as the distance to a neighbour that stays. What stays is the lattice, so each frame is laid on the sum of those
before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from hrtem.movies.tracking.detections import Detections

#: A column of a frame and one of the reference are the same if they are no farther apart, Å.
SAME = 0.8
#: Step of the grid of shifts that are tried, Å, and how many ångström the specimen may move from frame to frame.
STEP, JUMP = 0.4, 6.0
#: A frame lies on the reference if so many of the columns expected in it do.
SHARE = 0.4
#: What was found with less is not used to find the drift.
SURE = 0.5
#: Frames after which what was seen counts e times less, so that a reference may change slowly.
MEMORY = 50.0


@dataclass(frozen=True)
class Pose:
    """How the specimen lies in a frame: ``place = reference @ turn.T + shift``.

    Attributes:
        shift: ``(2,)`` Å.
        angle: radians, from x towards y.
        share: of the columns expected in the frame that were found where they were expected.
        known: whether that is enough to believe it.
    """

    shift: np.ndarray
    angle: float
    share: float
    known: bool

    @property
    def turn(self) -> np.ndarray:
        """Rotation matrix ``(2, 2)``."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        return np.array([[cosine, -sine], [sine, cosine]])

    def home(self, positions: np.ndarray) -> np.ndarray:
        """Positions ``(N, 2)`` Å of the frame in the reference."""
        return (positions - self.shift) @ self.turn

    def away(self, positions: np.ndarray) -> np.ndarray:
        """Positions ``(N, 2)`` Å of the reference in the frame."""
        return positions @ self.turn.T + self.shift


class Reference:
    """Where columns have been seen so far, without drift; the first frame that has some says where that is.

    Attributes:
        positions: ``(R, 2)`` Å.
        weights: ``(R,)`` sums of probabilities; later frames count more, see :data:`MEMORY`.
    """

    def __init__(self) -> None:
        self.positions = np.zeros((0, 2))
        self.weights = np.zeros(0)
        self.pose = Pose(np.zeros(2), 0.0, 0.0, False)

    def follow(self, found: Detections, learn: bool = True) -> Pose:
        """The pose of the next frame; what was found in it is added to the reference.

        A frame in which too little is where it is expected keeps the pose of the one before, and nothing is learnt.
        """
        sure = found.probabilities >= SURE
        seen = found.positions[sure].astype(float)
        if not len(self.positions):
            if len(seen) >= 3 and learn:
                self.positions, self.weights = seen.copy(), found.probabilities[sure].astype(float)
                self.pose = Pose(np.zeros(2), 0.0, 1.0, True)
            return self.pose
        strong = self.positions[self.weights >= 0.3 * np.quantile(self.weights, 0.8)]
        pose = _laid(seen, strong, self.pose)
        if not pose.known:
            return Pose(self.pose.shift, self.pose.angle, pose.share, False)
        self.pose = pose
        if learn:
            self._learn(pose.home(seen), found.probabilities[sure].astype(float))
        return pose

    def _learn(self, seen: np.ndarray, probabilities: np.ndarray) -> None:
        self.weights *= np.exp(-1.0 / MEMORY)
        mine, theirs = pairs(seen, self.positions, SAME)
        added = self.weights[theirs] + probabilities[mine]
        share = (probabilities[mine] / added)[:, None]
        self.positions[theirs] += share * (seen[mine] - self.positions[theirs])
        self.weights[theirs] = added
        new = np.setdiff1d(np.arange(len(seen)), mine)
        self.positions = np.concatenate([self.positions, seen[new]])
        self.weights = np.concatenate([self.weights, probabilities[new]])
        # What was seen once, long ago, was nothing.
        keep = self.weights > 0.05
        self.positions, self.weights = self.positions[keep], self.weights[keep]


def find_poses(frames: Sequence[Detections]) -> list[Pose]:
    """The pose of each frame, in two passes: the second lays all of them on what the first has learnt in the end."""
    reference = Reference()
    first = [reference.follow(found) for found in frames]
    answer = []
    for pose, found in zip(first, frames, strict=True):
        reference.pose = pose
        answer.append(reference.follow(found, learn=False))
    return answer


def pairs(one: np.ndarray, other: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices ``(P,)`` of points ``(N, 2)`` and ``(M, 2)`` that are each other's nearest, at most ``reach`` apart."""
    if not len(one) or not len(other):
        return np.zeros(0, int), np.zeros(0, int)
    distance, partner = cKDTree(other).query(one, distance_upper_bound=reach)
    _, back = cKDTree(one).query(other)
    mine = np.flatnonzero(np.isfinite(distance))
    mine = mine[back[partner[mine]] == mine]
    return mine, partner[mine]


def _laid(seen: np.ndarray, reference: np.ndarray, before: Pose) -> Pose:
    """The pose near the one before in which most of what was ``seen`` ``(N, 2)`` lies on the ``reference``."""
    if len(seen) < 3 or len(reference) < 3:
        return Pose(before.shift, before.angle, 0.0, False)
    expected = before.away(reference)
    # All ways to bring a column onto another, as a histogram: the true shift has one vote from each pair.
    across = (seen[:, None] - expected[None]).reshape(-1, 2)
    across = across[np.abs(across).max(axis=1) <= JUMP]
    if not len(across):
        return Pose(before.shift, before.angle, 0.0, False)
    tree = cKDTree(across)
    cells = np.unique(np.round(across / STEP), axis=0) * STEP
    votes = np.array([len(near) for near in tree.query_ball_point(cells, SAME)], float)
    # Of shifts by a lattice vector, which lose no more than a row of columns, the shorter is the more likely.
    best = int(np.argmax(votes - 0.02 * len(reference) * np.linalg.norm(cells, axis=1)))
    pose = Pose(before.shift + cells[best], before.angle, 0.0, False)
    for _ in range(4):
        mine, theirs = pairs(seen, pose.away(reference), SAME)
        if len(mine) < 3:
            break
        pose = _fitted(seen[mine], reference[theirs])
    mine, theirs = pairs(seen, pose.away(reference), SAME)
    share = len(mine) / max(min(len(reference), len(seen)), 1)
    return Pose(pose.shift, pose.angle, share, share >= SHARE)


def _fitted(seen: np.ndarray, reference: np.ndarray) -> Pose:
    """The turn and shift that bring ``reference`` ``(P, 2)`` onto ``seen``, by least squares (Kabsch)."""
    middle, theirs = seen.mean(axis=0), reference.mean(axis=0)
    one, other = reference - theirs, seen - middle
    angle = float(np.arctan2((one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]).sum(), (one * other).sum()))
    pose = Pose(np.zeros(2), angle, 0.0, False)
    return Pose(middle - pose.turn @ theirs, angle, 0.0, False)

"""Registration of the frames: drift and rotation of the specimen, from the columns that most frames share.

Linking columns from frame to frame is neither necessary nor possible: the columns of a crystal look alike, and a hop
is as long as the distance to a neighbouring column. The lattice stays in place, so each frame is registered to the
accumulated columns of the frames before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from hrtem.movies.tracking.detections import Detections

#: Largest distance at which a column of a frame and a column of the reference count as the same, Å.
SAME = 0.8
#: Grid step of the shifts that are tried, and largest movement of the specimen from frame to frame, Å.
STEP, JUMP = 0.4, 6.0
#: Minimum share of the expected columns that must match the reference for a frame to count as registered.
SHARE = 0.4
#: Minimum probability of a column used for the registration.
SURE = 0.5
#: Number of frames after which the weight of a column falls by a factor e, so that the reference can change slowly.
MEMORY = 50.0


@dataclass(frozen=True)
class Pose:
    """Position and rotation of the specimen in a frame: ``place = reference @ turn.T + shift``.

    Attributes:
        shift: ``(2,)`` Å.
        angle: radians, from x towards y.
        share: share of the expected columns that were found at their expected positions.
        known: whether this share is large enough for a registration.
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
        """Transform positions ``(N, 2)`` Å from the frame to the reference."""
        return (positions - self.shift) @ self.turn

    def away(self, positions: np.ndarray) -> np.ndarray:
        """Transform positions ``(N, 2)`` Å from the reference to the frame."""
        return positions @ self.turn.T + self.shift


class Reference:
    """Drift-free positions of all columns seen so far; the first frame with columns defines the origin.

    Attributes:
        positions: ``(R, 2)`` Å.
        weights: ``(R,)`` sums of probabilities; later frames have larger weights, see :data:`MEMORY`.
    """

    def __init__(self) -> None:
        self.positions = np.zeros((0, 2))
        self.weights = np.zeros(0)
        self.pose = Pose(np.zeros(2), 0.0, 0.0, False)

    def follow(self, found: Detections, learn: bool = True) -> Pose:
        """Find the pose of the next frame and add its columns to the reference.

        A frame with too few columns at their expected positions gets the pose of the frame before, and the reference
        stays unchanged.
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
        # Remove positions at which a column was found only once, long ago.
        keep = self.weights > 0.05
        self.positions, self.weights = self.positions[keep], self.weights[keep]


def find_poses(frames: Sequence[Detections]) -> list[Pose]:
    """Find the pose of each frame in two passes; the second pass uses the final reference of the first."""
    reference = Reference()
    first = [reference.follow(found) for found in frames]
    answer = []
    for pose, found in zip(first, frames, strict=True):
        reference.pose = pose
        answer.append(reference.follow(found, learn=False))
    return answer


def pairs(one: np.ndarray, other: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices ``(P,)`` of mutually nearest points of ``(N, 2)`` and ``(M, 2)``, at most ``reach`` apart."""
    if not len(one) or not len(other):
        return np.zeros(0, int), np.zeros(0, int)
    distance, partner = cKDTree(other).query(one, distance_upper_bound=reach)
    _, back = cKDTree(one).query(other)
    mine = np.flatnonzero(np.isfinite(distance))
    mine = mine[back[partner[mine]] == mine]
    return mine, partner[mine]


def _laid(seen: np.ndarray, reference: np.ndarray, before: Pose) -> Pose:
    """Pose close to the pose ``before`` at which most columns ``seen`` ``(N, 2)`` match the ``reference``."""
    if len(seen) < 3 or len(reference) < 3:
        return Pose(before.shift, before.angle, 0.0, False)
    expected = before.away(reference)
    # All difference vectors vote for shifts, as in a histogram: the true shift gets a vote from each matching pair.
    across = (seen[:, None] - expected[None]).reshape(-1, 2)
    across = across[np.abs(across).max(axis=1) <= JUMP]
    if not len(across):
        return Pose(before.shift, before.angle, 0.0, False)
    tree = cKDTree(across)
    cells = np.unique(np.round(across / STEP), axis=0) * STEP
    votes = np.array([len(near) for near in tree.query_ball_point(cells, SAME)], float)
    # Shifts that differ by a lattice vector lose no more than a row of votes, so shorter shifts are preferred.
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
    """Rotation and shift that map ``reference`` ``(P, 2)`` to ``seen``, by least squares (Kabsch)."""
    middle, theirs = seen.mean(axis=0), reference.mean(axis=0)
    one, other = reference - theirs, seen - middle
    angle = float(np.arctan2((one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]).sum(), (one * other).sum()))
    pose = Pose(np.zeros(2), angle, 0.0, False)
    return Pose(middle - pose.turn @ theirs, angle, 0.0, False)

"""Brightness of each site in each frame, relative to permanent columns.

A network trained on crystals may find a false column between neighbours, in a notch of the surface. It makes this error
in every frame, so more frames do not correct it. The image itself contains the missing information. The contrast of a
site is its brightness minus the brightness of a ring around it. At a vacant site, this contrast is a small share of the
contrast of the columns inside the particle in the same frame, whether these are bright or dark. A column that hops
during an exposure has a contrast in proportion to its time at the site.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from hrtem.movies.tracking.registration import Pose
from hrtem.movies.tracking.sites import Sites, average_seen

#: Standard deviation of the Gaussian average, Å, and radius of the ring around a site, in shortest distances of sites.
BLUR, RING = 0.35, 0.5
#: Fewest permanent columns that define the scale of a frame, and the largest relative spread of their contrast.
FEWEST, WIDEST = 4, 0.5
#: Minimum share of registered frames with usable contrast; below it, brightness is ignored.
TOLD = 0.7


def measure_contrast(
    sites: Sites,
    seen: np.ndarray,
    poses: Sequence[Pose],
    image: Callable[[int], np.ndarray],
    sampling: float,
) -> np.ndarray:
    """Contrast of each site against its ring, relative to the bulk columns of the same frame, ``(T, S)``.

    The relative contrast is about 1 at a column and about 0 at a vacant site; it is NaN if a frame has no usable
    contrast.

    Args:
        sites: sites of the movie.
        seen: ``(T, S)``, probability of a column from each frame alone.
        poses: poses of the frames.
        image: function that returns frame n as read from the file, ``(Y, X)``; each frame is read once.
        sampling: Å/px.
    """
    answer = np.full(seen.shape, np.nan)
    there = average_seen(seen)
    steady = (there > 0.8) & ~sites.supported
    # A site surrounded by columns on all sides is a column, however rarely it was found.
    inside = ~sites.supported & (sites.coordination((there > 0.5).astype(int)) >= sites.full)
    scale = inside if inside.sum() >= FEWEST else steady
    if scale.sum() < FEWEST:
        return answer
    angles = np.arange(8) * np.pi / 4.0
    ring = RING * sites.spacing * np.column_stack([np.cos(angles), np.sin(angles)])
    for number, pose in enumerate(poses):
        if not pose.known:
            continue
        places = pose.away(sites.positions)
        found = _brightness(image(number), places, ring, sampling)
        typical = float(np.nanmedian(found[scale])) if np.isfinite(found[scale]).any() else 0.0
        spread = 1.4826 * float(np.nanmedian(np.abs(found[scale] - typical))) if typical else np.inf
        if spread < WIDEST * abs(typical):
            answer[number] = found / typical
    # If many frames have no usable contrast, bulk columns resemble vacant sites in the other frames as well.
    told = np.isfinite(answer[[pose.known for pose in poses]]).any(axis=1)
    return answer if told.mean() >= TOLD else np.full(seen.shape, np.nan)


def _brightness(image: np.ndarray, places: np.ndarray, ring: np.ndarray, sampling: float) -> np.ndarray:
    """Mean brightness at ``places`` ``(S, 2)`` Å minus that of the ``ring`` ``(K, 2)`` Å around each; NaN outside."""
    points = np.concatenate([places[:, None], places[:, None] + ring[None]], axis=1) / sampling
    inside = np.all((points >= 0.0) & (points <= np.array(image.shape[::-1]) - 1.0), axis=(1, 2))
    if not inside.any():
        return np.full(len(places), np.nan)
    # Smooth only the area around the particle.
    reach = 5.0 * BLUR / sampling
    low = np.maximum(np.floor(points[inside].min(axis=(0, 1)) - reach), 0).astype(int)
    high = np.ceil(points[inside].max(axis=(0, 1)) + reach).astype(int) + 1
    part = gaussian_filter(np.asarray(image[low[1] : high[1], low[0] : high[0]], np.float32), BLUR / sampling)
    values = map_coordinates(part, (points - low)[..., ::-1].reshape(-1, 2).T, order=1, mode="nearest")
    values = values.reshape(points.shape[:2])
    return np.where(inside, values[:, 0] - values[:, 1:].mean(axis=1), np.nan)

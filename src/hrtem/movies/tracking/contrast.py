"""How bright each site is in each frame, against columns that are always there.

A network that has learnt crystals may see a column where only its neighbours are, in a notch of the surface, and it
does so in every frame alike, so that no number of frames corrects it. The image itself tells: at a vacant site the
brightness above that of a ring around it is a small share of what it is at the columns inside the particle in the same
frame, be they bright or dark. What hops during an exposure has its share of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from hrtem.movies.tracking.registration import Pose
from hrtem.movies.tracking.sites import Sites, average_seen

#: Width of the Gaussian that a brightness is a mean over, Å, and the ring around it, in shortest distances of sites.
BLUR, RING = 0.35, 0.5
#: So many columns that are always there give a frame its scale, and their brightnesses spread no more than this share.
FEWEST, WIDEST = 4, 0.5
#: Of the frames that are known, a share that tells; with less none is believed.
TOLD = 0.7


def measure_contrast(
    sites: Sites,
    seen: np.ndarray,
    poses: Sequence[Pose],
    image: Callable[[int], np.ndarray],
    sampling: float,
) -> np.ndarray:
    """Brightness of each site above its ring, in that of the bulk columns of the same frame, ``(T, S)``.

    About 1 where a column stands and about 0 where none does; NaN where a frame cannot tell.

    Args:
        sites: of the movie.
        seen: ``(T, S)``, how probable a column is by each frame alone.
        poses: of the frames.
        image: gives frame n as it was read, ``(Y, X)``; each is read once.
        sampling: Å/px.
    """
    answer = np.full(seen.shape, np.nan)
    there = average_seen(seen)
    steady = (there > 0.8) & ~sites.supported
    # What columns stand around on all sides is a column, however seldom it was found.
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
    # A movie in which many frames cannot tell has columns of the bulk that look like vacant sites in the others too.
    told = np.isfinite(answer[[pose.known for pose in poses]]).any(axis=1)
    return answer if told.mean() >= TOLD else np.full(seen.shape, np.nan)


def _brightness(image: np.ndarray, places: np.ndarray, ring: np.ndarray, sampling: float) -> np.ndarray:
    """Mean brightness at ``places`` ``(S, 2)`` Å less that of the ``ring`` ``(K, 2)`` Å around each; NaN outside."""
    points = np.concatenate([places[:, None], places[:, None] + ring[None]], axis=1) / sampling
    inside = np.all((points >= 0.0) & (points <= np.array(image.shape[::-1]) - 1.0), axis=(1, 2))
    if not inside.any():
        return np.full(len(places), np.nan)
    # Only what lies around the particle is smoothed.
    reach = 5.0 * BLUR / sampling
    low = np.maximum(np.floor(points[inside].min(axis=(0, 1)) - reach), 0).astype(int)
    high = np.ceil(points[inside].max(axis=(0, 1)) + reach).astype(int) + 1
    part = gaussian_filter(np.asarray(image[low[1] : high[1], low[0] : high[0]], np.float32), BLUR / sampling)
    values = map_coordinates(part, (points - low)[..., ::-1].reshape(-1, 2).T, order=1, mode="nearest")
    values = values.reshape(points.shape[:2])
    return np.where(inside, values[:, 0] - values[:, 1:].mean(axis=1), np.nan)

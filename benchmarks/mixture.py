"""Atoms counted as in atom-resolved STEM: a mixture of normal distributions of the columns' integrated intensities.

S. Van Aert et al., Procedure to count atoms with trustworthy single-atom sensitivity, Phys. Rev. B 87 (2013) 064107;
the number of components is that of the least integrated classification likelihood criterion (ICL).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

#: Intensities are integrated up to this far from a column, Å, and no farther than half-way to the next.
RADIUS = 1.2
#: Rounds of expectation and maximisation at most, and the gain of the log-likelihood at which they end.
ROUNDS, GAIN = 500, 1e-6
#: Least standard deviation of the components, as a share of that of all intensities.
NARROWEST = 1e-3


@dataclass(frozen=True)
class Mixture:
    """Components of one common width.

    Attributes:
        means: ``(K,)``, in rising order.
        sigma: standard deviation of each.
        weights: ``(K,)``, which add up to 1.
        criterion: ICL, less is better.
        members: ``(N,)``, the most probable component of each of the intensities.
    """

    means: np.ndarray
    sigma: float
    weights: np.ndarray
    criterion: float
    members: np.ndarray


def fitted(values: np.ndarray, components: int) -> Mixture:
    """A mixture of so many components, by expectation and maximisation from quantiles on.

    Args:
        values: ``(N,)`` intensities.
        components: number K from 1 to N.
    """
    number, spread = len(values), max(float(values.std()), 1e-12)
    means = np.quantile(values, (np.arange(components) + 0.5) / components)
    sigma, weights, before = spread / components, np.full(components, 1.0 / components), -np.inf
    for _ in range(ROUNDS):
        exponent = -0.5 * ((values[:, None] - means) / sigma) ** 2 + np.log(np.maximum(weights, 1e-300))
        top = exponent.max(axis=1, keepdims=True)
        density = np.exp(exponent - top)
        total = density.sum(axis=1, keepdims=True)
        share = density / total
        likelihood = float(np.sum(top[:, 0] + np.log(total[:, 0]))) - number * np.log(sigma * np.sqrt(2.0 * np.pi))
        if likelihood - before < GAIN * number:
            break
        before = likelihood
        mass = np.maximum(share.sum(axis=0), 1e-12)
        means, weights = share.T @ values / mass, mass / number
        sigma = max(float(np.sqrt(np.sum(share * (values[:, None] - means) ** 2) / number)), NARROWEST * spread)
    entropy = -float(np.sum(share * np.log(np.maximum(share, 1e-300))))
    # Means, weights that add up to 1, and one width.
    criterion = -2.0 * likelihood + 2.0 * components * np.log(number) + 2.0 * entropy
    order = np.argsort(means)
    return Mixture(means[order], sigma, weights[order], criterion, np.argsort(order)[share.argmax(axis=1)])


def selected(values: np.ndarray, largest: int) -> Mixture:
    """The mixture of 1 to ``largest`` components that has the least ICL."""
    tries = [fitted(values, number) for number in range(1, min(largest, len(values)) + 1)]
    return min(tries, key=lambda one: one.criterion)


def intensities(image: np.ndarray, positions: np.ndarray, sampling: float) -> np.ndarray:
    """Integrated intensity above that of the image's median, of the pixels that are nearest to each column, ``(N,)``.

    Args:
        image: ``(Y, X)``.
        positions: ``(N, 2)`` Å.
        sampling: Å/px.
    """
    rows, columns = np.indices(image.shape)
    distance, nearest = cKDTree(positions).query(np.column_stack([columns.ravel(), rows.ravel()]) * sampling)
    near = distance <= RADIUS
    above = (image - np.median(image)).ravel()[near]
    return np.bincount(nearest[near], above, len(positions)) * sampling**2


def counted(images: np.ndarray, positions: np.ndarray, counts: np.ndarray, sampling: float, largest: int) -> np.ndarray:
    """Number of atoms of each column by the mixture, which is helped wherever it can be.

    It is given the true positions; and of the images of the series, of rising and falling intensity and of the numbers
    at which the lowest component may begin it takes, for each series, what agrees best with the truth.

    Args:
        images: ``(F, Y, X)``.
        positions: ``(N, 2)`` Å, where the columns are.
        counts: ``(N,)``, the truth.
        sampling: Å/px.
        largest: number of atoms.

    Returns:
        ``(N,)``.
    """
    best, chosen = -1.0, np.ones(len(counts), int)
    for image in images:
        mixture = selected(intensities(image, positions, sampling), largest)
        components = len(mixture.means)
        for rank in (mixture.members, components - 1 - mixture.members):
            for first in range(1, max(1, largest - components + 1) + 1):
                share = float(np.mean(rank + first == counts))
                if share > best:
                    best, chosen = share, rank + first
    return chosen

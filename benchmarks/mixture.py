"""Atom counting as in atom-resolved STEM, by a Gaussian mixture model of the columns' integrated intensities.

S. Van Aert et al., Procedure to count atoms with trustworthy single-atom sensitivity, Phys. Rev. B 87 (2013) 064107;
the number of components minimises the integrated classification likelihood criterion (ICL).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

#: Radius of integration around a column, Å; a pixel belongs only to the nearest column.
RADIUS = 1.2
#: Maximum number of expectation-maximisation steps, and gain of the log-likelihood per value that ends the iteration.
ROUNDS, GAIN = 500, 1e-6
#: Minimum standard deviation of the components, as a fraction of the standard deviation of all intensities.
NARROWEST = 1e-3


@dataclass(frozen=True)
class Mixture:
    """Gaussian mixture with a common width of all components.

    Attributes:
        means: means of the components ``(K,)``, in ascending order.
        sigma: standard deviation of each component.
        weights: weights of the components ``(K,)``; their sum is 1.
        criterion: ICL; a smaller value is better.
        members: most probable component of each intensity, ``(N,)``.
    """

    means: np.ndarray
    sigma: float
    weights: np.ndarray
    criterion: float
    members: np.ndarray


def fitted(values: np.ndarray, components: int) -> Mixture:
    """Fit a Gaussian mixture by expectation maximisation, with quantiles as initial means.

    Args:
        values: intensities ``(N,)``.
        components: number of components K, from 1 to N.
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
    # 2 K parameters: K means, K - 1 independent weights and one width.
    criterion = -2.0 * likelihood + 2.0 * components * np.log(number) + 2.0 * entropy
    order = np.argsort(means)
    return Mixture(means[order], sigma, weights[order], criterion, np.argsort(order)[share.argmax(axis=1)])


def selected(values: np.ndarray, largest: int) -> Mixture:
    """Fit mixtures of 1 to ``largest`` components and return the one with the smallest ICL."""
    tries = [fitted(values, number) for number in range(1, min(largest, len(values)) + 1)]
    return min(tries, key=lambda one: one.criterion)


def intensities(image: np.ndarray, positions: np.ndarray, sampling: float) -> np.ndarray:
    """Integrate the intensity above the median of the image over the pixels nearest to each column, ``(N,)``.

    Args:
        image: image ``(Y, X)``.
        positions: positions of the columns ``(N, 2)`` Å.
        sampling: pixel size, Å/px.
    """
    rows, columns = np.indices(image.shape)
    distance, nearest = cKDTree(positions).query(np.column_stack([columns.ravel(), rows.ravel()]) * sampling)
    near = distance <= RADIUS
    above = (image - np.median(image)).ravel()[near]
    return np.bincount(nearest[near], above, len(positions)) * sampling**2


def counted(images: np.ndarray, positions: np.ndarray, counts: np.ndarray, sampling: float, largest: int) -> np.ndarray:
    """Count the atoms in each column with the mixture model, with as much help from the truth as possible.

    The method gets the true positions. For each series, the choices with the best agreement with the truth are used:
    the image of the series, whether intensity rises or falls with the count, and the count of the lowest component.

    Args:
        images: focal series ``(F, Y, X)``.
        positions: true positions of the columns ``(N, 2)`` Å.
        counts: true numbers of atoms ``(N,)``.
        sampling: pixel size, Å/px.
        largest: largest number of atoms in a column.

    Returns:
        Numbers of atoms ``(N,)``.
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

"""Check of the pixel size against the known lattice spacings of the crystal in the image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase.data import atomic_numbers, reference_states
from scipy import fft, ndimage

from hrtem.micrograph.image import Micrograph

#: Largest side of the central square in which the lattice is searched, px.
SQUARE = 1024
#: Probability of a false spot in the power spectrum of pure noise.
FALSE_ALARM = 1e-3
#: Minimum power of a spot as a share of the strongest spot.
FAINTEST = 1e-3
#: Relative width of a ring: spots with spacings within it belong together.
RING = 0.06
#: Relative error of the pixel size below which no warning is given; strain and distortion have the same size.
TOLERANCE = 0.04


def measure_lattice_factor(image: np.ndarray, sampling: float, spacings: Sequence[float]) -> float | None:
    """Measure the factor that corrects the pixel size so that the lattice has its known spacings.

    Spots are local maxima of the power spectrum above the noise at the same frequency; the power of noise divided by
    its mean is exponentially distributed. If the strongest ring of spots agrees with any known spacing, the pixel
    size is right within the strain; otherwise the strongest ring is assigned to the first spacing.

    Args:
        image: ``(Y, X)``, with any gain, offset and sign.
        sampling: assumed pixel size, Å/px.
        spacings: spacings of the visible lattice planes, Å, the spacing of the strongest ring first.

    Returns:
        The factor, or None if no lattice is visible: fewer than two pairs of spots on one ring.
    """
    frequency, excess = _spots(image)
    if len(frequency) < 4:
        return None
    weight = np.log(excess)
    spacing = sampling / frequency
    rings = [np.abs(np.log(spacing / one)) < 0.5 * RING for one in spacing]
    strongest = max(rings, key=lambda ring: float(weight[ring].sum()))
    if strongest.sum() < 4:
        return None
    measured = float(np.exp(np.average(np.log(spacing[strongest]), weights=weight[strongest])))
    factors = [known / measured for known in spacings]
    fitting = [factor for factor in factors if abs(math.log(factor)) < TOLERANCE]
    return fitting[0] if fitting else factors[0]


def check_lattice(micrograph: Micrograph, spacings: Sequence[float]) -> str | None:
    """Return a warning with the correction factor if lattice and pixel size disagree by more than 4 %, else None.

    Args:
        micrograph: the images; the middle image is analysed.
        spacings: spacings of the sample's lattice planes, Å; see :func:`measure_lattice_factor`.
    """
    if micrograph.sampling is None or not spacings:
        return None
    # Pixels that hold no image repeat their neighbours, which looks like a lattice.
    held = [np.flatnonzero(micrograph.valid.any(axis=axis)) for axis in (1, 0)]
    part = tuple(slice(one[0], one[-1] + 1) for one in held)
    image = micrograph.images[len(micrograph.images) // 2][part]
    factor = measure_lattice_factor(image, micrograph.sampling, spacings)
    if factor is None or abs(math.log(factor)) < TOLERANCE:
        return None
    return (
        f"The pixel size of {micrograph.source}, {micrograph.sampling:.4g} Å, looks wrong by a factor of {factor:.3g}: "
        f"its lattice shows {spacings[0] / factor:.3g} Å where the sample has {spacings[0]:.3g} Å; unless it is "
        f"another sample, give sampling={micrograph.sampling * factor:.4g}."
    )


def lattice_spacings(sample: Mapping[str, Any], optics: Mapping[str, Any]) -> tuple[float, ...]:
    """Spacings of the strongest lattice planes, Å, of a model's sample; empty if the settings do not determine them.

    Args:
        sample, optics: settings in the checkpoint, as in the configuration. A metal has the spacings of {111}, {200}
            and {220} for a face-centred cubic lattice, or {110}, {200} and {211} for a body-centred cubic lattice. A
            sheet has the ``lattice_spacing`` of its optics settings, and the next spacing of a hexagonal lattice.
    """
    element = sample.get("element")
    if element is not None:
        if element not in atomic_numbers:
            return ()
        state: Mapping[str, Any] = reference_states[atomic_numbers[element]] or {}
        constant = sample.get("lattice_constant") or state.get("a")
        planes = {"fcc": (3, 4, 8), "bcc": (2, 4, 6)}.get(str(state.get("symmetry")), ())
        return tuple(float(constant) / math.sqrt(plane) for plane in planes) if constant else ()
    spacing = optics.get("lattice_spacing")
    return () if spacing is None else (float(spacing), float(spacing) / math.sqrt(3.0))


def _spots(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies of the spots of the power spectrum, 1/px, and the ratios of their power to the local noise power."""
    rows, columns = ((length - min(length, SQUARE)) // 2 for length in image.shape)
    square = image[rows : rows + SQUARE, columns : columns + SQUARE].astype(np.float64)
    square = (square - square.mean()) * np.outer(*(np.hanning(length) for length in square.shape))
    side = max(square.shape)
    power = np.abs(fft.fft2(square, (side, side))) ** 2
    frequency = np.hypot(fft.fftfreq(side)[:, None], fft.fftfreq(side))
    ring = np.rint(frequency * side).astype(int)
    noise = ndimage.median(power, ring, np.arange(ring.max() + 1)) / math.log(2.0)
    excess = power / np.maximum(noise[ring], 1e-30)
    seen = (ring >= 6) & (frequency < 0.5)
    spot = seen & (excess > math.log(np.count_nonzero(seen) / FALSE_ALARM))
    spot &= power == ndimage.maximum_filter(power, size=5, mode="wrap")
    spot &= power > FAINTEST * power[spot].max(initial=0.0)
    # Centre of mass of each spot in power: with few periods in the image, the spot frequency is only a few pixels.
    row, column = np.nonzero(spot)
    around = np.stack([power[(row + j) % side, (column + i) % side] for j in (-1, 0, 1) for i in (-1, 0, 1)])
    steps = np.array([(j, i) for j in (-1, 0, 1) for i in (-1, 0, 1)])
    offset = steps.T @ around / around.sum(axis=0)
    ky, kx = (fft.fftfreq(side)[place] + part / side for place, part in zip((row, column), offset, strict=True))
    return np.hypot(ky, kx), excess[spot]

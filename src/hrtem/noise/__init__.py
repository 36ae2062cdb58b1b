"""Detectors: from the expected image to counts, in torch, for a whole batch.

Every model draws its own settings for each example (``draw``) and then simulates counts from an expected image
(``__call__``). Each example has its own random generator, so that an image does not depend on its batch or on the rank
of the device that computes it.

All models are linear with additive noise: the electrons that a camera reports for an expected image x are ``T x + n``,
where T is the signal transfer (MTF) and n has the covariance ``H diag(s) Hᵀ + r² I``. The methods
``signal_transfer``, ``noise_transfer``, ``shot_variance`` and ``readout_variance`` return T, H, s and r²; the counts
are simulated with the same methods.
"""

from hrtem.noise.detectors import Madsen2018, Noiseless, Physical, Poisson, record_counts

__all__ = ["Madsen2018", "Noiseless", "Physical", "Poisson", "record_counts"]

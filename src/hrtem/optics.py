"""From exit waves to the images that an ideal detector would see, in torch, for a whole batch.

Aberrations follow abTEM: ``C10 = -defocus``, phase error χ in polar coordinates, transfer ``exp(-iχ)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hrtem.errors import InputError
from hrtem.ranges import Range

Parameters = dict[str, Tensor]

#: Complex pixels that are imaged at a time on a CPU, about a megabyte.
CACHED_PIXELS = 2**17

#: Amplitude below which the temporal envelope counts as zero.
PASSED = 1e-6


def wavelength(energy: float) -> float:
    """Relativistic electron wavelength in Å at ``energy`` in eV (Kirkland 2010, equation 2.5)."""
    planck_light, rest = 12398.41984, 510998.95  # h c in eV Å, m c² in eV
    return planck_light / math.sqrt(energy * (2.0 * rest + energy))


class Optics:
    """A microscope whose settings vary from image to image.

    A fixed setting is a number, a varying one a range ``[low, high]``; see :class:`hrtem.ranges.Range`.

    Args:
        num_images: images in the focal series.
        energy: beam energy, eV.
        defocus: of the middle of the series, Å; positive is underfocus.
        defocus_step: from image to image, Å; not used for a single image.
        Cs: spherical aberration C30, Å (1 µm = 1e4 Å).
        astigmatism: magnitude of twofold astigmatism C12, Å; its angle is random.
        focal_spread: 1/e width of the defocus distribution, Å (√2 times its standard deviation).
        angular_spread: 1/e half-width of the illumination cone, mrad.
        vibration: standard deviation of the isotropic image blur, Å.
        dose: electrons per Å² in each image, drawn on a log scale.
        test_doses: doses that tests tell apart, e/Å².
        lattice_spacing: of the fringes by which an operator judges the image, Å.
        lattice_contrast: smallest share of the ideal phase contrast that these fringes must keep in every
            direction, without changing sign from one to another; settings that show less are drawn again, as
            an operator would. 0 keeps all.
    """

    def __init__(
        self,
        num_images: int,
        energy: float,
        defocus: Any,
        defocus_step: Any,
        Cs: Any,
        astigmatism: Any,
        focal_spread: Any,
        angular_spread: Any,
        vibration: Any,
        dose: Any,
        test_doses: Sequence[float] = (),
        lattice_spacing: float = 2.0,
        lattice_contrast: float = 0.0,
    ) -> None:
        if isinstance(num_images, bool) or not isinstance(num_images, int) or not 1 <= num_images <= 64:
            raise InputError(f"focal must be a whole number of images from 1 to 64, got {num_images}.")
        self.num_images = num_images
        self.energy = Range.parse("optics.energy", energy, unit="eV", minimum=1e4, maximum=1e6).low
        self.defocus = Range.parse("optics.defocus", defocus, unit="Å", minimum=-1e5, maximum=1e5)
        self.defocus_step = Range.parse("optics.defocus_step", defocus_step, unit="Å", minimum=-1e4, maximum=1e4)
        self.ranges = {
            "Cs": Range.parse("optics.Cs", Cs, unit="Å", minimum=-1e8, maximum=1e8),
            "astigmatism": Range.parse("optics.astigmatism", astigmatism, unit="Å", minimum=0.0, maximum=1e4),
            "focal_spread": Range.parse("optics.focal_spread", focal_spread, unit="Å", minimum=0.0, maximum=1e3),
            "angular_spread": Range.parse(
                "optics.angular_spread", angular_spread, unit="mrad", minimum=0.0, maximum=10.0
            ),
            "vibration": Range.parse("optics.vibration", vibration, unit="Å", minimum=0.0, maximum=5.0),
            "dose": Range.parse("optics.dose", dose, unit="e/Å²", minimum=1e-3, maximum=1e9, log=True),
        }
        self.test_doses = tuple(
            Range.parse("optics.test_doses", one, unit="e/Å²", minimum=1e-3, maximum=1e9).low for one in test_doses
        )
        self.lattice_spacing = Range.parse("optics.lattice_spacing", lattice_spacing, unit="Å", minimum=0.5).low
        self.lattice_contrast = Range.parse("optics.lattice_contrast", lattice_contrast, minimum=0.0, maximum=0.9).low

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Settings of one focal series: ``defocus`` of shape ``(F,)``, all others scalars."""
        for _ in range(1000):
            settings = self._draw(rng)
            if self.lattice_contrast == 0.0 or self.visibility(settings) >= self.lattice_contrast:
                return settings
        raise InputError(
            f"optics must be able to show fringes of {self.lattice_spacing:g} Å with a contrast of at least "
            f"lattice_contrast = {self.lattice_contrast:g}, and none of 1000 draws from its ranges does."
        )

    def visibility(self, settings: dict[str, np.ndarray]) -> float:
        """Phase contrast of the lattice fringes, from 0 to 1, in the worst direction of the best image.

        An image whose fringes have opposite signs in two directions counts as 0: there, astigmatism moves the
        pattern of a perfect lattice by half a cell, and no one could tell where the atoms are.
        """
        k, length = 1.0 / self.lattice_spacing, wavelength(self.energy)
        angle = np.linspace(0.0, math.pi, 24, endpoint=False)
        focus = settings["astigmatism"] * np.cos(2.0 * angle) - settings["defocus"][:, None]
        chi = math.pi * length * k**2 * (focus + 0.5 * settings["Cs"] * (length * k) ** 2)
        envelope = np.exp(-((0.5 * math.pi * length * settings["focal_spread"] * k**2) ** 2))
        envelope *= np.exp(-2.0 * (math.pi * settings["vibration"] * k) ** 2)
        signed = np.sin(chi)
        worst = np.where(np.ptp(np.sign(signed), axis=1) > 0, 0.0, np.abs(signed).min(axis=1))
        return float(worst.max() * envelope)

    def _draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        order = np.arange(self.num_images) - (self.num_images - 1) / 2
        settings: dict[str, Any] = {"defocus": self.defocus.draw(rng) + order * self.defocus_step.draw(rng)}
        settings |= {name: value.draw(rng) for name, value in self.ranges.items()}
        settings["astigmatism_angle"] = rng.uniform(0.0, math.pi)
        return {name: np.asarray(value, dtype=np.float32) for name, value in settings.items()}

    def __call__(self, wave: Tensor, parameters: Parameters, sampling: float) -> Tensor:
        """Expected image intensity.

        Args:
            wave: exit waves, complex ``(B, Y, X)``.
            parameters: as :meth:`draw` gives them, with a leading batch axis.
            sampling: Å/px.

        Returns:
            Intensity, real ``(B, F, Y, X)``, 1 where nothing scatters.
        """
        weights, decay = self._coefficients(parameters)
        cone = parameters if bool((parameters["angular_spread"] > 0).any()) else None
        shape = (wave.shape[-2], wave.shape[-1])
        band = _band(shape, sampling, float(decay.min()))
        spectrum = _inner(torch.fft.fft2(wave), band)[:, None]
        # A few examples at a time stay in a processor's cache, which is twice as fast; a GPU takes all at once.
        step = max(1, CACHED_PIXELS // spectrum[0].numel()) if wave.device.type == "cpu" else len(wave)
        intensity = torch.empty(*weights.shape[:2], *wave.shape[-2:], device=wave.device)
        for first in range(0, len(wave), step):
            part = slice(first, first + step)
            seen = None if cone is None else {name: value[part] for name, value in cone.items()}
            # Nothing passes beyond the band, so its rows are transformed first and all others stay zero.
            transfer = self._transfer(shape, band, weights[part], decay[part], seen, sampling)
            rows = _spread(transfer.mul_(spectrum[part]), band, shape[1])
            image_wave = torch.fft.ifft(_spread(torch.fft.ifft(rows).mT, band, shape[0])).mT
            # Several times faster than the square of abs(), which guards against overflow.
            torch.addcmul(image_wave.real.square(), image_wave.imag, image_wave.imag, out=intensity[part])
        vibration = parameters["vibration"]
        if not bool((vibration > 0).any()):
            return intensity
        kx, ky = frequencies(wave.shape[-2:], sampling, wave.device, half=True)
        blur = torch.exp(-2.0 * math.pi**2 * vibration[:, None, None] ** 2 * (kx**2 + ky**2))
        return filtered(intensity, blur[:, None])

    def transfer(self, shape: tuple[int, int] | torch.Size, parameters: Parameters, sampling: float) -> Tensor:
        """Coherent transfer function with its envelopes, complex ``(B, F, Y, X)``, zero frequency first."""
        cone = parameters if bool((parameters["angular_spread"] > 0).any()) else None
        whole = (shape[0], shape[1])
        return self._transfer(whole, None, *self._coefficients(parameters), cone, sampling)

    def _coefficients(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """Weights ``(B, F, 4)`` of the monomials in χ, and ``(B, 1, 1)`` of k⁴ in the temporal envelope.

        χ = π λ (C10 k² + C12 k² cos 2(φ - φ12) + C30 λ² k⁴ / 2).
        """
        length = wavelength(self.energy)
        defocus = parameters["defocus"]
        C12, angle = parameters["astigmatism"], 2.0 * parameters["astigmatism_angle"]
        shared = torch.stack(
            [C12 * torch.cos(angle), C12 * torch.sin(angle), 0.5 * length**2 * parameters["Cs"]], dim=-1
        )
        weights = torch.cat([-defocus[..., None], shared[:, None].expand(-1, defocus.shape[1], -1)], dim=-1)
        decay = (0.5 * math.pi * length * parameters["focal_spread"]) ** 2
        return math.pi * length * weights, decay[:, None, None]

    def _transfer(
        self,
        shape: tuple[int, int],
        band: int | None,
        weights: Tensor,
        decay: Tensor,
        cone: Parameters | None,
        sampling: float,
    ) -> Tensor:
        """Transfer function in a band, from :meth:`_coefficients`.

        ``cone`` holds all settings where the illumination converges.
        """
        basis = _monomials(shape, band, sampling, weights.device)
        chi = torch.tensordot(weights, basis, dims=1)
        envelope = torch.exp(-decay[..., None] * basis[3])
        if cone is not None:
            length = wavelength(self.energy)
            kx, ky = _banded_frequencies(shape, band, sampling, weights.device)
            envelope = envelope * self._spatial_envelope(kx * length, ky * length, cone)
        return torch.complex(torch.cos(chi).mul_(envelope), torch.sin(chi).mul_(-envelope))

    def _spatial_envelope(self, ax: Tensor, ay: Tensor, parameters: Parameters) -> Tensor:
        """``exp(-(β/2)² |∇χ|²)`` with the gradient with respect to the scattering angle (abTEM's form)."""
        angle = 2.0 * parameters["astigmatism_angle"][:, None, None, None]
        C12 = parameters["astigmatism"][:, None, None, None]
        defocus = parameters["defocus"][:, :, None, None]
        Cs = parameters["Cs"][:, None, None, None]
        radial = Cs * (ax**2 + ay**2) - defocus
        gx = radial * ax + C12 * (ax * torch.cos(angle) + ay * torch.sin(angle))
        gy = radial * ay + C12 * (ax * torch.sin(angle) - ay * torch.cos(angle))
        beta = 1e-3 * parameters["angular_spread"][:, None, None, None]
        gradient2 = (2.0 * math.pi / wavelength(self.energy)) ** 2 * (gx**2 + gy**2)
        return torch.exp(-((beta / 2.0) ** 2) * gradient2)


def frequencies(
    shape: tuple[int, int] | torch.Size, sampling: float, device: torch.device, half: bool = False
) -> tuple[Tensor, Tensor]:
    """Spatial frequencies kx ``(1, X)`` and ky ``(Y, 1)`` in 1/Å; ``half`` keeps kx of a real transform."""
    rows, columns = shape
    along = torch.fft.rfftfreq if half else torch.fft.fftfreq
    kx = along(columns, sampling, device=device)
    ky = torch.fft.fftfreq(rows, sampling, device=device)
    return kx[None, :], ky[:, None]


def _band(shape: tuple[int, int], sampling: float, decay: float) -> int | None:
    """Highest harmonic of the shorter side that an envelope ``exp(-decay k⁴)`` passes, or None if all do."""
    if shape[0] != shape[1] or decay <= 0.0:
        return None
    highest = (-math.log(PASSED) / decay) ** 0.25
    harmonic = math.ceil(highest * shape[0] * sampling)
    return harmonic if 2 * harmonic + 1 < shape[0] else None


def _inner(spectrum: Tensor, band: int | None) -> Tensor:
    """The harmonics up to ``band`` of both last axes, in the order of the transform."""
    if band is None:
        return spectrum
    rows = torch.cat([spectrum[..., : band + 1, :], spectrum[..., -band:, :]], dim=-2)
    return torch.cat([rows[..., : band + 1], rows[..., -band:]], dim=-1)


def _spread(spectrum: Tensor, band: int | None, size: int) -> Tensor:
    """Put harmonics up to ``band`` of the last axis into a transform of ``size``."""
    if band is None:
        return spectrum
    whole = spectrum.new_zeros(*spectrum.shape[:-1], size)
    whole[..., : band + 1] = spectrum[..., : band + 1]
    whole[..., -band:] = spectrum[..., -band:]
    return whole


def _banded_frequencies(
    shape: tuple[int, int], band: int | None, sampling: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    kx, ky = frequencies(shape, sampling, device)
    if band is None:
        return kx, ky
    return torch.cat([kx[:, : band + 1], kx[:, -band:]], dim=1), torch.cat([ky[: band + 1], ky[-band:]])


@lru_cache(maxsize=32)
def _monomials(shape: tuple[int, int], band: int | None, sampling: float, device: torch.device) -> Tensor:
    """k², k² cos 2φ, k² sin 2φ and k⁴ at the frequencies of a band, ``(4, Y, X)``."""
    kx, ky = _banded_frequencies(shape, band, sampling, device)
    k2 = kx**2 + ky**2
    return torch.stack([k2, kx**2 - ky**2, 2.0 * kx * ky, k2**2])


def filtered(images: Tensor, response: Tensor) -> Tensor:
    """Real ``images`` ``(..., Y, X)`` times a ``response`` given on the half plane of :func:`frequencies`."""
    return torch.fft.irfft2(torch.fft.rfft2(images) * response, s=images.shape[-2:])

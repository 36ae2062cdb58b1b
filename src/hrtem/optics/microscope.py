"""The microscope: random settings for each focal series, and image formation from exit waves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hrtem.errors import InputError
from hrtem.optics import coherence
from hrtem.optics.delocalisation import FIELD, PIXEL, errors_beyond
from hrtem.optics.fourier import filter_image, frequencies, inner
from hrtem.optics.habits import question_units
from hrtem.optics.intensity import coherent, mode_transfer, quasi_coherent, summed
from hrtem.optics.transfer import Parameters, highest_harmonic, lens, transfer_function, wavelength
from hrtem.ranges import Range, parse_choice, parse_list, parse_number

#: Treatment of the focal spread: ``exact`` is the sum of intensities, ``envelope`` the quasi-coherent approximation.
COHERENCE = ("exact", "envelope")

#: Largest error that :meth:`Optics.margin` allows, number of draws for its estimate, and smallest margin, Å.
MARGIN_ERROR, MARGIN_DRAWS, LEAST_MARGIN = 0.01, 18, 5.0

#: Settings with a random azimuth, and the order of their rotational symmetry.
ROTATED = {"astigmatism": 2, "threefold": 3, "coma": 1, "drift": 1, "series_drift": 1}

#: Reference of a dose: each image or the whole series.
DOSE_PER = ("image", "series")

#: Relative change of the defocus by twofold astigmatism in 24 directions over half a turn.
TWOFOLD = np.cos(2.0 * np.linspace(0.0, math.pi, 24, endpoint=False))


class Optics:
    """A microscope with random settings for each focal series.

    A fixed setting is a number, a variable setting a range ``[low, high]``; see :class:`hrtem.ranges.Range`.
    Positions refer to the middle image of a series; all other images may be shifted relative to it.

    Args:
        num_images: number of images in the focal series.
        energy: beam energy, eV.
        defocus: defocus in the middle of the series, Å; positive is underfocus.
        defocus_step: change of defocus from image to image, Å; unused for a single image.
        Cs: spherical aberration C30, Å (1 µm = 1e4 Å).
        astigmatism: magnitude of twofold astigmatism C12, Å; its angle is random.
        focal_spread: 1/e width of the defocus distribution, Å (√2 times its standard deviation).
        angular_spread: 1/e half-width of the illumination cone, mrad.
        vibration: standard deviation of the isotropic image blur, Å.
        dose: electrons per Å² of each image or series, see ``dose_per``, drawn on a log scale.
        test_doses: doses at which tests report separate results, e/Å² of each image or series.
        lattice_spacing: spacing of the lattice fringes by which an operator would judge the image, Å.
        lattice_contrast: smallest allowed contrast of these fringes in every direction, as a fraction of the ideal
            phase contrast; the contrast must have the same sign in all directions. Settings with less contrast are
            drawn again, as an operator would readjust the microscope. 0 keeps all settings.
        C5: spherical aberration of fifth order C50, Å (1 mm = 1e7 Å).
        threefold: magnitude of threefold astigmatism C23, Å; its angle is random.
        coma: magnitude of axial coma C21, Å; its angle is random.
        drift: distance by which the image moves during each exposure, Å, in a random direction.
        defocus_error: standard deviation of each image's defocus from its nominal value in the series, Å.
        misalignment: standard deviation, along x and y, of each image's shift relative to the middle image, Å.
        series_drift: additional shift from image to image, Å, in a random direction.
        coherence: ``exact`` sums intensities over the focal spread, see :mod:`hrtem.optics.coherence`; ``envelope``
            multiplies the wave by an envelope (quasi-coherent), which is wrong for strong objects.
        dose_per: ``image``: doses refer to each image; ``series``: doses refer to the whole series and are divided
            equally among its images, so that series of different lengths expose the specimen to the same total dose.
        missing: probability that an image of a series is missing, independent of the others; at least one image
            remains. It trains a network to work with incomplete series.
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
        C5: Any = 0.0,
        threefold: Any = 0.0,
        coma: Any = 0.0,
        drift: Any = 0.0,
        defocus_error: Any = 0.0,
        misalignment: Any = 0.0,
        series_drift: Any = 0.0,
        coherence: str = "exact",
        dose_per: str = "image",
        missing: float = 0.0,
    ) -> None:
        if isinstance(num_images, bool) or not isinstance(num_images, int) or not 1 <= num_images <= 64:
            raise InputError(f"focal must be a whole number of images from 1 to 64, got {num_images}.")

        def parsed(name: str, value: Any, unit: str, minimum: float, maximum: float, log: bool = False) -> Range:
            return Range.parse(f"optics.{name}", value, unit=unit, minimum=minimum, maximum=maximum, log=log)

        def fixed(name: str, value: Any, unit: str, minimum: float, maximum: float) -> float:
            return parse_number(f"optics.{name}", value, unit=unit, minimum=minimum, maximum=maximum)

        self.num_images, self.missing = num_images, fixed("missing", missing, "", 0.0, 0.9)
        self.dose_per = parse_choice("optics.dose_per", dose_per, DOSE_PER)
        self.coherence = parse_choice("optics.coherence", coherence, COHERENCE)
        self.energy = fixed("energy", energy, "eV", 10.0, 1e6)
        self.defocus = parsed("defocus", defocus, "Å", -1e5, 1e5)
        self.defocus_step = parsed("defocus_step", defocus_step, "Å", -1e4, 1e4)
        self.defocus_error = parsed("defocus_error", defocus_error, "Å", 0.0, 1e4)
        self.misalignment = parsed("misalignment", misalignment, "Å", 0.0, 20.0)
        self.series_drift = parsed("series_drift", series_drift, "Å", 0.0, 20.0)
        self.ranges = {
            "Cs": parsed("Cs", Cs, "Å", -1e8, 1e8),
            "C5": parsed("C5", C5, "Å", -1e10, 1e10),
            "astigmatism": parsed("astigmatism", astigmatism, "Å", 0.0, 1e4),
            "threefold": parsed("threefold", threefold, "Å", 0.0, 1e5),
            "coma": parsed("coma", coma, "Å", 0.0, 1e5),
            "focal_spread": parsed("focal_spread", focal_spread, "Å", 0.0, 1e3),
            "angular_spread": parsed("angular_spread", angular_spread, "mrad", 0.0, 10.0),
            "vibration": parsed("vibration", vibration, "Å", 0.0, 5.0),
            "drift": parsed("drift", drift, "Å", 0.0, 20.0),
            "dose": parsed("dose", dose, "e/Å²", 1e-3, 1e9, log=True),
        }
        question_units(self.energy, self.ranges["Cs"], self.defocus)
        doses = parse_list("optics.test_doses", test_doses)
        self.test_doses = tuple(fixed("test_doses", one, "e/Å²", 1e-3, 1e9) for one in doses)
        self.lattice_spacing = fixed("lattice_spacing", lattice_spacing, "Å", 0.5, 100.0)
        self.lattice_contrast = fixed("lattice_contrast", lattice_contrast, "", 0.0, 0.9)

    def image_dose(self, dose: float) -> float:
        """Dose of each image, e/Å², for a ``dose`` per image or series, see ``dose_per``."""
        return dose / self.num_images if self.dose_per == "series" else dose

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw the settings of one focal series.

        ``defocus`` has the shape ``(F,)``, ``shift`` ``(F, 2)`` (Å, in x and y); other settings are scalars. ``dose``
        refers to each image. If images may be missing, ``present`` ``(F,)`` is 1 for the existing images.
        """
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

        An image whose fringes have opposite signs in two directions counts as 0: astigmatism then shifts the pattern of
        a perfect lattice by half a cell, so that atoms cannot be located. Aberrations of odd order shift fringes
        without reducing their contrast and are ignored.
        """
        k, length = 1.0 / self.lattice_spacing, wavelength(self.energy)
        focus = settings["astigmatism"] * TWOFOLD - settings["defocus"][:, None]
        spherical = settings["Cs"] * (length * k) ** 2 / 2.0 + settings["C5"] * (length * k) ** 4 / 3.0
        chi = math.pi * length * k**2 * (focus + spherical)
        envelope = np.exp(-((0.5 * math.pi * length * settings["focal_spread"] * k**2) ** 2))
        envelope *= np.exp(-2.0 * (math.pi * settings["vibration"] * k) ** 2)
        signed = np.sin(chi)
        worst = np.where(np.ptp(np.sign(signed), axis=1) > 0, 0.0, np.abs(signed).min(axis=1))
        return float(worst.max() * envelope)

    def _draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        order = np.arange(self.num_images) - (self.num_images - 1) / 2
        settings: dict[str, Any] = {"defocus": self.defocus.draw(rng) + order * self.defocus_step.draw(rng)}
        settings |= {name: value.draw(rng) for name, value in self.ranges.items()}
        settings["dose"] = self.image_dose(settings["dose"])
        angles = {name: rng.uniform(0.0, 2.0 * math.pi / fold) for name, fold in ROTATED.items()}
        settings |= {f"{name}_angle": angles[name] for name in ROTATED if name != "series_drift"}
        settings["defocus"] = settings["defocus"] + rng.normal(scale=self.defocus_error.draw(rng), size=order.shape)
        middle = self.num_images // 2
        along = np.array([math.cos(angles["series_drift"]), math.sin(angles["series_drift"])])
        shift = (order - order[middle])[:, None] * self.series_drift.draw(rng) * along
        jitter = rng.normal(scale=self.misalignment.draw(rng), size=shift.shape)
        settings["shift"] = shift + np.where(np.arange(self.num_images)[:, None] == middle, 0.0, jitter)
        if self.missing > 0.0:
            present = rng.random(self.num_images) >= self.missing
            present[rng.integers(self.num_images)] |= not present.any()
            settings["present"] = present
        return {name: np.asarray(value, dtype=np.float32) for name, value in settings.items()}

    def margin(self, sampling: float, said: int | str = "auto") -> int:
        """Margin, px, by which a window of the wave must exceed the image patch on each side.

        With this margin, the error at the border of a patch is at most :data:`MARGIN_ERROR` of the contrast, as a root
        mean square over :data:`MARGIN_DRAWS` draws of the settings; see :mod:`hrtem.optics.delocalisation`.

        Args:
            sampling: Å/px.
            said: setting of the recipe: a number of pixels, or ``auto`` for the margin that the optics needs.

        Raises:
            InputError: ``said`` is neither ``auto`` nor a whole number from 0 up, or the error exceeds the limit even
                for a margin of half the field of the point spread functions.
        """
        if said != "auto":
            if isinstance(said, bool) or not isinstance(said, int) or said < 0:
                raise InputError(f"data.margin must be auto or a whole number of px from 0 up, got {said}.")
            return said
        total = torch.zeros(FIELD // 2, dtype=torch.float64)
        for number in range(MARGIN_DRAWS):
            drawn = {
                name: torch.from_numpy(one)[None] for name, one in self.draw(np.random.default_rng(number)).items()
            }
            drawn["defocus"] = drawn["defocus"][:, number % self.num_images, None]
            total += errors_beyond(lens(drawn, self.energy))[0].square()
        enough = torch.nonzero((total / MARGIN_DRAWS).sqrt() <= MARGIN_ERROR).flatten()
        if not len(enough):
            raise InputError(
                f"optics carries parts of the image farther than {FIELD // 2 * PIXEL:.0f} Å, which no margin can hold; "
                "smaller ranges of optics.defocus, optics.Cs and optics.C5 keep them nearer, a larger "
                "optics.angular_spread or optics.focal_spread takes them away."
            )
        return 8 * math.ceil(max(float(enough[0]) * PIXEL, LEAST_MARGIN) / sampling / 8)

    def __call__(self, wave: Tensor, parameters: Parameters, sampling: float, modes: int | None = None) -> Tensor:
        """Compute the expected image intensity.

        Args:
            wave: exit waves, complex ``(B, Y, X)``.
            parameters: settings from :meth:`draw`, with a leading batch axis.
            sampling: Å/px.
            modes: number of coherent modes of each image, see :mod:`hrtem.optics.coherence`; None takes the number that
                each image needs. Images that are subtracted from each other must have the same number of modes.

        Returns:
            Intensity, real ``(B, F, Y, X)``, 1 in vacuum.
        """
        one = lens(parameters, self.energy)
        if self.coherence == "envelope":
            intensity = quasi_coherent(wave, one, sampling)
        else:
            intensity = summed(wave, one, sampling, self._points, modes)
        if bool(sum((parameters[name] != 0).any() for name in ("vibration", "drift", "shift"))):
            return filter_image(intensity, self.motion(wave.shape[-2:], parameters, sampling))
        return intensity

    @property
    def _points(self) -> int:
        """Number of points for the modes; it follows from the recipe, so that an image does not depend on its batch."""
        return coherence.choose_points(0.5 * math.pi * wavelength(self.energy) * self.ranges["focal_spread"].high)

    def modes_needed(self, wave: Tensor, parameters: Parameters, sampling: float) -> int:
        """Largest number of coherent modes that any of the images needs; arguments as for :meth:`__call__`."""
        if self.coherence == "envelope":
            return 1
        one = lens(parameters, self.energy)
        shape = (wave.shape[-2], wave.shape[-1])
        band = highest_harmonic(shape, sampling, coherent(one))
        power = inner(torch.fft.fft2(wave), band).abs().square()
        places = coherence.beams(shape, band, sampling, wave.device)
        return max(coherence.count_needed(power, places, coherence.look_up_modes(one.decay.sqrt(), self._points)))

    def mode_transfer(
        self, shape: tuple[int, int] | torch.Size, parameters: Parameters, sampling: float, modes: int
    ) -> Tensor:
        """Transfer functions of the first coherent modes, complex ``(B, F, M, Y, X)``, zero frequency first."""
        return mode_transfer(lens(parameters, self.energy), (shape[0], shape[1]), sampling, self._points, modes)

    def transfer(self, shape: tuple[int, int] | torch.Size, parameters: Parameters, sampling: float) -> Tensor:
        """Coherent transfer function with its envelopes, complex ``(B, F, Y, X)``, zero frequency first."""
        return transfer_function(lens(parameters, self.energy), (shape[0], shape[1]), None, sampling)

    def motion(self, shape: tuple[int, int] | torch.Size, parameters: Parameters, sampling: float) -> Tensor:
        """Transfer function of vibration, drift and shifts, ``(B, F, Y, X//2 + 1)``, complex if there are shifts."""
        kx, ky = frequencies(shape, sampling, parameters["vibration"].device, True, dtype=parameters["vibration"].dtype)
        sigma, length, angle = (parameters[name][:, None, None] for name in ("vibration", "drift", "drift_angle"))
        blur = torch.exp(-2.0 * math.pi**2 * sigma**2 * (kx**2 + ky**2))
        blur = (blur * torch.sinc(length * (torch.cos(angle) * kx + torch.sin(angle) * ky)))[:, None]
        shift = parameters["shift"][..., None, None, :]
        if not bool((shift != 0).any()):
            return blur
        phase = -2.0 * math.pi * (shift[..., 0] * kx + shift[..., 1] * ky)
        return torch.polar(torch.ones_like(phase), phase) * blur

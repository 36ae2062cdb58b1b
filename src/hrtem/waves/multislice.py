"""Exit waves by the multislice algorithm, with abTEM or with torch.

This is the only module that uses abTEM; :mod:`hrtem.waves.differentiable` has the same steps in torch. Everything after
the exit wave, the optics and the noise, is computed anew for every image, see :mod:`hrtem.optics`; exit waves are
stored on disk, see :mod:`hrtem.waves.cache`.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Literal

import numpy as np
import scipy.fft
from ase import Atoms
from ase.data import chemical_symbols

from hrtem.errors import InputError
from hrtem.ranges import Range

#: abTEM's names of the parametrised atomic potentials.
PARAMETRIZATIONS = ("lobato", "kirkland", "peng")
PROJECTIONS = ("infinite", "finite")
ENGINES = ("abtem", "torch")

#: Band limit of the potentials as a fraction of the Nyquist frequency of their grid. Multislice limits waves to two
#: thirds; slightly higher frequencies of the potential of heavy atoms still affect lower frequencies of the wave, see
#: docs/convergence.md.
BAND = 0.75

#: Settings of abTEM: one thread, since processes share the cores, and FFTW plans that do not depend on timing, so that
#: all processes on the same type of processor compute identical digits.
ABTEM = {
    "diagnostics.progress_bar": False,
    "precision": "float32",
    "device": "cpu",
    "fftw.threads": 1,
    "fftw.planning_effort": "FFTW_ESTIMATE",
}

#: Order of the propagator between slices. The first order is the Fresnel propagator ``exp(-iπλ Δz k²)`` (Kirkland 2010,
#: equation 6.65), the small-angle approximation that the aberrations of the lens use too. It is set explicitly because
#: abTEM's default has changed before.
PROPAGATOR_ORDER: Literal[1, 2] = 1


class Multislice:
    """Plane-wave multislice of a thermally smeared structure, or of snapshots of a vibrating one.

    A wave is given in the plane of the last atom along the beam, the exit surface of the specimen, independent of the
    end of the cell. Defocus is measured from this plane.

    Args:
        energy: beam energy, eV.
        sampling: pixel size of the stored wave, Å; the band limit is its Nyquist frequency.
        oversampling: ratio of the sampling of the potential to that of the wave.
        slice_thickness: largest thickness of a slice, Å; all slices of a cell are equally thick.
        parametrization: abTEM's name of the atomic potentials, one of :data:`PARAMETRIZATIONS`.
        projection: ``infinite`` projects whole atoms; ``finite`` integrates each atom over the slices it extends into.
        frozen_phonons: number of snapshots with displaced atoms; 0 smears the potential instead.
        engine: ``abtem``, the reference, or ``torch``, which takes a GPU if there is one. Their waves agree within the
            digits of single precision, and only those of ``abtem`` are the same on all machines to the last bit.
    """

    def __init__(
        self,
        energy: float,
        sampling: float,
        oversampling: int = 2,
        slice_thickness: float = 2.0,
        parametrization: str = "lobato",
        projection: str = "infinite",
        frozen_phonons: int = 0,
        engine: str = "abtem",
    ) -> None:
        Range.parse("wave.energy", energy, unit="eV", minimum=1e4, maximum=1e6)
        Range.parse("wave.sampling", sampling, unit="Å/px", minimum=0.05, maximum=0.5)
        Range.parse("wave.slice_thickness", slice_thickness, unit="Å", minimum=0.1, maximum=10.0)
        if oversampling not in (1, 2, 3, 4):
            raise InputError(f"wave.oversampling must be 1, 2, 3 or 4, got {oversampling}.")
        if parametrization not in PARAMETRIZATIONS:
            raise InputError(f"wave.parametrization must be one of {list(PARAMETRIZATIONS)}, got {parametrization}.")
        if projection not in PROJECTIONS:
            raise InputError(f"wave.projection must be one of {list(PROJECTIONS)}, got {projection}.")
        if engine not in ENGINES:
            raise InputError(f"wave.engine must be one of {list(ENGINES)}, got {engine}.")
        if engine == "torch" and projection != "infinite":
            raise InputError(f"wave.projection must be infinite with wave.engine=torch, got {projection}.")
        if not isinstance(frozen_phonons, int) or not 0 <= frozen_phonons <= 1000:
            raise InputError(f"wave.frozen_phonons must be a whole number from 0 to 1000, got {frozen_phonons}.")
        self.energy = energy
        self.sampling = sampling
        self.oversampling = oversampling
        self.slice_thickness = slice_thickness
        self.parametrization = parametrization
        self.projection = projection
        self.frozen_phonons = frozen_phonons
        self.engine = engine

    def __call__(self, atoms: Atoms, rng: np.random.Generator | None = None, plane: float | None = None) -> np.ndarray:
        """Compute the exit wave of ``atoms``.

        Thermal motion enters as the Debye-Waller factor: the potential of each atom is convolved with a Gaussian whose
        standard deviation is its ``rms_displacement`` u, so its Fourier transform is multiplied by ``exp(-2 π² u² k²)``
        (Kirkland, Advanced Computing in Electron Microscopy, 2nd ed., section 5.3). With ``frozen_phonons`` = N, each
        of N snapshots displaces every atom along x, y and z by normally distributed random numbers of standard
        deviation u (section 7.5 there), and the image is the mean of the N intensities.

        Args:
            atoms: periodic in x and y, with an array ``rms_displacement`` in Å. An optional array ``occupancy``
                multiplies the potential of each atom; derivatives with respect to numbers of atoms need it.
            rng: random generator of the displacements; used only for snapshots.
            plane: height z in Å at which the wave is given and defocus is 0; None is the exit surface, the z of the
                last atom. Waves of different structures are comparable only in the same plane.

        Returns:
            Complex64 ``(Y, X)``, or ``(N, Y, X)`` for snapshots, of mean intensity near 1; pixel ``[j, i]`` lies
            at ``(i, j) * sampling``.

        Raises:
            InputError: the width of the cell is not a whole number of pixels, the position of an atom is not a number,
                ``rng`` is missing for snapshots, or atoms have occupancies with ``projection=finite``, which does not
                support them.
        """
        width, height, thickness = atoms.cell.lengths()
        shape = (round(width / self.sampling), round(height / self.sampling))
        if not np.allclose(np.array(shape) * self.sampling, (width, height), atol=1e-6):
            raise InputError(f"sample.extent must be a whole number of pixels of {self.sampling:g} Å, got {width:g} Å.")
        displacements = atoms.get_array("rms_displacement")
        if not (np.isfinite(atoms.positions).all() and np.isfinite(displacements).all() and thickness > 0.0):
            raise InputError("sample gives a structure without thickness or with atoms whose positions are no numbers.")
        plane = find_exit_surface(atoms) if plane is None else plane
        if not self.frozen_phonons:
            return self._propagated(atoms, shape, plane)
        if rng is None:
            raise InputError(
                f"wave.frozen_phonons must be 0 where a wave must not be random, got {self.frozen_phonons}."
            )
        snapshots = []
        for _ in range(self.frozen_phonons):
            snapshot = atoms.copy()
            snapshot.positions += rng.normal(size=(len(atoms), 3)) * displacements[:, None]
            snapshot.set_array("rms_displacement", np.zeros(len(atoms)))
            snapshots.append(self._propagated(snapshot, shape, plane))
        return np.stack(snapshots)

    def _propagated(self, atoms: Atoms, shape: tuple[int, int], plane: float) -> np.ndarray:
        """Wave ``(Y, X)`` at the height ``plane`` Å after one structure; ``shape`` is in pixels along x and y."""
        if len(atoms) == 0:
            return np.ones(shape[::-1], np.complex64)
        # Imported here, because they take seconds to import and runs with a complete cache never need them.
        if self.engine == "torch":
            from hrtem.waves.differentiable import propagate

            return propagate(self, atoms, plane)
        import abtem

        with abtem.config.set(ABTEM):
            slices = self.potential(atoms, (shape[0] * self.oversampling, shape[1] * self.oversampling))
            width, height, depth = atoms.cell.lengths()
            # The potential of a slice acts at its middle, so that half of the last slice remains to be crossed. The
            # first half slice does not change a plane wave.
            steps = [depth / len(slices)] * (len(slices) - 1) + [0.5 * depth / len(slices)]
            potential = abtem.PotentialArray(slices, slice_thickness=steps, extent=(width, height))
            algorithm = abtem.multislice.FourierMultislice(order=PROPAGATOR_ORDER)
            wave: Any = abtem.PlaneWave(energy=self.energy).multislice(potential, lazy=False, algorithm=algorithm)
        behind = limit_band(np.asarray(wave.array), shape)
        # abTEM's axes are (x, y), the axes here are (Y, X).
        return np.ascontiguousarray(self.propagated(behind, (width, height), plane - depth).T)

    def propagated(self, wave: np.ndarray, extent: tuple[float, float], distance: float) -> np.ndarray:
        """Propagate a periodic ``wave`` in vacuum by ``distance`` Å along the beam, or backwards if it is negative.

        Args:
            wave: complex wave with the axes of ``extent``.
            extent: size of the cell along the axes of ``wave``, Å.
            distance: Å.
        """
        from abtem.core.energy import energy2wavelength

        first, second = (np.fft.fftfreq(n, length / n) for n, length in zip(wave.shape, extent, strict=True))
        turns = 0.5 * energy2wavelength(self.energy) * distance * (first[:, None] ** 2 + second**2)
        phases = np.exp(-2j * np.pi * (turns - np.rint(turns))).astype(np.complex64)
        return scipy.fft.ifft2(scipy.fft.fft2(wave) * phases).astype(wave.dtype)

    def potential(self, atoms: Atoms, gpts: tuple[int, int]) -> np.ndarray:
        """Compute the projected potential of each slice, smeared by the ``rms_displacement`` of each atom.

        Args:
            atoms: as in :meth:`__call__`.
            gpts: number of grid points along x and y.

        Returns:
            Float32 ``(slices, X, Y)``, V Å, in the order in which the beam meets the slices.
        """
        make = self._projected if self.projection == "infinite" else self._integrated
        return make(atoms, gpts, self.count_slices(atoms))

    def count_slices(self, atoms: Atoms) -> int:
        """Number of slices of a cell."""
        return math.ceil(atoms.cell.lengths()[2] / self.slice_thickness - 1e-9)

    def _projected(self, atoms: Atoms, gpts: tuple[int, int], number: int) -> np.ndarray:
        """Project whole atoms, each divided between the two slices between whose middles it lies.

        ``V(k) = Σ f(k) exp(-2 π² u² k²) exp(-2 π i k·r) / area``. The phases are products of a factor along x and a
        factor along y, so that the sum is a matrix product. It is exact for atoms between grid points, and as fast as
        the Fourier transform of a grid. The share of a slice falls linearly with the distance of the atom along the
        beam, so that the wave does not depend on where slices begin either.
        """
        width, height, thickness = atoms.cell.lengths()
        harmonics = [int(BAND * n / 2) for n in gpts]
        kx = np.r_[0 : harmonics[0] + 1, -harmonics[0] : 0] / width
        ky = np.arange(harmonics[1] + 1) / height
        k2 = kx[:, None] ** 2 + ky**2
        # Circular band limit, so that atoms are round independent of the grid axes.
        density = (k2 <= min(kx.max(), ky.max()) ** 2) * (gpts[0] * gpts[1] / (width * height))
        along_x, along_y = (_phases(atoms.positions[:, i] / (width, height)[i], harmonics[i]) for i in (0, 1))
        # The negative frequencies along x are the conjugates of the positive ones.
        along_x = np.concatenate([along_x, along_x[:, :0:-1].conj()], axis=1)
        place = np.clip(atoms.positions[:, 2] * (number / thickness) - 0.5, 0.0, number - 1.0).astype(np.float32)
        displacements = atoms.get_array("rms_displacement")
        occupancy = atoms.arrays.get("occupancy")
        sums = np.zeros((number, *k2.shape), np.complex64)
        for z, u in sorted(set(zip(atoms.numbers.tolist(), displacements.tolist(), strict=True))):
            form_factor = project_form_factor(self.parametrization, chemical_symbols[z], k2)
            smeared = (density * form_factor * np.exp(-2.0 * np.pi**2 * u**2 * k2)).astype(np.float32)
            kind = (atoms.numbers == z) & (displacements == u)
            for layer in range(number):
                here = np.flatnonzero(kind & (np.abs(place - layer) < 1.0))
                if len(here):
                    shares = 1.0 - np.abs(place[here] - layer)
                    if occupancy is not None:
                        shares = shares * occupancy[here].astype(np.float32)
                    sums[layer] += smeared * ((along_x[here] * shares[:, None]).T @ along_y[here])
        slices = np.empty((number, *gpts), np.float32)
        spectrum = np.zeros((gpts[0], gpts[1] // 2 + 1), np.complex64)
        for layer in range(number):
            spectrum[: harmonics[0] + 1, : len(ky)] = sums[layer, : harmonics[0] + 1]
            spectrum[-harmonics[0] :, : len(ky)] = sums[layer, harmonics[0] + 1 :]
            slices[layer] = scipy.fft.irfft2(spectrum, s=gpts)
        return slices

    def _integrated(self, atoms: Atoms, gpts: tuple[int, int], number: int) -> np.ndarray:
        """Integrate atoms that extend over several slices, by abTEM's quadrature on the grid."""
        import abtem

        if "occupancy" in atoms.arrays:
            raise InputError("wave.projection must be infinite where atoms have an occupancy, got finite.")
        lengths = atoms.cell.lengths()
        kx, ky = np.fft.fftfreq(gpts[0], lengths[0] / gpts[0]), np.fft.rfftfreq(gpts[1], lengths[1] / gpts[1])
        k2 = (kx[:, None] ** 2 + ky**2).astype(np.float32)
        displacements = atoms.get_array("rms_displacement")
        slices = np.zeros((number, *gpts), np.float32)
        for displacement in np.unique(displacements):
            part = abtem.Potential(
                atoms[displacements == displacement],
                gpts=gpts,
                slice_thickness=lengths[2] / number,
                parametrization=self.parametrization,
                projection="finite",
            ).build(lazy=False)
            smearing = np.exp(np.float32(-2.0 * np.pi**2 * displacement**2) * k2)
            slices += scipy.fft.irfft2(scipy.fft.rfft2(part.array) * smearing, s=gpts)
        return slices


def find_exit_surface(atoms: Atoms) -> float:
    """Height z of the last atom along the beam, Å; 0 without atoms."""
    return float(atoms.positions[:, 2].max()) if len(atoms) else 0.0


def project_form_factor(parametrization: str, symbol: str, k2: np.ndarray) -> np.ndarray:
    """Fourier transform of the projected potential of an atom, V Å³, at the squared frequencies ``k2``, 1/Å²."""
    return np.asarray(_parametrization(parametrization).projected_scattering_factor(symbol)(k2))


@cache
def _parametrization(name: str) -> Any:
    """abTEM's atomic potentials, cached because reading their table takes longer than simulating a light sheet."""
    from abtem.parametrizations import validate_parametrization

    return validate_parametrization(name)


def _phases(fractions: np.ndarray, highest: int) -> np.ndarray:
    """``exp(-2 π i n x)`` for the harmonics n = 0 … ``highest``, complex64 ``(N, highest + 1)``."""
    turns = np.outer(fractions, np.arange(highest + 1))
    # Whole turns are subtracted in double precision; hundreds of turns would exhaust the digits of single precision.
    angles = (-2.0 * np.pi * (turns - np.rint(turns))).astype(np.float32)
    phases = np.empty(angles.shape, np.complex64)
    np.cos(angles, out=phases.real)
    np.sin(angles, out=phases.imag)
    return phases


def limit_band(wave: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Crop a periodic ``wave`` to ``shape`` in Fourier space, keeping its values at the coarse grid points."""
    spectrum = np.fft.fftshift(scipy.fft.fft2(wave))
    window = tuple(
        slice(full // 2 - part // 2, full // 2 - part // 2 + part) for full, part in zip(wave.shape, shape, strict=True)
    )
    cropped = scipy.fft.ifft2(np.fft.ifftshift(spectrum[window])) * np.float32(np.prod(shape) / wave.size)
    return cropped.astype(np.complex64)

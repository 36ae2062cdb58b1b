"""Theoretical limits and comparison with a network: ``python -m benchmarks limits [checkpoint]``.

The limits are those of an oracle that knows the microscope and counts every electron, see :mod:`hrtem.limits`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from hydra.utils import instantiate
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hrtem.columns import Columns
from hrtem.imaging import Imaging
from hrtem.inference.network import ColumnNetwork
from hrtem.limits import Exposure, compute_confusion, find_dose, move_columns
from hrtem.matching import match
from hrtem.noise import Poisson
from hrtem.optics import Optics
from hrtem.samples import Graphene, MoS2
from hrtem.training.data import collate
from hrtem.waves.multislice import Multislice, find_exit_surface

SAMPLING = 0.2  # Å/px
EXTENT = 20.0  # Å, side of the structures
INNER = 6.0  # Å; minimum distance from the border of columns whose limits are averaged
MOVED = 3.0  # Å; minimum distance from the border of columns whose positions are unknown in the joint limit
DOSES = (1e3, 1e4, 1e5)  # e/Å²
#: Ranges of arXiv 1802.03008 for graphene.
PUBLISHED: dict[str, Any] = dict(
    energy=80e3, defocus=[-100, 100], defocus_step=0, Cs=[-20e4, 20e4], astigmatism=[0, 30], focal_spread=[20, 40],
    angular_spread=0, vibration=0, dose=1e3,
)  # fmt: skip


def microscope(**settings: Any) -> Optics:
    """Return the published microscope for single images, with changed ``settings``."""
    return Optics(num_images=1, **{**PUBLISHED, **settings})


def exposure(optics: Optics, seed: int = 0) -> Exposure:
    """Draw the settings of a microscope, with an ideal electron-counting detector."""
    imaging = Imaging(optics, Poisson(), SAMPLING, margin=0)
    return Exposure(imaging, imaging.draw(np.random.default_rng(seed)))


def nearest(columns: Columns, label: str) -> int:
    """Find the column of a class that is nearest to the centre."""
    members = np.flatnonzero(columns.labels == columns.classes.index(label))
    return int(members[np.linalg.norm(columns.positions[members] - EXTENT / 2, axis=1).argmin()])


def graphene(draws: int = 200) -> Iterator[tuple[str, str]]:
    """Yield the position limit at the best defocus, and the error of atom or vacancy over the published ranges."""
    wave = Multislice(80e3, SAMPLING)
    atoms, columns = Graphene("graphene", ["C"], EXTENT, {"C": 0.06})(np.random.default_rng(0))
    sought = np.flatnonzero(columns.inside(EXTENT, EXTENT, MOVED))
    counted = columns[sought].inside(EXTENT, EXTENT, INNER)
    whole, moved = wave(atoms), move_columns(wave, atoms, sought.tolist())
    best = np.inf
    for defocus in np.arange(-120.0, 121.0, 10.0):
        lens = microscope(defocus=defocus, Cs=-20e4, astigmatism=0, focal_spread=30)
        seen = exposure(lens)
        images = seen.expected(whole[None])[0], seen.changes(moved)
        limits = seen.position_limits(*images)
        if (mean := float(np.sqrt(np.mean(limits.joint[counted] ** 2)))) < best:
            best, focus, one, sharpest = mean, defocus, seen, images
    for dose in DOSES:
        limits = one.at(dose=dose).position_limits(*sharpest)
        single, joint = (np.sqrt(np.mean(values[counted] ** 2) / 2) for values in (limits.single, limits.joint))
        text = f"{joint:.1f} pm jointly, {single:.1f} pm with all other atoms known, along x or y"
        yield f"graphene position at {dose:.0e} e/Å², Cs −20 µm, defocus {focus:.0f} Å", text
    void = wave(atoms[atoms.get_array("column") != nearest(columns, "C")], plane=find_exit_surface(atoms))
    separations = [exposure(microscope(), seed).separation(whole, void) for seed in range(draws)]
    for dose in (1e3, 3e3, 1e4):
        error = np.mean([compute_confusion(one * np.sqrt(dose / 1e3)) for one in separations])
        yield f"graphene atom or void at {dose:.0e} e/Å², 2018 ranges", f"{100 * error:.1f} % wrong"


def mos2() -> Iterator[tuple[str, str]]:
    """Yield the doses at which different occupations of a site can be distinguished, for under- and overfocus."""
    wave = Multislice(80e3, SAMPLING)
    rms = {"Mo": 0.06, "S": 0.07}
    atoms, columns = MoS2("mos2", list(MoS2.known_classes), EXTENT, rms)(np.random.default_rng(0))
    member = atoms.get_array("column")
    metal, chalcogen = nearest(columns, "Mo"), nearest(columns, "S2")
    plane = find_exit_surface(atoms)
    whole = wave(atoms)
    one_lost = np.ones(len(atoms), bool)
    one_lost[np.flatnonzero(member == chalcogen)[0]] = False
    alone, other = atoms[member == metal], atoms[member == chalcogen]
    other.positions[:, :2] = alone.positions[0, :2]
    pairs = {
        "MoS2, Mo or vacancy": (whole, wave(atoms[member != metal], plane=plane)),
        "MoS2, S2 or vacancy": (whole, wave(atoms[member != chalcogen], plane=plane)),
        "MoS2, S2 or S": (whole, wave(atoms[one_lost], plane=plane)),
        "Mo or S2 at an isolated site": (wave(alone, plane=plane), wave(other, plane=plane)),
    }
    lenses = [microscope(defocus=d, Cs=0, astigmatism=0, focal_spread=30) for d in (-60.0, 60.0)]
    for name, waves in pairs.items():
        doses = [find_dose(1e-3, exposure(lens).separation(*waves), 1e3) for lens in lenses]
        yield (
            f"{name}, Cs 0, defocus −60 and 60 Å",
            "  ".join(f"{dose:,.0f}" for dose in doses) + " e/Å² for 10⁻³ wrong",
        )


def gold(most: int = 9) -> Iterator[tuple[str, str]]:
    """Yield the fractions of exact counts for isolated columns of 1 to 8 atoms along [110]."""
    wave = Multislice(300e3, SAMPLING)
    step = 4.078 / np.sqrt(2.0)

    def column(atoms: int, longer: int) -> np.ndarray:
        """Calculate the wave of a column at the exit surface of the ``longer`` column; all have the same entrance."""
        heights = [(4.8, 4.8, 2.0 + step * n) for n in range(atoms)]
        one = Atoms("Au" * atoms, heights, cell=[9.6, 9.6, 4.0 + step * most], pbc=[True, True, False])
        one.set_array("rms_displacement", np.full(atoms, 0.085))
        return wave(one, plane=2.0 + step * (longer - 1))

    pairs = [(column(n, n + 1), column(n + 1, n + 1)) for n in range(most)]
    for defocus in (-40.0, -80.0, -160.0):
        lens = microscope(energy=300e3, defocus=defocus, Cs=-15e4, astigmatism=0, focal_spread=30, dose=1e2)
        apart = [exposure(lens).separation(*pair) for pair in pairs]
        shares = []
        for dose in (1e2, 3e2, 1e3):
            errors = [compute_confusion(one * np.sqrt(dose / 1e2)) for one in apart]
            shares.append(100 * np.mean([1 - errors[n - 1] - errors[n] for n in range(1, most)]))
        text = "  ".join(f"{share:.1f} %" for share in shares)
        yield f"gold, exact count at 1e2, 3e2, 1e3 e/Å², Cs −15 µm, defocus {defocus:.0f} Å", text


def main(checkpoint: str = "") -> None:
    """Print the limits of simple cases, or errors and limits of a checkpoint on test images."""
    if checkpoint:
        Console().print(beside(ColumnNetwork.load(Path(checkpoint))))
        return
    table = Table("case", "limit", title="Limits of an oracle: known microscope, every electron counted")
    for rows in (graphene(), mos2(), gold()):
        for row in rows:
            table.add_row(*row)
    Console().print(table)


def beside(network: ColumnNetwork, structures: int = 3, images: int = 4) -> Table:
    """Compare the errors of a network on images of its own recipe with the limits of the same images.

    The structures are drawn from seeds that no split uses. Only columns in the middle of an image are used; the ratio
    is the median over the images in which at least nine tenths of these columns are found.
    """
    side = 128 * SAMPLING
    recipe = network.settings
    sample = instantiate({**recipe["sample"], "extent": side + 2 * network.margin * network.sampling}, _convert_="all")
    wave = Multislice(network.optics.energy, network.sampling)
    imaging = Imaging(network.optics, instantiate(recipe["noise"]), network.sampling, network.margin)
    shift = network.margin * network.sampling
    found: dict[float, list[tuple[float, float, float, float]]] = {dose: [] for dose in network.optics.test_doses}
    for number in track(range(structures), "structures"):
        atoms, columns = sample(np.random.default_rng([number, 3]))
        seen = columns.moved(columns.positions - shift)
        middle = seen.inside(side, side, 8.0)
        sought = np.flatnonzero(seen.inside(side, side, 6.0) & (columns.counts > 0))
        counted = middle[sought]
        whole, moved = wave(atoms), move_columns(wave, atoms, sought.tolist())
        # Pixels far from the columns contain no information about them.
        rim = network.margin + round(3.0 / network.sampling)
        near = slice(rim, len(whole) - rim)
        for image in range(images):
            rng = np.random.default_rng([number, image, 4])
            seen_by = Exposure(imaging, imaging.draw(rng))
            expected, changes = (
                seen_by.expected(whole[None])[0][..., near, near],
                seen_by.changes(moved)[..., near, near],
            )
            for dose in found:
                one = seen_by.with_dose(dose)
                joint = one.position_limits(expected, changes).joint[counted]
                batch = collate(
                    [{"wave": torch.from_numpy(whole), "columns": seen, "settings": one.settings, "group": 0}]
                )
                with torch.no_grad():
                    counts = imaging.simulate_counts(batch["wave"], batch["settings"])
                    (answer,) = network.find(network(network.normalise(counts, network.sampling)))
                truth = seen[sought[counted]]
                mine, true = match(answer.positions, truth.positions)
                distances = 100.0 * np.linalg.norm(answer.positions[mine] - truth.positions[true], axis=1)
                rms = float(np.sqrt(np.mean(distances**2))) if len(distances) else np.nan
                bound = float(np.sqrt(np.mean(joint**2)))
                found[dose].append((len(true) / max(1, len(truth)), rms, bound, rms / bound))
    table = Table(title=f"{recipe['sample']['name']}: network and oracle on the same {structures * images} images")
    for title in ("dose (e/Å²)", "found", "images", "error (pm)", "limit (pm)", "error / limit"):
        table.add_column(title, justify="right")
    for dose, rows in found.items():
        shares = np.array(rows)
        good = shares[shares[:, 0] >= 0.9]
        error, _, ratio = np.median(good[:, 1:], axis=0) if len(good) else np.full(3, np.nan)
        limit = np.median(shares[:, 2])
        values = (f"{value:.1f}" for value in (error, limit, ratio))
        table.add_row(f"{dose:,.0f}", f"{shares[:, 0].mean():.3f}", str(len(good)), *values)
    return table

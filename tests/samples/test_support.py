"""Films of carbon and slabs of ceria under a particle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from scipy.spatial import cKDTree

from hrtem.errors import InputError
from hrtem.samples import Gold
from hrtem.samples.support import CARBON_GAP, CERIA, CERIA_GAP, CLEARANCE, TRILAYER, Support

DISPLACEMENTS = {"C": 0.08, "Ce": 0.065, "O": 0.085}


def supported(kind: str, **settings: Any) -> Gold:
    return Gold("gold", ["Au"], 51.2, DISPLACEMENTS, support=kind, **{"rotation": 0.0, **settings})


def split(atoms: Atoms) -> tuple[np.ndarray, Atoms]:
    """Positions of the particle, and the support."""
    own = atoms.get_array("column") >= 0
    return atoms.positions[own], atoms[~own]


def test_kinds_are_drawn_in_equal_shares(rng: np.random.Generator) -> None:
    kinds = [Support(["vacuum", "carbon", "ceria", "ceria"]).draw(rng) for _ in range(2000)]
    assert kinds.count("ceria") / 2000 == pytest.approx(0.5, abs=0.04)
    assert kinds.count("vacuum") / 2000 == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["carbon", "ceria"])
@pytest.mark.parametrize("tilt", [0.0, 2.5])
def test_materials_keep_apart(kind: str, tilt: float, seed: int) -> None:
    settings = {"roughness": 0.4, "terraces": 3, "adatoms": 4, "twin": 0.6, "ceria_step": 1.0, "facet_spread": 0.3}
    particle, support = split(supported(kind, tilt=tilt, **settings)(np.random.default_rng(seed))[0])
    distance, _ = cKDTree(support.positions).query(particle)
    assert distance.min() > CLEARANCE
    # And they touch.
    assert distance.min() < 3.5
    assert not set(support.symbols) & {"Au"}


def test_carbon_lies_across_the_beam_on_one_side() -> None:
    above = []
    for seed in range(8):
        atoms, _ = supported("carbon", carbon_thickness=12.0)(np.random.default_rng(seed))
        particle, film = split(atoms)
        assert set(film.symbols) == {"C"}
        assert np.ptp(film.positions[:, 2]) == pytest.approx(12.0, abs=0.2)
        heights = film.positions[:, 2]
        above.append(heights.min() > particle[:, 2].max())
        gap = heights.min() - particle[:, 2].max() if above[-1] else particle[:, 2].min() - heights.max()
        assert gap == pytest.approx(CARBON_GAP, abs=0.05)
        # It fills the field.
        filled, _, _ = np.histogram2d(*film.positions[:, :2].T, bins=8, range=[[0, 51.2]] * 2)
        assert filled.min() > 0
    assert 0 < sum(above) < 8


def test_carbon_may_end_within_the_field() -> None:
    shares = [len(supported("carbon", carbon_edge=edge)(np.random.default_rng(5))[0]) for edge in (0.0, 1.0)]
    assert shares[1] < 0.95 * shares[0]


def test_ceria_is_fluorite() -> None:
    _, slab = split(supported("ceria")(np.random.default_rng(1))[0])
    numbers = slab.numbers
    cerium, oxygen = slab.positions[numbers == 58], slab.positions[numbers == 8]
    nearest, _ = cKDTree(oxygen).query(cerium)
    np.testing.assert_allclose(nearest, np.sqrt(3.0) / 4.0 * CERIA)
    assert nearest[0] == pytest.approx(2.34, abs=0.005)
    bonds = [len(found) for found in cKDTree(oxygen).query_ball_point(cerium, 2.4)]
    assert max(bonds) == 8
    distance, _ = cKDTree(slab.positions).query(slab.positions, k=2)
    assert distance[:, 1].min() > 2.3


@pytest.mark.parametrize("seed", range(3))
def test_ceria_is_stoichiometric(seed: int) -> None:
    rough = Support("ceria", ceria_thickness=[15.0, 35.0], ceria_step=1.0, ceria_vacancy=0.1)
    for support in (Support("ceria"), rough):
        slab = support.ceria(np.array([[-5.0, 0, 0], [5, 0, 0]]), 40.0, np.random.default_rng(seed))
        assert (slab.numbers == 8).sum() / (slab.numbers == 58).sum() == pytest.approx(2.0, rel=0.03)


def test_ceria_stands_edge_on_at_the_side_of_large_y() -> None:
    for seed in range(4):
        atoms, columns = supported("ceria", diameter=[15.0, 40.0])(np.random.default_rng(seed))
        particle, slab = split(atoms)
        gap = slab.positions[:, 1].min() - particle[:, 1].max()
        assert CERIA_GAP[0] <= gap <= CERIA_GAP[1]
        # Ce planes follow at the distance of (111) planes, and the slab reaches both edges and the lower one.
        planes = np.unique(np.round(slab.positions[slab.numbers == 58, 1], 4))
        np.testing.assert_allclose(np.diff(planes), TRILAYER, atol=1e-3)
        assert slab.positions[:, 1].max() > 51.2 - TRILAYER
        assert slab.positions[:, 0].min() < 2.0
        assert slab.positions[:, 0].max() > 51.2 - 2.0
        assert columns.positions[:, 1].max() < slab.positions[:, 1].min()


def test_ceria_is_seen_along_its_110_axis() -> None:
    _, slab = split(supported("ceria")(np.random.default_rng(2))[0])
    cerium = slab.positions[slab.numbers == 58]
    columns = np.unique(np.round(cerium[:, :2], 3), axis=0)
    distance, _ = cKDTree(columns).query(columns, k=2)
    np.testing.assert_allclose(distance[:, 1], CERIA * np.sqrt(3 / 8), rtol=1e-3)
    one = cerium[np.linalg.norm(cerium[:, :2] - columns[len(columns) // 2], axis=1) < 0.1]
    np.testing.assert_allclose(np.diff(np.sort(one[:, 2])), CERIA / np.sqrt(2.0))


def test_the_particle_is_parallel_to_ceria() -> None:
    """A {111} facet on the (111) surface, [110] along [110]."""
    _, columns = supported("ceria", diameter=30.0)(np.random.default_rng(3))
    rows = np.unique(np.round(columns.positions[:, 1], 3))
    np.testing.assert_allclose(np.diff(rows), 4.08 / np.sqrt(3.0), atol=2e-3)
    lowest = columns.positions[columns.positions[:, 1] > rows[-1] - 0.1]
    assert len(lowest) > 3
    np.testing.assert_allclose(np.diff(np.sort(lowest[:, 0])), 4.08 * np.sqrt(3 / 8), atol=1e-6)


def test_contact_decides_how_much_of_the_particle_is_cut() -> None:
    def height_over_width(contact: float) -> float:
        atoms, _ = supported("ceria", diameter=30.0, contact=contact)(np.random.default_rng(4))
        particle, _ = split(atoms)
        return float(np.ptp(particle[:, 1]) / np.ptp(particle[:, 0]))

    assert height_over_width(0.1) < 0.75 * height_over_width(1.0)


def test_rotation_turns_ceria_with_its_particle() -> None:
    for rotation in (90.0, 200.0):
        particle, slab = split(supported("ceria", rotation=rotation)(np.random.default_rng(6))[0])
        down = np.radians(rotation + 90.0)  # from x towards y
        side = slab.positions[:, :2] @ [np.cos(down), np.sin(down)]
        own = particle[:, :2] @ [np.cos(down), np.sin(down)]
        assert CERIA_GAP[0] <= side.min() - own.max() <= CERIA_GAP[1]
        # It fills the field as far as the farthest corner.
        corners = np.array([[0, 0], [0, 51.2], [51.2, 0], [51.2, 51.2]]) @ [np.cos(down), np.sin(down)]
        assert side.max() > corners.max() - TRILAYER


def surface_of(seed: int, **settings: Any) -> np.ndarray:
    """Number of the uppermost trilayer in strips of 5 Å along a slab; 0 is the one under the particle."""
    particle = np.array([[-5.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    slab = Support("ceria", **settings).ceria(particle, 40.0, np.random.default_rng(seed))
    cerium = slab.positions[slab.numbers == 58]
    top = cerium[np.abs(cerium[:, 0]) < 5.0, 1].min()
    strips = [cerium[np.abs(cerium[:, 0] - x) < 2.5, 1].min() - top for x in np.arange(-37.5, 38.0, 5.0)]
    return np.round(np.array(strips) / TRILAYER).astype(int)


def test_ceria_has_steps_on_either_side() -> None:
    assert set(surface_of(0)) == {0}
    ends = []
    for seed in range(10):
        heights = surface_of(seed, ceria_step=1.0)
        assert heights[7] == heights[8] == 0
        assert np.count_nonzero(np.diff(heights)) == 2
        ends += [heights[0], heights[-1]]
    assert set(ends) == {-1, 1}


def test_ceria_has_vacancies_on_its_surface_only() -> None:
    particle = np.array([[-5.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    layers = []
    for vacancy in (0.0, 0.1):
        slab = Support("ceria", ceria_vacancy=vacancy).ceria(particle, 40.0, np.random.default_rng(8))
        y = slab.positions[slab.numbers == 58, 1]
        layers.append(np.bincount(np.round((y - y.min()) / TRILAYER).astype(int)))
    # What has lost its bonds is gone as well.
    assert 0.8 < layers[1][0] / layers[0][0] < 0.93
    np.testing.assert_allclose(layers[1][2:8], layers[0][2:8], rtol=0.05)


def test_ceria_of_a_thickness() -> None:
    for thickness in (15.0, 35.0):
        _, slab = split(supported("ceria", ceria_thickness=thickness)(np.random.default_rng(9))[0])
        z = slab.positions[:, 2]
        assert np.quantile(z, 0.97) - np.quantile(z, 0.03) == pytest.approx(thickness, abs=3.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"support": ["vacuum", "graphite"]}, r"sample\.support must be .*graphite"),
        ({"support": []}, r"sample\.support must be"),
        ({"support": 3}, r"sample\.support must be .* got 3"),
        ({"carbon_thickness": -1.0}, r"sample\.carbon_thickness must be between 2 and 200 Å"),
        ({"carbon_edge": 2.0}, r"sample\.carbon_edge must be between 0 and 1"),
        ({"ceria_thickness": [30.0, 20.0]}, r"sample\.ceria_thickness .* swapped"),
        ({"ceria_step": -0.5}, r"sample\.ceria_step must be between 0 and 1"),
        ({"ceria_vacancy": 0.9}, r"sample\.ceria_vacancy must be between 0 and 0\.5"),
    ],
)
def test_support_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Support(**settings)

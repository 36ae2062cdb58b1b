"""Sheets of MoS2."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.samples import MoS2
from hrtem.samples.contamination import GAP
from hrtem.samples.mos2 import LATTICES

SEEDS = range(6)


def mos2(extent: float = 51.2, **settings: Any) -> MoS2:
    return MoS2("mos2", ["S", "Mo", "S2", "S2 vacancy", "Mo vacancy"], extent, {"Mo": 0.06, "S": 0.07}, **settings)


def labelled(columns: Columns, name: str) -> Columns:
    return columns[columns.labels == columns.classes.index(name)]


def test_mos2_is_a_honeycomb_of_mo_and_s2() -> None:
    atoms, columns = mos2()(np.random.default_rng(0))
    metal, chalcogen = labelled(columns, "Mo"), labelled(columns, "S2")
    assert len(metal) + len(chalcogen) == len(columns)
    assert np.all(metal.counts == 1)
    assert np.all(chalcogen.counts == 2)
    assert len(metal) == pytest.approx(51.2**2 / (3.16**2 * np.sqrt(0.75)), rel=0.03)
    inner = metal[metal.inside(51.2, 51.2, border=4.0)]
    distance, _ = cKDTree(chalcogen.positions).query(inner.positions, k=3)
    np.testing.assert_allclose(distance, 3.16 / np.sqrt(3.0))
    distance, _ = cKDTree(metal.positions).query(inner.positions, k=7)
    np.testing.assert_allclose(distance[:, 1:], 3.16)
    z = atoms.positions[:, 2]
    np.testing.assert_allclose(
        np.unique(z[atoms.symbols == "S"].round(6)), atoms.cell[2, 2] / 2 + np.array([-1, 1]) * 3.13 / 2
    )
    np.testing.assert_allclose(z[atoms.symbols == "Mo"], atoms.cell[2, 2] / 2)


@pytest.mark.parametrize("fractions", [(0.1, 0.0, 0.0), (0.0, 0.2, 0.1), (0.0, 1.0, 0.0)])
def test_mos2_has_the_vacancies_that_were_asked_for(fractions: tuple[float, float, float]) -> None:
    names = ("metal_vacancy", "single_chalcogen_vacancy", "double_chalcogen_vacancy")
    sample = mos2(extent=150.0, **dict(zip(names, fractions, strict=True)))
    atoms, columns = sample(np.random.default_rng(1))
    number = {name: len(labelled(columns, name)) for name in columns.classes}
    metal, chalcogen = number["Mo"] + number["Mo vacancy"], number["S2"] + number["S"] + number["S2 vacancy"]
    found = number["Mo vacancy"] / metal, number["S"] / chalcogen, number["S2 vacancy"] / chalcogen
    # Three standard deviations of a fraction of some 2,600 sites.
    np.testing.assert_allclose(found, fractions, atol=0.025)
    assert np.sum(atoms.symbols == "Mo") == number["Mo"]
    assert np.sum(atoms.symbols == "S") == number["S"] + 2 * number["S2"]
    if number["S"]:
        z = atoms.positions[atoms.symbols == "S", 2]
        assert np.mean(z > atoms.cell[2, 2] / 2) == pytest.approx(0.5, abs=0.05)


def test_mos2_labels_vacancies_whose_place_can_be_told() -> None:
    """Two of the three nearest sites hold atoms, and the third does or is a vacancy; at holes and edges none is."""
    sample = mos2(metal_vacancy=0.1, double_chalcogen_vacancy=0.1, hole=0.8, hole_radius=8.0, edge=1.0)
    bond, pairs = 3.16 / np.sqrt(3.0), 0
    for seed in SEEDS:
        atoms, columns = sample(np.random.default_rng(seed))
        vacant = columns[(columns.counts == 0) & columns.inside(51.2, 51.2, border=3.0)]
        assert {columns.classes[label] for label in vacant.labels} <= {"Mo vacancy", "S2 vacancy"}
        near = cKDTree(columns.positions).query_ball_point(vacant.positions, 1.1 * bond)
        occupied = np.array([np.count_nonzero(columns.counts[each] > 0) for each in near])
        assert set(occupied) <= {2, 3}
        for place, each in zip(vacant.positions, near, strict=True):
            distance = np.sort(np.hypot(*(columns.positions[each] - place).T))
            np.testing.assert_allclose(distance[1:], bond)
        pairs += np.count_nonzero(occupied == 2)
        away, _ = cKDTree(atoms.positions[:, :2]).query(vacant.positions)
        assert np.all(away > 0.5)
    assert pairs > 5


def test_mos2_atoms_stand_in_their_columns() -> None:
    sample = mos2(single_chalcogen_vacancy=0.2, double_chalcogen_vacancy=0.05, corrugation=0.3, strain=0.02, shear=0.02)
    atoms, columns = sample(np.random.default_rng(2))
    away, column = cKDTree(columns.positions).query(atoms.positions[:, :2])
    assert away.max() < 1e-9
    np.testing.assert_array_equal(np.bincount(column, minlength=len(columns)), columns.counts)
    for name, symbol, count in [("Mo", "Mo", 1), ("S", "S", 1), ("S2", "S", 2)]:
        members = columns.labels[column] == columns.classes.index(name)
        assert set(atoms.symbols[members]) == {symbol}
        assert np.all(columns.counts[column[members]] == count)


def test_mos2_holes_edges_and_strain_change_the_number_of_atoms() -> None:
    settings: list[dict[str, Any]] = [{}, {"strain": 0.1}, {"hole": 0.9, "hole_radius": 10.0}, {"edge": 1.0}]
    numbers = [np.mean([len(mos2(**each)(np.random.default_rng(n))[0]) for n in SEEDS]) for each in settings]
    assert numbers[1] == pytest.approx(numbers[0] / 1.1**2, rel=0.02)
    assert numbers[2] < 0.95 * numbers[0]
    assert numbers[3] < 0.95 * numbers[0]


def test_mos2_shear_keeps_the_area() -> None:
    plain, sheared = (len(mos2(extent=150.0, shear=shear)(np.random.default_rng(3))[0]) for shear in (0.0, 0.05))
    assert plain == pytest.approx(sheared, rel=0.01)


def test_mos2_antisites_are_of_the_class_of_what_stands_there() -> None:
    sample = mos2(extent=150.0, metal_antisite=0.1, chalcogen_antisite=0.2)
    atoms, columns = sample(np.random.default_rng(0))
    number = {name: len(labelled(columns, name)) for name in columns.classes}
    sites = len(columns) / 2
    assert number["Mo"] == pytest.approx((0.8 + 0.1) * sites, rel=0.05)
    # Of the metal sites that hold chalcogens, half hold one.
    assert number["S"] == pytest.approx(0.1 * sites, rel=0.15)
    assert number["S2"] == pytest.approx((0.9 + 0.1) * sites, rel=0.05)
    assert number["Mo vacancy"] == number["S2 vacancy"] == 0
    column = atoms.get_array("column")
    for name, symbol, count in [("Mo", "Mo", 1), ("S", "S", 1), ("S2", "S", 2)]:
        members = columns.labels[column] == columns.classes.index(name)
        assert set(atoms.symbols[members]) == {symbol}
        assert np.all(columns.counts[column[members]] == count)


def test_mos2_disorder_leaves_no_order_of_neighbours() -> None:
    _, columns = mos2(extent=100.0, disorder=1.0)(np.random.default_rng(0))
    metal = columns.labels == columns.classes.index("Mo")
    assert metal.mean() == pytest.approx(0.5, abs=0.05)
    pairs = cKDTree(columns.positions).query_pairs(2.0, output_type="ndarray")
    assert np.mean(metal[pairs[:, 0]] == metal[pairs[:, 1]]) == pytest.approx(0.5, abs=0.04)


def test_mos2_a_share_of_the_sheets_is_disordered() -> None:
    sample = mos2(extent=30.0, disorder=1.0, disorder_probability=0.4)

    def alike(seed: int) -> float:
        columns = sample(np.random.default_rng(seed))[1]
        metal = columns.labels == columns.classes.index("Mo")
        pairs = cKDTree(columns.positions).query_pairs(2.0, output_type="ndarray")
        return float(np.mean(metal[pairs[:, 0]] == metal[pairs[:, 1]]))

    shares = np.array([alike(seed) for seed in range(60)])
    assert set(np.round(shares[shares < 0.2])) == {0.0}  # the others are perfect
    assert np.mean(shares > 0.2) == pytest.approx(0.4, abs=0.15)


def test_mos2_tilt_splits_pairs_and_keeps_their_mean() -> None:
    atoms, columns = mos2(tilt=3.0)(np.random.default_rng(0))
    column = atoms.get_array("column")
    pairs = np.flatnonzero(columns.counts == 2)
    one = atoms.positions[[np.flatnonzero(column == pair) for pair in pairs]]
    apart = np.linalg.norm(one[:, 0, :2] - one[:, 1, :2], axis=1)
    np.testing.assert_allclose(apart, 3.13 * np.sin(np.radians(3.0)), rtol=1e-6)
    np.testing.assert_allclose(one[:, :, :2].mean(axis=1), columns.positions[pairs], atol=1e-9)


def test_mos2_contamination_keeps_off_the_sulphur() -> None:
    soil = {"probability": 1.0, "share": 0.3, "both_sides": 1.0}
    sample = MoS2("mos2", mos2().classes, 51.2, {"Mo": 0.06, "S": 0.07, "C": 0.06}, contamination=soil)
    atoms, _ = sample(np.random.default_rng(0))
    film = atoms.get_array("column") < 0
    assert set(atoms.symbols[film]) == {"C"}
    distance, _ = cKDTree(atoms.positions[~film]).query(atoms.positions[film])
    assert distance.min() >= GAP - 1e-6
    with pytest.raises(InputError, match=r"sample\.rms_displacement .* no value for C"):
        mos2(contamination=soil)(np.random.default_rng(0))


@pytest.mark.parametrize(("metal", "chalcogen"), LATTICES)
def test_relatives_of_mos2(metal: str, chalcogen: str) -> None:
    classes = [metal, f"{chalcogen}2", chalcogen, f"{metal} vacancy", f"{chalcogen}2 vacancy"]
    sample = MoS2("mos2", classes, 51.2, {metal: 0.06, chalcogen: 0.07}, metal=metal, chalcogen=chalcogen)
    atoms, columns = sample(np.random.default_rng(0))
    assert set(atoms.symbols) == {metal, chalcogen}
    a, thickness = LATTICES[metal, chalcogen]
    inner = labelled(columns, metal)
    inner = inner[inner.inside(51.2, 51.2, border=4.0)]
    distance, _ = cKDTree(labelled(columns, f"{chalcogen}2").positions).query(inner.positions, k=3)
    np.testing.assert_allclose(distance, a / np.sqrt(3.0))
    assert np.ptp(atoms.positions[:, 2]) == pytest.approx(thickness)
    # The bond of a trigonal prism; the sum of the covalent radii of W and Te is 2.8 Å.
    assert 2.3 < np.hypot(a / np.sqrt(3.0), thickness / 2) < 2.85


def test_any_other_dichalcogenide_with_its_lattice() -> None:
    classes = ["V", "S2", "S", "V vacancy", "S2 vacancy"]
    said = {"metal": "V", "lattice_constant": 3.18, "thickness": 2.99}
    atoms, _ = MoS2("mos2", classes, 20.0, {"V": 0.06, "S": 0.07}, **said)(np.random.default_rng(0))
    assert set(atoms.symbols) == {"V", "S"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lattice_constant": -3.16}, r"sample\.lattice_constant must be between 2\.5 and 4\.5 Å"),
        ({"thickness": 0.0}, r"sample\.thickness must be between 2 and 5 Å"),
        ({"metal_vacancy": [0.2, 0.1]}, r"sample\.metal_vacancy .* swapped"),
        ({"metal_antisite": -0.1}, r"sample\.metal_antisite must be between 0 and 0\.5"),
        ({"chalcogen_antisite": [0.3, 0.2]}, r"sample\.chalcogen_antisite .* swapped"),
        ({"disorder": 1.5}, r"sample\.disorder must be between 0 and 1"),
        ({"metal": "Xx"}, r"sample\.metal must be the symbol of an element, got 'Xx'"),
        ({"chalcogen": "Mo"}, r"sample\.metal and sample\.chalcogen must differ, got Mo twice"),
        ({"metal": "Fe"}, r"lattice_constant and sample\.thickness of FeS2 must be given in Å; known are only"),
        ({"hole_radius": [-1.0, 2.0]}, r"sample\.hole_radius must be at least 0 Å"),
        ({"hole": 1.0}, r"sample\.hole must be between 0 and 0\.9"),
        (
            {"single_chalcogen_vacancy": 0.8, "double_chalcogen_vacancy": 0.3},
            r"sample\.single_chalcogen_vacancy and sample\.double_chalcogen_vacancy .* got up to 0\.8 and 0\.3",
        ),
    ],
)
def test_mos2_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        mos2(**settings)

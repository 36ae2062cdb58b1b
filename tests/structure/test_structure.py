"""Rings, defects, lattices and strains of arrangements that are known."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.recipes import compose
from hrtem.report.structures import structure_figure
from hrtem.samples.base import rotation
from hrtem.samples.relaxation import relax
from hrtem.structure import analyse, find_bonds, find_rings, fit_lattice, three_bonded

BOND = 2.46 / np.sqrt(3.0)
HEXAGONAL = 2.46 * np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
#: Cell, motif and class of each site of the motif.
CRYSTALS = {
    "square": (3.9 * np.eye(2), [[0.0, 0.0]], [0]),
    "SrTiO3": (3.9 * np.eye(2), [[0.0, 0.0], [0.5, 0.5], [0.5, 0.0], [0.0, 0.5]], [0, 1, 2, 2]),
    "graphene": (HEXAGONAL, [[0.0, 0.0], [1 / 3, 1 / 3]], [0, 0]),
    "MoS2": (1.3 * HEXAGONAL, [[0.0, 0.0], [1 / 3, 1 / 3]], [0, 1]),
    "gold [110]": (np.array([[2.88, 0.0], [1.44, 2.04]]), [[0.0, 0.0]], [0]),
    "dumbbells": (np.array([[3.84, 0.0], [1.92, 2.715]]), [[0.0, 0.0], [0.25, 0.0]], [0, 0]),
}


def columns(positions, labels=None):
    labels = np.zeros(len(positions), int) if labels is None else labels
    return Columns(positions, labels, tuple("ABC"))


def crystal(name, deformation=None, angle=0.3, size=60.0):
    """Columns of a crystal, turned, then deformed: row vectors are multiplied by 1 + ``deformation``."""
    cell, motif, labels = CRYSTALS[name]
    i, j = np.mgrid[-60:61, -60:61].reshape(2, -1)
    points = ((np.column_stack([i, j]) @ cell)[:, None] + np.array(motif) @ cell).reshape(-1, 2)
    deformation = np.zeros((2, 2)) if deformation is None else deformation
    points = points @ rotation(angle) @ (np.eye(2) + deformation) + size / 2 + 0.123
    inside = np.all((points > 0) & (points < size), axis=1)
    return columns(points[inside], np.tile(labels, len(i))[inside])


def without(sheet, *places, radius=0.1):
    """The sheet without the atoms nearest to some places and all within a radius of these."""
    keep = np.ones(len(sheet), bool)
    for place in places:
        away = np.linalg.norm(sheet.positions - place, axis=1)
        keep &= away > away.min() + radius
    return sheet[keep]


def test_a_perfect_sheet_has_hexagons_only():
    sheet = crystal("graphene")
    structure = analyse(sheet, (60.0, 60.0))
    assert set(structure.rings.counts()) == {6}
    # A hexagon has 5.24 Å²; those at the border are cut and do not count.
    assert 0.85 < structure.rings.counts()[6] * 5.24 / 60.0**2 < 0.97
    assert structure.bonds.length == pytest.approx(BOND, rel=1e-6)
    assert set(structure.fields["site"]) <= {"bulk", "border"}
    assert not structure.marks
    assert not structure.defects
    inner = sheet.inside(60.0, 60.0, border=4.0)
    assert set(structure.fields["rings"][inner]) == {"6-6-6"}
    assert set(structure.fields["bonds"][inner]) == {3}


@pytest.mark.parametrize("kind", [{"loop": 1.0}, {"grain_boundary": 1.0}, {"bond_rotation": 0.02}, {"divacancy": 0.02}])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_rings_are_those_that_the_simulation_knows(rng, kind, noise):
    """The sample draws its sheets as networks of rings: the same come back from the bare positions of atoms."""
    found: Counter[int] = Counter()
    for _ in range(2):
        sample = instantiate(sheet_of(**kind), _convert_="all")
        truth, _ = sample._rings(2.46, rng)
        sample._rotate_bonds(truth, rng)
        sample._remove_pairs(truth, rng)
        start, pairs = truth.atoms()
        atoms = relax(start, pairs, BOND)
        seen = np.all((atoms > 1.0) & (atoms < 39.0), axis=1)
        whole = np.bincount(truth.triangles[seen].ravel(), minlength=len(truth.centres)) == truth.sizes
        # A ring on the hull of the triangulation has fewer neighbours than sides, and is not closed.
        whole &= np.bincount(truth.neighbours.ravel(), minlength=len(truth.centres)) == truth.sizes
        expected = Counter(truth.sizes[whole & (truth.sizes > 0)].tolist())
        positions = atoms[seen] + noise * rng.normal(size=(seen.sum(), 2))
        structure = analyse(columns(positions), (40.0, 40.0))
        assert structure.rings.counts() == expected
        found += expected
    assert len(found) > 1, "nothing but hexagons was drawn"


def sheet_of(**words):
    recipe = compose().sample
    plain = dict.fromkeys(("grain_boundary", "loop", "bond_rotation", "divacancy"), 0.0)
    return OmegaConf.merge(recipe, {"extent": 40.0} | plain | words)


def test_defects_have_their_names(rng):
    sample = instantiate(sheet_of(), _convert_="all")
    names = []
    for change in ("rotate", "remove"):
        truth, _ = sample._rings(2.46, np.random.default_rng(1))
        pairs = truth.neighbours
        middle = np.linalg.norm(truth.centres[pairs].mean(axis=1) - 20.0, axis=1).argmin()
        getattr(truth, change)(*pairs[middle])
        start, links = truth.atoms()
        atoms = relax(start, links, BOND)
        structure = analyse(columns(atoms[np.all((atoms > 0) & (atoms < 40), axis=1)]), (40.0, 40.0))
        (defect,) = structure.defects
        assert defect.charge == 0
        np.testing.assert_allclose(defect.centre, truth.centres[pairs[middle]].mean(axis=0), atol=1.5)
        names.append(defect.name)
    assert names == ["rotated bond", "divacancy"]


def test_a_vacancy_is_no_ring():
    structure = analyse(without(crystal("graphene"), (30.0, 30.0)), (60.0, 60.0))
    (vacancy,) = np.flatnonzero(structure.rings.missing)
    assert structure.rings.missing[vacancy] == 1
    assert structure.rings.sizes[vacancy] == 12
    np.testing.assert_allclose(structure.rings.centres[vacancy], [30.0, 30.0], atol=1.5)
    assert set(structure.rings.counts()) == {6}
    assert (structure.fields["site"] == "vacancy").sum() == 12
    (mark,) = structure.marks
    assert mark.kind == "vacancy"
    assert "1 missing" in mark.text
    assert "1 vacancies" in structure.summary()


@pytest.mark.parametrize(("radius", "kind", "site"), [(1.6, "vacancy", "vacancy"), (6.0, "hole", "edge")])
def test_missing_atoms_are_counted(radius, kind, site):
    sheet = crystal("graphene")
    torn = without(sheet, (30.0, 30.0), radius=radius)
    structure = analyse(torn, (60.0, 60.0))
    marks = [mark for mark in structure.marks if len(mark.points) > 2]
    assert [mark.kind for mark in marks] == [kind]
    # An atom that hangs on one bond is inside the ring.
    alone = (structure.fields["bonds"] < 2) & torn.inside(60.0, 60.0, border=4.0)
    assert structure.rings.missing.max() == len(sheet) - len(torn) + alone.sum()
    assert site in structure.fields["site"]


def test_the_edge_of_a_sheet_is_not_that_of_the_image():
    sheet = crystal("graphene")
    half = sheet[sheet.positions[:, 0] < 30.0]
    structure = analyse(half, (60.0, 60.0))
    site, x = structure.fields["site"], half.positions[:, 0]
    assert np.all(x[site == "edge"] > 26.0)
    assert (site == "edge").sum() > 15
    rest = half.inside(60.0, 60.0, border=3.0) & (x < 26.0)
    assert set(site[rest]) == {"bulk"}
    assert {mark.kind for mark in structure.marks} == {"edge"}


def test_an_atom_too_many_is_seen():
    sheet = crystal("graphene")
    centre = find_rings(sheet.positions, find_bonds(sheet.positions)).centres[100]
    structure = analyse(columns(np.concatenate([sheet.positions, [centre]])), (60.0, 60.0))
    assert structure.fields["bonds"][-1] == 6
    assert (structure.fields["site"] == "crowded").sum() == 7


def test_a_diagonal_is_no_bond():
    """Positions that are 0.2 Å wrong bring second neighbours as near as bonds."""
    sheet = crystal("graphene")
    noisy = sheet.positions + 0.15 * np.random.default_rng(0).normal(size=(len(sheet), 2))
    graph = find_bonds(noisy)
    assert graph.coordination.max() > 3
    assert three_bonded(noisy, graph).coordination.max() == 3


def test_mirrored_and_turned_sheets_have_the_same_rings():
    structure = analyse(without(crystal("graphene"), (30.0, 30.0)), (60.0, 60.0))
    mirrored = without(crystal("graphene"), (30.0, 30.0)).positions * [-1.0, 1.0] + [60.0, 0.0]
    assert analyse(columns(mirrored), (60.0, 60.0)).rings.counts() == structure.rings.counts()


@pytest.mark.parametrize("name", CRYSTALS)
def test_the_lattice_is_found_through_noise_and_gaps(name, rng):
    strain = np.array([[0.01, 0.004], [0.004, -0.02]])
    whole = crystal(name, strain)
    kept = whole[rng.random(len(whole)) > 0.05]
    noisy = kept.moved(kept.positions + 0.05 * rng.normal(size=(len(kept), 2)))
    fit = fit_lattice(noisy)
    cell, motif, _ = CRYSTALS[name]
    area = np.linalg.det(cell) * np.linalg.det(np.eye(2) + strain)
    assert np.linalg.det(fit.cell) == pytest.approx(area, rel=2e-3)
    assert len(fit.origins) == len(motif)
    assert np.mean(fit.motif >= 0) > 0.99
    rest = noisy.positions - fit.indices @ fit.cell - fit.origins[fit.motif]
    assert np.nanstd(rest[fit.motif >= 0]) == pytest.approx(0.05, rel=0.1)
    np.testing.assert_allclose(fit.displacements, np.where(fit.motif[:, None] >= 0, rest, np.nan), atol=1e-9)
    # Classes that the truth knows lie on sites of their own.
    for site in range(len(motif)):
        assert len(set(noisy.labels[fit.motif == site])) == 1


@pytest.mark.parametrize("name", CRYSTALS)
def test_a_uniform_strain_is_told_against_known_lattice_vectors(name):
    strain = np.array([[0.012, 0.005], [0.005, -0.008]])
    turn = np.array([[0.0, 0.01], [-0.01, 0.0]])  # x moves towards y
    straight, bent = crystal(name), crystal(name, strain + turn)
    fit = fit_lattice(bent, reference=fit_lattice(straight).cell)
    known = np.isfinite(fit.rotations)
    assert known.mean() > 0.98  # a corner may have neighbours in one direction only
    np.testing.assert_allclose(fit.strains[known], np.tile([0.012, -0.008, 0.005], (known.sum(), 1)), atol=1e-6)
    np.testing.assert_allclose(fit.rotations[known], 0.01, atol=1e-6)


def test_another_lattice_is_no_reference():
    with pytest.raises(InputError, match="reference"):
        fit_lattice(crystal("square"), reference=2.0 * np.eye(2))
    with pytest.raises(InputError, match="span a cell"):
        fit_lattice(crystal("square"), reference=np.ones((2, 2)))


@pytest.mark.parametrize("name", ["square", "graphene", "gold [110]"])
def test_a_strain_that_changes_is_followed(name):
    """Along x the lattice is stretched by 4e-4 (x - 30) Å⁻¹ against its mean."""
    plain = crystal(name)
    x = plain.positions[:, 0] - 30.0
    bent = plain.moved(plain.positions + np.column_stack([2e-4 * x**2, np.zeros_like(x)]))
    structure = analyse(bent, (60.0, 60.0))
    inner = plain.inside(60.0, 60.0, border=8.0)
    slope, offset = np.polyfit(x[inner], structure.fields["e_xx"][inner], 1)
    assert slope == pytest.approx(4e-4, rel=0.03)
    assert offset == pytest.approx(0.0, abs=1e-3)
    for still in ("e_yy", "e_xy", "rotation_deg"):
        assert np.abs(structure.fields[still][inner]).max() < 2e-3
    u = structure.fields["u_x_A"][inner]
    assert np.corrcoef(u, x[inner] ** 2)[0, 1] > 0.99


def test_the_larger_grain_is_fitted():
    one, other = crystal("square", angle=0.0), crystal("square", angle=0.6)
    large, small = one.positions[:, 0] < 40.0, other.positions[:, 0] > 42.0
    both = columns(np.concatenate([one.positions[large], other.positions[small]]))
    fit = fit_lattice(both)
    assert np.linalg.norm(fit.cell, axis=1) == pytest.approx([3.9, 3.9], rel=1e-3)
    on = fit.motif >= 0
    assert on[: large.sum()].all()
    assert on[large.sum() :].mean() < 0.3


def test_an_island_continues_the_lattice():
    sheet = crystal("square", angle=0.1)
    x = sheet.positions[:, 0]
    fit = fit_lattice(sheet[(x < 25.0) | (x > 36.0)])
    assert len(fit.origins) == 1
    assert np.nanmax(np.abs(fit.displacements)) < 1e-6


@pytest.mark.parametrize("number", [0, 1, 2, 3, 5])
def test_a_few_columns_have_no_structure(number, rng):
    structure = analyse(columns(rng.uniform(0.0, 20.0, size=(number, 2))), (20.0, 20.0))
    assert structure.lattice is None
    assert all(len(values) == number for values in structure.fields.values())
    assert np.isnan(structure.fields["u_x_A"]).all()
    assert isinstance(structure.summary(), str)


def test_columns_on_a_line_and_at_random(rng):
    line = columns(np.column_stack([2.0 * np.arange(30), np.full(30, 5.0)]))
    assert analyse(line, (60.0, 10.0)).lattice is None
    gas = analyse(columns(rng.uniform(0.0, 50.0, size=(300, 2))), (50.0, 50.0))
    assert gas.lattice is None or np.mean(gas.lattice.motif >= 0) < 0.5
    assert gas.rings is None


def test_columns_at_one_place():
    assert not analyse(columns(np.zeros((30, 2))), (20.0, 20.0)).marks


def test_fields_fit_into_a_table():
    structure = analyse(crystal("graphene"), (60.0, 60.0))
    assert list(structure.fields) == [
        "bonds", "rings", "site", "cell_a", "cell_b", "motif", "u_x_A", "u_y_A", "e_xx", "e_yy", "e_xy", "rotation_deg",
    ]  # fmt: skip
    assert {values.dtype.kind for values in structure.fields.values()} <= {"i", "U", "f"}
    assert next(iter(analyse(crystal("square"), (60.0, 60.0)).fields)) == "cell_a"


def test_the_flower_is_found_in_the_positions_of_its_atoms(tmp_path):
    """Twelve pentagons and twelve heptagons in one closed loop, by the truth of a real micrograph."""
    where = os.environ.get("HRTEM_REAL_DATA")
    if not where:
        pytest.skip("HRTEM_REAL_DATA is unset: no real micrographs on this machine")
    with (Path(where) / "real" / "graphene_flower" / "atoms.csv").open() as file:
        rows = [(float(row["x_px"]), float(row["y_px"])) for row in csv.DictReader(file)]
    sheet = columns(0.2188 * np.array(rows))
    structure = analyse(sheet, (255 * 0.2188, 255 * 0.2188))
    loop = structure.defects[0]
    assert loop.name == "rings: 12 of 5, 12 of 7"
    assert loop.charge == 0


def test_a_picture_shows_rings_and_strain(tmp_path):
    from skimage.io import imread

    torn = without(crystal("graphene"), (30.0, 30.0))
    image = np.random.default_rng(0).normal(size=(300, 300))
    path = structure_figure(image, torn, analyse(torn, (60.0, 60.0)), 0.2, tmp_path / "structure.png")
    picture = imread(path)[..., :3].astype(int)
    left = picture[:, : picture.shape[1] // 2]
    yellow = (left[..., 0] > 150) & (left[..., 1] > 150) & (left[..., 2] < 110)
    assert yellow.sum() > 500
    assert np.argwhere(yellow).mean(axis=0) == pytest.approx([picture.shape[0] / 2, picture.shape[1] / 4], rel=0.15)


def test_the_graph_and_the_rings_are_evaluated_once_and_stay_as_they_are():
    """A property that is computed anew for each defect makes the analysis of large sheets quadratic."""
    positions = np.array([[0.0, 0.0], [1.4, 0.0], [1.4, 1.4], [0.0, 1.4]])
    bonds = find_bonds(positions)
    rings = find_rings(positions, bonds)
    for thing, name in ((bonds, "coordination"), (rings, "sizes"), (rings, "centres"), (rings, "whole")):
        assert getattr(thing, name) is getattr(thing, name)
    crowded = find_bonds(np.array([[0.0, 0.0], [1.4, 0.0], [-1.4, 0.0], [0.0, 1.4], [0.0, -1.6], [3.0, 3.0]]))
    before = crowded.coordination.copy()
    three_bonded(np.array([[0.0, 0.0], [1.4, 0.0], [-1.4, 0.0], [0.0, 1.4], [0.0, -1.6], [3.0, 3.0]]), crowded)
    np.testing.assert_array_equal(crowded.coordination, before)


def test_columns_that_lie_on_each_other_have_bonds():
    positions = np.repeat([[0.0, 0.0], [1.4, 0.0], [0.7, 1.2]], 2, axis=0)
    assert np.isfinite(find_bonds(positions).length)
    assert analyse(columns(positions), (5.0, 5.0)).summary()

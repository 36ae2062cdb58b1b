"""Lattices of the metals, twins in them, and the particles that are cut from them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from hrtem.errors import InputError
from hrtem.samples.cluster import SHELL, Cluster, columns, wulff_size
from hrtem.samples.crystal import (
    BCC,
    DEBYE_WALLER,
    FCC,
    TWIN_PLANES,
    ZONE_AXES,
    crystal_of,
    frame,
    mirror_images,
    restack,
    room_temperature_displacement,
)

TWINS = [(axis, *plane) for axis, planes in TWIN_PLANES.items() for plane in planes]


@pytest.mark.parametrize(("crystal", "nearest", "bonds"), [(FCC, np.sqrt(1 / 2), 12), (BCC, np.sqrt(3 / 4), 14)])
def test_lattices(crystal, nearest, bonds):
    sites = crystal.sites(24.0)
    assert len(np.unique(sites, axis=0)) == len(sites)
    assert len(sites) == pytest.approx(4 / 3 * np.pi * 4**3 * crystal.atoms_per_cell, rel=0.05)
    distance, _ = cKDTree(sites).query(sites, k=2)
    np.testing.assert_allclose(distance[:, 1], 6.0 * nearest)
    middle = np.linalg.norm(sites, axis=1) < 6.0
    cluster = Cluster(crystal, sites, np.ones(len(sites), bool), np.zeros(len(sites), bool))
    assert set(cluster.bonds()[middle]) == {bonds} == {crystal.coordination}


@pytest.mark.parametrize("crystal", [FCC, BCC])
def test_facets_come_in_opposite_pairs(crystal):
    facets = {tuple(normal) for normal in crystal.facets.tolist()}
    assert len(facets) == len(crystal.facets) == {"fcc": 8, "bcc": 12}[crystal.structure] + 6
    assert facets == {(-u, -v, -w) for u, v, w in facets}


@pytest.mark.parametrize("crystal", [FCC, BCC])
def test_an_atom_on_a_closest_packed_facet_just_holds(crystal):
    sites = crystal.sites(30.0)
    height = sites @ crystal.facets[0]
    layers = np.unique(height)
    top = layers[len(layers) // 2]
    cluster = Cluster(crystal, sites, height <= top, np.zeros(len(sites), bool))
    above = (height == layers[len(layers) // 2 + 1]) & (np.linalg.norm(sites, axis=1) < 12.0)
    assert above.any()
    assert set(cluster.bonds()[above]) == {crystal.held}


@pytest.mark.parametrize(("axis", "normal", "partial"), TWINS)
def test_a_twin_is_its_own_mirror_image(axis, normal, partial):
    sites, turned = restack(FCC.sites(36.0), normal, partial, [0])
    np.testing.assert_array_equal(turned, sites @ normal > 0)
    mirrored = mirror_images(sites.astype(float), normal)
    inside = np.linalg.norm(sites, axis=1) < 24.0
    distance, _ = cKDTree(sites).query(mirrored[inside])
    assert distance.max() < 1e-9


@pytest.mark.parametrize(("axis", "normal", "partial"), TWINS)
@pytest.mark.parametrize("planes", [[0], [-1, 2], [0, 1], [-2, 0, 1]])
def test_twins_keep_bonds_and_columns(axis, normal, partial, planes):
    sites, _ = restack(FCC.sites(36.0), normal, partial, planes)
    distance, _ = cKDTree(sites).query(sites, k=13)
    inside = np.linalg.norm(sites, axis=1) < 20.0
    np.testing.assert_allclose(distance[inside, 1:], 3.0 * np.sqrt(2.0))
    # In projection, columns are as far apart as in the untwinned crystal.
    down = ZONE_AXES[axis]
    flat = (sites @ frame(axis, down))[:, :2]
    spread = [np.ptp(flat[columns(sites, axis) == line], axis=0).max() for line in range(20)]
    np.testing.assert_allclose(spread, 0.0, atol=1e-9)
    lines = np.array([flat[columns(sites, axis) == line][0] for line in np.unique(columns(sites, axis))])
    near, _ = cKDTree(lines).query(lines, k=2)
    assert near[:, 1].min() == pytest.approx(6.0 * {(1, 1, 0): np.sqrt(3 / 8), (1, 1, 1): np.sqrt(1 / 6)}[axis])


def test_two_planes_side_by_side_are_a_stacking_fault():
    (normal, partial), *_ = TWIN_PLANES[1, 1, 0]
    sites = FCC.sites(30.0)
    faulted, _ = restack(sites, normal, partial, [0, 1])
    # Above the fault the crystal is fcc again, moved by one partial; sites far from the rim have their like.
    above = (sites @ normal > 12) & (np.linalg.norm(sites, axis=1) < 20.0)
    shifts = faulted[above] - sites[above]
    assert set(map(tuple, shifts.tolist())) == {tuple(partial)}


def test_a_frame_is_a_rotation():
    for axis, down in [*ZONE_AXES.items(), FCC.epitaxy, BCC.epitaxy]:
        turn = frame(axis, down)
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(turn) == pytest.approx(1.0)
        np.testing.assert_allclose(np.array(axis) @ turn, [0, 0, np.linalg.norm(axis)], atol=1e-12)


def test_wulff_facets_lie_at_their_energies():
    size = wulff_size(np.array([[6.0, 0, 0], [6.0, 6, 6]]), np.array([[1, 0, 0], [1, 1, 1]]), np.array([2.0, 1.0]))
    np.testing.assert_allclose(size, [6 / np.sqrt(3), 18 / np.sqrt(3)])


def ball(radius: float = 20.0) -> Cluster:
    sites = FCC.sites(radius + SHELL)
    return Cluster(FCC, sites, np.linalg.norm(sites, axis=1) <= radius, np.zeros(len(sites), bool))


def test_terraces_settle_in_hollows_of_the_surface(rng):
    cluster = ball()
    before = cluster.filled.copy()
    cluster.add_terrace(12.0, rng)
    new = cluster.filled & ~before
    assert new.sum() > 3
    assert np.linalg.norm(cluster.sites[new], axis=1).min() > 20.0
    assert np.ptp(cluster.sites[new], axis=0).max() <= 24.0


@pytest.mark.parametrize("axis", list(ZONE_AXES))
def test_adatoms_are_new_columns_on_lattice_sites(axis, rng):
    cluster = ball()
    old = set(columns(cluster.sites, axis)[cluster.filled])
    for added in range(1, 4):
        before = cluster.filled.copy()
        cluster.add_adatoms(axis, 3, rng)
        new = np.flatnonzero(cluster.filled & ~before)
        assert 1 <= len(new) <= 3
        (line,) = set(columns(cluster.sites, axis)[new])
        assert line not in old
        old.add(line)
        assert len(old) - added == len(set(columns(cluster.sites, axis)[np.linalg.norm(cluster.sites, axis=1) <= 20.0]))
        one_by_one = cluster.bonds()[new]
        assert one_by_one.min() >= FCC.held


def test_erosion_spares_what_stands_on_a_support():
    sites = FCC.sites(30.0)
    low = sites[:, 2] == -12
    filled = (np.linalg.norm(sites, axis=1) <= 20.0) & (sites[:, 2] >= -12)
    left = []
    for braced in (low, np.zeros(len(sites), bool)):
        cluster = Cluster(FCC, sites, filled, braced)
        cluster.erode(0.5, np.random.default_rng(0))
        left.append((cluster.filled & low).sum() / (filled & low).sum())
    assert left[0] > left[1] + 0.1


def test_displacements_are_those_of_the_table():
    # At 293 K: gold B = 0.62, platinum 0.37, iron 0.32 and tungsten 0.16 Å² (Peng et al. 1996).
    for element, factor in {"Au": 0.62, "Pt": 0.37, "Fe": 0.32, "W": 0.16}.items():
        assert room_temperature_displacement(element) == pytest.approx(np.sqrt(factor / (8 * np.pi**2)), rel=0.02)
    assert room_temperature_displacement("Cs") is None
    assert all(crystal_of(element)[0] in (FCC, BCC) for element in DEBYE_WALLER)


@pytest.mark.parametrize(("element", "found"), [("Ti", "'Ti', which is hcp"), ("Gold", "'Gold'"), ("X", "'X'")])
def test_other_elements_are_refused(element, found):
    with pytest.raises(InputError, match=rf"sample\.element must be .* fcc or bcc metal .* got {found}\."):
        crystal_of(element)

"""A model on a real micrograph that is damaged, and on parts of it: no atom of the valid region is lost."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import hrtem
from benchmarks import real
from hrtem.matching import match

#: Distance from the edge of the valid region beyond which all atoms must be found, half a bond, Å.
RIM = 0.71


@pytest.fixture(scope="module")
def case():
    where = os.environ.get("HRTEM_REAL_DATA")
    if not where:
        pytest.skip("HRTEM_REAL_DATA is unset: no real micrographs on this machine")
    return real.read_case(Path(where), "graphene_dtu")


@pytest.fixture(scope="module")
def model():
    return hrtem.load("graphene")


def zeros_on_two_sides(image):
    valid = np.ones(image.shape, bool)
    valid[:40] = valid[:, -40:] = False
    return np.where(valid, image, 0.0), valid, {}


def aperture(image):
    rows, columns = image.shape
    y, x = np.ogrid[:rows, :columns]
    valid = np.hypot(y - (rows - 1) / 2, x - (columns - 1) / 2) <= 0.45 * min(rows, columns)
    return np.where(valid, image, 0.0), valid, {}


def hot_columns(image):
    damaged = image.copy()
    damaged[:, [200, 201, 202]] = 4.0 * image.max()
    return damaged, np.ones(image.shape, bool), {}


def nan_border(image):
    valid = np.zeros(image.shape, bool)
    valid[40:-40, 40:-40] = True
    return np.where(valid, image, np.nan), valid, {}


def cropped(image):
    valid = np.zeros(image.shape, bool)
    valid[50:350, 100:420] = True
    return image, valid, {"crop": [100, 50, 420, 350]}


def masked(image):
    valid = aperture(image)[1]
    return image, valid, {"mask": valid}


@pytest.mark.parametrize("damage", [zeros_on_two_sides, aperture, hot_columns, nan_border, cropped, masked])
def test_no_atom_of_the_valid_region_is_lost(case, model, damage):
    image, valid, words = damage(case.image)
    table = model.find(image.astype(np.float32), sampling=case.sampling, **words)
    depth = ndimage.distance_transform_edt(valid) * case.sampling if not valid.all() else np.full(valid.shape, np.inf)
    scored = case.mask & (depth > RIM)

    def among(positions, mask):
        column, row = np.rint(positions / case.sampling).astype(int).T
        return mask[row.clip(0, len(mask) - 1), column.clip(0, mask.shape[1] - 1)]

    found = table.columns.positions
    i, j = match(found, case.true, 0.5)
    wanted = case.trusted & among(case.true, scored)
    assert np.isin(np.flatnonzero(wanted), j).mean() > 0.99
    assert np.isin(np.flatnonzero(among(found, case.mask)), i).mean() > 0.99
    assert among(found, valid).all()
    assert table.left_out == pytest.approx(1.0 - valid.mean(), abs=0.01)
    assert table.in_domain
    assert bool(table.warnings)

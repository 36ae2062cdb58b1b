"""One-to-one matching of found columns with true columns, and scores of a single result."""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.ranges import Range

#: Largest distance between a found and a true column that may be matched, Å.
TOLERANCE = 0.5


def match(found: np.ndarray, true: np.ndarray, tolerance: float = TOLERANCE) -> tuple[np.ndarray, np.ndarray]:
    """Pair positions one to one: as many pairs as possible, then the smallest total distance.

    Args:
        found: ``(N, 2)`` Å.
        true: ``(M, 2)`` Å.
        tolerance: largest distance of a pair, Å.

    Returns:
        Indices into ``found`` and into ``true`` of the K pairs, each ``(K,)``.
    """
    if len(found) == 0 or len(true) == 0:
        return np.empty(0, int), np.empty(0, int)
    near = cKDTree(found).sparse_distance_matrix(cKDTree(true), tolerance, output_type="coo_matrix")
    row, column, distance = near.row, near.col, near.data
    number = len(found) + len(true)
    graph = coo_matrix((np.ones(len(row)), (row, column + len(found))), shape=(number, number))
    _, component = connected_components(graph, directed=False)
    links = np.bincount(component[row], minlength=number)
    alone = links[component[row]] == 1
    pairs = [np.column_stack([row[alone], column[alone]])]
    # Only the few columns with several candidates need the assignment problem.
    for crowd in np.unique(component[row[~alone]]):
        mine = component[row] == crowd
        rows, i = np.unique(row[mine], return_inverse=True)
        columns, j = np.unique(column[mine], return_inverse=True)
        # An additional pair is worth more than any saving in distance.
        gain = np.zeros((len(rows), len(columns)))
        gain[i, j] = min(len(rows), len(columns)) * tolerance + tolerance - distance[mine]
        chosen = linear_sum_assignment(gain, maximize=True)
        linked = gain[chosen] > 0
        pairs.append(np.column_stack([rows[chosen[0][linked]], columns[chosen[1][linked]]]))
    both = np.concatenate(pairs)
    return both[:, 0], both[:, 1]


@dataclass(frozen=True)
class Score:
    """Quality of a set of found columns.

    Attributes:
        precision: share of the found columns that match a true column.
        recall: share of the true columns that are found.
        f1: harmonic mean of precision and recall.
        error_pm: root mean square distance of the matched pairs, pm.
        found: number of found columns that were scored.
        true: number of true columns that were scored.
        count_exact: share of the matched columns with the correct number of atoms; None if no atoms are counted.
        count_within_one: share of the matched columns whose number of atoms is wrong by 1 at most; None as above.
    """

    precision: float
    recall: float
    f1: float
    error_pm: float
    found: int
    true: int
    count_exact: float | None = None
    count_within_one: float | None = None

    def qualities(self) -> list[tuple[str, float]]:
        """Names and values of the attributes that are not None, without ``found`` and ``true``."""
        names = [field.name for field in fields(self) if field.name not in ("found", "true")]
        return [(name, getattr(self, name)) for name in names if getattr(self, name) is not None]

    @classmethod
    def of(cls, matched_found: float, matched_true: float, found: float, true: float, error2: float) -> Score:
        """Compute a score from the numbers of columns and the mean squared distance ``error2`` of the pairs in Å²."""
        precision = matched_found / found if found else float("nan")
        recall = matched_true / true if true else float("nan")
        both = precision + recall
        # If there are true columns and no column is found, F1 is 0, not undefined.
        f1 = 2.0 * precision * recall / both if both > 0 else (float("nan") if not found and not true else 0.0)
        return cls(precision, recall, f1, 100.0 * float(np.sqrt(error2)), int(found), int(true))


def score(
    found: np.ndarray,
    true: np.ndarray,
    *,
    trusted: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    sampling: float = 1.0,
    tolerance: float = TOLERANCE,
) -> Score:
    """Score found positions against a table of true positions.

    Found positions outside the mask do not count. Recall and position error are those of the trusted true positions;
    for precision, a match with any true position counts.

    Args:
        found: ``(N, 2)`` Å.
        true: ``(M, 2)`` Å.
        trusted: mask, bool ``(M,)``, of the true positions that are certain; all by default.
        mask: mask, bool ``(Y, X)``, of the pixels where columns are scored; everywhere by default.
        sampling: Å/px of the mask.
        tolerance: largest distance of a pair, Å.
    """
    trusted = np.ones(len(true), bool) if trusted is None else np.asarray(trusted, bool)
    if mask is not None:
        column, row = np.round(found / sampling).astype(int).T
        inside = (row >= 0) & (row < mask.shape[0]) & (column >= 0) & (column < mask.shape[1])
        found = found[inside][mask[row[inside], column[inside]] > 0]
    i, j = match(found, true, tolerance)
    error2 = np.square(found[i] - true[j]).sum(axis=1)
    certain = trusted[j]
    mean = float(error2[certain].mean()) if certain.any() else float("nan")
    return Score.of(len(i), int(certain.sum()), len(found), int(trusted.sum()), mean)


def score_files(
    found: str | Path, true: str | Path, sampling: float, mask: str | Path | None = None, tolerance: float = TOLERANCE
) -> Score:
    """Score a table of found columns against a table of true columns.

    Both tables are CSV files with the columns ``x_px`` and ``y_px``; the table of true columns may also have the column
    ``trusted``, 1 or 0.

    Args:
        found: table of found columns, for instance the ``atoms.csv`` of ``predict.py``.
        true: table of true columns.
        sampling: Å/px.
        mask: image of the micrograph's shape, nonzero in the pixels where columns are scored.
        tolerance: largest distance of a pair, Å.

    Raises:
        InputError: a file cannot be read, or a table lacks a column.
    """
    # Reading a mask takes packages that nothing else here needs.
    from skimage.io import imread

    Range.parse("sampling", sampling, unit="Å/px", minimum=1e-3, maximum=100.0)
    tables = [_read_table(Path(path)) for path in (found, true)]
    places = [np.column_stack([table["x_px"], table["y_px"]]) * sampling for table in tables]
    trusted = tables[1].get("trusted")
    if mask is not None and not Path(mask).is_file():
        raise InputError(f"mask must be an image file, and {mask} does not exist.")
    return score(
        *places,
        trusted=None if trusted is None else trusted > 0,
        mask=None if mask is None else imread(mask) > 0,
        sampling=sampling,
        tolerance=tolerance,
    )


def _read_table(path: Path) -> dict[str, np.ndarray]:
    """Read the numeric columns ``x_px``, ``y_px`` and, if present, ``trusted`` of a CSV file."""
    if not path.is_file():
        raise InputError(f"a table of columns must be a CSV file, and {path} does not exist.")
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = {"x_px", "y_px"} - set(reader.fieldnames or ())
        if missing:
            raise InputError(
                f"a table of columns needs x_px and y_px, and {path} lacks {' and '.join(sorted(missing))}."
            )
        rows = list(reader)
    try:
        wanted = [name for name in ("x_px", "y_px", "trusted") if name in (reader.fieldnames or ())]
        return {name: np.array([float(row[name]) for row in rows]) for name in wanted}
    except (TypeError, ValueError) as error:
        raise InputError(f"a table of columns must hold numbers, and {path} does not: {error}.") from None


def match_counts(
    found: Columns, true: Columns, width: float, height: float, tolerance: float, border: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Match the found and true columns of an image one to one, excluding a border.

    A pair counts if its true column lies inside the border; its found column may lie slightly outside. A column without
    a partner counts if it lies inside.

    Args:
        found, true: N and M columns.
        width, height: largest x and y of a pixel centre, Å.
        tolerance: largest distance of a pair, Å.
        border: columns closer than this to the edge of the image do not count, Å.

    Returns:
        Indices into ``found`` and into ``true`` of the K pairs, each ``(K,)``; mask of the false positives among the
        found columns, bool ``(N,)``; mask of the missed true columns, bool ``(M,)``.
    """
    i, j = match(found.positions, true.positions, tolerance)
    missed, invented = true.inside(width, height, border), found.inside(width, height, border)
    kept = missed[j]
    missed[j], invented[i] = False, False
    return i[kept], j[kept], invented, missed

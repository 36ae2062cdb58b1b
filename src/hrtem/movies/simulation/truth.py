"""Ground truth of a simulated movie: occupancy of the columns in each frame, their hops, and the true rates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrtem import csv_files
from hrtem.movies.simulation.hopping import Trajectory

#: Number of neighbours of a column inside the particle.
COORDINATION = 6


@dataclass(frozen=True)
class Truth:
    """Ground truth of a movie with T frames and L lines of sites.

    Attributes:
        condition: name of the condition, for instance ``oxygen``.
        positions: ``(L, 2)`` Å in a frame without drift, (x, y) from the centre of pixel ``[0, 0]``.
        standing: bool ``(L,)``, lines on the support.
        neighbours: bool ``(L, L)``, neighbouring lines.
        share: ``(T, L)``, share of the exposure of each frame during which the line was occupied.
        edges: ``(T + 1,)`` s, start and end times of the frames.
        drift: ``(T, 2)`` Å, position of the specimen in each frame.
        defocus: ``(T,)`` Å.
        hops: ``(H, 3)``: time in s, initial line and final line.
        path_rate: hop rate of a row with two neighbours along one open path, 1/s.
        exposures: ``(COORDINATION,)`` s, total time that rows with 0 … 5 neighbours spent on the surface, without rows
            on the support.
        hazards: ``(COORDINATION,)``, expected number of departures of these rows: the integral of their rates over
            that time.
    """

    condition: str
    positions: np.ndarray
    standing: np.ndarray
    neighbours: np.ndarray
    share: np.ndarray
    edges: np.ndarray
    drift: np.ndarray
    defocus: np.ndarray
    hops: np.ndarray
    path_rate: float
    exposures: np.ndarray
    hazards: np.ndarray

    @classmethod
    def of(
        cls,
        trajectory: Trajectory,
        edges: np.ndarray,
        condition: str,
        path_rate: float,
        origin: float,
        drift: np.ndarray,
        defocus: np.ndarray,
    ) -> Truth:
        """Construct the truth from a trajectory; ``origin`` is the position of the first pixel in the field, Å."""
        occupied, coordination = trajectory.states > 0, trajectory.coordination()
        dwells = trajectory.dwells()[:, None]
        exposures, hazards = np.zeros(COORDINATION), np.zeros(COORDINATION)
        for number in range(COORDINATION):
            here = occupied & ~trajectory.standing & (coordination == number)
            exposures[number] = (here * dwells).sum()
            hazards[number] = (here * trajectory.rates * dwells).sum()
        return cls(
            condition,
            trajectory.lines - origin,
            trajectory.standing,
            trajectory.neighbours,
            trajectory.occupancy(edges),
            edges,
            drift,
            defocus,
            np.column_stack([trajectory.times, trajectory.paths]) if len(trajectory.times) else np.zeros((0, 3)),
            path_rate,
            exposures,
            hazards,
        )

    @property
    def occupied(self) -> np.ndarray:
        """Whether each line was occupied for at least half of each frame, bool ``(T, L)``."""
        return self.share >= 0.5

    def rate(self, coordination: Sequence[int] = tuple(range(COORDINATION))) -> float:
        """Rate at which surface columns with the given numbers of neighbours leave their sites, 1/s.

        This is the rate from which the hops are drawn, averaged over the states of the particle, and not the observed
        number of hops per time.
        """
        chosen = list(coordination)
        exposure = self.exposures[chosen].sum()
        return float(self.hazards[chosen].sum() / exposure) if exposure > 0.0 else 0.0

    def write(self, folder: Path) -> None:
        """Write ``sites.csv``, ``occupancy.csv``, ``frames.csv``, ``hops.csv`` and ``truth.json`` into a folder."""
        frames, lines = self.share.shape
        csv_files.write_rows(
            folder / "sites.csv",
            ("site", "x_A", "y_A", "on_support", "neighbours"),
            (
                (line, f"{x:.4f}", f"{y:.4f}", int(self.standing[line]),
                 " ".join(map(str, np.flatnonzero(self.neighbours[line]))))
                for line, (x, y) in enumerate(self.positions)
            ),
        )  # fmt: skip
        csv_files.write_rows(
            folder / "occupancy.csv",
            ("frame", "site", "share", "occupied"),
            (
                (frame, line, f"{self.share[frame, line]:.4f}", int(self.share[frame, line] >= 0.5))
                for frame in range(frames)
                for line in range(lines)
            ),
        )
        csv_files.write_rows(
            folder / "frames.csv",
            ("frame", "start_s", "end_s", "drift_x_A", "drift_y_A", "defocus_A"),
            (
                (frame, f"{self.edges[frame]:.6g}", f"{self.edges[frame + 1]:.6g}",
                 *(f"{x:.4f}" for x in self.drift[frame]), f"{self.defocus[frame]:.2f}")
                for frame in range(frames)
            ),
        )  # fmt: skip
        csv_files.write_rows(
            folder / "hops.csv",
            ("time_s", "from_site", "to_site"),
            ((f"{time:.6f}", int(start), int(end)) for time, start, end in self.hops),
        )
        by_coordination = {
            str(number): {
                "rate_per_s": self.rate([number]),
                "exposure_s": float(self.exposures[number]),
                "expected_departures": float(self.hazards[number]),
            }
            for number in range(COORDINATION)
        }
        facts = {
            "condition": self.condition,
            "rate_per_path_per_s": self.path_rate,
            "surface_departure_rate_per_s": self.rate(),
            "by_coordination": by_coordination,
            "hops": len(self.hops),
        }
        (folder / "truth.json").write_text(json.dumps(facts, indent=2) + "\n")

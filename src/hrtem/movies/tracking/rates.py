"""How often columns leave and arrive, with intervals that hold what a movie cannot tell.

Histories of all sites are drawn from what the frames leave possible (forward filtering, backward sampling; C. K. Carter
and R. Kohn, Biometrika 81 (1994) 541), and for each history a rate from the events in it. The spread of these rates is
that of a small number of events and of columns that were missed or mistaken, together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from hrtem.movies.tracking.occupancy import Occupancy
from hrtem.movies.tracking.sites import HELD, SUPPORT, Sites

#: Histories that are drawn, and the share of them that an interval holds.
DRAWS, LEVEL = 400, 0.95
#: How much more of short stays is lost in frames that are exposed all the time than between instants as far apart: from
#: what frames alone lose to where the rates of 50 simulated movies agree with their hops; drawn for each history.
EXPOSED = (1.25, 5.0)


@dataclass(frozen=True)
class Rate:
    """A rate of some events.

    Attributes:
        what: ``leave`` or ``arrive``.
        neighbours: of the sites that are counted, or None for all on the surface.
        value: 1/s, the median.
        low, high: ends of the interval that holds :data:`LEVEL`, 1/s.
        events: mean number of events in the histories.
        exposure: mean time that sites were exposed to them, s, all sites together.
        draws: ``(DRAWS,)`` 1/s, the rate of each history.
    """

    what: str
    neighbours: int | None
    value: float
    low: float
    high: float
    events: float
    exposure: float
    draws: np.ndarray


@dataclass(frozen=True)
class Rates:
    """All rates of a movie: of the surface as a whole, and of sites with each number of neighbours."""

    leave: Rate
    arrive: Rate
    by_neighbours: tuple[Rate, ...]

    def all(self) -> list[Rate]:
        """In the order of a table."""
        return [self.leave, self.arrive, *self.by_neighbours]


def estimate_rates(
    sites: Sites,
    occupancy: Occupancy,
    frame_time: float,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> Rates:
    """The rates of a movie.

    A column that leaves at the rate λ has left after a frame of length τ with the chance

        λ (1 - exp(-M τ)) / M,    M = a μ + max(λ, a ν)

    where μ is the rate at which the site that it has left is taken again, often by the same column, and ν that at which
    columns leave which have just come: with a = 1 and λ for ν, a Markov chain of two states that is looked at every τ.
    μ and ν are what the frame after a column has left, or come, says of them. Those that have just come stand where
    columns leave soon, and leave more often than the mean. Frames that are exposed all the time show where a column was
    for most of the exposure, so that all stays of less than half a frame are lost, which alone makes a = 5/4, and stays
    that just fill one are doubtful, more so the worse the frames are: how much more is not known, and a is drawn from
    :data:`EXPOSED`. The rate of the surface is the mean over sites with each number of neighbours, weighted with their
    exposure, since those that leave often are gone soon. Columns that come and go within a frame are neither counted
    nor exposed.

    Args:
        sites: of the movie.
        occupancy: as :func:`hrtem.movies.tracking.occupancy.smooth_occupancy` has fitted it.
        frame_time: s from frame to frame.
        rng: of the histories.
        draws: number of histories.
    """
    happened, exposed, returned = _histories(sites, occupancy, rng, draws)
    drawn_rates = [
        _drawn(happened[kind], exposed[kind], returned[[kind, 1 - kind]], frame_time, rng) for kind in (0, 1)
    ]

    def rate(kind: int, numbers: Sequence[int], neighbours: int | None) -> Rate:
        chosen = list(numbers)
        events, exposure = happened[kind][:, chosen].sum(axis=1), exposed[kind][:, chosen].sum(axis=1)
        weights = exposed[kind][:, chosen] + 1e-9
        drawn = (drawn_rates[kind][:, chosen] * weights).sum(axis=1) / weights.sum(axis=1)
        low, value, high = np.quantile(drawn, [0.5 - LEVEL / 2, 0.5, 0.5 + LEVEL / 2])
        return Rate(
            ("leave", "arrive")[kind], neighbours, float(value), float(low), float(high), float(events.mean()),
            float(exposure.mean() * frame_time), drawn,
        )  # fmt: skip

    surface = range(sites.full)
    each = [rate(kind, [number], number) for kind, least in ((0, 1), (1, HELD)) for number in range(least, sites.full)]
    return Rates(rate(0, surface, None), rate(1, range(HELD, sites.full), None), tuple(each))


def _drawn(
    events: np.ndarray, exposure: np.ndarray, returned: np.ndarray, frame_time: float, rng: np.random.Generator
) -> np.ndarray:
    """Rates 1/s that ``events`` of exposed frames ``(draws, full + 1)`` leave possible, one of each history.

    Args:
        events, exposure: of each history, by the number of neighbours.
        returned: ``(2, draws, 2)``, of the same changes and of those the other way, how many were undone in the next
            frame, and how many could be.
        frame_time: s.
        rng: generator.
    """
    # Jeffreys' prior of a share, divided among the numbers of neighbours, so that it does not count several times.
    part = 0.5 / events.shape[1]
    chance = np.minimum(rng.beta(events + part, np.maximum(exposure - events, 0) + 0.5), 0.999)
    undone = rng.beta(returned[..., 0] + 0.5, np.maximum(returned[..., 1] - returned[..., 0], 0) + 9.5)
    back, again = -np.log1p(-undone)[..., None]
    lost_more = rng.uniform(*EXPOSED, size=(len(events), 1))
    rate = -np.log1p(-chance)
    for _ in range(50):
        lost = lost_more * back + np.maximum(rate, lost_more * again)
        rate = np.minimum(chance * lost / -np.expm1(-lost), 20.0)
    return rate / frame_time


def _histories(
    sites: Sites, occupancy: Occupancy, rng: np.random.Generator, draws: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Events and exposed frames ``(2, draws, full + 1)`` of leaving and arriving, by the number of neighbours.

    The third, ``(2, draws, 2)``, is how many of these events were undone in the next frame, and how many could be.
    """
    frames, number = occupancy.probability.shape
    counted = (occupancy.kinds != SUPPORT)[None]
    happened, exposed = np.zeros((2, 2, draws, sites.full + 1))
    returned = np.zeros((2, draws, 2))
    later = rng.random((draws, number)) < occupancy.filtered[-1]
    latest = None
    rows = np.repeat(np.arange(draws), number)

    def count(state: np.ndarray, after: np.ndarray, neighbours: np.ndarray) -> None:
        beside = np.minimum(sites.coordination(neighbours.astype(np.int16)), sites.full)
        for kind, (before, event) in enumerate(((state, state & ~after), (~state, ~state & after))):
            for table, values in ((exposed, before), (happened, event)):
                weight = (values & counted).ravel()
                flat = rows[weight] * (sites.full + 1) + beside.ravel()[weight]
                table[kind] += np.bincount(flat, minlength=draws * (sites.full + 1)).reshape(draws, -1)

    for frame in range(frames - 2, -1, -1):
        chance, out, back = occupancy.filtered[frame], occupancy.leaving[frame], occupancy.arriving[frame]
        one = np.where(later, chance * (1.0 - out), chance * out)
        none = np.where(later, (1.0 - chance) * back, (1.0 - chance) * (1.0 - back))
        state = rng.random((draws, number)) * (one + none) < one
        # Neighbours are those that were there in the frame before as well, see hrtem.movies.tracking.occupancy.lasting.
        if latest is not None:
            count(later, latest, state & later)
        if frame == 0:
            count(state, later, state)
        if latest is not None:
            for kind, event in enumerate((state & ~later & counted, ~state & later & counted)):
                returned[kind, :, 0] += (event & (latest == state)).sum(axis=1)
                returned[kind, :, 1] += event.sum(axis=1)
        latest, later = later, state
    return happened, exposed, returned


@dataclass(frozen=True)
class RateComparison:
    """Two rates beside each other.

    Attributes:
        ratio: the second over the first, the median.
        low, high: ends of the interval of the ratio.
        p: chance of so unequal numbers of events, or more unequal ones, were the rates the same (the exact conditional
            test of two Poisson means; J. Przyborowski and H. Wilenski, Biometrika 31 (1940) 313).
        faster: that the second rate is the higher one, by the histories.
    """

    ratio: float
    low: float
    high: float
    p: float
    faster: float


def compare_rates(first: Rate, second: Rate) -> RateComparison:
    """Whether two movies have different rates."""
    size = min(len(first.draws), len(second.draws))
    # Draws of two movies have nothing to do with each other, also where both are drawn from the same numbers.
    one, other = first.draws[:size], np.roll(second.draws[:size], size // 2)
    ratio = other / np.maximum(one, 1e-12)
    low, middle, high = np.quantile(ratio, [0.5 - LEVEL / 2, 0.5, 0.5 + LEVEL / 2])
    events = [round(first.events), round(second.events)]
    share = second.exposure / max(first.exposure + second.exposure, 1e-12)
    p = float(binomtest(events[1], sum(events), share).pvalue) if sum(events) and 0.0 < share < 1.0 else 1.0
    faster = float((other > one).mean())
    return RateComparison(float(middle), float(low), float(high), p, faster)

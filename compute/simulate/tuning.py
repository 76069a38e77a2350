"""Searching parameters without taking luck for skill: points, walk-forward choice, plateaus.

A trial is worth the lower quantile of its mean growth over segments of the past, not the mean of
one path; the choice is made by the plateau, the mean worth of a trial and its nearest neighbours.
Walk-forward, the choice before each segment is judged in it.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from compute.market import Floats, Integers

SUPERIOR_P_MAX = 0.10
"""Above this chance that the best is no better than the setting as it is, it is not proposed."""

OVERFITTING_MAX = 0.5
"""A coin tossed for the better half would do as well."""


class Objection(Enum):
    """What speaks against a choice; names as in the contract."""

    NOTHING_BETTER = 1
    WALK_FORWARD = 2
    LOCKED = 3
    NOT_SUPERIOR = 4
    OVERFITTED = 5


@dataclass(frozen=True)
class Evidence:
    """What is known of a choice against the setting as it is; None: nothing could be told.

    walk_forward, base: log growth a period of both in each segment but the first, (k,); -inf where
    ruined. locked_difference: mean log growth of the choice less that of the setting in sessions
    that no trial has seen. superior_p: P(the best is no better than the setting) (Hansen 2005).
    overfitting: how often the best of one half is in the worse half of the other (Bailey et al.
    2017).
    """

    walk_forward: Floats
    base: Floats
    locked_difference: float | None
    superior_p: float | None
    overfitting: float | None


def objections(evidence: Evidence) -> tuple[Objection, ...]:
    """What speaks against a choice; empty: recommended. What could not be told doesn't count."""
    better = int((evidence.walk_forward > evidence.base).sum())
    in_sum = float(evidence.walk_forward.sum()) > float(evidence.base.sum())
    locked, superior_p = evidence.locked_difference, evidence.superior_p
    held = {
        Objection.WALK_FORWARD: 2 * better <= len(evidence.base) or not in_sum,
        Objection.LOCKED: locked is not None and not locked > 0.0,
        Objection.NOT_SUPERIOR: superior_p is not None and superior_p > SUPERIOR_P_MAX,
        Objection.OVERFITTED: (
            evidence.overfitting is not None and evidence.overfitting > OVERFITTING_MAX
        ),
    }
    return tuple(objection for objection, holds in held.items() if holds)


@dataclass(frozen=True)
class Choice:
    """objective, plateau: of each trial, (N,), -inf where it was ruined. chosen: its place.

    walk_forward: growth a period in each segment but the first, of what was chosen before it.
    """

    objective: Floats
    plateau: Floats
    chosen: int
    walk_forward: Floats


def points(dimensions: int, count: int, seed: int) -> Floats:
    """Points of a scrambled Sobol sequence in the unit cube, (count, dimensions).

    They fill it evenly in every number, so that a trial has neighbours on all sides, and are known
    before any is tried: all of them run at once.
    """
    from scipy.stats import qmc  # brings all of scipy.stats, a seventh of a start or more

    drawn = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(seed))
    found: Floats = drawn.random(1 << (count - 1).bit_length())[:count]
    return found


def choose(cube: Floats, growth: Floats, segments: int, quantile: float) -> Choice:
    """The choice among trials at `cube` (N, d) with log growth (n periods, N), -inf for ruin."""
    pieces = np.array_split(growth, segments)
    means = np.stack([piece.mean(axis=0) for piece in pieces])
    near = neighbours(cube)
    later = []
    for k in range(1, segments):
        worth = _plateau(_worth(means[:k], quantile), near)
        later.append(float(means[k, int(worth.argmax())]))
    objective = _worth(means, quantile)
    plateau = _plateau(objective, near)
    return Choice(objective, plateau, int(plateau.argmax()), np.array(later))


def _worth(means: Floats, quantile: float) -> Floats:
    """Lower quantile over segments, (N,); -inf for a trial that was ruined in any."""
    alive = np.isfinite(means).all(axis=0)
    out = np.full(means.shape[1], -np.inf)
    out[alive] = np.quantile(means[:, alive], quantile, axis=0)
    return out


def _plateau(worth: Floats, near: Integers) -> Floats:
    mean: Floats = worth[near].mean(axis=1)
    return mean


def neighbours(cube: Floats) -> Integers:
    """Places of each trial and its 2 d nearest, (N, 2 d + 1)."""
    count = min(2 * cube.shape[1] + 1, len(cube))
    distance = ((cube[:, None, :] - cube[None, :, :]) ** 2).sum(axis=2)
    found: Integers = np.argsort(distance, axis=1, kind="stable")[:, :count]
    return found

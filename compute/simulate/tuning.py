"""Searching parameters without taking luck for skill: points, walk-forward choice, plateaus.

A trial is worth the lower quantile of its mean growth over segments of the past, not the mean of
one path; the choice is made by the plateau, the mean worth of a trial and its nearest neighbours.
Walk-forward, the choice before each segment is judged in it.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from compute.market import Floats, Integers


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

"""What the kernel counts weights in: 1 unless the bounds are all tiny or huge, or slopes are faint.

The kernel's tolerances are absolute. Where its answer turns out to be so small, or worth so little,
that they leave digits undecided that a certificate asks for, it is asked again in the unit of that
answer (`own_unit`).
"""

from __future__ import annotations

import math

import numpy as np

from compute.optimize.limits import Linear, Scalar, everywhere
from compute.optimize.objectives import Blocks
from compute.optimize.problem import Array, Costs

UNEVEN = 0.25  # of the largest bound, below which a balance of slope and curvature counts
SHARE_MIN = 1e-3  # of the largest bound, below which no unit is taken where cash is not allowed
FINER_MAX = 12  # powers of two: beyond, slopes have no digits left
NOTHING = 1e-14  # of the unit, below which a largest weight is none


def unit_of(constraints: Linear, alike: Scalar) -> Scalar:
    """1, or the largest finite bound of a weight or of their sum where that is far from 1.

    Less where curvature outweighs the slopes of the objective at weights of that size: divided by
    its curvature the objective would be so small that its last digits are left undecided.
    """
    parts = (
        constraints.lower,
        constraints.upper,
        constraints.row_min[..., :1],
        constraints.row_max[..., :1],
    )
    batch = max(part.shape[:-1] for part in parts)
    ends = np.empty((*batch, 2 * parts[0].shape[-1] + 2))
    at = 0
    for part in parts:
        ends[..., at : at + part.shape[-1]] = part
        at += part.shape[-1]
    np.abs(ends, out=ends)
    reach = ends.max(axis=-1, where=ends < np.inf, initial=0.0)
    usual = (reach == 0.0) | ((reach >= 0.02) & (reach <= 50.0))
    if everywhere(usual & (alike >= UNEVEN)):
        return 1.0
    unit = np.where(usual, 1.0, reach)
    uneven = np.asarray(alike < UNEVEN * unit)
    if uneven.any():
        lows = constraints.lower, constraints.row_min
        highs = constraints.upper, constraints.row_max
        cash = np.ones((), bool)
        for low, high in zip(lows, highs, strict=True):
            cash = cash & (low <= 0.0).all(axis=-1) & (high >= 0.0).all(axis=-1)
        unit = np.where(uneven, np.where(cash, alike, np.maximum(alike, SHARE_MIN * unit)), unit)
    if (unit == 1.0).all():
        return 1.0
    return unit if unit.ndim else float(unit)


def balance(compiled: Blocks, costs: Costs) -> Scalar:
    """The weight at which slopes (or barriers) and curvature are alike; inf from `UNEVEN` on."""
    if compiled.quad is None or compiled.ratio or compiled.growth or compiled.crra:
        return np.inf
    curve = 0.25 * np.diagonal(compiled.quad, axis1=-2, axis2=-1).max(axis=-1)
    slope = np.abs(compiled.linear).max(axis=-1)
    for cost in (costs.linear, costs.impact):
        if cost is not None:
            slope = np.maximum(slope, np.abs(cost).max(axis=-1))
    if everywhere(slope >= UNEVEN * curve):
        return np.inf
    barrier = 0.0 if compiled.barrier is None else compiled.barrier.sum(axis=-1)
    tells = (curve > 0.0) & (np.maximum(slope, barrier) > 0.0)
    curve = np.where(tells, curve, 1.0)
    alike = np.maximum(slope / curve, np.sqrt(barrier / curve))
    # A power of two, so that scaling rounds nothing.
    power = 2.0 ** np.floor(np.log2(np.maximum(alike, 1e-300)))
    return np.where(tells & (alike < UNEVEN), power, np.inf)


def unit_of_utility(rho: float, slope: float) -> float:
    """A power of two near the weight that changes a utility W^(1 - rho) by a factor.

    slope: the largest change of wealth by a weight of 1. Weights of the usual size may take a
    utility of large `rho` beyond doubles, though the best ones are far smaller.
    """
    return float(2.0 ** math.floor(-math.log2(max(rho * slope, 1.0))))


def own_unit(weights: Array, unit: float) -> float | None:
    """A power of two near the largest weight; None where it says nothing or is the unit already."""
    largest = float(np.abs(weights).max(initial=0.0))
    if not NOTHING * unit < largest < math.inf:
        return None
    power: float = 2.0 ** math.floor(math.log2(largest))
    return None if power == unit else power


def finer_by(undecided: float) -> float:
    """The power of two by which an objective is counted finer; 1 where nothing is left open."""
    if not 1.0 < undecided < math.inf:
        return 1.0
    return float(2.0 ** min(math.ceil(math.log2(undecided)), FINER_MAX))

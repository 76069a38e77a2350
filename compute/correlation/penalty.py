"""Stakes that share risk, made smaller: the correlation penalty of the closed form.

Kelly of each line by itself counts the same bet twice where two lines are correlated. With stakes
f_i by themselves (0 or more, on the side of the signal) the growth of all together is, to second
order and up to constants,

    u't - h't - t'G t / 2,   t_i = k_i s_i, u_i = k_i f_i, 0 <= t_i <= u_i

k_i is the scale of a line's own risk, by which s_i = f_i is best alone. For a return of volatility
s it is s; for a bet that wins b or loses a it is sqrt(a b). G has ones on the diagonal and
G_ij = (rho_ij + r_i r_j) / sqrt((1 + r_i^2)(1 + r_j^2)) on the sides taken, r the mean over the
deviation of a bet and 0 for a return (in the limit of small periods): correlations of second
moments. h_i is what is held outside the batch, k_o w_o rho_io.

It is exact for two even-money bets, m / (1 + m^2 + rho (1 - m^2)) each (K4), for alike continuous
returns, f / (1 + (n - 1) rho), and for any continuous returns it is Kelly under 0 <= s <= f: no
stake grows and none changes side, so an error in a correlation can't make a stake larger.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from compute.history import Floats
from compute.optimize.time_limit import checkpoint

ROUNDS_MAX = 60
SWEEPS_MAX = 1000
RIDGE = 1e-9
"""Taken off all correlations: alike lines of correlation 1 share one stake evenly."""
TOLERANCE = 1e-9


class CorrelationPenalty(IntEnum):
    """The numbers are those of the contract."""

    NONE = 1
    PROPORTIONAL = 2
    QUADRATIC = 3


def second_moment_correlation(correlation: Floats, ratio: Floats) -> Floats:
    """G (n, n) of the lines on their sides, from rho on those sides and r = mean / deviation."""
    scale = np.sqrt(1.0 + ratio**2)
    out: Floats = (correlation + np.outer(ratio, ratio)) / np.outer(scale, scale)
    np.fill_diagonal(out, 1.0)
    return out


def proportional(stake: Floats, gram: Floats, held: Floats) -> Floats:
    """u_i^2 / (sum_j max(G_ij, 0) u_j + max(h_i, 0)), (n,): each its share of what it overlaps.

    Exact for alike lines. Unlike `quadratic` it never leaves one of two alike lines at zero, and
    takes no account of hedges.
    """
    overlap = np.maximum(gram, 0.0) @ stake + np.maximum(held, 0.0)
    return np.divide(stake**2, overlap, out=np.zeros_like(stake), where=overlap > 0.0)


def quadratic(stake: Floats, gram: Floats, held: Floats) -> Floats:
    """The t in [0, u] that maximises (u - h)'t - t'G t / 2, (n,).

    Primal-dual active sets (Hintermueller, Ito and Kunisch 2002): a few solves of a linear system;
    where they cycle, coordinate descent, which can't.
    """
    out = np.zeros(len(stake))
    some = np.flatnonzero(stake > 0.0)
    if not len(some):
        return out
    upper, linear = stake[some], (stake - held)[some]
    matrix = (1.0 - RIDGE) * gram[np.ix_(some, some)] + RIDGE * np.eye(len(some))
    found = _active_sets(matrix, linear, upper)
    out[some] = _descent(matrix, linear, upper) if found is None else found
    return out


def _active_sets(matrix: Floats, linear: Floats, upper: Floats) -> Floats | None:
    """The optimum, None where the sets cycle."""
    point = upper.copy()
    low, high = np.zeros(len(upper), bool), np.zeros(len(upper), bool)
    seen: set[bytes] = set()
    for _ in range(ROUNDS_MAX):
        checkpoint()
        moved = point - (matrix @ point - linear)
        below, above = moved <= 0.0, moved >= upper
        key = below.tobytes() + above.tobytes()
        if (below == low).all() and (above == high).all() and seen:
            return np.clip(point, 0.0, upper)
        if key in seen:
            return None
        seen.add(key)
        low, high = below, above
        point = _solved(matrix, linear, upper, low, high)
    return None


def _solved(
    matrix: Floats,
    linear: Floats,
    upper: Floats,
    low: NDArray[np.bool_],
    high: NDArray[np.bool_],
) -> Floats:
    point = np.where(high, upper, 0.0)
    free = ~(low | high)
    if free.any():
        rest = linear[free] - matrix[np.ix_(free, high)] @ upper[high]
        point[free] = np.linalg.solve(matrix[np.ix_(free, free)], rest)
    return point


def _descent(matrix: Floats, linear: Floats, upper: Floats) -> Floats:
    point = proportional(upper, matrix, np.maximum(upper - linear, 0.0))
    slope = matrix @ point - linear
    for _ in range(SWEEPS_MAX):
        checkpoint()
        largest = 0.0
        for i in range(len(point)):
            new = min(max(point[i] - slope[i] / matrix[i, i], 0.0), upper[i])
            step = new - point[i]
            if step != 0.0:
                slope += step * matrix[:, i]
                point[i] = new
                largest = max(largest, abs(step))
        if largest <= TOLERANCE * float(upper.max()):
            break
    return point


def penalty_factors(
    stake: Floats, scale: Floats, gram: Floats, held: Floats, penalty: CorrelationPenalty
) -> Floats:
    """By what each stake f (n,) is multiplied, in [0, 1]; 1 where it is zero.

    scale: k (n,) > 0; held: h (n,).
    """
    units = scale * stake
    if penalty is CorrelationPenalty.NONE:
        return np.ones(len(stake))
    shrink = proportional if penalty is CorrelationPenalty.PROPORTIONAL else quadratic
    shared = shrink(units, gram, held)
    factors = np.divide(shared, units, out=np.ones_like(units), where=units > 0.0)
    return np.clip(factors, 0.0, 1.0)

"""Tail and drawdown measures in plain NumPy, each with the linear function that supports it.

Each measure here is convex and positively homogeneous in the returns x[T] of a book, so it is the
largest of a family of linear functions:  measure(x) = max_q  -q'x.  Every function returns the
value and one maximising q. The same q used at any other book gives a lower bound on its measure,
which is all a proof of optimality needs. Written for clarity and exactness; the solver has its own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from compute.optimize.problem import TailMeasure

Vector = npt.NDArray[np.float64]


def tail_weights(losses: Vector, probability: Vector, level: float) -> Vector:
    """Weights q[T] with sum 1 and 0 <= q_t <= p_t / (1 - level), heaviest on the worst losses.

    The last loss taken gets the fractional remainder, so q'losses is the exact mean of the worst
    (1 - level) of the probability (Rockafellar and Uryasev 2002, prop. 8).
    """
    worst_first = np.argsort(-losses, kind="stable")
    mass_before = np.concatenate([[0.0], np.cumsum(probability[worst_first])[:-1]])
    room = np.clip(1.0 - level - mass_before, 0.0, probability[worst_first])
    weights = np.zeros_like(losses)
    weights[worst_first] = room / room.sum()
    return weights


def cvar(returns: Vector, probability: Vector, level: float) -> tuple[float, Vector]:
    """Mean loss of the worst (1 - level) share of scenarios; returns x[T] as fractions.

    Returns the value and q[T] with value = -q'x.
    """
    weights = tail_weights(-returns, probability, level)
    return float(weights @ -returns), weights


def drawdowns(returns: Vector) -> tuple[Vector, npt.NDArray[np.intp]]:
    """Drawdown of the uncompounded level after each period, the start (level 0) being a peak.

    C_0 = 0, C_t = x_1 + ... + x_t; drawdown_t = max_{s<=t} C_s - C_t. Returns drawdown[T] and the
    index 0..T of the running peak, the earliest one at ties.
    """
    level = np.concatenate([[0.0], np.cumsum(returns)])
    running = np.maximum.accumulate(level)
    risen = np.concatenate([[True], level[1:] > running[:-1]])
    peak = np.maximum.accumulate(np.where(risen, np.arange(len(level)), 0))
    return running[1:] - level[1:], peak[1:]


def drawdown_functional(tail: Vector, peak_mass: Vector) -> Vector:
    """The q[T] of sum_t tail_t (C_peak - C_t) where peaks carry `peak_mass` [T + 1] in total.

    Drawdowns weighted by `tail` [T] (sum 1) must look back to peaks that are not later than they:
    peak_mass is repaired to be such a transport (cumulative mass never below the tail's, missing
    mass put on the start), so -q'x never exceeds the true measure whatever the caller hands in.
    """
    needed = np.concatenate([[0.0], np.cumsum(tail)])
    offered = np.cumsum(np.maximum(peak_mass, 0.0))
    offered = np.minimum(offered / max(offered[-1], 1e-300), 1.0)
    offered = np.maximum.accumulate(np.maximum(offered, needed))
    # x_s moves C_t for all t >= s: the level's weight is (peak mass - tail) summed from s on,
    # which is needed - offered summed up to s - 1 since both have total mass one.
    return np.asarray(offered[:-1] - needed[:-1], dtype=np.float64)


def cdar(returns: Vector, probability: Vector, level: float) -> tuple[float, Vector]:
    """Conditional drawdown at risk: mean of the worst (1 - level) share of the drawdowns.

    Chekhlov, Uryasev, Zabarankin 2005, eq. 3.5, uncompounded. level -> 1 is the maximum drawdown.
    Returns the value and q[T] with value = -q'x.
    """
    depth, peak = drawdowns(returns)
    tail = tail_weights(depth, probability, level)
    mass = np.zeros(len(returns) + 1)
    np.add.at(mass, peak, tail)
    return float(tail @ depth), drawdown_functional(tail, mass)


def maximum_drawdown(returns: Vector) -> tuple[float, Vector]:
    """Deepest drawdown of the uncompounded level. Returns the value and q[T], value = -q'x."""
    depth, peak = drawdowns(returns)
    worst = int(np.argmax(depth))
    functional = np.zeros_like(returns)
    functional[peak[worst] : worst + 1] = 1.0
    return float(depth[worst]), functional


def log_mean_power(growth: Vector, probability: Vector, exponent: float) -> tuple[float, Vector]:
    """log sum_t p_t growth_t^(-exponent) and its derivative by growth [T]; growth > 0 or infinite.

    Risk-constrained Kelly asks for a value <= 0 (Busseti, Ryu, Boyd 2016, eq. 9). Near 1 growth has
    a value near 0, of which a logarithm of the sum would leave what rounding makes of it: nothing
    held is worth 0 exactly, though the chances sum to 1 but for that.
    """
    if not np.all(growth > 0.0):
        return float("inf"), np.zeros_like(growth)
    terms = -exponent * np.log(growth)
    top = float(terms.max())
    weights = probability * np.exp(terms - top)
    total = float(weights.sum())
    value = top + float(np.log(total))
    if float(np.abs(terms).max(initial=0.0)) < 1.0:
        value = float(np.log1p(probability @ np.expm1(terms) / probability.sum()))
    return value, -exponent * weights / total / growth


def tail_support(
    measure: TailMeasure, returns: Vector, probability: Vector, level: float
) -> tuple[float, Vector]:
    """A tail measure of a portfolio's returns [T] and its supporting q[T], value = -q'returns."""
    if measure.on_path and measure.is_maximum:
        return maximum_drawdown(returns)
    return (cdar if measure.on_path else cvar)(returns, probability, level)

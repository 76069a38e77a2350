"""Bounds on every weight that limits on volatility and normal VaR imply.

    sqrt(w'Sw) <= v            implies   |w_i| <= v sqrt((S^-1)_ii)
    z sqrt(w'Sw) - m'w <= b    implies   sqrt(w'Sw) <= b / (z - h),   h = sqrt(m'S^-1 m) < z

the second because m'w <= h sqrt(w'Sw) (Cauchy and Schwarz). A combination of assets without risk,
as far as rounding tells, is bounded by neither. Like `implied_bounds` part of the statement of a
problem: presolve and proof both read it, each with the moments that it has made itself.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from compute.optimize.problem import Array, Limits

# Variance of a combination, over that of the riskiest, which rounding can't tell from none.
RISKLESS = 1e-12
# Share of a riskless combination, by its root mean square, that rounding can't tell from none.
ABSENT = 1e-9
# Room beyond an implied bound, so that none binds.
ROOM = 1.5
# Beyond this, in weights, a bound is no size of a book, and those that risk implies are looked for.
LARGE = 100.0


def is_asked(limits: Limits, lower: Array, upper: Array) -> bool:
    """Whether there is such a limit, and a weight whose bound is no size of a book."""
    if limits.volatility_max is None and limits.var_max is None:
        return False
    return bool(np.any(lower < -LARGE) or np.any(upper > LARGE))


def within_risk(
    limits: Limits, lower: Array, upper: Array, covariance: Array, mean: Array
) -> tuple[Array, Array]:
    """The box within what limits of risk imply; bounds that would cross stay as they are."""
    most = risk_box(limits, covariance, mean)
    low, high = np.maximum(lower, -most), np.minimum(upper, most)
    crossed = low > high
    return np.where(crossed, lower, low), np.where(crossed, upper, high)


def risk_box(limits: Limits, covariance: Array, mean: Array) -> Array:
    """The largest |w_i|, f64[n], with room; infinite where no limit of risk bounds it."""
    n = len(mean)
    variance, axes = np.linalg.eigh(covariance)
    risky = variance > RISKLESS * max(float(variance[-1]), 0.0)
    if not risky.any():
        return np.full(n, np.inf)
    scaled = axes[:, risky] / np.sqrt(variance[risky])  # S^-1 = scaled scaled' where all are risky
    volatility = np.inf if limits.volatility_max is None else float(limits.volatility_max)
    if limits.var_max is not None:
        z = NormalDist().inv_cdf(limits.var_tail)
        ratio = float(np.linalg.norm(scaled.T @ mean))
        gain = np.abs(axes[:, ~risky].T @ mean).max(initial=0.0)
        is_riskless_gain = gain > ABSENT * float(np.abs(mean).max(initial=0.0))
        if ratio < z and not is_riskless_gain:
            volatility = min(volatility, float(limits.var_max) / (z - ratio))
    if not math.isfinite(volatility):
        return np.full(n, np.inf)
    is_open = np.abs(axes[:, ~risky]).max(axis=1, initial=0.0) > ABSENT
    most: Array = np.where(is_open, np.inf, ROOM * volatility * np.linalg.norm(scaled, axis=1))
    return most

"""A portfolio's return and its volatility divided among factors (Grinold and Kahn 2000, ch. 17).

In period t, with weights w, exposures B of the instruments and returns f of the factors,

    R_t = sum_k x_tk f_tk + e_t + u_t,    x_tk = sum_i w_i B_ik,    e_t = sum_i w_i (r_i - B_i f)

where e is specific and u the return of the instruments without exposures. Effects of periods are
linked by k_t = ln(1 + R_t) / R_t, over the same of the compounded return, as Carino (1999) links
those against a benchmark; they add up to the compounded return exactly. Volatility is divided by
Euler: a component c has the part sd(c) rho(c, R), and these add up to sd(R).
"""

from dataclasses import dataclass

import numpy as np

from compute.analytics.attribution import slope
from compute.market import Floats

PERIODS_MIN = 3
"""Fewer say nothing of a volatility."""


@dataclass(frozen=True)
class FactorAttribution:
    """Components are the factors in order, then what is specific, then the unclassified, (k + 2,).

    exposure: mean over the periods, (k,). effect: linked returns. deviation, correlation, risk:
    standard deviation of a component a period (n - 1), its correlation with the portfolio's
    return, and their product; None for fewer than `PERIODS_MIN` periods, or without variation. The
    correlation of a component that never moves is 0.
    """

    exposure: Floats
    effect: Floats
    portfolio: float
    volatility: float | None = None
    deviation: Floats | None = None
    correlation: Floats | None = None
    risk: Floats | None = None


def factor_attribution(
    exposure: Floats, factor_return: Floats, specific: Floats, unclassified: Floats
) -> FactorAttribution | None:
    """Attribution over T periods and k factors.

    exposure, factor_return: (T, k); specific, unclassified: (T,). None without periods, or where
    one lost everything: its logarithm says no more.
    """
    parts = np.column_stack([exposure * factor_return, specific, unclassified])
    total = parts.sum(axis=1)
    if not len(total) or (total <= -1.0).any():
        return None
    portfolio = float(np.expm1(np.log1p(total).sum()))
    nothing = np.zeros(1)
    share = slope(total, np.zeros(len(total))) / slope(np.array([portfolio]), nothing)[0]
    found = FactorAttribution(exposure.mean(axis=0), share @ parts, portfolio)
    volatility = float(total.std(ddof=1)) if len(total) >= PERIODS_MIN else 0.0
    if not volatility > 0.0:
        return found
    apart = parts - parts.mean(axis=0)
    covariance = apart.T @ (total - total.mean()) / (len(total) - 1)
    deviation = parts.std(axis=0, ddof=1)
    moves = deviation > 0.0
    correlation = np.where(moves, covariance / (np.where(moves, deviation, 1.0) * volatility), 0.0)
    return FactorAttribution(
        found.exposure,
        found.effect,
        portfolio,
        volatility,
        deviation,
        correlation,
        covariance / volatility,
    )

"""Risk of a book while it is sold: positions that take days to leave lose longer.

A position of weight w that may be sold at most `daily` a day, as a weight, takes
n = ceil(|w| / daily) days, and is sold in n equal parts, each at the end of a day: during day d it
still has (n - d + 1) / n. With independent days of covariance S the loss has the variance

    sum_d  w(d)' S w(d),        w_i(d) = w_i max(n_i - d + 1, 0) / n_i

of one position sqrt((n + 1) (2 n + 1) / (6 n)) times its deviation of a day. Half the spread is
lost on top (Bangia, Diebold, Schuermann and Stroughair 1999, with today's spread for its worst).
"""

from dataclasses import dataclass

import numpy as np

from compute.history import Floats, Integers
from compute.optimize.time_limit import checkpoint
from compute.risk.measures import normal_tail

DAYS_MAX = 1000
"""What takes longer has no sensible price of leaving."""


@dataclass(frozen=True)
class Liquidation:
    """What leaving a book risks, as parts of equity, of normal returns without a mean.

    days (n,) that each position takes. spread_cost: half the spread of all, a part of both tails.
    """

    days: Integers
    value_at_risk: float
    expected_shortfall: float
    spread_cost: float


def days_to_sell(weights: Floats, daily: Floats) -> Floats:
    """Whole days that each position takes, (n,); 0 where there is none, infinite without volume."""
    size = np.abs(weights)
    with np.errstate(divide="ignore"):
        days = np.ceil(size / np.where(daily > 0.0, daily, np.nan) * (1.0 - 1e-12))
    return np.where(size > 0.0, np.where(np.isnan(days), np.inf, np.maximum(days, 1.0)), 0.0)


def liquidation(
    weights: Floats, covariance: Floats, daily: Floats, spread: Floats, level: float
) -> Liquidation:
    """Risk of leaving a book: weights (n,), covariance (n, n) of a day, spread (n,) relative.

    daily: what may be sold of each a day, weights > 0, (n,). Raises `ValueError` where a position
    takes more than `DAYS_MAX` days.
    """
    days = days_to_sell(weights, daily)
    if days.max(initial=0.0) > DAYS_MAX:
        raise ValueError(f"takes more than {DAYS_MAX} days to sell")
    variance = 0.0
    for day in range(1, int(days.max(initial=0.0)) + 1):
        checkpoint()
        left = weights * np.maximum(days - day + 1.0, 0.0) / np.maximum(days, 1.0)
        variance += float(left @ covariance @ left)
    cost = 0.5 * float(np.abs(weights) @ spread)
    tail = normal_tail(level, 0.0, float(np.sqrt(max(variance, 0.0))))
    return Liquidation(
        days.astype(np.int64), tail.value_at_risk + cost, tail.expected_shortfall + cost, cost
    )

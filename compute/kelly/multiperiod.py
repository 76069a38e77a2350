"""What changes when the horizon is long: very little for log utility, something otherwise.

Log utility is myopic: with independent returns the stake of each period is that of a single
one, and ``classic`` and ``continuous`` apply at every step (Mossin 1968; Hakansson 1971).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def aim_share(half_life: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """Return 1 / (1 + phi a / gamma), the part of the one-period optimum to aim at.

    A return that is expected to halve in ``half_life`` periods loses phi = 1 - 2^(-1/half_life) of
    itself in each. At the trading rate r = a / lam without discount a / gamma is (1 - r) / r: who
    trades slowly aims at what will still be there. 1 for an endless half-life, and for a rate of
    1. Garleanu and Pedersen 2013, proposition 2.
    """
    lost = -np.expm1(-np.log(2.0) / half_life)
    share: NDArray[np.float64] = 1.0 / (1.0 + lost * (1.0 - rate) / rate)
    return share


@dataclass(frozen=True)
class TradePlan:
    """How to trade over H periods towards aims that fade, for n lines.

    rate: (H,), the part of the way that each period trades. share: (H, n), the part of what its
    edge then asks for that is aimed at. left: (n,), what a period leaves of an edge.
    """

    rate: NDArray[np.float64]
    share: NDArray[np.float64]
    left: NDArray[np.float64]

    def path(
        self, held: NDArray[np.float64], wanted: NDArray[np.float64], first: int = 0
    ) -> NDArray[np.float64]:
        """The weights w_t of periods t from `first` (0: w_1), (H - first, n).

        held: before the first of them. wanted: the one-period optima of it, both (n,).
        """
        path = np.empty_like(self.share[first:])
        parts = zip(self.rate[first:], self.share[first:], strict=True)
        for t, (rate, share) in enumerate(parts):
            held = held + rate * (share * wanted - held)
            path[t], wanted = held, wanted * self.left
        return path


def trade_plan(half_life: NDArray[np.float64], rate: float, periods: int) -> TradePlan:
    """Return the plan of largest expected growth, less quadratic costs, over H = `periods`:

        max over w_1 .. w_H of  sum_t  a_t w_t - w_t^2 / 2 - k (w_t - w_(t-1))^2 / 2

    in units of risk aversion times variance, where a_t = a_1 2^(-(t-1)/half-life) is the one-period
    optimum of period t and k = (1 - r) / r^2 the cost that makes r = `rate` the part of the way
    that is best to trade without end (`trading_rate` at rho = 0, solved for lam / gamma). What is
    held after H is worth nothing more and costs nothing to close. By backward recursion of
    V_t(w) = -A_t w^2 / 2 + B_t w, B_t = b_t a_t, from A, b = 0:

        A = k (1 + A') / (1 + k + A')      b = k (1 + left b') / (1 + k + A')
        part = (1 + A') / (1 + k + A')     share = (1 + left b') / (1 + A')

    It is exact for any H; with H it tends to `rate` and `aim_share`, and for H = 1 it is the best
    single trade. Assets whose costs are k/2 times the variance of the trade, as here, and whose
    edges fade alike are planned line by line (Garleanu and Pedersen 2013, without end).

    half_life: (n,) in periods, infinite for edges that stay. rate: in (0, 1]; at 1 nothing costs.
    """
    left = np.exp2(-1.0 / half_life)
    cost = (1.0 - rate) / rate**2
    parts, shares = np.empty(periods), np.empty((periods, len(left)))
    curvature, slope = 0.0, np.zeros_like(left)
    for t in range(periods - 1, -1, -1):
        wanted, resisted = 1.0 + left * slope, 1.0 + curvature
        parts[t], shares[t] = resisted / (cost + resisted), wanted / resisted
        curvature = cost * resisted / (cost + resisted)
        slope = cost * wanted / (cost + resisted)
    return TradePlan(parts, shares, left)

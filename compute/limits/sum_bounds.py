"""Bounds on sums of weights: gross and net of groups, of the portfolio, and of what is shared.

Trades that are reserved but not filled count at their worst, as in `bounds.py`.
"""

import numpy as np

from compute.limits.policy import LimitKind, Limits
from compute.limits.projection import NO_LIMIT
from compute.market import Floats, SharedUse
from compute.waterfall.layout import Exposure

SUM_ROUNDING = 1e-14
"""Relative to its terms: what a sum of weights in doubles may differ by in another order."""


def headroom(bound: Floats | float, pending: Floats | float, used: Floats | float) -> Floats:
    """The bound less what pending trades may still use, not below what is used and allowed."""
    room: Floats = np.maximum(np.subtract(bound, pending), np.minimum(bound, used))
    return room


def gross_cap(limits: Limits, equity: float) -> tuple[float, LimitKind, float]:
    """The tighter of leverage and gross notional as a weight, its kind and its bound."""
    leverage = _or(limits.leverage_max, NO_LIMIT)
    notional = _or(limits.gross_notional_max, NO_LIMIT)
    if notional / equity < leverage:
        return notional / equity, LimitKind.GROSS_NOTIONAL_MAX, notional
    return leverage, LimitKind.LEVERAGE_MAX, leverage


def shared_gross(shared: SharedUse | None, equity: float) -> float | None:
    """What the rest of what is shared leaves, as a weight; None: nothing bounds it."""
    if shared is None or shared.limits.gross_notional_max is None:
        return None
    return max(shared.limits.gross_notional_max - shared.gross_notional, 0.0) / equity


def sum_bounds(
    limits: Limits,
    gross_max: float,
    shared_max: float | None,
    members: Floats,
    before: Floats,
    pending: tuple[Floats, Floats],
) -> Floats:
    """Rows of `layout.Exposure` for each group, the portfolio and what is shared, (., g + 2).

    gross_max, shared_max: of the portfolio and of what is shared. members: in {0, 1}, (g + 2, m).
    before: weights held and reserved, (m,), of which the pair `pending` of purchases and sales may
    not come.
    """
    limited = [
        *(
            (group.gross_weight_max, group.net_weight_min, group.net_weight_max)
            for group in limits.groups
        ),
        (gross_max, limits.net_weight_min, limits.net_weight_max),
        (shared_max, None, None),
    ]
    pending_buy, pending_sell = pending
    worst = np.maximum(np.abs(before + pending_sell), np.abs(before - pending_buy))
    gross, net = members @ np.abs(before), members @ before
    bounds = np.zeros((len(Exposure), len(limited)))
    most, net_min, net_max = (
        np.array([_or(row[column], default) for row in limited])
        for column, default in enumerate((NO_LIMIT, -NO_LIMIT, NO_LIMIT))
    )
    bounds[Exposure.OTHER_GROSS] = gross
    bounds[Exposure.OTHER_NET] = net
    terms = SUM_ROUNDING * (members @ worst)
    for row, sign, bound, unfilled, used in (
        (Exposure.GROSS_MAX, 1.0, most, members @ (worst - np.abs(before)), gross),
        (Exposure.NET_MAX, 1.0, net_max, members @ pending_sell, net),
        (Exposure.NET_MIN, -1.0, -net_min, members @ pending_buy, -net),
    ):
        room = headroom(bound, unfilled, used)
        # Lots that are swapped one for one leave a sum where it is, but for its last digits.
        bounds[row] = sign * np.where(np.abs(room - used) <= terms, room + terms, room)
    return bounds


def _or(value: float | None, default: float) -> float:
    return default if value is None else value

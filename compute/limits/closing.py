"""What holds of a book whose equity is used up: it may be reduced, and nothing else.

A fraction of an equity that is not positive means nothing. Weights of such a book are fractions of
the gross notional that is held, so that they can still be told; every position may go towards zero,
within the limits that are stated in money, quantities or volume; bounds that are fractions of
equity, which nothing could keep, bind nobody on the way out.
"""

from dataclasses import replace

import numpy as np

from compute.limits.policy import JointLimits, Limits
from compute.market import EQUITY_MIN, Market, Positions


def is_solvent(equity: float) -> bool:
    """Whether there is equity to take fractions of."""
    return equity > EQUITY_MIN


def scale_of(equity: float, market: Market, positions: Positions) -> float:
    """Money that a weight of 1 stands for: equity, or where none is left gross notional held."""
    if is_solvent(equity):
        return equity
    gross = float(np.abs(market.price) @ np.abs(positions.held))
    return gross if gross > EQUITY_MIN else 1.0


def closing_only(limits: Limits) -> Limits:
    """The limits that a book without equity is reduced within."""
    return replace(
        limits,
        weight_max=None,
        instruments={
            name: replace(own, weight_max=None) for name, own in limits.instruments.items()
        },
        groups=(),
        clusters=(),
        gross_notional_max=None,
        leverage_max=None,
        net_weight_min=None,
        net_weight_max=None,
        turnover_max=None,
        trade_weight_min=None,
        positions_max=None,
        cash_buffer=None,
        allow_flip=False,
        joint=JointLimits(),
    )

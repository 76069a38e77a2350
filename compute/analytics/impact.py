"""What the size of a trade costs: the coefficient Y of the square-root law of market impact.

    slippage / daily volatility = Y sqrt(quantity / daily volume) + error

by least squares through the origin, with an error that does not suppose equal spreads (White 1980).
"""

from dataclasses import dataclass

import numpy as np

from compute.market import Floats

TRADES_MIN = 10
"""Fewer say nothing of a coefficient."""


@dataclass(frozen=True)
class Impact:
    """coefficient: Y. error: its standard error. trades: how many it was fitted to."""

    coefficient: float
    error: float
    trades: int


def impact(slippage: Floats, participation: Floats) -> Impact | None:
    """Y of trades, (n,) each; None for fewer than `TRADES_MIN`, or where none has any slippage.

    slippage: fill against decision less half the spread, in daily volatilities, positive where
    dearer. participation: quantity over a day's volume, > 0.
    """
    if len(slippage) < TRADES_MIN or not slippage.any():
        return None
    root = np.sqrt(participation)
    square = float(root @ root)
    coefficient = float(root @ slippage) / square
    residual = slippage - coefficient * root
    n = len(slippage)
    error = float(np.sqrt(np.square(root * residual).sum() * n / (n - 1))) / square
    return Impact(coefficient, error, n)

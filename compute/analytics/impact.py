"""What the size of a trade costs: the coefficient Y of the square-root law of market impact.

    slippage / daily volatility = Y sqrt(quantity / daily volume) + error

by least squares through the origin, with an error that does not suppose equal spreads and counts
each residual as of a fit without its trade (HC3, MacKinnon and White 1985): White's own (1980) is
half as large as it should be where a few large trades say most. Where volatilities are known to
20 % only, Y is some 2 % too large, as 1 / volatility is on average; where volumes are known to
30 %, some 3 % too small.
"""

from dataclasses import dataclass

import numpy as np

from compute.market import Floats

TRADES_MIN = 10
"""Fewer say nothing of a coefficient."""

LEFT_MIN = 1e-9
"""Of the sum of participations without one trade."""


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
    # What is left without the trade itself; one that is all there is to fit says nothing of errors.
    left = np.maximum(1.0 - np.square(root) / square, LEFT_MIN)
    error = float(np.sqrt(np.square(root * residual / left).sum())) / square
    return Impact(coefficient, error, len(slippage))

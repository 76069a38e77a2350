"""Books as weights: what a stored portfolio holds, and what is proposed in its place."""

from dataclasses import dataclass

import numpy as np
from positionsizing.v1 import risk_service_pb2 as pb

from compute.market import Market, equity_of
from server.calls.errors import precondition
from server.convert.columns import Floats, floats
from server.portfolios.portfolio_state import PortfolioState
from server.portfolios.positions import positions


@dataclass(frozen=True)
class Books:
    """Weights of the same instruments before and after, (n,); None for no such book."""

    instrument_ids: tuple[str, ...]
    before: Floats | None
    after: Floats | None
    equity: float
    daily_volume: Floats | None = None
    """Value traded a day of each as a weight, (n,), NaN where it is not known; None: of none."""
    spread: Floats | None = None
    """Spread of each as a fraction of exposure, (n,), 0 where it is not known."""


def books(state: PortfolioState | None, prices: Market | None, proposed: pb.BookWeights) -> Books:
    """The stored book, all open trades filled, and the proposed one.

    Of a stored book, instruments that are not proposed stay as they are.
    Raises `MissingInputError` where a price is missing, `Refusal` without equity.
    """
    asked = dict(zip(proposed.instrument_ids, floats(proposed.weights).tolist(), strict=True))
    if state is None or prices is None:
        names = tuple(asked)
        return Books(names, None, np.array([asked[name] for name in names]), 0.0)
    book = positions(state, prices)
    equity = equity_of(prices, book)
    if not equity > 0.0:
        raise precondition("NO_EQUITY", f"the portfolio's equity is {equity:g}; weights need some")
    quantity = book.expected
    held = {
        prices.instrument_ids[i]: float(quantity[i] * prices.price[i] / equity)
        for i in np.flatnonzero(quantity)
    }
    names = tuple(dict.fromkeys([*held, *asked]))
    before = np.array([held.get(name, 0.0) for name in names])
    after = np.array([asked.get(name, held.get(name, 0.0)) for name in names]) if asked else None
    place, volume = prices.places(names), prices.average_daily_volume
    known = np.maximum(place, 0)
    daily = None
    if volume is not None:
        daily = np.where(place >= 0, volume[known] * prices.price[known] / equity, np.nan)
    spread = np.zeros(len(names))
    if prices.spread is not None:
        spread = np.where(place >= 0, 2.0 * np.nan_to_num(prices.half_spread[known]), 0.0)
    return Books(names, before, after, equity, daily, spread)

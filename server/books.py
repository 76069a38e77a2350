"""Books as weights: what a stored portfolio holds, and what is proposed in its place."""

from dataclasses import dataclass

import numpy as np
from positionsizing.v1 import risk_service_pb2 as pb

from compute.market import Market
from server.convert.columns import Floats, floats
from server.errors import precondition
from server.portfolio_state import PortfolioState, positions


@dataclass(frozen=True)
class Books:
    """Weights of the same instruments before and after, (n,); None for no such book."""

    instrument_ids: tuple[str, ...]
    before: Floats | None
    after: Floats | None
    equity: float


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
    equity = float(book.cash + book.held @ prices.price)
    if not equity > 0.0:
        raise precondition("NO_EQUITY", f"the portfolio's equity is {equity:g}; weights need some")
    quantity = book.held + book.open_buy + book.open_sell
    held = {
        prices.instrument_ids[i]: float(quantity[i] * prices.price[i] / equity)
        for i in np.flatnonzero(quantity)
    }
    names = tuple(dict.fromkeys([*held, *asked]))
    before = np.array([held.get(name, 0.0) for name in names])
    after = np.array([asked.get(name, held.get(name, 0.0)) for name in names]) if asked else None
    return Books(names, before, after, equity)

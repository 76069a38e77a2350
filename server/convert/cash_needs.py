"""What the trades of a decision need in the currencies of their instruments, where asked for."""

from collections.abc import Mapping

import numpy as np
from positionsizing.v1 import sizing_pb2 as pb

from compute.market import Floats, Market
from compute.money.currency import major_of
from compute.waterfall.pipeline import Sizing
from server.sizing.prepared_request import PreparedRequest


def tell(
    head: pb.SizingDecision, problem: PreparedRequest, sizing: Sizing, reserved: Floats
) -> None:
    """Fills `cash_needs`; reserved: capital of each line, base currency, (n,)."""
    if not problem.request.include_cash_needs:
        return
    inputs, context = problem.inputs, problem.context
    market, base = inputs.limit_bounds.market, context.base_currency
    needed: dict[str, float] = {}
    for line in np.flatnonzero(sizing.trade_lots).tolist():
        code, rate = own_currency(market, int(inputs.index[line]), base)
        amount = float(reserved[line]) / rate
        head.cash_needs.instrument_ids.append(problem.ids[line])
        head.cash_needs.currency.append(code)
        head.cash_needs.cash_needed.append(amount)
        needed[code] = needed.get(code, 0.0) + amount
    balances: Mapping[str, float] = context.balances or {base: context.positions.cash}
    for code in sorted({*needed, *balances}):
        need, balance = needed.get(code, 0.0), balances.get(code, 0.0)
        head.cash_needs.currencies.add(
            currency=code,
            balance=balance,
            cash_needed=need,
            shortfall=max(need - balance, 0.0),
        )


def own_currency(market: Market, place: int, base: str) -> tuple[str, float]:
    """The currency that an instrument is paid in, and base currency for one unit of it.

    Of prices in hundredths (GBX) the currency that they are a part of.
    """
    if not market.currency or market.exchange_rate is None:
        return base, 1.0
    code = market.currency[place]
    major, part = major_of(code)
    return major, float(market.exchange_rate[place]) / part

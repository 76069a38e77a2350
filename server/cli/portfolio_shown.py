"""How a portfolio is shown: its cash to the cent, what it holds, and whether it trades."""

from typing import TYPE_CHECKING

from server.cli.common import console, print_json, say

if TYPE_CHECKING:
    from positionsizing.v1 import portfolio_service_pb2


def show_portfolio(found: "portfolio_service_pb2.Portfolio", as_json: bool) -> None:
    """Prints cash, holdings and trading state."""
    from server.cli.labels import booked, units
    from server.cli.render import table

    if as_json:
        print_json(found)
        return
    state = state_words(found)
    group = f", group {found.group_id}" if found.group_id else ""
    group += f", universe {found.universe_id}" if found.universe_id else ""
    name = found.display_name or found.portfolio_id
    out = table(
        f"{name}: cash {cash_words(found)}, {state}{group}, version {found.version}",
        *("instrument", "quantity", "bought at"),
        left=("instrument",),
        drop=("bought at",),
    )
    held = found.holdings
    prices = held.average_price or [0.0] * len(held.quantity)
    for name, quantity, price in zip(held.instrument_ids, held.quantity, prices, strict=True):
        out.add_row(name, units(quantity), units(price) if price else "")
    console().print(out)
    for account in found.cash_balances:
        say(f"  cash in {account.currency}: {booked(account.amount, account.currency)}")


def cash_words(found: "portfolio_service_pb2.Portfolio") -> str:
    """Cash in the base currency."""
    from server.cli.labels import booked

    return f"{booked(found.cash, found.base_currency)} {found.base_currency}"


def state_words(found: "portfolio_service_pb2.Portfolio") -> str:
    """Whether it trades, or since when it is closed."""
    from positionsizing.v1 import types_pb2

    from server.cli.labels import enum_words

    if found.HasField("close_time"):
        return f"closed {found.close_time.ToDatetime():%Y-%m-%d}"
    return enum_words(types_pb2.TradingState, found.trading_state, "TRADING_STATE_")

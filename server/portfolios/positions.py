"""The state of a portfolio over the instruments of a market: positions, cash, what others use."""

import numpy as np

from compute.market import Floats, Market, MissingInputError, Positions, SharedUse
from compute.money.currency import rate_of, shared_in_base
from server.convert import limits as limits_convert
from server.portfolios.portfolio_state import PortfolioState, StoredPositions, universe_words
from storage.postgres.portfolios import Portfolio


def positions(state: PortfolioState, prices: Market) -> Positions:
    """Holdings and reservations over the instruments of a market. Raises `MissingInputError`."""
    held, totals = state.book.holdings, state.book.totals
    _check_priced(state, prices)
    buy, sell = _over(prices, totals.instrument_id, totals.buy_quantity, totals.sell_quantity)
    units, entry = _over(prices, held.instrument_id, held.quantity, held.average_price)
    gains = 0.0
    if prices.contracts is not None:
        gains = float(prices.contracts.gains(units, np.where(units != 0.0, entry, np.nan)).sum())
    return Positions(
        gains=gains,
        held=units,
        open_buy=buy,
        open_sell=-sell,
        cash=cash_in_base(state.portfolio, prices),
        cash_reserved=totals.cash,
    )


def cash_in_base(portfolio: Portfolio, prices: Market) -> float:
    """Cash of all currencies at a market's rates. Raises `MissingInputError`."""
    total = portfolio.cash
    for code, amount in portfolio.balances.items():
        if amount != 0.0:
            total += amount * rate_of(prices.rates, code, "cash")
    return total


def shared_use(state: PortfolioState, prices: Market) -> SharedUse | None:
    """What the other members of the group use, at their worst. Raises `MissingInputError`."""
    if not state.shared:
        return None
    notional, elsewhere = others_use(state, prices)
    bounds = limits_convert.shared_of_document(state.shared)
    bases = {state.portfolio.base_currency, *(book.base_currency for book in state.others.values())}
    bounds = shared_in_base(bounds, prices.rates, has_one_base=len(bases) == 1)
    return SharedUse(bounds, float(notional.sum()) + sum(elsewhere.values()), notional)


def others_use(state: PortfolioState, prices: Market) -> tuple[Floats, dict[str, float]]:
    """Absolute notional of the other members at their worst, base currency.

    Of each instrument of the market, (m,), and by name of those that only the universes of members
    have. Raises `MissingInputError`.
    """
    notional, elsewhere = np.zeros(len(prices.price)), dict[str, float]()
    for portfolio_id, book in state.others.items():
        (held,) = _over(prices, book.holdings.instrument_id, book.holdings.quantity)
        totals = book.totals
        buy, sell = _over(prices, totals.instrument_id, totals.buy_quantity, totals.sell_quantity)
        notional += prices.price * np.maximum(np.abs(held + buy), np.abs(held + sell))
        for name, units in _absent(book, prices).items():
            price = book.elsewhere.price.get(name) if book.elsewhere is not None else None
            if price is None:
                raise _unpriced_of_group(state, portfolio_id, name)
            elsewhere[name] = elsewhere.get(name, 0.0) + abs(price) * units
    return notional, elsewhere


def _absent(book: StoredPositions, prices: Market) -> dict[str, float]:
    """Units at their worst of what is held or reserved and not in a market, by instrument."""
    units = {n: [0.0, 0.0, 0.0] for n in book.instrument_ids if n not in prices.index}
    if not units:
        return {}
    held, totals = book.holdings, book.totals
    for column, (ids, amounts) in enumerate(
        (
            (held.instrument_id, held.quantity),
            (totals.instrument_id, totals.buy_quantity),
            (totals.instrument_id, totals.sell_quantity),
        )
    ):
        for name, amount in zip(ids, amounts.tolist(), strict=True):
            if name in units:
                units[name][column] = amount
    worst = {name: max(abs(h + b), abs(h + s)) for name, (h, b, s) in units.items()}
    return {name: amount for name, amount in worst.items() if amount}


def _check_priced(state: PortfolioState, prices: Market) -> None:
    """Raises `MissingInputError` where a market has no price for what is held or reserved."""
    for name in _absent(state.book, prices):
        raise MissingInputError(
            "MISSING_PRICE",
            f"{name!r} is held or reserved, but the market snapshot has no price for it; a request "
            f"that names none takes the newest of {universe_words(state.portfolio.universe_id)}: "
            "name one that has it (market_snapshot_id), load one, or set the universe that the "
            "portfolio is priced at (SetUniverse)",
        )


def _unpriced_of_group(state: PortfolioState, other_id: str, name: str) -> MissingInputError:
    other = state.others[other_id]
    where = "the market snapshot has no price for it"
    if other.universe_id != state.portfolio.universe_id:
        where = (
            "neither the market snapshot nor the newest of "
            f"{universe_words(other.universe_id)} has a price for it"
        )
    return MissingInputError(
        "MISSING_PRICE",
        f"{name!r} is held or reserved by {other_id!r}, which shares limits with it, but {where} "
        f"in {state.portfolio.base_currency}: load one that has, or name one that has all that "
        "the group holds (market_snapshot_id)",
    )


def _over(prices: Market, names: tuple[str, ...], *columns: Floats) -> list[Floats]:
    """Columns of the named instruments, each over all instruments of the market."""
    places = prices.places(names)
    known = places >= 0
    out = [np.zeros(len(prices.price)) for _ in columns]
    for over, column in zip(out, columns, strict=True):
        over[places[known]] = column[known]
    return out

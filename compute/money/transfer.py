"""A portfolio moved onto another market: the same units, over other instruments and prices."""

from dataclasses import replace

import numpy as np

from compute.market import Floats, Market, MissingInputError, Positions, SharedUse


def moved_positions(positions: Positions, old: Market, new: Market) -> Positions:
    """Holdings and reservations over the instruments of `new`.

    gains: what futures had gained in `old`, and what they gain from its prices to those of `new`.
    Raises `MissingInputError` where `new` lacks an instrument that is held or reserved.
    """
    if new is old:
        return positions
    places = positions.taken
    found = new.places([old.instrument_ids[i] for i in places])
    if (found < 0).any():
        name = old.instrument_ids[places[int(np.argmax(found < 0))]]
        text = f"{name!r} is held or reserved, but the other market has no price for it"
        raise MissingInputError("MISSING_PRICE", text)

    def over(column: Floats) -> Floats:
        out = np.zeros(len(new.price))
        out[found] = column[places]
        return out

    held, gains = over(positions.held), positions.gains
    if new.contracts is None:
        gains = 0.0
    elif old.contracts is not None:
        entry = np.full(len(new.price), np.nan)
        entry[found] = old.contracts.quote[places]
        gains += float(new.contracts.gains(held, entry).sum())
    return replace(
        positions,
        held=held,
        open_buy=over(positions.open_buy),
        open_sell=over(positions.open_sell),
        gains=gains,
    )


def moved_shared(shared: SharedUse | None, old: Market, new: Market) -> SharedUse | None:
    """What other portfolios use of shared limits, in the same money, over other instruments."""
    if shared is None or new is old:
        return shared
    return replace(shared, instrument_notional=moved_column(shared.instrument_notional, old, new))


def moved_column(column: Floats, old: Market, new: Market) -> Floats:
    """A number of each instrument of `old` over those of `new`; 0 of others."""
    places = np.flatnonzero(column)
    found = new.places([old.instrument_ids[i] for i in places])
    out = np.zeros(len(new.price))
    out[found[found >= 0]] = column[places[found >= 0]]
    return out

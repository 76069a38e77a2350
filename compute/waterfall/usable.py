"""Whether the market has what the rules in force need of each line; if not, the line is refused.

A volatility of 0, a stop beyond the price, a sector that is not named: read as they stand, each of
them would mean that a rule doesn't apply to this instrument. It does; the number is missing.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from compute.limits.closing import is_solvent
from compute.limits.policy import Limits
from compute.market import (
    Floats,
    Integers,
    Market,
    MissingInputError,
    Positions,
    equity_of,
)
from compute.parameters import EffectiveParameters
from compute.signals import LineError, Signals, stops_on_wrong_side

NDArrayBool = NDArray[np.bool_]
_COLUMN = "instrument_ids"


def check_market(
    signals: Signals,
    index: Integers,
    market: Market,
    parameters: EffectiveParameters,
    limits: Limits,
) -> list[LineError]:
    """What each line lacks in the market. index: its place there, (n,); < 0 is unknown."""
    known = index >= 0
    place = np.maximum(index, 0)
    return [
        *_volatility(
            known & without_volatility(market, place, parameters), place, market, parameters
        ),
        *_stop(known & beyond_stop(signals, market, place, parameters), place, market),
        *_volume(known, place, market, parameters),
        *_sector(known, place, market, limits),
    ]


def check_book(
    market: Market,
    positions: Positions,
    budget: float | None,
    limits: Limits,
    equity: float | None = None,
) -> None:
    """The same of what is held or reserved, which counts whether it is sized or not.

    budget: the parameter risk_budget. equity: of the book, where it is known. Raises
    `MissingInputError` for the whole book; without equity, where no limit applies and positions
    are closed, nothing is missing.
    """
    if not is_solvent(equity_of(market, positions) if equity is None else equity):
        return
    taken = positions.taken
    if budget is not None and market.volatility is not None:
        for place in taken[~(market.volatility[taken] > 0.0)]:
            raise MissingInputError(
                "MISSING_VOLATILITY",
                f"{market.instrument_ids[place]!r} is held or reserved and has volatility 0 in the "
                "market snapshot; the parameter risk_budget needs it > 0",
            )
    by_sector = [group.name for group in limits.groups if group.sector]
    if by_sector and market.sector:
        for place in taken[_unnamed(market)[taken] > 0.0]:
            raise MissingInputError(
                "MISSING_SECTOR",
                f"{market.instrument_ids[place]!r} is held or reserved and has no sector in the "
                f"market snapshot; the limit of group {by_sector[0]!r} needs one",
            )


def without_volatility(
    market: Market, place: Integers, parameters: EffectiveParameters
) -> NDArrayBool:
    """Lines whose volatility is 0 where a rule divides by it or weighs with it, (n,)."""
    if market.volatility is None or not _rules_on_volatility(parameters):
        return np.zeros(len(place), dtype=bool)
    wrong: NDArrayBool = ~(market.volatility[place] > 0.0)
    return wrong


def passed_stops(
    signals: Signals, place: Integers, market: Market, parameters: EffectiveParameters
) -> list[LineError]:
    """Lines that their own stop, or where it is needed the market's, would have closed already."""
    return [
        *stops_on_wrong_side(signals, market.price[place]),
        *_stop(beyond_stop(signals, market, place, parameters), place, market),
    ]


def beyond_stop(
    signals: Signals, market: Market, place: Integers, parameters: EffectiveParameters
) -> NDArrayBool:
    """Lines that the market's stop would have closed already, where it is needed, (n,)."""
    if market.stop_price is None or parameters.stop_risk_max is None:
        return np.zeros(len(place), dtype=bool)
    own: Floats = np.zeros(len(place)) if signals.stop_price is None else signals.stop_price
    stop = np.where(own > 0.0, 0.0, market.stop_price[place])
    wrong: NDArrayBool = (stop > 0.0) & ~(signals.side * (market.price[place] - stop) > 0.0)
    return wrong


def _rules_on_volatility(parameters: EffectiveParameters) -> list[str]:
    names = ("volatility_target", "risk_budget")
    needed = [name for name in names if getattr(parameters, name) is not None]
    return needed + ["impact_coefficient"] * (parameters.impact_coefficient > 0.0)


def _volatility(
    wrong: NDArrayBool, place: Integers, market: Market, parameters: EffectiveParameters
) -> Iterator[LineError]:
    for line in np.flatnonzero(wrong):
        name, rule = market.instrument_ids[place[line]], _rules_on_volatility(parameters)[0]
        text = (
            f"{name!r} has volatility 0 in the market snapshot; the parameter {rule} needs it > 0"
        )
        yield LineError(int(line), _COLUMN, "MISSING_VOLATILITY", text)


def _volume(
    known: NDArrayBool, place: Integers, market: Market, parameters: EffectiveParameters
) -> Iterator[LineError]:
    """What is never traded can't be traded at any cost."""
    volume = market.average_daily_volume
    if volume is None or not parameters.impact_coefficient:
        return
    for line in np.flatnonzero(known & ~(volume[place] > 0.0)):
        text = (
            f"{market.instrument_ids[place[line]]!r} has average_daily_volume 0 in the market "
            "snapshot; the parameter impact_coefficient needs it > 0"
        )
        yield LineError(int(line), _COLUMN, "MISSING_AVERAGE_DAILY_VOLUME", text)


def _stop(wrong: NDArrayBool, place: Integers, market: Market) -> Iterator[LineError]:
    stops = market.stop_price
    if stops is None:
        return
    for line in np.flatnonzero(wrong):
        at = place[line]
        text = (
            f"{market.instrument_ids[at]!r} has its stop at {stops[at]:g} and its price at "
            f"{market.price[at]:g} in the market snapshot: a stop is below the price of a long "
            "signal and above that of a short one"
        )
        yield LineError(int(line), _COLUMN, "STOP_ON_WRONG_SIDE", text)


def _sector(
    known: NDArrayBool, place: Integers, market: Market, limits: Limits
) -> Iterator[LineError]:
    """A sector limit can't be applied to what has no sector; a column of none is told elsewhere."""
    by_sector = [group.name for group in limits.groups if group.sector]
    if not by_sector or not market.sector:
        return
    for line in np.flatnonzero(known & (_unnamed(market)[place] > 0.0)):
        name = market.instrument_ids[place[line]]
        text = (
            f"{name!r} has no sector in the market snapshot; the limit of group "
            f"{by_sector[0]!r} needs one"
        )
        yield LineError(int(line), _COLUMN, "MISSING_SECTOR", text)


def _unnamed(market: Market) -> Floats:
    """1 for the instruments without a sector, (m,); kept with the market."""

    def made() -> Floats:
        return np.array([float(not sector) for sector in market.sector])

    return market.memberships.get("unnamed", made)

"""Signals in columns, and what can be wrong with them.

`check` looks at every number once, vectorised. A wrong number refuses its line, not the batch:
the caller decides whether the other lines are still wanted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compute.market import Floats, Integers
from compute.ranges import OUTCOMES_MAX, RANGES
from compute.value_range import Range
from compute.waterfall.layout import Source

NDArrayBool = NDArray[np.bool_]


@dataclass(frozen=True)
class Signals:
    """n signals; columns that were not given are None. Units as in the contract."""

    side: Floats
    """+1 long, -1 short; 0 is refused."""
    source: Integers
    """A `columns.Source` per line; 0 where the caller gave nothing to size from."""
    win_probability: Floats | None = None
    payoff: Floats | None = None
    loss_fraction: Floats | None = None
    expected_return: Floats | None = None
    volatility: Floats | None = None
    confidence: Floats | None = None
    win_probability_error: Floats | None = None
    expected_return_error: Floats | None = None
    stop_price: Floats | None = None
    holding_periods: Floats | None = None
    cost_rate: Floats | None = None
    edge_half_life_periods: Floats | None = None
    history_outcome: Floats | None = None
    history_length: Integers | None = None
    regime_expected_return: Floats | None = None
    """Of each line in each of K regimes by rising deviation, (n K,), line by line."""
    regime_volatility: Floats | None = None
    history_multiplier: Floats | None = None
    """Multiplies the edge of lines with a history once it is estimated; None for 1."""


@dataclass(frozen=True)
class LineError:
    """Why a line is refused: its index, the column, a reason for programs and one for people."""

    line: int
    column: str
    reason: str
    message: str


@dataclass(frozen=True)
class Feature:
    """What a model may read of every line, (n,)."""

    name: str
    values: Floats


def check_features(features: Sequence[Feature]) -> list[LineError]:
    """A line error for each feature that is no number, or beyond every use, whoever reads it."""
    allowed, found = RANGES["FeatureColumn.values"], []
    for place, item in enumerate(features):
        if allowed.holds(item.values):
            continue
        for line in np.flatnonzero(allowed.wrong(item.values)):
            value, reason = float(item.values[line]), "OUT_OF_RANGE"
            text = f"{item.name} is {value:.12g}; it must be {allowed.advice(value)}"
            if not np.isfinite(value):
                text, reason = f"{item.name} is {value}; it must be a finite number", "NOT_FINITE"
            found.append(LineError(int(line), f"features[{place}].values", reason, text))
    return found


_BET: tuple[Source, ...] = (Source.WIN_LOSS,)
_MOMENTS: tuple[Source, ...] = (Source.RETURN_VOLATILITY,)
_ANY = tuple(Source)
_FIRST, _LAST = min(Source), max(Source)

# Which sources read a column, and whether they need it.
_COLUMNS: dict[str, tuple[tuple[Source, ...], bool]] = {
    "win_probability": (_BET, True),
    "payoff": (_BET, True),
    "loss_fraction": (_BET, False),
    "expected_return": (_MOMENTS, True),
    "volatility": (_MOMENTS, True),
    "confidence": (_ANY, False),
    "win_probability_error": (_BET, False),
    "expected_return_error": (_MOMENTS, False),
    "stop_price": (_ANY, False),
    "holding_periods": (_ANY, False),
    "cost_rate": (_ANY, False),
    "edge_half_life_periods": (_ANY, False),
}


def _range(column: str) -> Range:
    return RANGES[f"SignalBatch.{column}"]


def check(signals: Signals, price: Floats) -> list[LineError]:
    """What is wrong with each line, the first finding per line and column. `price`: (n,).

    Ranges are those of `ranges.RANGES`.

    Columns are already known to be of equal length.
    """
    errors = [*_sides(signals), *_sources(signals), *_histories(signals)]
    for name, (sources, needed) in _COLUMNS.items():
        values = getattr(signals, name)
        if values is None and not needed:
            continue
        allowed = _range(name)
        if values is not None and allowed.holds(values):
            continue
        used = _uses(signals.source, sources)
        if values is None:
            if used.any():
                message = f"{name} is needed for this edge source, but the column is empty"
                errors += _found(np.flatnonzero(used), name, "MISSING", message)
            continue
        infinite = ~np.isfinite(values)
        for line in np.flatnonzero(infinite):
            message = f"{name} is {values[line]}; it must be a finite number"
            errors.append(LineError(int(line), name, "NOT_FINITE", message))
        for line in np.flatnonzero(used & ~infinite & allowed.wrong(values)):
            value = float(values[line])
            message = f"{name} is {value:.12g}; it must be {allowed.advice(value)}"
            errors.append(LineError(int(line), name, "OUT_OF_RANGE", message))
    return errors + list(stops_on_wrong_side(signals, price))


def _uses(source: Integers, sources: tuple[Source, ...]) -> NDArrayBool:
    """The lines whose edge comes from one of `sources`."""
    if sources == _ANY:
        return np.ones(len(source), dtype=bool)
    return source == sources[0]


def _found(lines: Integers, column: str, reason: str, message: str) -> Iterator[LineError]:
    return (LineError(int(line), column, reason, message) for line in lines)


def _sides(signals: Signals) -> Iterator[LineError]:
    lines = np.flatnonzero(signals.side == 0)
    return _found(lines, "side", "MISSING", "side must be SIDE_LONG or SIDE_SHORT")


def _sources(signals: Signals) -> Iterator[LineError]:
    lines = np.flatnonzero(_without_edge(signals.source))
    message = (
        "no edge: give win_probability and payoff, or expected_return and volatility, or "
        "history_outcome, or a scenario matrix, or features that a model reads, or regimes"
    )
    return _found(lines, "edge_source", "MISSING", message)


def _without_edge(source: Integers) -> NDArrayBool:
    """Lines that say no source, or one that hasn't been asked: a model, a filter of regimes."""
    unasked = (source == Source.MODEL) | (source == Source.REGIMES)
    unknown: NDArrayBool = (source < _FIRST) | (source > _LAST) | unasked
    return unknown


def _histories(signals: Signals) -> Iterator[LineError]:
    used = signals.source == Source.HISTORY
    if not used.any():
        return
    if signals.history_outcome is None or signals.history_length is None:
        message = "history_outcome and history_length are needed for this edge source"
        yield from _found(np.flatnonzero(used), "history_outcome", "MISSING", message)
        return
    length = signals.history_length
    message = f"a history has at most {OUTCOMES_MAX} outcomes"
    long = np.flatnonzero(used & (length > OUTCOMES_MAX))
    yield from _found(long, "history_length", "TOO_MANY", message)
    owner = np.repeat(np.arange(len(length)), length)
    outcome = signals.history_outcome
    allowed = _range("history_outcome")
    for line in np.unique(owner[allowed.wrong(outcome)]):
        message = f"an outcome must be {allowed.advice(0.0)}"
        yield LineError(int(line), "history_outcome", "OUT_OF_RANGE", message)
    message = "a history needs at least one outcome"
    empty = np.flatnonzero(used & (length == 0))
    yield from _found(empty, "history_length", "TOO_FEW_OUTCOMES", message)


def stops_on_wrong_side(signals: Signals, price: Floats) -> Iterator[LineError]:
    """Lines that their own stop would have closed at a price, (n,), already."""
    stop = signals.stop_price
    if stop is None:
        return
    told = _range("stop_price").wrong(stop)
    # Both are exposures of a unit in the base currency: only their ratio says something to callers.
    wrong = (stop > 0) & (signals.side * (price - stop) <= 0) & ~told
    for line in np.flatnonzero(wrong):
        where = "below" if signals.side[line] > 0 else "above"
        message = f"must be {where} the price, and is {stop[line] / price[line]:.6g} times it"
        yield LineError(int(line), "stop_price", "STOP_ON_WRONG_SIDE", message)

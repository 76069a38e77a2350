"""Signals in columns, and what can be wrong with them.

`check` looks at every number once, vectorised. A wrong number refuses its line, not the batch:
the caller decides whether the other lines are still wanted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compute.book import Floats, Integers
from compute.columns import Source

NDArrayBool = NDArray[np.bool_]

OUTCOMES_MAX = 8192
"""The longest history that is compiled for (`kernels.HISTORY_BUCKETS`)."""


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
    history_outcome: Floats | None = None
    history_length: Integers | None = None


@dataclass(frozen=True)
class LineError:
    """Why a line is refused: its index, the column, a reason for programs and one for people."""

    line: int
    column: str
    reason: str
    message: str


@dataclass(frozen=True)
class _Range:
    """What a column may hold; `text` completes 'must be ...'."""

    text: str
    low: float = -np.inf
    high: float = np.inf
    open_low: bool = False

    def holds(self, values: Floats) -> bool:
        """Whether all are finite and in the range; a NaN makes both ends NaN."""
        low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
        inside = low > self.low if self.open_low else low >= self.low
        return bool(inside and high <= self.high and -np.inf < low and high < np.inf)

    def wrong(self, values: Floats) -> NDArrayBool:
        below = values <= self.low if self.open_low else values < self.low
        return below | (values > self.high)


_BET: tuple[Source, ...] = (Source.WIN_LOSS,)
_MOMENTS: tuple[Source, ...] = (Source.RETURN_VOLATILITY,)
_ANY = tuple(Source)
_FIRST, _LAST = min(Source), max(Source)

# Which sources read a column, whether they need it, and what it may hold.
_COLUMNS: dict[str, tuple[tuple[Source, ...], bool, _Range]] = {
    "win_probability": (_BET, True, _Range("a probability in [0, 1]", 0.0, 1.0)),
    "payoff": (_BET, True, _Range("> 0", 0.0, open_low=True)),
    "loss_fraction": (_BET, False, _Range("in (0, 1]", 0.0, 1.0, open_low=True)),
    "expected_return": (_MOMENTS, True, _Range("a return >= -1", -1.0)),
    "volatility": (_MOMENTS, True, _Range("> 0", 0.0, open_low=True)),
    "confidence": (_ANY, False, _Range("in (0, 1]", 0.0, 1.0, open_low=True)),
    "win_probability_error": (_BET, False, _Range("a standard error in [0, 1]", 0.0, 1.0)),
    "expected_return_error": (_MOMENTS, False, _Range("a standard error >= 0", 0.0)),
    "stop_price": (_ANY, False, _Range("a price, or 0 for none", 0.0)),
}


def check(signals: Signals, price: Floats) -> list[LineError]:
    """What is wrong with each line, the first finding per line and column. `price`: (n,).

    Columns are already known to be of equal length.
    """
    errors = [*_sides(signals), *_sources(signals), *_histories(signals)]
    for name, (sources, needed, allowed) in _COLUMNS.items():
        values = getattr(signals, name)
        if values is None and not needed:
            continue
        if values is not None and allowed.holds(values):
            continue
        used = _uses(signals.source, sources)
        if values is None:
            if used.any():
                message = f"{name} is needed for this edge source, but the column is empty"
                errors += _found(np.flatnonzero(used), name, "MISSING", message)
            continue
        infinite = ~np.isfinite(values)
        errors += _values(infinite, values, name, "NOT_FINITE", "a finite number")
        wrong = used & ~infinite & allowed.wrong(values)
        errors += _values(wrong, values, name, "OUT_OF_RANGE", allowed.text)
    return errors + list(_stops(signals, price))


def _uses(source: Integers, sources: tuple[Source, ...]) -> NDArrayBool:
    """The lines whose edge comes from one of `sources`."""
    if sources == _ANY:
        return np.ones(len(source), dtype=bool)
    return source == sources[0]


def _found(lines: Integers, column: str, reason: str, message: str) -> Iterator[LineError]:
    return (LineError(int(line), column, reason, message) for line in lines)


def _values(
    wrong: NDArrayBool, values: Floats, column: str, reason: str, text: str
) -> Iterator[LineError]:
    for line in np.flatnonzero(wrong):
        message = f"{column} is {values[line]:g}; it must be {text}"
        yield LineError(int(line), column, reason, message)


def _sides(signals: Signals) -> Iterator[LineError]:
    lines = np.flatnonzero(signals.side == 0)
    return _found(lines, "side", "MISSING", "side must be SIDE_LONG or SIDE_SHORT")


def _sources(signals: Signals) -> Iterator[LineError]:
    lines = np.flatnonzero((signals.source < _FIRST) | (signals.source > _LAST))
    message = (
        "no edge: give win_probability and payoff, or expected_return and volatility, or "
        "history_outcome, or a scenario matrix"
    )
    return _found(lines, "edge_source", "MISSING", message)


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
    bad = ~np.isfinite(outcome) | (outcome < -1.0)
    for line in np.unique(owner[bad]):
        message = "outcomes must be finite returns >= -1 on the stake"
        yield LineError(int(line), "history_outcome", "OUT_OF_RANGE", message)
    wins = np.bincount(owner[outcome > 0], minlength=len(length))
    losses = np.bincount(owner[outcome < 0], minlength=len(length))
    message = "a history needs at least one winning and one losing outcome"
    few = np.flatnonzero(used & ((wins == 0) | (losses == 0)))
    yield from _found(few, "history_length", "TOO_FEW_OUTCOMES", message)


def _stops(signals: Signals, price: Floats) -> Iterator[LineError]:
    stop = signals.stop_price
    if stop is None:
        return
    wrong = (stop > 0) & (signals.side * (price - stop) <= 0)
    for line in np.flatnonzero(wrong):
        where = "below" if signals.side[line] > 0 else "above"
        message = f"stop_price {stop[line]:g} must be {where} the price {price[line]:g}"
        yield LineError(int(line), "stop_price", "STOP_ON_WRONG_SIDE", message)

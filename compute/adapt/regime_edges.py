"""Edges of lines that know what they bring in each regime, by the regimes predicted to come.

With the predicted probabilities p_k of a filter (`regimes.py`), and mean m_k and deviation s_k of a
line in regime k, its next return has

    m = sum p_k m_k          v = sum p_k (s_k^2 + m_k^2) - m^2

and the continuous Kelly stake of that mixture, m / v less the rate, is what maximises its expected
growth to second order. The mean of the regimes' own stakes is another number, and too large
wherever the volatile regime has the smaller edge: it is nowhere made.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from compute.market import Floats, Integers
from compute.ranges import RANGES
from compute.signals import LineError, Signals
from compute.waterfall.layout import Source

_COLUMNS = ("regime_expected_return", "regime_volatility")


@dataclass(frozen=True)
class RegimeProbabilities:
    """Of `lines`: predicted probabilities of the K regimes by rising deviation, empty where the
    filter has seen nothing of the line's instrument; recorded, so that a replay needs no filter."""

    model_id: str
    state_version: int
    lines: tuple[int, ...]
    probability: tuple[tuple[float, ...], ...]


def mixed(probability: Floats, mean: Floats, deviation: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation of the mixtures of n lines, (n,); all given (n, K)."""
    first: Floats = (probability * mean).sum(axis=1)
    second = (probability * (deviation**2 + mean**2)).sum(axis=1)
    return first, np.sqrt(np.maximum(second - first**2, 0.0))


def with_regimes(
    signals: Signals, ids: Sequence[str], found: RegimeProbabilities | None
) -> tuple[Signals, list[LineError]]:
    """The signals with lines of REGIMES as returns and volatilities of the mixture predicted.

    A line whose instrument the filter hasn't seen, or with a wrong number, gets an error, and no
    edge, so that it is told once.
    """
    if found is None:
        return signals, []
    n, lines = len(ids), np.array(found.lines, dtype=np.int64)
    errors = [
        LineError(line, "instrument_ids", "NOT_IN_REGIMES", _unseen(ids[line], found.model_id))
        for line, row in zip(found.lines, found.probability, strict=True)
        if not row
    ]
    k = max(map(len, found.probability), default=0)
    given = [getattr(signals, name) for name in _COLUMNS]
    mean, deviation = (column.reshape(n, -1)[lines] for column in given)
    for name, column in zip(_COLUMNS, (mean, deviation), strict=True):
        errors += _wrong(name, column, lines)
    p = np.zeros((len(lines), max(k, 1)))
    for place, row in enumerate(found.probability):
        p[place, : len(row)] = row
    good = ~np.isin(lines, [error.line for error in errors])
    source = signals.source.copy()
    expected = np.zeros(n) if signals.expected_return is None else signals.expected_return.copy()
    volatility = np.ones(n) if signals.volatility is None else signals.volatility.copy()
    source[lines], expected[lines], volatility[lines] = Source.RETURN_VOLATILITY, 0.0, 1.0
    if good.any():
        own = lines[good]
        expected[own], volatility[own] = mixed(p[good], mean[good], deviation[good])
    made = replace(signals, source=source, expected_return=expected, volatility=volatility)
    return made, errors


def _unseen(name: str, model_id: str) -> str:
    return f"the regimes of {model_id!r} have seen no return of what {name!r} goes by"


def _wrong(name: str, column: Floats, lines: Integers) -> list[LineError]:
    """An error for the first number of a line that is out of range."""
    allowed, found = RANGES[f"SignalBatch.{name}"], []
    bad = ~np.isfinite(column) | allowed.wrong(np.nan_to_num(column))
    for place in np.flatnonzero(bad.any(axis=1)):
        regime = int(np.argmax(bad[place]))
        value = float(column[place, regime])
        reason = "OUT_OF_RANGE" if np.isfinite(value) else "NOT_FINITE"
        text = f"is {value:.12g} in regime {regime + 1}; it must be {allowed.advice(value)}"
        found.append(LineError(int(lines[place]), name, reason, text))
    return found

"""Histories of prices or returns: parts laid over each other, and returns without hidden gaps.

A history is a table of T observations of n instruments; NaN stands for what is missing and never
for a number. What to do about gaps is chosen openly (`Gaps`), because every choice biases an
estimate: complete cases throw data away, pairs may contradict each other (an indefinite matrix),
and a price carried forward hides a move and then shows it whole.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from compute.optimize.time_limit import checkpoint

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CARRY_MAX = 5
"""Observations that `Gaps.CARRY_FORWARD` may bridge."""


class Gaps(IntEnum):
    """What is done about missing observations. The numbers are those of the contract."""

    REFUSE = 1
    COMPLETE = 2
    PAIRWISE = 3
    CARRY_FORWARD = 4


class HistoryGapError(ValueError):
    """A history lacks what an estimate needs; the text names the first instrument and place."""


@dataclass(frozen=True)
class Table:
    """Observations: times (T,) in nanoseconds, rising; values (T, n), NaN where missing."""

    instrument_ids: tuple[str, ...]
    times: Integers
    values: Floats


def overlaid(parts: Sequence[Table], instrument_ids: Sequence[str] = ()) -> Table:
    """One table of all parts; a later part counts over an earlier one where both have a number.

    instrument_ids: the columns wanted; empty for all, by name. A number that a later part lacks
    stays. Raises `KeyError` with the name of an instrument that no part has.
    """
    known = {name for part in parts for name in part.instrument_ids}
    columns = tuple(instrument_ids) or tuple(sorted(known))
    for name in columns:
        if name not in known:
            raise KeyError(name)
    if len(parts) == 1 and columns == parts[0].instrument_ids:
        return _with_some(parts[0])
    column = {name: i for i, name in enumerate(columns)}
    times = np.unique(np.concatenate([np.zeros(0, np.int64), *(part.times for part in parts)]))
    values = np.full((len(times), len(columns)), np.nan)
    for part in parts:
        checkpoint()
        chosen = [i for i, name in enumerate(part.instrument_ids) if name in column]
        if not chosen:
            continue
        rows = np.searchsorted(times, part.times)
        wanted = np.array([column[part.instrument_ids[i]] for i in chosen])
        place = np.ix_(rows, wanted)
        new = part.values[:, chosen]
        values[place] = np.where(np.isnan(new), values[place], new)
    return _with_some(Table(columns, times, values))


def _with_some(table: Table) -> Table:
    """Without the times at which nothing was observed."""
    none = np.isnan(table.values).all(axis=1)
    if not none.any():
        return table
    return Table(table.instrument_ids, table.times[~none], table.values[~none])


def scaled(table: Table, factor: Mapping[str, float]) -> Table:
    """Each column times the factor of its instrument; those without one stay."""
    if not any(name in factor for name in table.instrument_ids):
        return table
    row = np.array([factor.get(name, 1.0) for name in table.instrument_ids])
    return Table(table.instrument_ids, table.times, table.values * row)


def simple_returns(prices: Floats) -> Floats:
    """p_t / p_{t-1} - 1 from row to row, (T-1, n); NaN where either price is missing."""
    return prices[1:] / prices[:-1] - 1.0


def carried(prices: Floats, carry_max: int = CARRY_MAX) -> Floats:
    """Prices with gaps of up to `carry_max` rows inside a column filled by the price before.

    Longer gaps, and what is missing at either end, stay NaN, so that they are refused later.
    """
    out = prices.copy()
    for column in out.T:
        checkpoint()
        present = np.flatnonzero(~np.isnan(column))
        for left, right in itertools.pairwise(present):
            if 1 < right - left <= carry_max + 1:
                column[left + 1 : right] = column[left]
    return out


def sample(table: Table, *, is_prices: bool, gaps: Gaps) -> tuple[Floats, Integers]:
    """Returns that an estimate can use, (T, n), and their times.

    Only `Gaps.PAIRWISE` leaves NaN in them. Raises `HistoryGapError` where the policy refuses what
    is missing, or nothing is left.
    """
    values, times = table.values, table.times
    if gaps is Gaps.CARRY_FORWARD:
        if not is_prices:
            raise HistoryGapError("prices can be carried forward, returns can't")
        values = carried(values)
    if is_prices:
        values, times = simple_returns(values), times[1:]
    missing = np.isnan(values)
    if gaps in (Gaps.REFUSE, Gaps.CARRY_FORWARD) and missing.any():
        row, column = (int(i) for i in np.argwhere(missing)[0])
        moment = np.datetime_as_string(np.datetime64(int(times[row]), "ns"), unit="s")
        count = int(missing.sum())
        raise HistoryGapError(
            f"{count} returns are missing, the first of {table.instrument_ids[column]!r} at "
            f"{moment}Z; choose another gap policy, a later start, or leave the instrument out"
        )
    keep = ~missing.any(axis=1) if gaps is Gaps.COMPLETE else ~missing.all(axis=1)
    if not keep.all():
        values, times = values[keep], times[keep]
    if len(values) < 2:
        raise HistoryGapError(
            f"{len(values)} periods have a return of every instrument; at least 2 are needed"
        )
    return values, times

"""Edges from stored histories: the returns of each line, and the last part they are from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from positionsizing.v1 import sizing_pb2

from compute.history import simple_returns
from compute.layout import Source
from compute.ranges import OUTCOMES_MAX
from compute.signals import LineError, Signals
from server.convert.columns import Floats
from server.histories import Span, optional_moment, read
from server.request_context import Call
from storage.postgres.pool import Database


@dataclass(frozen=True)
class StoredOutcomes:
    """Returns of instruments, oldest first, and the last part of the history that they are from."""

    universe_id: str
    returns: Mapping[str, Floats]
    sequence: int


async def read_outcomes(
    database: Database,
    call: Call,
    signals: sizing_pb2.SignalBatch,
    sequence: int | None = None,
) -> StoredOutcomes | None:
    """The stored returns of the batch's instruments; None where no line asks for any.

    sequence: the last part to read, of a decision that is computed again. Raises `Refusal` where
    nothing of the universe is known.
    """
    wanted = signals.edge_source[:]
    by_default = not wanted and _nothing_else(signals)
    if not signals.history_universe_id or not (
        by_default or sizing_pb2.EDGE_SOURCE_STORED_HISTORY in wanted
    ):
        return None
    start = optional_moment(signals, "history_start_time", "signals.")
    span = Span(start=start, sequence_max=sequence)
    history = await read(database, call, signals.history_universe_id, span)
    values = history.table.values
    returns = simple_returns(values) if history.is_prices else values
    place = {name: i for i, name in enumerate(history.table.instrument_ids)}
    found = {}
    for name in signals.instrument_ids:
        if name in place:
            column = returns[:, place[name]]
            found[name] = column[~np.isnan(column)][-OUTCOMES_MAX:]
    return StoredOutcomes(signals.history_universe_id, found, history.sequence_max)


def _nothing_else(signals: sizing_pb2.SignalBatch) -> bool:
    """Whether the batch gives no edge that would come first (`request._sources`)."""
    columns = (signals.win_probability, signals.expected_return, signals.history_outcome)
    return not any(len(column) for column in columns)


def with_stored(
    signals: Signals, ids: tuple[str, ...], stored: StoredOutcomes
) -> tuple[Signals, list[LineError]]:
    """The signals with the returns of lines of STORED_HISTORY as their outcomes.

    A line of an instrument that the history doesn't have gets an error.
    """
    n = len(ids)
    asks = signals.source == Source.STORED_HISTORY
    given, length = signals.history_outcome, signals.history_length
    own = np.zeros(n, dtype=np.int64) if length is None else length
    ends = np.cumsum(own)
    none = np.zeros(0)
    outcomes, errors = [], []
    for i, name in enumerate(ids):
        mine = none if given is None else given[ends[i] - own[i] : ends[i]]
        if asks[i]:
            mine = signals.side[i] * stored.returns.get(name, none)
            if not len(mine):
                text = f"{name!r} has no returns in the history {stored.universe_id!r}"
                errors.append(LineError(i, "instrument_ids", "NOT_IN_HISTORY", text))
                mine = np.zeros(1)  # the line is refused already, and once
        outcomes.append(mine)
    changed = replace(
        signals,
        source=np.where(asks, int(Source.HISTORY), signals.source),
        history_outcome=np.concatenate([none, *outcomes]),
        history_length=np.array([len(mine) for mine in outcomes], dtype=np.int64),
    )
    return changed, errors

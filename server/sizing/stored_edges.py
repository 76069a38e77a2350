"""Edges from stored histories: the returns of each line, and the last part they are from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from compute.history import simple_returns
from compute.market import Floats
from compute.ranges import OUTCOMES_MAX
from compute.signals import LineError, Signals
from compute.waterfall.layout import Source
from server.calls.request_context import Call
from server.risk.histories import Span, read
from server.sizing.request import SizingRequest
from storage.postgres.pool import Database


@dataclass(frozen=True)
class StoredOutcomes:
    """Returns of instruments, oldest first, and the last part of the history that they are from."""

    universe_id: str
    returns: Mapping[str, Floats]
    sequence: int


@dataclass(frozen=True)
class Again:
    """What a decision that is computed again may know: the last part it read, and when it was."""

    sequence: int
    decision_time: datetime


async def read_outcomes(
    database: Database,
    call: Call,
    request: SizingRequest,
    again: Again | None = None,
) -> StoredOutcomes | None:
    """The stored returns of the batch's instruments; None where no line asks for any.

    again: of a decision that is computed again. Raises `Refusal` where nothing of the universe is
    known.
    """
    asked = request.history
    if asked is None or not (request.signals.source == Source.STORED_HISTORY).any():
        return None
    span = Span(asked.start)
    if again is not None:
        span = Span(asked.start, sequence_max=again.sequence, actions_known=again.decision_time)
    history = await read(database, call, asked.universe_id, span)
    values = history.table.values
    returns = simple_returns(values) if history.is_prices else values
    place = {name: i for i, name in enumerate(history.table.instrument_ids)}
    found = {}
    for name in request.instrument_ids:
        if name in place:
            column = returns[:, place[name]]
            found[name] = column[~np.isnan(column)][-OUTCOMES_MAX:]
    return StoredOutcomes(asked.universe_id, found, history.sequence_max)


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

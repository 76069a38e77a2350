"""The history of a universe as it was known at a moment, read from storage."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg

from compute.history import Table, overlaid, scaled
from server.calls.errors import invalid, not_found
from server.calls.long_work import in_thread
from server.calls.request_context import Call
from server.convert.history import stored_table
from storage.postgres import corporate_actions, histories
from storage.postgres.corporate_actions import StoredAction
from storage.postgres.histories import HistoryPart
from storage.postgres.pool import Database


@dataclass(frozen=True)
class Span:
    """What of a history is asked for: None for no bound, and for now."""

    start: datetime | None = None
    as_of: datetime | None = None
    known: datetime | None = None
    sequence_max: int | None = None
    """Of the last part that had arrived: what is read again of a decision."""
    actions_known: datetime | None = None
    """Corporate actions recorded by then count; `known` where it is None."""


@dataclass(frozen=True)
class Read:
    """A history as it was known: kind is PRICES or RETURNS."""

    table: Table
    kind: str
    known: datetime
    """When the last part it was made of was known."""
    n_parts: int
    sequence_max: int = 0
    """Of its last part to arrive."""

    @property
    def is_prices(self) -> bool:
        """Whether the numbers are prices."""
        return self.kind == "PRICES"


Lend = Callable[[], AbstractAsyncContextManager[asyncpg.Connection]]
"""Lends a connection for a block: one of its own, or that of a transaction that is under way."""


def lent_by(database: Database, call: Call) -> Lend:
    """Lends connections for a call."""
    return lambda: database.connection(call.tenant_id, deadline_s=call.left_s)


async def read(
    database: Database,
    call: Call,
    universe_id: str,
    span: Span,
    instrument_ids: Sequence[str] = (),
    path: str = "",
) -> Read:
    """The history within a span. Raises `Refusal`: nothing known then, or an unknown instrument."""
    return await read_by(lent_by(database, call), call, universe_id, span, instrument_ids, path)


async def read_by(
    lend: Lend,
    call: Call,
    universe_id: str,
    span: Span,
    instrument_ids: Sequence[str] = (),
    path: str = "",
) -> Read:
    """The same on a connection that is lent."""
    async with lend() as connection:
        parts = await histories.parts(
            connection,
            call.tenant_id,
            universe_id,
            start_time=span.start,
            as_of_time=span.as_of,
            known_time=span.known,
            sequence_max=span.sequence_max,
        )
        if not parts:
            raise not_found("history", universe_id)
        actions = await _actions(connection, call.tenant_id, parts, span)

    def work() -> Table:
        whole = overlaid([_in_todays_units(part, actions) for part in parts])
        return _within(whole, span)

    found = await in_thread(call, work)
    if not len(found.times):
        raise not_found("history", universe_id)
    if instrument_ids:
        column = {name: i for i, name in enumerate(found.instrument_ids)}
        for place, name in enumerate(instrument_ids):
            if name not in column:
                text = f"{name!r} is not in the history of {universe_id!r} at that time"
                raise invalid(f"{path}instrument_ids[{place}]", "UNKNOWN_INSTRUMENT", text)
        columns = [column[name] for name in instrument_ids]
        found = Table(tuple(instrument_ids), found.times, found.values[:, columns])
    last = max(part.sequence for part in parts)
    return Read(found, parts[0].kind, parts[-1].known_time, len(parts), last)


async def _actions(
    connection: asyncpg.Connection, tenant_id: str, parts: Sequence[HistoryPart], span: Span
) -> list[StoredAction]:
    """What has changed the unit of prices since the first of the parts ended."""
    if parts[0].kind != "PRICES":
        return []
    since = min(part.last_time for part in parts)
    known = span.actions_known or span.known
    return [
        action
        for action in await corporate_actions.after(connection, tenant_id, since)
        if action.price_factor != 1.0
        and (known is None or action.create_time <= known)
        and (span.as_of is None or action.effective_time <= span.as_of)
    ]


def _in_todays_units(part: HistoryPart, actions: Sequence[StoredAction]) -> Table:
    """A part, which is in the units of its last observation, after the actions since."""
    factor: dict[str, float] = {}
    for action in actions:
        if action.effective_time > part.last_time:
            name = action.instrument_id
            factor[name] = factor.get(name, 1.0) * action.price_factor
    return scaled(stored_table(part.payload), factor)


def _within(whole: Table, span: Span) -> Table:
    """The observations from `start` to `as_of`, both included."""
    keep = slice(
        0 if span.start is None else int(whole.times.searchsorted(_nanoseconds(span.start))),
        None
        if span.as_of is None
        else int(whole.times.searchsorted(_nanoseconds(span.as_of), "right")),
    )
    return Table(whole.instrument_ids, whole.times[keep], whole.values[keep])


def _nanoseconds(moment: datetime) -> int:
    whole = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return ((whole.days * 86400 + whole.seconds) * 1_000_000 + whole.microseconds) * 1000

"""The history of a universe as it was known at a moment, read from storage."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import history_service_pb2 as pb

from compute.history import Table, overlaid
from server.convert.history import table
from server.convert.names import moment
from server.errors import invalid, not_found
from server.request_context import Call
from storage.postgres import histories
from storage.postgres.pool import Database


@dataclass(frozen=True)
class Span:
    """What of a history is asked for: None for no bound, and for now."""

    start: datetime | None = None
    as_of: datetime | None = None
    known: datetime | None = None
    sequence_max: int | None = None
    """Of the last part that had arrived: what is read again of a decision."""


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


def optional_moment(message: object, name: str, path: str) -> datetime | None:
    """A time field of a message; None where it is unset. Raises `Refusal`."""
    value: Timestamp = getattr(message, name)
    return moment(value, path + name) if message.HasField(name) else None  # type: ignore[attr-defined]


async def read(
    database: Database,
    call: Call,
    universe_id: str,
    span: Span,
    instrument_ids: Sequence[str] = (),
    path: str = "",
) -> Read:
    """The history within a span. Raises `Refusal`: nothing known then, or an unknown instrument."""
    async with database.connection(deadline_s=call.left_s) as connection:
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

    def work() -> Table:
        whole = overlaid([table(pb.History.FromString(part.payload)) for part in parts])
        return _within(whole, span)

    found = await asyncio.to_thread(work)
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

"""Days of decisions that are over, from the database into the archive (`storage.archive`).

A day is over an hour after its end by UTC: no call lasts that long, so that all its decisions are
committed. It is written once; what is archived already is passed over. What was written is read
back and held against the database before the day appears. Days of which `sizing retention` removed
something are never written again: the archive has more of them than the database.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from positionsizing.v1 import sizing_pb2, types_pb2

from server.convert.columns import floats, integers
from server.convert.decision import STAGE_NUMBERS
from server.convert.recorded import answer_of, stage_weights
from storage.archive import files, records, sums
from storage.archive.records import RecordError
from storage.postgres import decisions, settlements
from storage.postgres import records as stored_records
from storage.postgres.decisions import DecisionFilter, RecordedDecision
from storage.postgres.pool import Database

GRACE = timedelta(hours=1)
PAGE = 200
"""Decisions read at once."""
ROWS = 500_000
"""Lines in a file: what is in memory at once."""
DEADLINE_S = 60.0

_TIME, _ID = (stored_records.COLUMNS.index(name) for name in ("create_time", "record_id"))

_TEXT = (
    *("decision_id", "portfolio_id", "strategy_id", "status", "method", "instrument_id"),
    *("line_status", "binding", "binding_group"),
)
NUMBERS = ("price", "lot_size", "weight", "notional", "weight_before", "expected_growth")
CHANGES = tuple(
    f"change_{types_pb2.SizingStage.Name(number).removeprefix('SIZING_STAGE_').lower()}"
    for number in STAGE_NUMBERS
)
"""Absolute weight after each stage of the waterfall less that before it, null where it changed
nothing, which takes no room in a file. Of the first stage null for refused lines alone."""


@dataclass(frozen=True)
class ArchivedDay:
    """What was written for a day. records: decisions and settlements."""

    day: date
    decisions: int
    lines: int
    fills: int
    records: int


def closed_days(first: date | None, now: datetime, last: date | None = None) -> Iterator[date]:
    """Days from `first` that are over at `now`, to `last` at most."""
    if first is None:
        return
    end = (now - GRACE).date() - timedelta(days=1)
    end = end if last is None else min(end, last)
    while first <= end:
        yield first
        first += timedelta(days=1)


async def archive(
    database: Database,
    root: Path,
    tenant_id: str,
    *,
    first: date | None = None,
    last: date | None = None,
    again: bool = False,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncIterator[ArchivedDay]:
    """Writes the days of a tenant that are over and not archived yet, oldest first.

    again: also those that are. A day on which nothing was decided or reported gets no folder.
    Errors: `RecordError` where what was written can't be read back as it was.
    """
    async with database.connection(tenant_id, deadline_s=DEADLINE_S) as connection:
        began = await decisions.first_time(connection, tenant_id)
        removed = await stored_records.days_removed(connection, tenant_id)
    begin = None if began is None else began.astimezone(UTC).date()
    if begin is not None and first is not None:
        begin = max(begin, first)
    known = set() if again else set(files.days(root, files.RECORDS, tenant_id))
    known |= removed.keys()
    for day in closed_days(begin, now(), last):
        if day not in known and (done := await _day(database, root, tenant_id, day)) is not None:
            yield done


async def _day(database: Database, root: Path, tenant_id: str, day: date) -> ArchivedDay | None:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    where = DecisionFilter(start_time=start, end_time=start + timedelta(days=1))
    recorded = await _records(database, root, tenant_id, where, day)
    if recorded is None:
        return None
    count, n_lines = await _decisions(database, root, tenant_id, where, day)
    n_fills = await _fills(database, root, tenant_id, where, day)
    # The day of the records appears last: it says that the whole day is archived.
    recorded.finish()
    return ArchivedDay(day, count, n_lines, n_fills, recorded.rows)


async def _decisions(
    database: Database, root: Path, tenant_id: str, where: DecisionFilter, day: date
) -> tuple[int, int]:
    """The lines of a day and their sums; how many decisions and lines."""
    writer, waiting, count = None, list[Mapping[str, Any]](), 0
    async for page in _pages(database, tenant_id, where):
        writer = writer or files.DayWriter(root, files.LINES, tenant_id, day)
        count += len(page)
        waiting += [_lines(row) for row in page]
        if sum(len(item["instrument_id"]) for item in waiting) >= ROWS:
            _add(writer, waiting)
    if writer is None:
        return 0, 0
    _add(writer, waiting)
    totals = files.DayWriter(root, files.SUMS, tenant_id, day)
    sums.write(writer, totals, line_types())
    totals.finish()
    writer.finish()
    return count, writer.rows


async def _records(
    database: Database, root: Path, tenant_id: str, where: DecisionFilter, day: date
) -> files.DayWriter | None:
    """The records of a day, read back and compared, but not finished; None where there are none."""
    assert where.start_time is not None
    assert where.end_time is not None
    writer, waiting, room = None, list[tuple[Any, ...]](), records.BYTES_IN_A_FILE
    place = (where.start_time - timedelta(microseconds=1), stored_records.LAST_ID)
    written = list[bytes]()
    while True:
        async with database.connection(tenant_id, deadline_s=DEADLINE_S) as connection:
            page = await stored_records.page(
                connection, tenant_id, place, where.end_time, limit=PAGE
            )
        for row in page:
            written.append(row[-1])
            waiting.append(row)
        room -= sum(map(records.size, page))
        is_last = len(page) < PAGE
        if waiting and (room <= 0 or is_last):
            writer = writer or files.DayWriter(root, files.RECORDS, tenant_id, day)
            records.add(writer, waiting)
            room = records.BYTES_IN_A_FILE
        if is_last:
            break
        place = (page[-1][_TIME], page[-1][_ID])
    if writer is None:
        return None
    found = [item.digest for item in records.verified(iter(writer.paths))]
    if found != written:
        raise RecordError(f"{day}: what was written can't be read back as it was")
    return writer


async def _pages(
    database: Database, tenant_id: str, where: DecisionFilter
) -> AsyncIterator[list[RecordedDecision]]:
    after = None
    while True:
        async with database.connection(tenant_id, deadline_s=DEADLINE_S) as connection:
            page = await decisions.recorded(connection, tenant_id, where, after=after, limit=PAGE)
        if page:
            yield page
        if len(page) < PAGE:
            return
        after = (page[-1].create_time, page[-1].decision_id)


def _lines(row: RecordedDecision) -> dict[str, Any]:
    """The lines of a decision, by column."""
    answer = answer_of(row.method, row.response, str(row.decision_id))
    sizes, n = answer.sizes, len(answer.sizes.instrument_ids)
    groups = ["", *sizes.group_names]
    place = np.minimum(integers(sizes.binding_group), len(groups) - 1)
    columns: dict[str, Any] = {
        "decision_id": [str(row.decision_id)] * n,
        "portfolio_id": [row.portfolio_id] * n,
        "strategy_id": [answer.strategy_id] * n,
        "create_time": [row.create_time] * n,
        "status": [types_pb2.SizingStatus.Name(answer.status).removeprefix("SIZING_STATUS_")] * n,
        "method": [types_pb2.SizingMethod.Name(answer.method).removeprefix("SIZING_METHOD_")] * n,
        "instrument_id": list(sizes.instrument_ids),
        "line_status": _names(types_pb2.LineStatus, "LINE_STATUS_", sizes.line_status),
        "binding": _names(types_pb2.LimitKind, "LIMIT_KIND_", sizes.binding),
        "binding_group": [groups[i] for i in place],
        "lots": integers(sizes.lots),
        "trade_lots": integers(sizes.trade_lots),
    }
    columns |= {name: floats(getattr(sizes, name)) for name in NUMBERS}
    return columns | dict(zip(CHANGES, _changes(answer), strict=True))


def _names(enum: Any, prefix: str, numbers: Sequence[int]) -> list[str]:
    short = {number: enum.Name(number).removeprefix(prefix) for number in set(numbers)}
    short[0] = "NONE"
    return [short[number] for number in numbers]


def _changes(answer: sizing_pb2.SizingDecision) -> np.ndarray[Any, Any]:
    """(stages, lines), NaN for null; a stage that is not in the waterfall changed nothing."""
    changes = np.diff(np.abs(stage_weights(answer)), axis=0, prepend=0.0)
    changes[1:][changes[1:] == 0.0] = np.nan
    changes[:, integers(answer.sizes.line_status) == types_pb2.LINE_STATUS_REFUSED] = np.nan
    return changes


def line_types() -> dict[str, Any]:
    """The columns of the table `lines` and their types in Polars."""
    import polars

    types: dict[str, Any] = dict.fromkeys(_TEXT, polars.String)
    types |= {"create_time": polars.Datetime("us", "UTC")}
    types |= dict.fromkeys(("lots", "trade_lots"), polars.Int64)
    return types | dict.fromkeys((*NUMBERS, *CHANGES), polars.Float64)


def _add(writer: files.DayWriter, waiting: list[Mapping[str, Any]]) -> None:
    """One more file with what is waiting."""
    import polars

    if not waiting:
        return
    types = line_types()
    columns = {name: _joined([item[name] for item in waiting]) for name in types}
    for name in CHANGES:
        columns[name] = polars.Series(columns[name]).fill_nan(None)
    writer.add(columns, types)
    waiting.clear()


def _joined(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [value for part in parts for value in part]


async def _fills(
    database: Database, root: Path, tenant_id: str, where: DecisionFilter, day: date
) -> int:
    """The fills reported on a day."""
    import polars

    assert where.start_time is not None
    assert where.end_time is not None
    async with database.connection(tenant_id, deadline_s=DEADLINE_S) as connection:
        rows = await settlements.lines_between(
            connection, tenant_id, where.start_time, where.end_time
        )
    if not rows:
        return 0
    types: dict[str, Any] = dict.fromkeys(settlements.FILL_COLUMNS, polars.String)
    types |= {"create_time": polars.Datetime("us", "UTC"), "lots": polars.Int64}
    types |= {"price": polars.Float64}
    writer = files.DayWriter(root, files.FILLS, tenant_id, day)
    columns = zip(*rows, strict=True)
    writer.add(dict(zip(settlements.FILL_COLUMNS, map(list, columns), strict=True)), types)
    writer.finish()
    return writer.rows

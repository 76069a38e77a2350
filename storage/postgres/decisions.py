"""Decisions: what was decided for one portfolio, with everything needed to decide it again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from storage.errors import NotFound
from storage.postgres import binary
from storage.postgres.reservations import ENTERED, NewReservation, entered
from storage.postgres.rows import (
    Document,
    Floats,
    Integers,
    Strings,
    check_lengths,
    floats,
    from_json,
    integers,
)

_SUMMARY = """decision_id, request_id, kind, portfolio_id, strategy_id, portfolio_sequence,
    create_time, status, cardinality(instrument_id) AS n_lines,
    (SELECT coalesce(sum(abs(x)), 0) FROM unnest(notional) AS x) AS gross_notional"""
_DECISION = """decision_id, request_id, kind, portfolio_id, strategy_id, portfolio_sequence,
    create_time, status, inputs, versions, instrument_id, lots, weight, notional, price,
    line_status"""


@dataclass(frozen=True, eq=False, slots=True)
class Lines:
    """One element a line. `weight` is a share of equity, `notional` is in the base currency.

    `lots` is the final position in lots, signed; NaN in a float column means "not computed".
    `status` is the caller's enumeration.
    """

    instrument_id: Strings
    lots: Integers
    weight: Floats
    notional: Floats
    price: Floats
    status: Integers

    def __post_init__(self) -> None:
        check_lengths(
            len(self.instrument_id),
            lots=self.lots,
            weight=self.weight,
            notional=self.notional,
            price=self.price,
            status=self.status,
        )


@dataclass(frozen=True, eq=False, slots=True)
class Decision:
    """A sizing of one portfolio. `inputs` is all a replay needs, in the caller's encoding.

    `portfolio_sequence` is the number of the last event of the decision, and is set when it is
    committed. The request and the answer are in `requests.get(..., request_id)`.
    """

    decision_id: UUID
    request_id: UUID
    kind: str
    portfolio_id: str
    strategy_id: str
    create_time: datetime
    status: str
    inputs: bytes
    versions: Document
    lines: Lines
    portfolio_sequence: int = 0


@dataclass(frozen=True, slots=True)
class DecisionSummary:
    """A row of a list of decisions."""

    decision_id: UUID
    request_id: UUID
    kind: str
    portfolio_id: str
    strategy_id: str
    portfolio_sequence: int
    create_time: datetime
    status: str
    n_lines: int
    gross_notional: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionFilter:
    """Which decisions to list: None does not filter; `start_time` is included, `end_time` not.

    granted: patterns of LIKE, one of which the portfolio's id matches.
    """

    portfolio_id: str | None = None
    strategy_id: str | None = None
    status: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    granted: Strings | None = None


EVERY_DECISION = DecisionFilter()


async def insert_many(
    connection: asyncpg.Connection,
    decisions: Sequence[tuple[str, Decision, int, NewReservation | None]],
) -> None:
    """Insert (tenant_id, decision, portfolio_sequence, what it reserves) in one go.

    The write path alone calls it. The view puts the two where they belong.
    """
    columns = ["tenant_id", *_DECISION.replace(",", " ").split(), *ENTERED]
    rows = [[*_row(t, decision, n), *entered(held)] for t, decision, n, held in decisions]
    await binary.copy_in(connection, "decision_entry", columns, rows)


async def get(connection: asyncpg.Connection, tenant_id: str, decision_id: UUID) -> Decision:
    """Errors: `NotFound`."""
    row = await connection.fetchrow(
        f"SELECT {_DECISION} FROM decision WHERE tenant_id = $1 AND decision_id = $2",
        tenant_id,
        decision_id,
    )
    if row is None:
        raise NotFound("decision", str(decision_id))
    return _decision(row)


async def of_request(
    connection: asyncpg.Connection, tenant_id: str, request_id: UUID
) -> list[DecisionSummary]:
    """The decisions one request made, one a portfolio, by portfolio; none for an unknown id."""
    rows = await connection.fetch(
        f"""SELECT {_SUMMARY} FROM decision WHERE tenant_id = $1 AND request_id = $2
        ORDER BY portfolio_id, decision_id""",
        tenant_id,
        request_id,
    )
    return [DecisionSummary(**row) for row in rows]


async def list_page(
    connection: asyncpg.Connection,
    tenant_id: str,
    where: DecisionFilter = EVERY_DECISION,
    *,
    after: tuple[datetime, UUID] | None = None,
    limit: int = 100,
) -> list[DecisionSummary]:
    """Decisions newest first, those after `after` in that order, at most `limit`.

    `after` is (create_time, decision_id) of the last one of the page before.
    """
    conditions, values = _conditions(tenant_id, where)
    if after is not None:
        values.extend(after)
        conditions.append(f"(create_time, decision_id) < (${len(values) - 1}, ${len(values)})")
    rows = await connection.fetch(
        f"""SELECT {_SUMMARY} FROM decision WHERE {" AND ".join(conditions)}
        ORDER BY create_time DESC, decision_id DESC LIMIT {int(limit)}""",
        *values,
    )
    return [DecisionSummary(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class RecordedDecision:
    """A decision with the bytes of the request that made it and of the answer it was in."""

    decision_id: UUID
    portfolio_id: str
    create_time: datetime
    inputs: bytes
    method: str
    request: bytes
    response: bytes


async def first_time(connection: asyncpg.Connection, tenant_id: str) -> datetime | None:
    """When the first decision was made, None before it."""
    found: datetime | None = await connection.fetchval(
        "SELECT min(create_time) FROM decision WHERE tenant_id = $1", tenant_id
    )
    return found


async def recorded(
    connection: asyncpg.Connection,
    tenant_id: str,
    where: DecisionFilter,
    *,
    after: tuple[datetime, UUID] | None = None,
    limit: int,
) -> list[RecordedDecision]:
    """Decisions oldest first, after (create_time, decision_id) `after`, at most `limit`.

    With them what was asked and answered.
    """
    conditions, values = _conditions(tenant_id, where, "decision.")
    if after is not None:
        values.extend(after)
        last = f"(${len(values) - 1}, ${len(values)})"
        conditions.append(f"(decision.create_time, decision.decision_id) > {last}")
    rows = await connection.fetch(
        f"""SELECT decision.decision_id, decision.portfolio_id, decision.create_time,
            decision.inputs, request.method, request.request, request.response
        FROM decision JOIN request USING (tenant_id, request_id)
        WHERE {" AND ".join(conditions)}
        ORDER BY decision.create_time, decision.decision_id LIMIT {int(limit)}""",
        *values,
    )
    return [RecordedDecision(**row) for row in rows]


def _conditions(
    tenant_id: str, where: DecisionFilter, prefix: str = ""
) -> tuple[list[str], list[object]]:
    """SQL conditions with their values in order."""
    conditions: list[str] = [f"{prefix}tenant_id = $1"]
    values: list[object] = [tenant_id]
    for condition, value in (
        ("portfolio_id =", where.portfolio_id),
        ("strategy_id =", where.strategy_id),
        ("status =", where.status),
        ("create_time >=", where.start_time),
        ("create_time <", where.end_time),
    ):
        if value is not None:
            values.append(value)
            conditions.append(f"{prefix}{condition} ${len(values)}")
    if where.granted is not None:
        values.append(where.granted)
        conditions.append(f"{prefix}portfolio_id LIKE ANY (${len(values)})")
    return conditions, values


def _row(tenant_id: str, decision: Decision, portfolio_sequence: int) -> list[bytes]:
    lines = decision.lines
    return [
        binary.text(tenant_id),
        binary.uuid(decision.decision_id),
        binary.uuid(decision.request_id),
        binary.text(decision.kind),
        binary.text(decision.portfolio_id),
        binary.text(decision.strategy_id),
        binary.int8(portfolio_sequence),
        binary.timestamptz(decision.create_time),
        binary.text(decision.status),
        decision.inputs,
        binary.jsonb(decision.versions),
        binary.text_array(lines.instrument_id),
        binary.int8_array(lines.lots),
        binary.float8_array(lines.weight),
        binary.float8_array(lines.notional),
        binary.float8_array(lines.price),
        binary.int2_array(lines.status),
    ]


def _decision(row: asyncpg.Record) -> Decision:
    return Decision(
        decision_id=row["decision_id"],
        request_id=row["request_id"],
        kind=row["kind"],
        portfolio_id=row["portfolio_id"],
        strategy_id=row["strategy_id"],
        create_time=row["create_time"],
        status=row["status"],
        inputs=row["inputs"],
        versions=from_json(row["versions"]),
        lines=Lines(
            instrument_id=tuple(row["instrument_id"]),
            lots=integers(row["lots"]),
            weight=floats(row["weight"]),
            notional=floats(row["notional"]),
            price=floats(row["price"]),
            status=integers(row["line_status"]),
        ),
        portfolio_sequence=row["portfolio_sequence"],
    )

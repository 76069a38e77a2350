"""Decisions to be committed, as the server would make them."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import numpy as np

from storage.identifiers import uuid7
from storage.postgres import portfolios
from storage.postgres.commit import DecisionWrite, PortfolioWrite
from storage.postgres.decisions import Decision, Lines
from storage.postgres.outbox import NewEvent
from storage.postgres.requests import Request
from storage.postgres.reservations import NewReservation
from tests.fixtures_postgres import TENANT

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
METHOD = "SizePositions"


async def create_portfolio(
    connection: asyncpg.Connection, portfolio_id: str, group_id: str | None = None
) -> None:
    await portfolios.create(
        connection,
        TENANT,
        portfolio_id,
        display_name=portfolio_id,
        base_currency="USD",
        as_of_time=NOON,
        cash=1e6,
        group_id=group_id,
    )


def instruments(n_lines: int) -> tuple[str, ...]:
    return tuple(f"INS{i:05d}" for i in range(n_lines))


def make_request(content: bytes = b"request", request_id: UUID | None = None) -> Request:
    return Request(
        request_id=request_id or uuid4(),
        method=METHOD,
        request_hash=hashlib.sha256(content).digest(),
        request=content,
        response=b"answer to " + content,
    )


def make_part(
    request: Request,
    portfolio_id: str,
    expected_version: int = 1,
    *,
    n_lines: int = 3,
    n_events: int = 1,
    group: tuple[str, int] | None = None,
    expire_time: datetime = NOON + timedelta(days=1),
    inputs: bytes = b"inputs",
) -> PortfolioWrite:
    ids = instruments(n_lines)
    ones = np.ones(n_lines)
    lots = np.arange(1, n_lines + 1)
    return PortfolioWrite(
        decision=Decision(
            decision_id=uuid7(),
            request_id=request.request_id,
            kind="SIZE",
            portfolio_id=portfolio_id,
            strategy_id="trend",
            create_time=datetime.now(UTC),
            status="OPTIMAL",
            inputs=inputs,
            versions={"kernel": "closed-form-1", "limits": 3},
            lines=Lines(ids, lots, ones / 7, ones * 100.1, ones * 10.01, lots % 3),
        ),
        expected_version=expected_version,
        group_id=group[0] if group else None,
        expected_group_version=group[1] if group else None,
        reservation=NewReservation(ids, lots, ones * 10, ones * 10.01, lots * 101.0, expire_time),
        events=[make_event() for _ in range(n_events)],
    )


def make_event() -> NewEvent:
    return NewEvent("position-sized", "PositionSized", lambda sequence: b"event %d" % sequence)


def make_write(
    portfolio_id: str = "book",
    expected_version: int = 1,
    *,
    request: Request | None = None,
    tenant_version: int = 1,
    **part: object,
) -> DecisionWrite:
    request = request or make_request()
    only = make_part(request, portfolio_id, expected_version, **part)  # type: ignore[arg-type]
    return make_write_of(request, [only], tenant_version=tenant_version)


def make_write_of(
    request: Request, parts: Sequence[PortfolioWrite], *, tenant_version: int = 1
) -> DecisionWrite:
    return DecisionWrite(TENANT, request, tuple(parts), tenant_version)

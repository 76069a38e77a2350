"""Open reservations added up in Python are those that the database adds up."""

from uuid import uuid4

import numpy as np
import pytest

from storage.postgres import snapshots
from storage.postgres.commit import CommitResult, DecisionWrite, PortfolioWrite, commit_batch
from storage.postgres.pool import Database
from storage.postgres.reservations import NewReservation, OpenTotals
from tests.fixtures_postgres import TENANT
from tests.storage.postgres.writes import NOON, create_portfolio, make_part, make_request

SAME = ("a", "b", "c")
OTHER = ("b", "d")


def _reserved(names: tuple[str, ...], lots: list[int]) -> NewReservation:
    ones = np.ones(len(names))
    return NewReservation(names, np.array(lots), ones * 0.5, ones * 3.0, ones * 7.0, NOON)


@pytest.mark.parametrize(
    "others",
    [
        [(SAME, [1, -2, 3]), (SAME, [4, 5, -6])],
        [(SAME, [1, -2, 3]), (OTHER, [-1, 8]), (SAME, [2, 2, 2])],
        [(("d", "a"), [3, -4]), (SAME, [1, 1, 1])],
    ],
)
async def test_totals_plus_a_reservation_are_what_is_read_back(
    database: Database, others: list[tuple[tuple[str, ...], list[int]]]
) -> None:
    book = f"totals-{uuid4()}"
    async with database.transaction(TENANT, deadline_s=10) as connection:
        await create_portfolio(connection, book)
        before = await snapshots.read(connection, TENANT, book)
    totals = before.reserved
    for version, (names, lots) in enumerate(others, start=1):
        request, reservation = make_request(), _reserved(names, lots)
        decision = make_part(request, book, version).decision
        part = PortfolioWrite(decision, version, reservation=reservation)
        write = DecisionWrite(TENANT, request, (part,), before.tenant_version)
        outcomes = await commit_batch(database, [write], deadline_s=10)
        assert outcomes == [CommitResult(request.response, is_replay=False)]
        totals = totals.plus(reservation)
        async with database.connection(TENANT, deadline_s=10) as connection:
            read = (await snapshots.read(connection, TENANT, book)).reserved
        assert _by_name(totals) == _by_name(read)
        assert totals.cash == read.cash


def _by_name(totals: OpenTotals) -> dict[str, tuple[float, float]]:
    quantities = zip(totals.buy_quantity.tolist(), totals.sell_quantity.tolist(), strict=True)
    return dict(zip(totals.instrument_id, quantities, strict=True))

"""EffectiveParametersChanged: once for each move of a rule, with before, after and the cause."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from positionsizing.v1 import (
    condition_service_pb2,
    events_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
)
from positionsizing.v1 import parameter_service_pb2 as pb

from compute.shapes import KernelRegistry
from server.app import App
from server.maintenance import tasks as maintenance
from server.parameters.effective_parameters import EffectiveParametersWatch
from server.portfolios.state import States
from storage import embedded
from storage.postgres.pool import Database
from tests.server.support.service_client import PRICES, Client, new_id, sizing_request, started

EDGE = {"win_probability": [0.6], "payoff": [1.0]}
SCHEDULE = sizing_pb2.ADJUSTMENT_SOURCE_SCHEDULE
CONDITION = sizing_pb2.ADJUSTMENT_SOURCE_CONDITION
FLOOR = sizing_pb2.ADJUSTMENT_SOURCE_DRAWDOWN_FLOOR
Told = list[tuple[int, str, str, float, float]]


@dataclass
class Desk:
    """A client, and the look of a server at a time of ours."""

    client: Client
    app: App
    seen: int = 0

    async def look(self, days: float = 0.0) -> int:
        """What the maintenance of a server does, `days` from now; how many events."""
        assert self.app.config.dsn is not None
        now = datetime.now(UTC) + timedelta(days=days)
        database = await Database.open(self.app.config.dsn.get_secret_value())
        try:
            watch = EffectiveParametersWatch(database, States(database, 60.0), lambda: now)
            return await watch.look(self.app.config.tenant_id)
        finally:
            await database.aclose()

    async def told(self, portfolio_id: str) -> list[events_pb2.EffectiveParametersChanged]:
        """Events of the portfolio, in their order."""
        assert self.app.config.dsn is not None
        database = await Database.open(self.app.config.dsn.get_secret_value())
        async with database.connection(self.app.config.tenant_id, deadline_s=60.0) as connection:
            rows = await connection.fetch(
                """SELECT payload FROM outbox WHERE topic = 'effective-parameters-changed'
                AND portfolio_id = $1 ORDER BY portfolio_sequence""",
                portfolio_id,
            )
        await database.aclose()
        return [events_pb2.EffectiveParametersChanged.FromString(row["payload"]) for row in rows]


@pytest_asyncio.fixture
async def desk(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> AsyncIterator[Desk]:
    """A server that does not look by itself: only the test's looks count."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maintenance, "EFFECTIVE_INTERVAL_S", 1e6)
        patch.setattr(EffectiveParametersWatch, "run_due", _nothing)
        async with (
            started(postgres_server, kernels, tmp_path) as app,
            Client.connected(app.port) as connected,
        ):
            await connected.put_market()
            yield Desk(connected, app)


async def _nothing(watch: EffectiveParametersWatch) -> int:
    return 0


async def put(client: Client, portfolio_id: str, strategy_id: str = "", **given: Any) -> None:
    await client.parameter.SetParameters(
        pb.SetParametersRequest(
            portfolio_id=portfolio_id,
            strategy_id=strategy_id,
            parameters=pb.SizingParameters(**{"kelly_fraction": 0.8, **given}),
        )
    )


async def new_portfolio(client: Client) -> str:
    portfolio_id = await client.put_portfolio(500_000.0, {"I1": 25_000.0})
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=1.0, leverage_max=3.0)
    return portfolio_id


async def observe(client: Client, condition_id: str, value: float, instrument: str = "") -> None:
    seen = condition_service_pb2.Condition(
        condition_id=condition_id, value=value, instrument_id=instrument
    )
    await client.condition.PutCondition(condition_service_pb2.PutConditionRequest(condition=seen))


def moves_of(event: events_pb2.EffectiveParametersChanged) -> Told:
    return [
        (m.source, m.name, m.instrument_id, m.multiplier_before, m.multiplier) for m in event.moves
    ]


async def test_a_condition_tells_when_it_begins_and_ends(desk: Desk) -> None:
    portfolio_id, name = await new_portfolio(desk.client), new_id("turbulence")
    rule = pb.ConditionRule(name="calm", condition_id=name, enter=0.7, leave=0.3, multiplier=0.5)
    await observe(desk.client, name, 0.1)
    await put(desk.client, portfolio_id, condition_rules=pb.ConditionRules(rules=[rule]))
    assert await desk.look() == 0
    for value, count in ((0.9, 1), (0.5, 0), (0.2, 1)):
        await observe(desk.client, name, value)
        assert await desk.look() == count
        assert await desk.look() == 0
    begun, over = await desk.told(portfolio_id)
    assert moves_of(begun) == [(CONDITION, "calm", "", 1.0, 0.5)]
    assert (begun.kelly_fraction_before, begun.kelly_fraction) == (0.8, 0.4)
    assert "0.9" in begun.moves[0].explanation
    assert moves_of(over) == [(CONDITION, "calm", "", 0.5, 1.0)]
    assert (over.kelly_fraction_before, over.kelly_fraction) == (0.4, 0.8)
    assert over.portfolio_sequence == begun.portfolio_sequence + 1
    decision = await desk.client.size(sizing_request(portfolio_id, ["I0"], EDGE))
    replay = await desk.client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal


async def test_the_clock_moves_a_schedule_of_lines_and_of_all(desk: Desk) -> None:
    portfolio_id = await new_portfolio(desk.client)
    day = str((datetime.now(UTC) + timedelta(days=5)).date())
    rows = [
        pb.ScheduleRow(name="rates", time_zone="UTC", dates=[day], multiplier=0.25),
        pb.ScheduleRow(name="earnings", time_zone="UTC", dates=[day], instrument_ids=["I0"]),
    ]
    await put(desk.client, portfolio_id, "momentum", schedule=pb.Schedule(rows=rows))
    assert [await desk.look(days) for days in (0, 5, 5.001, 7)] == [0, 1, 0, 1]
    begun, over = await desk.told(portfolio_id)
    expected = [(SCHEDULE, "earnings", "I0", 1.0, 0.0), (SCHEDULE, "rates", "", 1.0, 0.25)]
    assert moves_of(begun) == expected
    assert begun.strategy_id == "momentum"
    assert (begun.kelly_fraction_before, begun.kelly_fraction) == (0.8, 0.2)
    assert [m.explanation for m in over.moves] == ["is no longer in force"] * 2
    assert abs(begun.detect_time.seconds - datetime.now(UTC).timestamp() - 5 * 86400) < 600


async def test_a_drawdown_is_told_by_steps(desk: Desk) -> None:
    portfolio_id = await new_portfolio(desk.client)
    await put(desk.client, portfolio_id, drawdown_floor=0.5)
    await desk.client.size(sizing_request(portfolio_id, ["I0"], EDGE))  # which sets the mark
    counts = [await desk.look()]
    for part in (0.99, 0.9, 0.6, 0.6):
        await desk.client.put_market(price=[PRICES[0], PRICES[1] * part, *PRICES[2:]])
        counts.append(await desk.look())
    assert counts == [1, 0, 0, 1, 0], "a fall of 5 % of equity takes 0.026 off"
    first, second = await desk.told(portfolio_id)
    assert moves_of(first) == [(FLOOR, "drawdown_floor", "", 1.0, 0.5)]
    (move,) = second.moves
    assert move.multiplier_before == 0.5
    assert move.multiplier == pytest.approx(1.0 - 0.5 / 0.8)
    assert second.kelly_fraction == pytest.approx(0.8 * move.multiplier)


async def test_a_floor_in_money_is_told_by_its_name(desk: Desk) -> None:
    portfolio_id = await new_portfolio(desk.client)
    decision = await desk.client.size(sizing_request(portfolio_id, ["I0"], EDGE))
    equity = decision.summary.equity
    await put(desk.client, portfolio_id, equity_floor=0.75 * equity)
    await desk.look()
    (begun,) = await desk.told(portfolio_id)
    (move,) = begun.moves
    assert (move.name, move.multiplier_before) == ("equity_floor", 1.0)
    assert move.multiplier == pytest.approx(0.25)


async def test_servers_share_the_looks(desk: Desk) -> None:
    portfolio_id, name = await new_portfolio(desk.client), new_id("turbulence")
    rule = pb.ConditionRule(name="calm", condition_id=name, enter=0.7, leave=0.3)
    await put(desk.client, portfolio_id, condition_rules=pb.ConditionRules(rules=[rule]))
    counts = await asyncio.gather(*(desk.look() for _ in range(4)))
    assert sorted(counts) == [0, 0, 0, 1]
    assert len(await desk.told(portfolio_id)) == 1


async def test_rules_that_a_newer_release_stored_keep_no_other_from_being_told(desk: Desk) -> None:
    name = new_id("turbulence")
    rule = pb.ConditionRule(name="calm", condition_id=name, enter=0.7, leave=0.3, multiplier=0.5)
    await observe(desk.client, name, 0.9)
    books = sorted([await new_portfolio(desk.client) for _ in range(2)])
    for book in books:
        await put(desk.client, book, condition_rules=pb.ConditionRules(rules=[rule]))
    assert desk.app.config.dsn is not None
    owner = await asyncpg.connect(desk.app.config.dsn.get_secret_value())
    await owner.execute("SET session_replication_role = replica")  # past the triggers
    statement = "UPDATE parameter_set SET document = {} WHERE portfolio_id = $1"
    newer, known = "jsonb_set(document, '{moon_max}', '1')", "document - 'moon_max'"
    await owner.execute(statement.format(newer), books[0])
    try:
        assert await desk.look() == 1
        assert [len(await desk.told(book)) for book in books] == [0, 1]
    finally:
        await owner.execute(statement.format(known), books[0])
        await owner.close()
    assert await desk.look() == 1
    assert len(await desk.told(books[0])) == 1

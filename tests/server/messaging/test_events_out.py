"""From a call to a subscriber, on a real PostgreSQL and a real broker."""

import asyncio
import types
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from positionsizing.v1 import (
    events_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    types_pb2,
)

from server.app import App
from server.maintenance import tasks as maintenance
from server.observability import alerts
from server.observability.alerts import Alerts
from storage.postgres.pool import Database
from tests.server.support.service_client import Client, sizing_request
from tests.server.support.subscriber import Sender, Subscriber

pytestmark = pytest.mark.integration
TENANT = "local"


@pytest.fixture
def client(events_client: Client) -> Client:
    return events_client


@pytest.fixture
def app(events_app: App) -> App:
    return events_app


async def test_a_breach_reaches_its_subscribers(client: Client, subscriber: Subscriber) -> None:
    await client.put_market()
    portfolio_id = await client.put_portfolio(900_000.0, {"I1": 5_000.0})
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=0.05)
    message, event = await subscriber.wait_for(
        "limit-breached", "LimitBreached", lambda e: e.portfolio_id == portfolio_id
    )
    assert message.key == portfolio_id
    assert message.properties["portfolio_sequence"] == str(event.portfolio_sequence) == "3"
    assert (event.limit, event.kind) == ("I1", types_pb2.LIMIT_KIND_WEIGHT_MAX)
    assert (event.bound, event.found_by) == (0.05, "limits")
    assert event.value == pytest.approx(0.1, rel=1e-12)
    decision = await client.size(sizing_request(portfolio_id, ["I0"]))
    _, sized = await subscriber.wait_for(
        "position-sized", "PositionSized", lambda e: e.decision.portfolio_id == portfolio_id
    )
    assert sized.decision == decision
    assert sized.portfolio_sequence == 4, "the episode goes on, so nothing is between"


async def test_an_event_carries_the_trace_of_its_call(
    client: Client, subscriber: Subscriber
) -> None:
    portfolio_id = await client.ready()
    header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    request = sizing_request(portfolio_id, ["I0"])
    await client.sizing.SizePositions(request, metadata=[("traceparent", header)])
    message, _ = await subscriber.wait_for(
        "position-sized", "PositionSized", lambda e: e.decision.portfolio_id == portfolio_id
    )
    assert message.properties["traceparent"] == message.trace_id == header


async def test_what_changes_for_a_portfolio_is_in_its_own_stream(
    client: Client, subscriber: Subscriber
) -> None:
    """Under its key and numbered with its other events; for all of the tenant under the tenant."""
    portfolio_id = await client.put_portfolio()
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=0.05)
    for given in (portfolio_id, ""):
        request = parameter_service_pb2.SetParametersRequest(
            portfolio_id=given, reason=portfolio_id
        )
        request.parameters.kelly_fraction = 0.5
        await client.parameter.SetParameters(request)
    state = portfolio_service_pb2.SetTradingStateRequest(
        scope=scope, trading_state=types_pb2.TRADING_STATE_REDUCING, reason="a drill"
    )
    await client.portfolio.SetTradingState(state)
    limits, _ = await subscriber.wait_for(
        "limits-changed", "LimitsChanged", lambda e: e.scope.portfolio_id == portfolio_id
    )
    keys = {}
    while len(keys) < 2:  # two streams, so in any order
        changed, event = await subscriber.wait_for(
            "parameters-changed",
            "ParametersChanged",
            lambda e: e.portfolio_id in (portfolio_id, "") and e.change.reason == portfolio_id,
        )
        keys[event.portfolio_id] = changed
    assert {given: m.key for given, m in keys.items()} == {portfolio_id: portfolio_id, "": TENANT}
    halted, _ = await subscriber.wait_for(
        "trading-state-changed",
        "TradingStateChanged",
        lambda e: e.scope.portfolio_id == portfolio_id,
    )
    created, event = await subscriber.wait_for(
        "portfolio-changed",
        "PortfolioChanged",
        lambda e: e.portfolio.portfolio_id == portfolio_id,
    )
    assert event.kind == events_pb2.PORTFOLIO_CHANGE_KIND_CREATED
    assert (event.portfolio.cash, event.portfolio.version) == (1e6, 1)
    own = (created, limits, keys[portfolio_id], halted)
    assert [message.key for message in own] == [portfolio_id] * 4
    assert [message.properties["portfolio_sequence"] for message in own] == ["1", "2", "3", "4"]


async def test_a_halt_is_an_alert(client: Client, subscriber: Subscriber) -> None:
    portfolio_id = await client.put_portfolio()
    for state in (types_pb2.TRADING_STATE_HALTED, types_pb2.TRADING_STATE_ACTIVE):
        await client.portfolio.SetTradingState(
            portfolio_service_pb2.SetTradingStateRequest(
                scope=portfolio_service_pb2.Scope(portfolio_id=portfolio_id),
                trading_state=state,
                reason="a fire drill",
            )
        )
    subject = f"portfolio:{portfolio_id}"
    _, event = await subscriber.wait_for("alerts", "Alert", lambda e: e.subject == subject)
    assert event.reason == "TRADING_HALTED"
    assert event.severity == events_pb2.ALERT_SEVERITY_WARNING
    assert "a fire drill" in event.message


async def test_what_is_refused_is_a_dead_letter_and_an_alert(
    client: Client, sender: Sender, subscriber: Subscriber
) -> None:
    portfolio_id = await client.put_portfolio()
    wrong = events_pb2.PortfolioStateUpdated()
    wrong.request.portfolio_id = portfolio_id
    wrong.request.holdings.instrument_ids.extend(["twice", "twice"])
    wrong.request.holdings.quantity.extend([1.0, 1.0])
    sent = [await sender.send("portfolio-state", portfolio_id, wrong) for _ in range(3)]
    for event_id in sent:
        await subscriber.letter("portfolio-state", event_id)
    subject = "topic:portfolio-state"
    message, event = await subscriber.wait_for("alerts", "Alert", lambda e: e.subject == subject)
    assert event.reason == "DEAD_LETTER"
    assert sent[0] in event.message
    assert message.key == TENANT


async def test_reservations_that_expire_in_numbers_are_an_alert(
    client: Client, subscriber: Subscriber, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them at once, in more than one transaction; one alert tells."""
    monkeypatch.setattr(maintenance, "EXPIRY_BATCH", alerts.EXPIRED_MIN)
    await client.put_market()
    await client.set_limits(portfolio_service_pb2.Scope(), weight_max=0.1)
    portfolios = [await client.put_portfolio() for _ in range(alerts.EXPIRED_MIN + 5)]
    await asyncio.gather(*(client.size(sizing_request(id, ["I0"])) for id in portfolios))
    assert app.config.dsn is not None
    connection = await asyncpg.connect(app.config.dsn.get_secret_value())
    await connection.execute(
        "UPDATE reservation SET expire_time = now() WHERE portfolio_id = ANY($1::text[])",
        portfolios,
    )
    await connection.close()
    _, event = await subscriber.wait_for(
        "alerts", "Alert", lambda e: e.reason == "RESERVATIONS_EXPIRED"
    )
    assert event.severity == events_pb2.ALERT_SEVERITY_WARNING
    told = set()
    while len(told) < len(portfolios):
        message, event = await subscriber.wait_for(
            "reservation-expired", "ReservationExpired", lambda e: e.portfolio_id in portfolios
        )
        assert message.key == event.portfolio_id
        assert event.released.trade_lots_open
        told.add(event.portfolio_id)
    assert [(await client.counts(id))[1] for id in portfolios] == [0] * len(portfolios)


async def test_lag_is_told_once_an_episode(client: Client, app: App, app_alerts: Alerts) -> None:
    stats = types.SimpleNamespace(last_error="no bookie")
    relay: Any = types.SimpleNamespace(stats=stats, is_running=True, holds=lambda shard: shard == 0)
    told = []
    for age_s in (30.0, 61.0, 300.0, 20.0, 70.0, 1.0, 90.0):
        before = await _last_number(app)
        await app_alerts.look_at_lag(age_s, relay)
        told.append(await _last_number(app) - before)
    assert told == [0, 1, 0, 0, 0, 0, 1]
    relay.holds = lambda shard: False
    await app_alerts.look_at_lag(1.0, relay)
    await app_alerts.look_at_lag(99.0, relay)
    assert await _last_number(app) == before + 1
    relay.is_running = False  # waits for a broker, so nobody may hold a shard
    await app_alerts.look_at_lag(99.0, relay)
    assert await _last_number(app) == before + 2


@pytest_asyncio.fixture(loop_scope="session")
async def app_alerts(app: App) -> AsyncIterator[Alerts]:
    assert app.config.dsn is not None
    database = await Database.open(app.config.dsn.get_secret_value())
    yield Alerts(database, app.config.tenant_id)
    await database.aclose()


async def _last_number(app: App) -> int:
    """Number of the newest event of the tenant's own stream."""
    assert app.config.dsn is not None
    connection = await asyncpg.connect(app.config.dsn.get_secret_value())
    number = await connection.fetchval(
        "SELECT event_sequence FROM tenant_stream WHERE tenant_id = $1", app.config.tenant_id
    )
    await connection.close()
    return int(number)

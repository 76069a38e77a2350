"""What comes in by topic: done once, or put aside with its reason and out of the way."""

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
from google.protobuf.message import Message
from positionsizing.v1 import (
    condition_service_pb2,
    events_pb2,
    feature_service_pb2,
    history_service_pb2,
    limits_pb2,
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
)

from server.app import App
from server.jobs.worker import Means, Worker
from server.learning.model_schedules import ModelSchedules
from server.learning.models import Models
from server.maintenance.tasks import REMEMBER, MaintenanceTasks
from server.observability.usage import Usage
from server.portfolios.state import States
from server.risk.matrix_refresh import MatrixRefreshes
from storage.events.ports import OutMessage
from storage.events.topics import INCOMING
from storage.postgres.pool import Database
from tests.server.support.service_client import Client, new_id, sizing_request, snapshot_message
from tests.server.support.subscriber import PATIENCE_S, Sender, Subscriber

pytestmark = pytest.mark.integration

WRONG = {"fills": "BAD_FORMAT", "correlations": "NOT_POSITIVE_SEMIDEFINITE"}
"""Reasons of the wrong messages that are not a number that is none."""


@pytest.fixture
def client(events_client: Client) -> Client:
    return events_client


def signals(portfolio_id: str, **given: Any) -> events_pb2.SignalsSubmitted:
    return events_pb2.SignalsSubmitted(request=sizing_request(portfolio_id, ["I0"], **given))


def state(portfolio_id: str, cash: float) -> events_pb2.PortfolioStateUpdated:
    request = portfolio_service_pb2.SetHoldingsRequest(portfolio_id=portfolio_id, cash=cash)
    return events_pb2.PortfolioStateUpdated(request=request)


def fill(decision: sizing_pb2.SizingDecision, lots: int) -> events_pb2.FillsReported:
    request = sizing_service_pb2.SettleDecisionRequest(
        request_id=str(uuid4()), decision_id=decision.decision_id
    )
    request.fills.instrument_ids.append("I0")
    request.fills.lots.append(lots)
    request.fills.price.append(10.0)
    return events_pb2.FillsReported(request=request)


def limits(portfolio_id: str, weight_max: float) -> events_pb2.LimitsUpdated:
    return events_pb2.LimitsUpdated(
        request=portfolio_service_pb2.SetLimitsRequest(
            scope=portfolio_service_pb2.Scope(portfolio_id=portfolio_id),
            limits=limits_pb2.Limits(weight_max=weight_max),
        )
    )


def budget(portfolio_id: str, kelly_fraction: float) -> events_pb2.RiskBudgetUpdated:
    request = parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id)
    request.parameters.kelly_fraction = kelly_fraction
    return events_pb2.RiskBudgetUpdated(request=request)


def market(price: float, universe_id: str = "") -> events_pb2.MarketDataUpdated:
    snapshot = snapshot_message(price=[price] * 8, universe_id=universe_id)
    return events_pb2.MarketDataUpdated(
        request=market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot)
    )


def condition(condition_id: str, value: float) -> events_pb2.ConditionUpdated:
    seen = condition_service_pb2.Condition(condition_id=condition_id, value=value)
    seen.instrument_id = "I0"
    return events_pb2.ConditionUpdated(
        request=condition_service_pb2.PutConditionRequest(condition=seen)
    )


async def _condition(client: Client, condition_id: str) -> float | None:
    request = condition_service_pb2.ListConditionsRequest()
    found = (await client.condition.ListConditions(request)).conditions
    return next((c.value for c in found if c.condition_id == condition_id), None)


async def feature_set(client: Client) -> str:
    """A set of one feature, declared."""
    made = feature_service_pb2.FeatureSet(feature_set_id=new_id("set"), features=["x"])
    await client.features.PutFeatureSet(feature_service_pb2.PutFeatureSetRequest(feature_set=made))
    return made.feature_set_id


def features(feature_set_id: str, value: float) -> events_pb2.FeaturesUpdated:
    request = feature_service_pb2.PutFeaturesRequest(
        feature_set_id=feature_set_id,
        instrument_ids=["I0"],
        features=[sizing_pb2.FeatureColumn(name="x", values=[value])],
    )
    request.as_of_times.add().GetCurrentTime()
    return events_pb2.FeaturesUpdated(request=request)


async def _feature(client: Client, feature_set_id: str) -> list[float]:
    request = feature_service_pb2.GetFeaturesRequest(
        feature_set_id=feature_set_id, instrument_ids=["I0"]
    )
    return list((await client.features.GetFeatures(request)).known[0].values)


def history(universe_id: str, close: float) -> events_pb2.HistoryUpdated:
    message = history_service_pb2.History(
        universe_id=universe_id,
        kind=history_service_pb2.HISTORY_KIND_PRICES,
        instrument_ids=["I0"],
        values=[100.0, close],
    )
    for day in (2, 1):
        time = datetime.now(UTC) - timedelta(days=day)
        message.observation_times.add().FromDatetime(time)
    return events_pb2.HistoryUpdated(request=history_service_pb2.PutHistoryRequest(history=message))


async def _history(client: Client, universe_id: str) -> list[float] | None:
    listed = await client.history.ListHistories(
        history_service_pb2.ListHistoriesRequest(page_size=1000)
    )
    if universe_id not in {item.universe_id for item in listed.histories}:
        return None
    request = history_service_pb2.GetHistoryRequest(universe_id=universe_id)
    return list((await client.history.GetHistory(request)).history.values)


def correlations(value: float) -> events_pb2.CorrelationsUpdated:
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MATRIX_KIND_CORRELATION,
        instrument_ids=["I0", "I1"],
        dense=market_service_pb2.DenseMatrix(values=[1.0, value, value, 1.0]),
    )
    matrix.as_of_time.GetCurrentTime()
    return events_pb2.CorrelationsUpdated(
        request=market_service_pb2.PutMatrixRequest(matrix=matrix)
    )


def sized_for(portfolio_id: str) -> Callable[[events_pb2.PositionSized], bool]:
    return lambda event: event.decision.portfolio_id == portfolio_id


async def test_every_topic_does_what_its_call_does(
    client: Client, sender: Sender, subscriber: Subscriber
) -> None:
    portfolio_id = await client.put_portfolio(1.0)
    await sender.send("market-data", "m", market(10.0))
    matrix = correlations(0.5)
    await sender.send("correlations", "m", matrix)
    await sender.send("conditions", name := new_id("condition"), condition(name, 0.4))
    set_id, universe_id = await feature_set(client), new_id("universe")
    await sender.send("features", set_id, features(set_id, 0.7))
    await sender.send("histories", universe_id, history(universe_id, 101.5))
    await sender.send("limits", portfolio_id, limits(portfolio_id, 0.25))
    await sender.send("risk-budgets", portfolio_id, budget(portfolio_id, 0.4))
    await sender.send("portfolio-state", portfolio_id, state(portfolio_id, 1e6))
    await subscriber.wait_for(
        "limits-changed", "LimitsChanged", lambda e: e.scope.portfolio_id == portfolio_id
    )
    await subscriber.wait_for(
        "parameters-changed", "ParametersChanged", lambda e: e.portfolio_id == portfolio_id
    )
    await _until(lambda: _cash(client, portfolio_id), 1e6)
    event_id = await sender.send("signals", portfolio_id, signals(portfolio_id))
    message, sized = await subscriber.wait_for(
        "position-sized", "PositionSized", sized_for(portfolio_id)
    )
    assert message.trace_id == f"trace-{event_id}"
    assert sized.decision.sizes.weight[0] == pytest.approx(0.4 * 0.2, abs=1e-5)
    await sender.send("fills", portfolio_id, fill(sized.decision, 70))
    _, settled = await subscriber.wait_for(
        "decision-settled", "DecisionSettled", lambda e: e.portfolio_id == portfolio_id
    )
    assert settled.decision_id == sized.decision.decision_id
    assert await _cash(client, portfolio_id) == 1e6 - 700.0
    stored = await client.market.GetMatrix(
        market_service_pb2.GetMatrixRequest(matrix_id=matrix.request.matrix.matrix_id)
    )
    assert list(stored.matrix.dense.values) == [1.0, 0.5, 0.5, 1.0]
    await _until(lambda: _condition(client, name), 0.4)
    await _until(lambda: _feature(client, set_id), [0.7])
    await _until(lambda: _history(client, universe_id), [100.0, 101.5])
    assert sender.topics >= {topic.name for topic in INCOMING}, "none is left out"


async def test_market_data_of_a_universe_is_of_that_alone(
    client: Client, sender: Sender, subscriber: Subscriber
) -> None:
    """A desk is sized by a signal from a topic at its own feed, whatever another one told later."""
    own, other = new_id("universe"), new_id("universe")
    portfolio_id = await client.put_portfolio(1e6, universe_id=own)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=0.1)
    first = market(10.0, own)
    await sender.send("market-data", own, first)
    await _until(lambda: _newest(client, own), first.request.snapshot.snapshot_id)
    later = market(99.0, other)
    await sender.send("market-data", other, later)
    await _until(lambda: _newest(client, other), later.request.snapshot.snapshot_id)
    await sender.send("signals", portfolio_id, signals(portfolio_id))
    _, sized = await subscriber.wait_for("position-sized", "PositionSized", sized_for(portfolio_id))
    used = sized.decision.versions.market_snapshot_id
    assert used == first.request.snapshot.snapshot_id


async def _newest(client: Client, universe_id: str) -> str | None:
    request = market_service_pb2.GetMarketSnapshotRequest(universe_id=universe_id)
    try:
        return (await client.market.GetMarketSnapshot(request)).snapshot.snapshot_id
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.NOT_FOUND
        return None


async def test_an_event_is_handled_once_whatever_it_says_the_second_time(
    client: Client, sender: Sender, subscriber: Subscriber
) -> None:
    """Its id is what counts: a sender that repeats it under a new request id does nothing."""
    portfolio_id = await client.ready()
    twice = [str(uuid4()) for _ in range(3)]
    for _ in range(3):
        await sender.send("signals", portfolio_id, signals(portfolio_id), twice[0])
    _, sized = await subscriber.wait_for("position-sized", "PositionSized", sized_for(portfolio_id))
    for lots in (10, 20, 30):
        await sender.send("fills", portfolio_id, fill(sized.decision, lots), twice[1])
    last = await sender.send("fills", portfolio_id, fill(sized.decision, 1))
    for _ in range(2):
        message, _ = await subscriber.wait_for(
            "decision-settled", "DecisionSettled", lambda e: e.portfolio_id == portfolio_id
        )
    assert message.trace_id == f"trace-{last}"
    read = await client.portfolio.GetPortfolio(
        portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id)
    )
    assert list(read.portfolio.holdings.quantity) == [11.0]
    for cash in (5e5, 6e5, 7e5):
        await sender.send("portfolio-state", portfolio_id, state(portfolio_id, cash), twice[2])
    await sender.send("portfolio-state", portfolio_id, state("nobody", 1.0), last := str(uuid4()))
    await subscriber.letter("portfolio-state", last)
    assert await _cash(client, portfolio_id) == 5e5
    assert (await client.counts(portfolio_id))[0] == 1


async def test_signals_and_fills_without_a_request_id_take_the_events(
    client: Client, sender: Sender, subscriber: Subscriber
) -> None:
    portfolio_id = await client.ready()
    event_id = await sender.send("signals", portfolio_id, signals(portfolio_id, request_id=""))
    _, sized = await subscriber.wait_for("position-sized", "PositionSized", sized_for(portfolio_id))
    assert sized.decision.request_id == event_id
    report = fill(sized.decision, 5)
    report.request.request_id = ""
    await sender.send("fills", portfolio_id, report)
    await subscriber.wait_for(
        "decision-settled", "DecisionSettled", lambda e: e.portfolio_id == portfolio_id
    )


async def test_poison_on_every_topic_is_put_aside_and_the_next_is_done(
    client: Client, sender: Sender, subscriber: Subscriber
) -> None:
    portfolio_id = await client.ready()
    nan = math.nan
    bad: dict[str, tuple[Message, Message | None]] = {
        "signals": (
            signals(portfolio_id, signals={"win_probability": [nan]}),
            signals("nobody"),
        ),
        "fills": (
            fill(sizing_pb2.SizingDecision(decision_id="x"), 1),
            fill(sizing_pb2.SizingDecision(decision_id=str(uuid4())), 1),
        ),
        "portfolio-state": (state(portfolio_id, nan), state("nobody", 1.0)),
        "limits": (limits(portfolio_id, nan), limits("nobody", 0.1)),
        "risk-budgets": (budget(portfolio_id, nan), budget("nobody", 0.5)),
        "market-data": (market(nan), None),
        "correlations": (correlations(7.0), None),
        "histories": (history(new_id("universe"), nan), None),
        "conditions": (condition(new_id("condition"), nan), None),
        "features": (features(await feature_set(client), math.inf), features("nothing", 0.7)),
    }
    assert bad.keys() == {topic.name for topic in INCOMING}
    for topic, (wrong, unknown) in bad.items():
        send, ids = sender.send, [str(uuid4()) for _ in range(7)]
        await sender.publish(
            topic,
            OutMessage(
                portfolio_id,
                b"\xff\x00garbage",
                {
                    "event_id": ids[0],
                    "event_type": wrong.DESCRIPTOR.name,
                    "tenant_id": "local",
                    "trace_id": "no\x00trace",
                },
            ),
        )
        await send(topic, portfolio_id, wrong, ids[1])
        await send(topic, portfolio_id, wrong, ids[2], event_type="TeaLeaves")
        await send(topic, portfolio_id, wrong, ids[3], tenant_id="another")
        await send(topic, portfolio_id, wrong, ids[4], schema_version="2")
        await send(topic, portfolio_id, wrong, f"\x00{ids[5]}")
        await send(topic, portfolio_id, wrong, ids[5], event_type=None)
        if unknown is not None:
            await send(topic, portfolio_id, unknown, ids[6])
        letters = [await subscriber.letter(topic, id) for id in (*ids[:5], f"\x00{ids[5]}", ids[5])]
        reasons = [letter.properties["dead_letter_reason"] for letter in letters]
        assert reasons[0] == "UNDECODABLE"
        assert reasons[1] == WRONG.get(topic, "NOT_FINITE"), topic
        assert reasons[2:] == [
            "WRONG_EVENT_TYPE",
            "UNKNOWN_TENANT",
            "UNKNOWN_SCHEMA_VERSION",
            "BAD_EVENT_ID",
            "PROPERTY_MISSING",
        ]
        assert all(letter.key == portfolio_id for letter in letters)
        assert letters[1].payload == wrong.SerializeToString()
        assert letters[1].properties["dead_letter_topic"] == topic
        if unknown is not None:
            letter = await subscriber.letter(topic, ids[6])
            assert letter.properties["dead_letter_reason"].endswith("_NOT_FOUND"), topic
    await sender.send("signals", portfolio_id, signals(portfolio_id))
    await subscriber.wait_for("position-sized", "PositionSized", sized_for(portfolio_id))


async def test_what_says_nothing_changes_nothing(
    client: Client, sender: Sender, subscriber: Subscriber
) -> None:
    """An empty payload is a valid message, and so are bytes of fields nobody knows."""
    firm = portfolio_service_pb2.Scope()
    await client.set_limits(firm, weight_max=0.3)
    kinds: dict[str, type[Message]] = {
        "limits": events_pb2.LimitsUpdated,
        "risk-budgets": events_pb2.RiskBudgetUpdated,
        "portfolio-state": events_pb2.PortfolioStateUpdated,
        "signals": events_pb2.SignalsSubmitted,
        "fills": events_pb2.FillsReported,
        "market-data": events_pb2.MarketDataUpdated,
        "correlations": events_pb2.CorrelationsUpdated,
        "histories": events_pb2.HistoryUpdated,
        "conditions": events_pb2.ConditionUpdated,
        "features": events_pb2.FeaturesUpdated,
    }
    assert kinds.keys() == {topic.name for topic in INCOMING}
    for topic, kind in kinds.items():
        event_id = await sender.send(topic, "k", kind())
        letter = await subscriber.letter(topic, event_id)
        assert letter.properties["dead_letter_reason"] == "MISSING"
        unknown = OutMessage("k", b"x" * 10, {**letter.properties, "event_id": str(uuid4())})
        await sender.publish(topic, unknown)
        letter = await subscriber.letter(topic, unknown.properties["event_id"])
        assert letter.properties["dead_letter_reason"] == "MISSING"
    read = await client.portfolio.GetLimits(portfolio_service_pb2.GetLimitsRequest(scope=firm))
    assert read.limits.weight_max == 0.3


async def test_a_refused_request_is_answered_once_in_its_portfolios_stream(
    client: Client, sender: Sender, subscriber: Subscriber
) -> None:
    """And it is not sized by a later delivery, when what was missing is there."""
    await client.put_market()
    portfolio_id = await client.put_portfolio(held={"I0": 1.0, "unpriced": 5.0})
    own = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(own, weight_max=0.1)
    wrong = signals(portfolio_id)
    event_id = await sender.send("signals", portfolio_id, wrong)
    message, refused = await subscriber.wait_for(
        "position-sized", "SignalsRefused", lambda e: e.portfolio_id == portfolio_id
    )
    assert message.key == portfolio_id
    assert message.properties["portfolio_sequence"] == "3"
    assert refused.request_id == wrong.request.request_id
    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "MISSING_PRICE")
    letter = await subscriber.letter("signals", event_id)
    assert letter.properties["dead_letter_reason"] == "MISSING_PRICE"
    assert letter.properties["dead_letter_attempts"] == "1"

    await sender.send("portfolio-state", portfolio_id, state(portfolio_id, 2e6))
    await _until(lambda: _cash(client, portfolio_id), 2e6)
    await sender.send("signals", portfolio_id, wrong, event_id)
    nobody = signals("nobody")
    await sender.send("signals", portfolio_id, nobody)
    message, refused = await subscriber.wait_for(
        "position-sized", "SignalsRefused", lambda e: e.portfolio_id == "nobody"
    )
    assert message.key == "local", "a portfolio that isn't there has no stream"
    assert (await client.counts(portfolio_id))[0] == 0

    again = OutMessage(portfolio_id, letter.payload, letter.properties)
    await sender.publish("signals", again)
    await sender.publish("signals", again)
    message, sized = await subscriber.wait_for(
        "position-sized", "PositionSized", sized_for(portfolio_id)
    )
    assert sized.decision.request_id == wrong.request.request_id
    assert sized.portfolio_sequence == 5, "the holdings set between are one"
    assert (await client.counts(portfolio_id))[0] == 1


async def test_ids_that_can_come_no_more_are_forgotten(
    client: Client, sender: Sender, subscriber: Subscriber, events_app: App
) -> None:
    portfolio_id = await client.ready()
    old, new = str(uuid4()), str(uuid4())
    for event_id in (old, new):
        await sender.send("signals", portfolio_id, signals(portfolio_id), event_id)
        await subscriber.wait_for("position-sized", "PositionSized", sized_for(portfolio_id))
    assert events_app.config.dsn is not None
    dsn = events_app.config.dsn.get_secret_value()
    database, owner = await Database.open(dsn), await asyncpg.connect(dsn)
    await owner.execute(
        "UPDATE inbox SET receive_time = $1 WHERE event_id = $2",
        datetime.now(UTC) - REMEMBER - timedelta(seconds=1),
        old,
    )
    states = States(database, 5.0)
    schedules = ModelSchedules(
        database, Worker(Means(events_app.config.data_dir)), Models(database, 5.0)
    )
    tasks = MaintenanceTasks(
        database, states, MatrixRefreshes(database, states), schedules, Usage()
    )
    assert await tasks.forget() == 1
    left = await owner.fetch("SELECT event_id FROM inbox WHERE topic = 'signals'")
    await owner.close()
    await database.aclose()
    assert new in {row["event_id"] for row in left}
    assert old not in {row["event_id"] for row in left}


async def _cash(client: Client, portfolio_id: str) -> float:
    request = portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id)
    return float((await client.portfolio.GetPortfolio(request)).portfolio.cash)


async def _until(read: Callable[[], Any], wanted: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await read() != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

"""Feeds of several universes: each portfolio is priced at the newest snapshot of its own."""

from datetime import UTC, datetime, timedelta
from math import log1p
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import analytics_service_pb2 as analytics_pb
from positionsizing.v1 import audit_service_pb2 as audit_pb
from positionsizing.v1 import explanation_service_pb2 as explanation_pb
from positionsizing.v1 import history_service_pb2 as history_pb
from positionsizing.v1 import liquidity_service_pb2 as liquidity_pb
from positionsizing.v1 import market_service_pb2 as market_pb
from positionsizing.v1 import parameter_service_pb2 as parameter_pb
from positionsizing.v1 import portfolio_service_pb2 as pb
from positionsizing.v1 import risk_service_pb2 as risk_pb
from positionsizing.v1 import sizing_service_pb2 as sizing
from positionsizing.v1 import types_pb2

from tests.server.support.desks import Desk
from tests.server.support.service_client import Client, new_id, refusal

ACTIVE, REDUCING = types_pb2.TRADING_STATE_ACTIVE, types_pb2.TRADING_STATE_REDUCING


async def two(client: Client) -> tuple[Desk, Desk]:
    """Equities, and crypto whose feed told last."""
    equities = await Desk(client).open(100.0)
    crypto = await Desk(client).open(20.0, held=1000.0, cash=30_000.0)
    return equities, crypto


async def test_each_desk_is_sized_at_the_newest_snapshot_of_its_own_feed(client: Client) -> None:
    equities, crypto = await two(client)
    first, second = await equities.size(), await crypto.size()
    assert first.versions.market_snapshot_id == equities.snapshot_id
    assert second.versions.market_snapshot_id == crypto.snapshot_id
    assert (first.summary.equity, second.summary.equity) == (100_000.0, 50_000.0)
    await crypto.tell(21.0)
    again = await equities.size(validate_only=True)
    assert again.versions.market_snapshot_id == equities.snapshot_id
    await equities.tell(101.0)
    assert (await equities.size(validate_only=True)).summary.equity == 100_500.0
    assert (await crypto.size(validate_only=True)).summary.equity == 51_000.0


async def test_one_call_for_both_desks_sizes_each_at_its_own(client: Client) -> None:
    equities, crypto = await two(client)
    request = sizing.SizePortfoliosRequest(
        request_id=str(uuid4()),
        requests=[desk.request(request_id="") for desk in (equities, crypto)],
    )
    decisions = (await client.sizing.SizePortfolios(request)).decisions
    used = [decision.versions.market_snapshot_id for decision in decisions]
    assert used == [equities.snapshot_id, crypto.snapshot_id]
    for decision in decisions:
        replay = sizing.ReplayDecisionRequest(decision_id=decision.decision_id)
        assert (await client.sizing.ReplayDecision(replay)).lots_equal


async def test_what_a_desk_is_asked_beside_sizes_is_answered_at_its_own_feed(
    client: Client,
) -> None:
    equities, _ = await two(client)
    variation = sizing.Variation(name="dearer", price_multiplier=1.1)
    request = sizing.WhatIfRequest(base=equities.request(request_id=""), variations=[variation])
    results = (await client.sizing.WhatIf(request)).results
    assert [result.summary.equity for result in results] == [105_000.0]
    assert (await equities.breaches()).market_snapshot_id == equities.snapshot_id
    found = await equities.look()
    assert found.cash_total == 50_000.0
    assert found.unrealised_pnl.market_snapshot_id == equities.snapshot_id


async def test_a_request_may_name_a_snapshot_of_any_universe(client: Client) -> None:
    equities, crypto = await two(client)
    both = Desk(client, equities.name, crypto.name)
    await both.tell(110.0, 22.0)
    decision = await equities.size(market_snapshot_id=both.snapshot_id)
    assert decision.versions.market_snapshot_id == both.snapshot_id
    assert decision.summary.equity == 105_000.0
    refused = await refusal(equities.size(market_snapshot_id=crypto.snapshot_id))
    assert refused.reason == "MISSING_PRICE"
    assert equities.name in refused.message
    assert f"the newest of universe '{equities.universe_id}'" in refused.message


async def test_execution_and_risk_are_of_the_own_feed(client: Client) -> None:
    equities = Desk(client)
    await equities.open(100.0)
    columns = {"spread": [0.001], "volatility": [0.3], "average_daily_volume": [1e6]}
    await equities.tell(100.0, **columns)
    await Desk(client).tell(20.0, **columns)
    plan = liquidity_pb.PlanExecutionRequest(
        portfolio_id=equities.id, instrument_ids=[equities.name], quantities=[10.0], days=1.0
    )
    (schedule,) = (await client.liquidity.PlanExecution(plan)).schedules
    assert schedule.instrument_id == equities.name
    history = history_pb.History(
        universe_id=equities.universe_id,
        kind=history_pb.HISTORY_KIND_RETURNS,
        instrument_ids=[equities.name],
        observation_times=[Timestamp(seconds=day * 86_400) for day in range(1, 61)],
        values=[0.01 * (day % 3 - 1) for day in range(60)],
    )
    await client.history.PutHistory(history_pb.PutHistoryRequest(history=history))
    request = risk_pb.ReportRiskRequest(portfolio_id=equities.id, universe_id=equities.universe_id)
    report = await client.risk.ReportRisk(request)
    assert (report.equity, list(report.before.weights)) == (100_000.0, [0.5])


async def test_a_universe_without_snapshots_says_so(client: Client) -> None:
    desk = await Desk(client).open(100.0, universe_id=(empty := new_id("universe")))
    refused = await refusal(desk.size())
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.NOT_FOUND,
        "MARKET_SNAPSHOT_NOT_FOUND",
    )
    assert f"no market snapshot of universe {empty} is stored" in refused.message
    decision = await desk.size(market_snapshot_id=desk.snapshot_id)
    assert decision.summary.equity == 100_000.0


async def test_a_day_is_lost_at_the_prices_of_the_own_feed_alone(client: Client) -> None:
    equities, crypto = await two(client)
    for desk in (equities, crypto):
        await client.set_limits(desk.scope, weight_max=0.9, day_loss_max=0.05)
    assert (await equities.look()).trading_day.equity_start == 100_000.0
    assert (await crypto.look()).trading_day.equity_start == 50_000.0
    await crypto.tell(15.0)  # 5,000 of 50,000
    assert await crypto.trading_state() == REDUCING
    assert (await crypto.look()).trading_day.loss == pytest.approx(0.1)
    assert await equities.trading_state() == ACTIVE
    assert (await equities.look()).trading_day.equity_last == 100_000.0
    await equities.tell(89.0)
    assert await equities.trading_state() == REDUCING
    assert (await equities.look()).trading_day.equity_last == 94_500.0


async def test_limits_passed_are_found_at_the_prices_of_the_own_feed(client: Client) -> None:
    equities, _ = await two(client)
    await client.set_limits(equities.scope, weight_max=0.4)
    found = await equities.breaches()
    assert [(item.limit, item.value) for item in found.breaches] == [(equities.name, 0.5)]
    assert found.breaches[0].HasField("begin_time"), "told when the limit was set"
    held = pb.Holdings(instrument_ids=[equities.name], quantity=[100.0])
    request = pb.SetHoldingsRequest(portfolio_id=equities.id, cash=90_000.0, holdings=held)
    await client.portfolio.SetHoldings(request)
    assert not (await equities.breaches()).breaches


async def test_prices_jump_against_those_of_their_own_feed(client: Client) -> None:
    """The same name in cents elsewhere is no jump; three times the price in its own feed is."""
    equities = await Desk(client).open(100.0)
    cents = Desk(client, equities.name)
    assert not (await cents.tell(10_000.0, confirm=False)).price_jumps
    assert not (await equities.tell(101.0, confirm=False)).price_jumps
    jumps = (await equities.tell(303.0, confirm=False)).price_jumps
    assert [(jump.instrument_id, jump.accepted_price) for jump in jumps] == [(equities.name, 101.0)]
    assert (await refusal(equities.size())).reason == "PRICE_JUMP"
    assert not (await cents.tell(10_100.0, confirm=False)).price_jumps


async def test_fills_are_held_against_the_own_feed(client: Client) -> None:
    equities = await Desk(client).open(100.0)
    decision = await equities.size()
    await Desk(client, equities.name).tell(10_000.0)
    refused = await refusal(equities.fill(decision, 10, 10_000.0))
    assert refused.reason == "FILL_OUT_OF_BAND"
    await equities.fill(decision, 10, 100.5)
    held = (await equities.look()).portfolio.holdings
    assert list(held.quantity) == [510.0]


async def test_futures_are_entered_at_the_own_feed(client: Client) -> None:
    desk = Desk(client)
    kind = [market_pb.CONTRACT_KIND_FUTURE]
    await desk.tell(100.0, contract_kind=kind)
    other = Desk(client, desk.name)
    await other.tell(70.0, contract_kind=kind)
    held = pb.Holdings(instrument_ids=[desk.name], quantity=[5.0])
    book = pb.Portfolio(
        portfolio_id=desk.id,
        base_currency="USD",
        cash=1e5,
        holdings=held,
        universe_id=desk.universe_id,
    )
    made = await client.portfolio.CreatePortfolio(pb.CreatePortfolioRequest(portfolio=book))
    assert list(made.portfolio.holdings.average_price) == [100.0]
    request = pb.SetHoldingsRequest(portfolio_id=desk.id, cash=1e5, holdings=held)
    await desk.tell(105.0, contract_kind=kind)
    await other.tell(71.0, contract_kind=kind)
    found = await client.portfolio.SetHoldings(request)
    assert list(found.portfolio.holdings.average_price) == [105.0]


async def test_money_paid_in_is_no_gain_whichever_feed_told_last(client: Client) -> None:
    equities, crypto = await two(client)
    await client.set_limits(equities.scope, weight_max=0.9, day_loss_max=0.05)
    await crypto.tell(20.5)
    request = pb.AdjustCashRequest(
        request_id=str(uuid4()),
        portfolio_id=equities.id,
        changes=[pb.CashBalance(currency="USD", amount=100_000.0)],
        kind=pb.CASH_FLOW_KIND_PAYMENT,
    )
    await client.portfolio.AdjustCash(request)
    day = (await equities.look()).trading_day
    assert (day.equity_start, day.loss) == (200_000.0, 0.0)
    confirmed = await client.portfolio.ConfirmEquity(
        pb.ConfirmEquityRequest(portfolio_id=equities.id, reason="looked at")
    )
    assert confirmed.equity == 200_000.0


async def test_a_high_water_mark_is_set_and_kept_at_the_prices_of_the_own_feed(
    client: Client,
) -> None:
    equities, crypto = await two(client)
    request = parameter_pb.SetParametersRequest(
        portfolio_id=equities.id, parameters=parameter_pb.SizingParameters(drawdown_floor=0.5)
    )
    await client.parameter.SetParameters(request)
    await equities.size()
    await crypto.tell(1.0)
    asked = parameter_pb.GetParametersRequest(portfolio_id=equities.id)
    found = await client.parameter.GetParameters(asked)
    (floor,) = found.adjustments
    assert floor.explanation == "equity 100,000.00 over a floor of 50,000.00, 0.5 of 100,000.00"
    rebased = await client.portfolio.RebaseHighWaterMark(
        pb.RebaseHighWaterMarkRequest(portfolio_id=equities.id, reason="a new mandate")
    )
    assert rebased.rebase.equity_after == 100_000.0


async def test_past_volatilities_are_those_of_the_own_feed(client: Client) -> None:
    calm = Desk(client)
    wild = Desk(client, calm.name)
    times = [datetime.now(UTC) - timedelta(days=days) for days in (3, 1)]
    stamps = [Timestamp(), Timestamp()]
    for stamp, time in zip(stamps, times, strict=True):
        stamp.FromDatetime(time)
    before = Timestamp()
    before.FromDatetime(times[0] - timedelta(days=1))
    await calm.tell(100.0, time=before, volatility=[0.1])
    await calm.open(100.0)
    await wild.tell(100.0, time=stamps[0], volatility=[0.9])
    request = parameter_pb.SimulateParametersRequest(
        portfolio_id=calm.id,
        start_time=stamps[0],
        end_time=stamps[1],
        instrument_ids=[calm.name],
        parameters=parameter_pb.SizingParameters(volatility_target=0.05),
    )
    (line,) = (await client.parameter.SimulateParameters(request)).lines
    assert set(line.volatility) == {0.1}


async def test_decisions_are_marked_at_the_newest_of_the_own_feed(client: Client) -> None:
    equities, crypto = await two(client)
    decision = await equities.size()
    await equities.tell(110.0)
    await crypto.tell(10.0)
    request = analytics_pb.AnalyzeDecisionsRequest(portfolio_id=equities.id)
    answer = await client.analytics.AnalyzeDecisions(request)
    assert answer.decisions == 1
    earned = log1p(0.1 * decision.sizes.weight[0])
    growth = answer.stage_growth
    assert growth.start + sum(growth.steps) == pytest.approx(earned)


async def test_a_decision_is_varied_over_the_dates_of_its_own_feed(client: Client) -> None:
    equities = await Desk(client).open(100.0)
    between = Timestamp()
    between.FromDatetime(datetime.now(UTC) - timedelta(hours=1))
    before = Timestamp()
    before.FromDatetime(datetime.now(UTC) - timedelta(hours=2))
    await equities.tell(90.0, time=before)
    await Desk(client, equities.name).tell(70.0, time=before)
    await equities.tell(100.0)
    decision = await equities.size()
    variation = explanation_pb.DecisionVariation(
        change=sizing.Variation(name="an hour ago"), market_time=between
    )
    request = explanation_pb.WhatIfDecisionRequest(
        decision_id=decision.decision_id, variations=[variation]
    )
    (result,) = (await client.explanation.WhatIfDecision(request)).results
    assert result.summary.equity == 95_000.0


async def test_a_portfolio_moves_to_another_universe_and_it_is_recorded(client: Client) -> None:
    equities = await Desk(client).open(100.0)
    other = Desk(client, equities.name)
    await other.tell(120.0)
    before = (await equities.look()).portfolio
    assert before.universe_id == equities.universe_id
    moved = await equities.move(other.universe_id, "the new vendor")
    assert moved.portfolio.universe_id == other.universe_id
    assert moved.portfolio.version == before.version + 1
    assert (moved.change.version, moved.change.reason) == (2, "the new vendor")
    decision = await equities.size()
    assert decision.summary.equity == 110_000.0
    assert decision.versions.market_snapshot_id == other.snapshot_id
    events = await client.audit.ListAuditEvents(audit_pb.ListAuditEventsRequest(page_size=1000))
    rows = [event for event in events.events if event.row_key.startswith(f"{equities.id}/")]
    told = [event.row_key for event in rows if event.table_name == "portfolio_universe"]
    assert sorted(told) == [f"{equities.id}/1", f"{equities.id}/2"]
    back = await equities.move("")
    assert back.portfolio.universe_id == ""


async def test_a_decision_computed_before_the_universe_changed_is_computed_anew(
    client: Client,
) -> None:
    equities = await Desk(client).open(100.0)
    first = await equities.size()
    other = Desk(client, equities.name)
    await other.tell(101.0)
    await equities.move(other.universe_id)
    again = await equities.size(
        expected_portfolio_version=(await equities.look()).portfolio.version
    )
    assert again.versions.market_snapshot_id == other.snapshot_id
    replay = sizing.ReplayDecisionRequest(decision_id=first.decision_id)
    answer = await client.sizing.ReplayDecision(replay)
    assert answer.lots_equal


@pytest.mark.parametrize(
    ("universe_id", "reason", "fields"),
    [
        ("a b", "why", {"universe_id": "BAD_FORMAT"}),
        ("x" * 129, "why", {"universe_id": "BAD_FORMAT"}),
        ("fine", " ", {"reason": "MISSING"}),
    ],
)
async def test_a_universe_that_is_none_is_refused_by_field(
    client: Client, universe_id: str, reason: str, fields: dict[str, str]
) -> None:
    desk = await Desk(client).open(100.0)
    refused = await refusal(desk.move(universe_id, reason))
    assert refused.fields == fields


async def test_universes_are_checked_wherever_they_are_named(client: Client) -> None:
    desk = Desk(client, universe_id="not one")
    assert (await refusal(desk.tell(1.0))).fields == {"snapshot.universe_id": "BAD_FORMAT"}
    book = pb.Portfolio(portfolio_id=desk.id, base_currency="USD", universe_id="not one")
    refused = await refusal(
        client.portfolio.CreatePortfolio(pb.CreatePortfolioRequest(portfolio=book))
    )
    assert refused.fields == {"portfolio.universe_id": "BAD_FORMAT"}
    for call in (
        client.market.GetMarketSnapshot(market_pb.GetMarketSnapshotRequest(universe_id="not one")),
        client.market.ListMarketSnapshots(
            market_pb.ListMarketSnapshotsRequest(universe_id="not one")
        ),
    ):
        assert (await refusal(call)).fields == {"universe_id": "BAD_FORMAT"}
    both = market_pb.GetMarketSnapshotRequest(snapshot_id="s", universe_id="u")
    refused = await refusal(client.market.GetMarketSnapshot(both))
    assert refused.fields == {"universe_id": "NOT_APPLICABLE"}


async def test_snapshots_are_listed_by_universe_and_ids_are_the_firms(client: Client) -> None:
    equities, crypto = await two(client)
    listed = await client.market.ListMarketSnapshots(
        market_pb.ListMarketSnapshotsRequest(universe_id=equities.universe_id)
    )
    told = [(item.snapshot_id, item.universe_id) for item in listed.snapshots]
    assert told == [(equities.snapshot_id, equities.universe_id)]
    everything = await client.market.ListMarketSnapshots(
        market_pb.ListMarketSnapshotsRequest(page_size=2)
    )
    assert [item.universe_id for item in everything.snapshots] == [
        crypto.universe_id,
        equities.universe_id,
    ]
    unnamed = market_pb.ListMarketSnapshotsRequest(universe_id="", page_size=1000)
    found = (await client.market.ListMarketSnapshots(unnamed)).snapshots
    assert {item.universe_id for item in found} <= {""}
    newest = await client.market.GetMarketSnapshot(
        market_pb.GetMarketSnapshotRequest(universe_id=equities.universe_id)
    )
    assert newest.snapshot.snapshot_id == equities.snapshot_id
    refused = await refusal(crypto.tell(20.0, snapshot_id=equities.snapshot_id))
    assert refused.reason == "ALREADY_EXISTS"

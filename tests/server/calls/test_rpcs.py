"""Every RPC once as it is meant to be used, and what its answer promises."""

import itertools
import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.support.service_client import (
    INSTRUMENTS,
    PRICES,
    Client,
    new_id,
    refusal,
    same,
    sizing_request,
    snapshot_message,
)


def scope(**given: str) -> portfolio_service_pb2.Scope:
    return portfolio_service_pb2.Scope(**given)


async def test_a_decision_says_everything_about_itself(client: Client) -> None:
    portfolio_id = await client.ready(weight_max=0.1, leverage_max=0.25)
    request = sizing_request(portfolio_id, include_sensitivities=True)
    decision = await client.size(request)
    assert decision.status == types_pb2.SIZING_STATUS_CAPPED
    assert decision.method == types_pb2.SIZING_METHOD_CLOSED_FORM
    assert decision.request_id == request.request_id
    assert re.fullmatch(r"[0-9a-f]{64}", decision.input_hash)
    assert decision.versions.portfolio_version >= 1
    assert decision.versions.market_snapshot_id
    assert decision.versions.limits_versions == f"portfolio:{portfolio_id}@1"
    sizes = decision.sizes
    # p = 0.6 at even money is 0.2, half of it 0.1, and a quarter of equity for four lines.
    assert list(sizes.lots) == [6250, 3125, 1250, 625]
    assert list(sizes.trade_lots) == list(sizes.lots)
    assert list(sizes.price) == list(PRICES[:4])
    for column in (sizes.weight, sizes.binding, sizes.line_status, sizes.quantity):
        assert len(column) == 4
    assert set(sizes.binding) == {types_pb2.LIMIT_KIND_LEVERAGE_MAX}
    assert list(sizes.binding_bound) == [0.25] * 4
    assert decision.sensitivities.win_probability[0] == pytest.approx(1.0)  # c (1/a + 1/b)
    stages = decision.waterfall.stages
    assert stages[0].stage == types_pb2.SIZING_STAGE_RAW_KELLY
    assert stages[-1].stage == types_pb2.SIZING_STAGE_LOTS
    raw, final = np.array(stages[0].weight), np.array(stages[-1].weight)
    total = raw.copy()
    for before, after in itertools.pairwise(stages):
        total += np.array(after.weight) - np.array(before.weight)
    assert (total == final).all()
    assert decision.summary.equity == 1e6
    notional = float(np.abs(sizes.notional).sum())
    assert decision.summary.cash_reserved == pytest.approx(notional, rel=1e-12)
    assert notional <= 0.25e6


async def test_a_decision_can_be_read_listed_replayed_and_settled(client: Client) -> None:
    portfolio_id = await client.ready()
    decision = await client.size(sizing_request(portfolio_id))
    id_only = sizing_service_pb2.GetDecisionRequest(decision_id=decision.decision_id)
    read = await client.sizing.GetDecision(id_only)
    assert same(read.decision, decision)
    assert read.settlement_state == sizing_service_pb2.SETTLEMENT_STATE_OPEN
    listed = await client.sizing.ListDecisions(
        sizing_service_pb2.ListDecisionsRequest(portfolio_id=portfolio_id)
    )
    (summary,) = listed.decisions
    assert summary.decision_id == decision.decision_id
    assert (summary.line_count, summary.portfolio_sequence) == (4, 3), (
        "it was created, and its limits"
    )
    gross = float(np.abs(decision.sizes.notional).sum())
    assert summary.gross_notional == pytest.approx(gross, rel=1e-12)
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal
    assert replay.weight_difference_max == 0.0
    assert not replay.version_differences
    reservations = await client.portfolio.ListReservations(
        portfolio_service_pb2.ListReservationsRequest(portfolio_id=portfolio_id)
    )
    assert reservations.reservations[0].cash_open == pytest.approx(decision.summary.cash_reserved)
    await settle_in_two_steps(client, portfolio_id, decision)


async def settle_in_two_steps(
    client: Client, portfolio_id: str, decision: sizing_pb2.SizingDecision
) -> None:
    first = sizing_service_pb2.SettleDecisionRequest(
        request_id=str(uuid4()),
        decision_id=decision.decision_id,
        fills=sizing_service_pb2.Fills(instrument_ids=["I0"], lots=[100], price=[11.0], fee=[5.0]),
    )
    answer = await client.sizing.SettleDecision(first)
    assert answer.settlement_state == sizing_service_pb2.SETTLEMENT_STATE_OPEN
    open_lots = dict(
        zip(answer.remainder.instrument_ids, answer.remainder.trade_lots_open, strict=True)
    )
    assert open_lots["I0"] == decision.sizes.trade_lots[0] - 100
    again = await client.sizing.SettleDecision(first)
    assert same(again, answer)
    got = await client.portfolio.GetPortfolio(
        portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id)
    )
    assert answer.portfolio_version == got.portfolio.version
    assert got.portfolio.cash == pytest.approx(1e6 - 100 * 11.0 - 5.0)
    assert list(got.portfolio.holdings.instrument_ids) == ["I0"]
    assert list(got.portfolio.holdings.quantity) == [100.0]
    last = sizing_service_pb2.SettleDecisionRequest(
        request_id=str(uuid4()), decision_id=decision.decision_id, close=True
    )
    answer = await client.sizing.SettleDecision(last)
    assert answer.settlement_state == sizing_service_pb2.SETTLEMENT_STATE_CANCELLED
    assert not answer.HasField("remainder")
    assert (await client.counts(portfolio_id)) == (1, 0)


async def test_validate_only_records_nothing(client: Client) -> None:
    portfolio_id = await client.ready()
    checked = await client.size(sizing_request(portfolio_id, validate_only=True, request_id=""))
    assert not checked.decision_id
    assert (await client.counts(portfolio_id)) == (0, 0)
    recorded = await client.size(sizing_request(portfolio_id))
    assert list(recorded.sizes.lots) == list(checked.sizes.lots)


async def test_what_ifs_equal_single_requests(client: Client) -> None:
    portfolio_id = await client.ready()
    base = sizing_request(portfolio_id, validate_only=True)
    variations = [
        sizing_service_pb2.Variation(
            name="quarter", parameters=parameter_service_pb2.SizingParameters(kelly_fraction=0.25)
        ),
        sizing_service_pb2.Variation(name="tight", limits=limits_pb2.Limits(weight_max=0.01)),
        sizing_service_pb2.Variation(name="no edge", edge_multiplier=0.0),
        sizing_service_pb2.Variation(name="same"),
    ]
    answer = await client.sizing.WhatIf(
        sizing_service_pb2.WhatIfRequest(base=base, variations=variations)
    )
    by_name = {result.name: result for result in answer.results}
    single = await client.size(base)
    assert list(by_name["same"].sizes.lots) == list(single.sizes.lots)
    base.limits.weight_max = 0.01
    tight = await client.size(base)
    assert list(by_name["tight"].sizes.lots) == list(tight.sizes.lots)
    assert not any(by_name["no edge"].sizes.lots)
    half = [lots // 2 for lots in single.sizes.lots]
    assert list(by_name["quarter"].sizes.lots) == half
    assert (await client.counts(portfolio_id)) == (0, 0)


async def test_several_portfolios_divide_what_they_share(client: Client) -> None:
    await client.put_market()
    group = new_id("group")
    portfolios = [await client.put_portfolio(1e6, group_id=group) for _ in range(2)]
    shared = portfolio_service_pb2.SharedLimits(gross_notional_max=200_000.0)
    await client.set_limits(scope(group_id=group), weight_max=0.1, shared=shared)
    request = sizing_service_pb2.SizePortfoliosRequest(
        request_id=str(uuid4()),
        requests=[sizing_request(name, request_id="") for name in portfolios],
    )
    answer = await client.sizing.SizePortfolios(request)
    gross = [decision.summary.gross_weight_after * 1e6 for decision in answer.decisions]
    assert sum(gross) <= 200_000.0
    assert gross[0] == pytest.approx(gross[1], rel=0.01)
    assert sum(gross) > 0.99 * 200_000.0
    again = await client.sizing.SizePortfolios(request)
    assert same(again, answer)
    for decision in answer.decisions:
        replay = await client.sizing.ReplayDecision(
            sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
        )
        assert replay.lots_equal


async def test_portfolios_of_one_call_are_decided_together_or_not_at_all(client: Client) -> None:
    good = await client.ready()
    bad = await client.put_portfolio()  # no limits stored
    request = sizing_service_pb2.SizePortfoliosRequest(
        request_id=str(uuid4()),
        requests=[sizing_request(name, request_id="") for name in (good, bad)],
    )
    refused = await refusal(client.sizing.SizePortfolios(request))
    assert refused.reason == "NO_LIMITS"
    assert (await client.counts(good)) == (0, 0)


async def test_snapshots_are_written_once(client: Client) -> None:
    snapshot = snapshot_message()
    put = market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot)
    first = await client.market.PutMarketSnapshot(put)
    assert first.instrument_count == len(INSTRUMENTS)
    assert same(await client.market.PutMarketSnapshot(put), first)
    stored = await client.market.GetMarketSnapshot(
        market_service_pb2.GetMarketSnapshotRequest(snapshot_id=snapshot.snapshot_id)
    )
    assert same(stored.snapshot, snapshot)
    put.snapshot.price[0] += 1.0
    refused = await refusal(client.market.PutMarketSnapshot(put))
    assert refused.code.name == "ALREADY_EXISTS"


async def test_lists_come_in_pages_without_gaps(client: Client) -> None:
    made = [await client.put_market() for _ in range(5)]
    seen: list[str] = []
    token = ""
    while len(seen) < 5:
        page = await client.market.ListMarketSnapshots(
            market_service_pb2.ListMarketSnapshotsRequest(page_size=2, page_token=token)
        )
        assert len(page.snapshots) == 2
        seen += [item.snapshot_id for item in page.snapshots]
        token = page.next_page_token
    assert seen[:5] == made[::-1]
    portfolio_id = await client.ready(weight_max=0.001)
    decided = [
        (await client.size(sizing_request(portfolio_id, [name]))).decision_id
        for name in INSTRUMENTS[:5]
    ]
    seen, token = [], ""
    while True:
        page = await client.sizing.ListDecisions(
            sizing_service_pb2.ListDecisionsRequest(
                portfolio_id=portfolio_id, page_size=2, page_token=token
            )
        )
        seen += [item.decision_id for item in page.decisions]
        token = page.next_page_token
        if not token:
            break
    assert seen == decided[::-1]


async def test_matrices_are_kept_in_each_form(client: Client) -> None:
    dense = market_service_pb2.DenseMatrix(values=[1.0, 0.5, 0.5, 1.0])
    upper = market_service_pb2.UpperTriangle(values=[1.0, 0.5, 1.0])
    factor = market_service_pb2.FactorForm(
        loadings=[0.1, 0.2], factor_covariance=[1.0], specific_variance=[0.01, 0.02]
    )
    for form in ({"dense": dense}, {"upper_triangle": upper}, {"factor": factor}):
        matrix = market_service_pb2.Matrix(
            matrix_id=new_id("matrix"),
            kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
            as_of_time=Timestamp(seconds=1_600_000_000),
            instrument_ids=["I0", "I1"],
            **form,
        )
        put = market_service_pb2.PutMatrixRequest(matrix=matrix)
        first = await client.market.PutMatrix(put)
        assert same(await client.market.PutMatrix(put), first)
        got = await client.market.GetMatrix(
            market_service_pb2.GetMatrixRequest(matrix_id=matrix.matrix_id)
        )
        assert same(got.matrix, matrix)
        put.matrix.instrument_ids[1] = "I2"
        assert (await refusal(client.market.PutMatrix(put))).code.name == "ALREADY_EXISTS"


async def test_scenarios_size_the_crash_lottery(client: Client) -> None:
    portfolio_id = await client.ready(leverage_max=5.0)
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MATRIX_KIND_SCENARIOS,
        as_of_time=Timestamp(seconds=1_600_000_000),
        instrument_ids=["I0"],
        dense=market_service_pb2.DenseMatrix(values=[0.02, -0.5]),
        scenario_probability=[0.98, 0.02],
    )
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    signals = sizing_pb2.SignalBatch(instrument_ids=["I0"], side=[types_pb2.SIDE_LONG])
    decision = await client.size(
        sizing_service_pb2.SizePositionsRequest(
            portfolio_id=portfolio_id,
            signals=signals,
            scenario_matrix_id=matrix.matrix_id,
            validate_only=True,
        )
    )
    assert decision.waterfall.stages[0].weight[0] == pytest.approx(0.96, abs=1e-11)


async def test_parameters_have_versions_and_effective_times(client: Client) -> None:
    portfolio_id = await client.ready(weight_max=1.0, leverage_max=3.0)
    lines = {"win_probability": [0.6], "payoff": [1.0]}
    request = sizing_request(portfolio_id, ["I0"], lines, validate_only=True)
    assert (await client.size(request)).sizes.lots[0] == 10_000

    async def put(fraction: float, **given: object) -> types_pb2.ChangeRecord:
        answer = await client.parameter.SetParameters(
            parameter_service_pb2.SetParametersRequest(
                portfolio_id=portfolio_id,
                parameters=parameter_service_pb2.SizingParameters(kelly_fraction=fraction),
                **given,
            )
        )
        return answer.change

    assert (await put(0.25, expected_version=0, reason="less")).version == 1
    assert (await client.size(request)).sizes.lots[0] == 5_000
    later = Timestamp()
    later.FromDatetime(datetime.now(UTC) + timedelta(days=1))
    assert (await put(1.0, effective_time=later, expected_version=1)).version == 2
    assert (await client.size(request)).sizes.lots[0] == 5_000
    after = Timestamp(seconds=later.seconds + 1)
    for time, fraction in ((None, 0.25), (after, 1.0)):
        got = await client.parameter.GetParameters(
            parameter_service_pb2.GetParametersRequest(portfolio_id=portfolio_id, as_of_time=time)
        )
        assert got.parameters.kelly_fraction == fraction
        assert got.parameters.interval_probability == 0.95
    refused = await refusal(put(0.5, expected_version=1))
    assert refused.code.name == "ABORTED"
    listed = await client.parameter.ListParameterVersions(
        parameter_service_pb2.ListParameterVersionsRequest(portfolio_id=portfolio_id)
    )
    assert [item.parameters.kelly_fraction for item in listed.versions] == [1.0, 0.25]
    assert listed.versions[1].change.reason == "less"


async def test_limits_have_versions_and_add_up(client: Client) -> None:
    portfolio_id = await client.ready(weight_max=0.05)
    here = scope(portfolio_id=portfolio_id)
    await client.set_limits(here, weight_max=0.02, leverage_max=1.0)
    for version, expected in ((0, 0.02), (1, 0.05), (2, 0.02)):
        got = await client.portfolio.GetLimits(
            portfolio_service_pb2.GetLimitsRequest(scope=here, version=version)
        )
        assert got.limits.weight_max == expected
    strategy = new_id("strategy")
    await client.set_limits(scope(strategy_id=strategy), weight_max=0.01)
    request = sizing_request(portfolio_id, ["I0"], validate_only=True)
    assert (await client.size(request)).sizes.lots[0] == 2_000
    request.strategy_id = strategy
    assert (await client.size(request)).sizes.lots[0] == 1_000
    request.limits.weight_max = 0.5  # a request can't loosen
    assert (await client.size(request)).sizes.lots[0] == 1_000
    request.limits.weight_max = 0.001
    assert (await client.size(request)).sizes.lots[0] == 100


async def test_trading_states_by_scope(client: Client) -> None:
    portfolio_id = await client.put_portfolio(1e6, {"I0": 2000.0})
    await client.put_market()
    here = scope(portfolio_id=portfolio_id)
    await client.set_limits(here, weight_max=0.1, leverage_max=1.0)
    request = sizing_request(portfolio_id, ["I0", "I1"], validate_only=True)

    async def switch(where: portfolio_service_pb2.Scope, state: int) -> None:
        await client.portfolio.SetTradingState(
            portfolio_service_pb2.SetTradingStateRequest(
                scope=where, trading_state=state, reason="test"
            )
        )
        got = await client.portfolio.GetTradingState(
            portfolio_service_pb2.GetTradingStateRequest(scope=where)
        )
        assert got.trading_state == state

    active = await client.size(request)
    assert all(active.sizes.trade_lots)
    await switch(here, types_pb2.TRADING_STATE_REDUCING)
    reducing = await client.size(request)
    assert list(reducing.sizes.trade_lots) == [0, 0]
    assert reducing.sizes.binding[0] == types_pb2.LIMIT_KIND_REDUCING_ONLY
    await switch(here, types_pb2.TRADING_STATE_HALTED)
    assert (await refusal(client.size(request))).reason == "TRADING_HALTED"
    await switch(here, types_pb2.TRADING_STATE_ACTIVE)
    request.strategy_id = new_id("strategy")
    await switch(scope(strategy_id=request.strategy_id), types_pb2.TRADING_STATE_HALTED)
    assert (await refusal(client.size(request))).reason == "TRADING_HALTED"
    request.strategy_id = ""
    assert all((await client.size(request)).sizes.trade_lots)


async def test_holdings_are_replaced_at_a_version(client: Client) -> None:
    portfolio_id = await client.put_portfolio(1e6, {"I0": 10.0})
    request = portfolio_service_pb2.SetHoldingsRequest(
        portfolio_id=portfolio_id,
        cash=5e5,
        holdings=portfolio_service_pb2.Holdings(instrument_ids=["I1"], quantity=[-3.5]),
        expected_version=1,
    )
    stored = (await client.portfolio.SetHoldings(request)).portfolio
    assert (stored.cash, list(stored.holdings.instrument_ids)) == (5e5, ["I1"])
    assert stored.version == 2
    refused = await refusal(client.portfolio.SetHoldings(request))
    assert refused.code.name == "ABORTED"
    listed = await client.portfolio.ListPortfolios(
        portfolio_service_pb2.ListPortfoliosRequest(page_size=1000)
    )
    assert portfolio_id in [item.portfolio_id for item in listed.portfolios]


async def test_no_portfolio_is_named_like_its_tenant_whose_events_have_that_key(
    client: Client,
) -> None:
    refused = await refusal(client.put_portfolio(portfolio_id="local"))
    assert refused.code.name == "INVALID_ARGUMENT"
    assert refused.fields == {"portfolio.portfolio_id": "RESERVED"}


async def test_creating_again_is_no_error_with_the_same_content_only(client: Client) -> None:
    portfolio_id = await client.put_portfolio(1e6, {"I0": 10.0})
    assert portfolio_id == await client.put_portfolio(1e6, {"I0": 10.0}, portfolio_id=portfolio_id)
    refused = await refusal(client.put_portfolio(2e6, portfolio_id=portfolio_id))
    assert refused.code.name == "ALREADY_EXISTS"

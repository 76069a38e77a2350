"""Accidents that would cost money if they were accepted: each is refused with path and remedy."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import (
    market_service_pb2,
    optimization_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.support.service_client import (
    Client,
    new_id,
    refusal,
    sizing_request,
    snapshot_message,
)

INVALID, PRECONDITION = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
NOT_FOUND = grpc.StatusCode.NOT_FOUND
KINDS = market_service_pb2.MatrixKind
SCENARIOS = [0.02, 0.01, -0.01, 0.03, 0.05, -0.04]
COVARIANCE = [0.04, 0.01, 0.01, 0.09]
CORRELATION = [1.0, 0.5, 0.5, 1.0]
VALUES = {"SCENARIOS": SCENARIOS, "COVARIANCE": COVARIANCE, "CORRELATION": CORRELATION}


def at(moment: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def matrix(kind: str, **given: Any) -> market_service_pb2.Matrix:
    return market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=KINDS.Value(f"MATRIX_KIND_{kind}"),
        instrument_ids=["I0", "I1"],
        dense=market_service_pb2.DenseMatrix(values=VALUES[kind]),
        **given,
    )


async def put(client: Client, kind: str) -> str:
    given = matrix(kind)
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=given))
    return given.matrix_id


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("scenario_matrix_id", "COVARIANCE"),
        ("scenario_matrix_id", "CORRELATION"),
        ("covariance_matrix_id", "SCENARIOS"),
    ],
)
async def test_a_matrix_of_another_kind_is_not_sized_with(
    client: Client, name: str, kind: str
) -> None:
    portfolio_id = await client.ready()
    matrix_id = await put(client, kind)
    method = types_pb2.SIZING_METHOD_JOINT
    signals = {"win_probability": [], "payoff": [], "expected_return": [0.01] * 2,
               "volatility": [0.2] * 2}  # fmt: skip
    request = sizing_request(
        portfolio_id, ["I0", "I1"], signals, method=method, **{name: matrix_id}
    )
    refused = await refusal(client.sizing.SizePositions(request))
    assert (refused.code, refused.fields) == (INVALID, {name: "WRONG_KIND"})
    assert await client.counts(portfolio_id) == (0, 0)
    await not_optimized_with(client, name, matrix_id)


async def test_a_problem_without_a_market_takes_no_correlation(client: Client) -> None:
    """Sizing does, with the volatilities of the market (test_used_inputs.py)."""
    matrix_id = await put(client, "CORRELATION")
    await not_optimized_with(client, "covariance_matrix_id", matrix_id)


async def not_optimized_with(client: Client, name: str, matrix_id: str) -> None:
    problem = optimization_service_pb2.OptimizationProblem(
        instrument_ids=["I0", "I1"],
        objective=optimization_service_pb2.Objective(
            kind=optimization_service_pb2.OBJECTIVE_KIND_MIN_VARIANCE
        ),
        **{name: matrix_id},
    )
    asked = optimization_service_pb2.OptimizePortfolioRequest(problem=problem)
    refused = await refusal(client.optimization.OptimizePortfolio(asked))
    assert (refused.code, refused.fields) == (INVALID, {f"problem.{name}": "WRONG_KIND"})


PROBLEMS: dict[str, tuple[dict[str, Any], str, str]] = {
    "kind": ({"covariance": matrix("SCENARIOS")}, "problem.covariance.kind", "WRONG_KIND"),
    "both": ({"scenarios": matrix("SCENARIOS"), "scenario_matrix_id": "other"},
             "problem.scenarios", "AMBIGUOUS"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
async def test_a_problem_that_means_two_things_or_none(client: Client, name: str) -> None:
    given, path, reason = PROBLEMS[name]
    problem = optimization_service_pb2.OptimizationProblem(
        instrument_ids=["I0", "I1"],
        objective=optimization_service_pb2.Objective(
            kind=optimization_service_pb2.OBJECTIVE_KIND_MIN_VARIANCE
        ),
        **given,
    )
    for call, request in (
        (client.optimization.OptimizePortfolio, optimization_service_pb2.OptimizePortfolioRequest),
        (
            client.optimization.ExplainInfeasibility,
            optimization_service_pb2.ExplainInfeasibilityRequest,
        ),
    ):
        refused = await refusal(call(request(problem=problem)))
        assert (refused.code, refused.fields) == (INVALID, {path: reason})


async def test_what_is_true_only_in_the_future(client: Client) -> None:
    """Such a snapshot would be the latest, and never stale, until its day has come."""
    portfolio_id = await client.ready()
    later = at(datetime.now(UTC) + timedelta(minutes=6))
    snapshot = snapshot_message(as_of_time=later)
    portfolio = portfolio_service_pb2.Portfolio(
        portfolio_id=new_id("portfolio"), base_currency="USD", as_of_time=later
    )
    for call, path in (
        (client.market.PutMarketSnapshot(
            market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot)), "snapshot."),
        (client.market.PutMatrix(market_service_pb2.PutMatrixRequest(
            matrix=matrix("COVARIANCE", as_of_time=later))), "matrix."),
        (client.portfolio.CreatePortfolio(portfolio_service_pb2.CreatePortfolioRequest(
            portfolio=portfolio)), "portfolio."),
        (client.portfolio.SetHoldings(portfolio_service_pb2.SetHoldingsRequest(
            portfolio_id=portfolio_id, as_of_time=later)), ""),
    ):  # fmt: skip
        refused = await refusal(call)
        assert (refused.code, refused.fields) == (INVALID, {f"{path}as_of_time": "OUT_OF_RANGE"})
    clocks_differ = at(datetime.now(UTC) + timedelta(minutes=4))
    await client.portfolio.SetHoldings(
        portfolio_service_pb2.SetHoldingsRequest(
            portfolio_id=portfolio_id, as_of_time=clocks_differ
        )
    )


async def test_nothing_given_lifts_no_limit(client: Client) -> None:
    portfolio_id = await client.ready(weight_max=0.02)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    refused = await refusal(
        client.portfolio.SetLimits(portfolio_service_pb2.SetLimitsRequest(scope=scope))
    )
    assert (refused.code, refused.fields) == (INVALID, {"limits": "MISSING"})
    refused = await refusal(
        client.parameter.SetParameters(
            parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id)
        )
    )
    assert (refused.code, refused.fields) == (INVALID, {"parameters": "MISSING"})
    decision = await client.size(sizing_request(portfolio_id))
    assert max(decision.sizes.weight) <= 0.02


async def test_a_portfolio_that_is_not_there_is_not_called_active(client: Client) -> None:
    for scope in ({"portfolio_id": "nobody"}, {"group_id": "nobody"}):
        request = portfolio_service_pb2.GetTradingStateRequest(
            scope=portfolio_service_pb2.Scope(**scope)
        )
        refused = await refusal(client.portfolio.GetTradingState(request))
        assert refused.code is NOT_FOUND
    for call in (
        client.parameter.GetParameters(
            parameter_service_pb2.GetParametersRequest(portfolio_id="nobody")
        ),
        client.parameter.ListParameterVersions(
            parameter_service_pb2.ListParameterVersionsRequest(portfolio_id="nobody")
        ),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (NOT_FOUND, "PORTFOLIO_NOT_FOUND")


async def test_currencies_are_codes(client: Client) -> None:
    rate = market_service_pb2.ExchangeRate(from_currency="EUR", to_currency="$", rate=1.1)
    snapshot = snapshot_message(currency=["USD", "dollar"] * 4, exchange_rates=[rate])
    assert len(snapshot.instrument_ids) == 8
    request = market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot)
    refused = await refusal(client.market.PutMarketSnapshot(request))
    assert refused.fields == {
        "snapshot.currency[1]": "UNKNOWN_CURRENCY",
        "snapshot.exchange_rates[0].to_currency": "UNKNOWN_CURRENCY",
    }


async def test_a_part_of_a_request_is_named_with_its_place(client: Client) -> None:
    good, bad = await client.ready(), await client.ready()
    wrong = {"win_probability": [0.6, 1.5]}
    parts = [
        sizing_request(good, ["I0", "I1"], request_id=""),
        sizing_request(bad, ["I0", "I1"], wrong, request_id="", all_or_nothing=True),
    ]
    for chosen, path in ((parts, "requests[1]."), (parts[1:], "requests[0].")):
        request = sizing_service_pb2.SizePortfoliosRequest(request_id=str(uuid4()), requests=chosen)
        refused = await refusal(client.sizing.SizePortfolios(request))
        assert refused.fields == {f"{path}signals.win_probability[1]": "OUT_OF_RANGE"}
    request = sizing_service_pb2.WhatIfRequest(
        base=parts[1], variations=[sizing_service_pb2.Variation(name="as it is")]
    )
    refused = await refusal(client.sizing.WhatIf(request))
    assert refused.fields == {"base.signals.win_probability[1]": "OUT_OF_RANGE"}
    assert await client.counts(good) == await client.counts(bad) == (0, 0)


async def test_a_variation_that_is_not_sized_says_why(client: Client) -> None:
    await client.put_market(volatility=[])
    portfolio_id = await client.put_portfolio()
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=0.1)
    needs = parameter_service_pb2.SizingParameters(volatility_target=0.02)
    answer = await client.sizing.WhatIf(
        sizing_service_pb2.WhatIfRequest(
            base=sizing_request(portfolio_id),
            variations=[
                sizing_service_pb2.Variation(name="target", parameters=needs),
                sizing_service_pb2.Variation(name="half", edge_multiplier=0.5),
            ],
        )
    )
    target, half = answer.results
    assert target.status == types_pb2.SIZING_STATUS_REFUSED
    assert "volatility" in target.message
    assert not target.HasField("sizes")
    assert half.status != types_pb2.SIZING_STATUS_REFUSED
    assert half.message == ""


async def test_settling_says_what_is_open(client: Client) -> None:
    portfolio_id = await client.ready()
    no_edge = sizing_request(portfolio_id, ["I0"], {"win_probability": [0.1]})
    idle = await client.size(no_edge)
    request = sizing_service_pb2.SettleDecisionRequest(
        request_id=str(uuid4()), decision_id=idle.decision_id, close=True
    )
    refused = await refusal(client.sizing.SettleDecision(request))
    assert (refused.code, refused.reason) == (PRECONDITION, "NOTHING_TO_TRADE")
    decision = await client.size(sizing_request(portfolio_id, ["I0"]))
    lots = decision.sizes.trade_lots[0]
    fills = sizing_service_pb2.Fills(instrument_ids=["I0"], lots=[lots + 1], price=[10.0])
    request = sizing_service_pb2.SettleDecisionRequest(
        request_id=str(uuid4()), decision_id=decision.decision_id, fills=fills
    )
    refused = await refusal(client.sizing.SettleDecision(request))
    assert (refused.code, refused.reason) == (PRECONDITION, "FILL_NOT_OPEN")
    assert f"where {lots} are open" in refused.message
    # However far its price is from the market of what it names.
    fills = sizing_service_pb2.Fills(instrument_ids=["I1"], lots=[1], price=[9_999.0])
    request = sizing_service_pb2.SettleDecisionRequest(
        request_id=str(uuid4()), decision_id=decision.decision_id, fills=fills
    )
    refused = await refusal(client.sizing.SettleDecision(request))
    assert (refused.code, refused.reason) == (PRECONDITION, "FILL_NOT_OPEN")
    assert "'I1'" in refused.message


async def test_a_fill_counts_after_the_order_was_closed(client: Client) -> None:
    portfolio_id = await client.ready()
    decision = await client.size(sizing_request(portfolio_id, ["I0"]))
    lots, unit = decision.sizes.trade_lots[0], decision.sizes.lot_size[0]
    states = sizing_service_pb2.SettlementState
    fills = sizing_service_pb2.Fills(instrument_ids=["I0"], lots=[lots], price=[10.0])
    for given, state in (
        ({"close": True}, states.SETTLEMENT_STATE_CANCELLED),
        ({"fills": fills}, states.SETTLEMENT_STATE_FILLED),
    ):
        request = sizing_service_pb2.SettleDecisionRequest(
            request_id=str(uuid4()), decision_id=decision.decision_id, **given
        )
        assert (await client.sizing.SettleDecision(request)).settlement_state == state
    held = await client.portfolio.GetPortfolio(
        portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id)
    )
    assert held.portfolio.cash == 1e6 - 10.0 * lots * unit
    assert list(held.portfolio.holdings.quantity) == [lots * unit]


async def test_a_range_of_times_that_is_empty(client: Client) -> None:
    request = sizing_service_pb2.ListDecisionsRequest(
        create_time_from=Timestamp(seconds=2), create_time_to=Timestamp(seconds=1)
    )
    refused = await refusal(client.sizing.ListDecisions(request))
    assert refused.fields == {"create_time_from": "EMPTY_RANGE"}


async def test_a_missing_price_names_the_snapshot(client: Client) -> None:
    portfolio_id = await client.ready(weight_max=0.1)
    held = portfolio_service_pb2.Holdings(instrument_ids=["GONE"], quantity=[5.0])
    await client.portfolio.SetHoldings(
        portfolio_service_pb2.SetHoldingsRequest(portfolio_id=portfolio_id, cash=1e6, holdings=held)
    )
    snapshot_id = await client.put_market()
    request = sizing_request(portfolio_id, market_snapshot_id=snapshot_id)
    refused = await refusal(client.sizing.SizePositions(request))
    assert (refused.code, refused.reason) == (PRECONDITION, "MISSING_PRICE")
    assert "'GONE'" in refused.message
    assert repr(snapshot_id) in refused.message

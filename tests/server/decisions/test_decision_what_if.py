"""Recorded decisions varied: each equals the request it stands for, and nothing is recorded."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import (
    corporate_action_pb2,
    limits_pb2,
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    types_pb2,
)
from positionsizing.v1 import explanation_service_pb2 as pb
from positionsizing.v1 import sizing_service_pb2 as sizing

from tests.server.support.service_client import (
    INSTRUMENTS,
    PRICES,
    Client,
    new_id,
    refusal,
    sizing_request,
)

LIMITS = {"weight_max": 0.05, "leverage_max": 1.0}
OLD = datetime(2020, 3, 2, 21, tzinfo=UTC)


async def decided(client: Client, portfolio_id: str, **given: object) -> str:
    return (await client.size(sizing_request(portfolio_id, **given))).decision_id  # type: ignore[arg-type]


async def what_if(client: Client, decision_id: str, **given: object) -> sizing.WhatIfResult:
    variation = pb.DecisionVariation(**given)  # type: ignore[arg-type]
    request = pb.WhatIfDecisionRequest(decision_id=decision_id, variations=[variation])
    (found,) = (await client.explanation.WhatIfDecision(request)).results
    return found


async def direct(client: Client, limits: dict[str, float], **given: object) -> list[int]:
    """The lots of a fresh portfolio under these limits."""
    portfolio_id = await client.ready(**limits)
    request = sizing_request(portfolio_id, validate_only=True, **given)  # type: ignore[arg-type]
    return list((await client.size(request)).sizes.lots)


async def test_an_unchanged_decision_is_what_was_answered_and_leaves_no_trace(
    client: Client,
) -> None:
    portfolio_id = await client.ready(**LIMITS)
    decision_id = await decided(client, portfolio_id)
    before = await client.counts(portfolio_id)
    looser = pb.DecisionVariation(limits_instead=limits_pb2.Limits(weight_max=0.4))
    request = pb.WhatIfDecisionRequest(
        decision_id=decision_id, variations=[pb.DecisionVariation(), looser]
    )
    answer = await client.explanation.WhatIfDecision(request)
    same, more = answer.results
    assert answer.recorded.decision_id == decision_id
    assert same.sizes == answer.recorded.sizes
    assert sum(more.sizes.lots) > sum(same.sizes.lots)
    assert await client.counts(portfolio_id) == before
    # A request to size is under the limits as they were.
    again = await client.size(sizing_request(portfolio_id, validate_only=True))
    assert max(again.sizes.weight) <= 0.05


async def test_limits_in_place_of_those_in_force(client: Client) -> None:
    decision_id = await decided(client, await client.ready(**LIMITS, turnover_max=0.2))
    wider = limits_pb2.Limits(weight_max=0.15)
    found = await what_if(client, decision_id, limits_instead=wider, limits_lifted=["turnover_max"])
    assert list(found.sizes.lots) == await direct(client, {**LIMITS, "weight_max": 0.15})
    tighter = await what_if(client, decision_id, limits_instead=limits_pb2.Limits(weight_max=0.02))
    expected = {**LIMITS, "weight_max": 0.02, "turnover_max": 0.2}
    assert list(tighter.sizes.lots) == await direct(client, expected)


async def test_limits_of_the_request_give_way_too(client: Client) -> None:
    portfolio_id = await client.ready(**LIMITS)
    own = limits_pb2.Limits(weight_max=0.01)
    decision_id = await decided(client, portfolio_id, limits=own)
    found = await what_if(client, decision_id, limits_instead=limits_pb2.Limits(weight_max=0.08))
    assert list(found.sizes.lots) == await direct(client, {**LIMITS, "weight_max": 0.08})


async def test_other_prices_and_another_date(client: Client) -> None:
    past = Timestamp()
    past.FromDatetime(OLD)
    cheap = await client.put_market(as_of_time=past, price=[p / 2 for p in PRICES])
    portfolio_id = await client.ready(**LIMITS)
    decision_id = await decided(client, portfolio_id)
    expected = await direct(client, LIMITS, market_snapshot_id=cheap)
    named = await what_if(client, decision_id, market_snapshot_id=cheap)
    assert list(named.sizes.lots) == expected
    time = Timestamp()
    time.FromDatetime(OLD + timedelta(hours=1))
    dated = await what_if(client, decision_id, market_time=time)
    assert dated.sizes == named.sizes
    time.FromDatetime(OLD - timedelta(days=3650))
    variation = pb.DecisionVariation(market_time=time)
    request = pb.WhatIfDecisionRequest(decision_id=decision_id, variations=[variation])
    refused = await refusal(client.explanation.WhatIfDecision(request))
    assert refused.code is grpc.StatusCode.NOT_FOUND
    assert refused.message.startswith("no market snapshot is stored as of 20")


async def test_what_is_held_moves_with_the_market(client: Client) -> None:
    """1,000 units of I0 are 1 % of equity at 10 and, cash as it was, twice that at 20."""
    await client.put_market()
    doubled = await client.put_market(price=[20.0, *PRICES[1:]])
    portfolio_id = await client.put_portfolio(990_000.0, {"I0": 1000.0})
    scope = sizing_scope(portfolio_id)
    await client.set_limits(scope, weight_max=0.1, leverage_max=1.0)
    snapshot = await client.put_market()
    decision_id = await decided(client, portfolio_id, market_snapshot_id=snapshot)
    found = await what_if(client, decision_id, market_snapshot_id=doubled)
    place = list(found.sizes.instrument_ids).index("I0")
    assert found.sizes.weight_before[place] == pytest.approx(20_000 / 1_010_000)
    few = await client.put_market(instrument_ids=["I1"], price=[20.0], volatility=[0.3],
                                  average_daily_volume=[1e6], sector=["A"])  # fmt: skip
    found = await what_if(client, decision_id, market_snapshot_id=few)
    assert found.status == types_pb2.SIZING_STATUS_REFUSED
    assert "'I0'" in found.message


def sizing_scope(portfolio_id: str) -> portfolio_service_pb2.Scope:
    return portfolio_service_pb2.Scope(portfolio_id=portfolio_id)


async def matrix(client: Client, correlation: float) -> str:
    """A covariance of the first four instruments."""
    values = 0.01 * ((1.0 - correlation) * np.eye(4) + correlation)
    made = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
        as_of_time=Timestamp(seconds=1_600_000_000),
        instrument_ids=INSTRUMENTS[:4],
        dense=market_service_pb2.DenseMatrix(values=values.ravel()),
    )
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=made))
    return made.matrix_id


async def test_another_matrix(client: Client) -> None:
    alike, apart = await matrix(client, 0.9), await matrix(client, 0.0)
    portfolio_id = await client.ready(weight_max=0.9, leverage_max=1.0)
    change = sizing.Variation(name="penalised")
    change.parameters.kelly_fraction = 0.1
    change.parameters.correlation_penalty = parameter_service_pb2.CORRELATION_PENALTY_QUADRATIC
    live = []
    for matrix_id in (apart, alike):
        base = sizing_request(portfolio_id, validate_only=True, covariance_matrix_id=matrix_id)
        request = sizing.WhatIfRequest(base=base, variations=[change])
        live.append((await client.sizing.WhatIf(request)).results[0])
    decision_id = await decided(client, portfolio_id, covariance_matrix_id=apart)
    assert await what_if(client, decision_id, change=change) == live[0]
    found = await what_if(client, decision_id, change=change, covariance_matrix_id=alike)
    assert found == live[1]
    assert sum(found.sizes.lots) < sum(live[0].sizes.lots)


async def test_shocks_and_parameters_are_those_of_what_ifs(client: Client) -> None:
    portfolio_id = await client.ready(**LIMITS)
    change = sizing.Variation(
        name="worse",
        shocks=[sizing.InstrumentShock(instrument_id="I0", price_multiplier=0.5)],
        edge_multiplier=0.2,
    )
    change.parameters.kelly_fraction = 0.1
    base = sizing_request(portfolio_id, validate_only=True)
    live = await client.sizing.WhatIf(sizing.WhatIfRequest(base=base, variations=[change]))
    found = await what_if(client, await decided(client, portfolio_id), change=change)
    assert found == live.results[0]


async def test_a_split_between_the_markets_is_refused(client: Client) -> None:
    name = new_id("SPLIT")
    old = await client.put_market(instrument_ids=[name], price=[100.0], volatility=[0.3],
                                  average_daily_volume=[1e6], sector=["A"])  # fmt: skip
    portfolio_id = await client.put_portfolio(1e6, {name: 100.0})
    await client.set_limits(sizing_scope(portfolio_id), **LIMITS)
    action = corporate_action_pb2.CorporateAction(
        instrument_id=name, split=corporate_action_pb2.Split(new_units=2, old_units=1)
    )
    action.effective_time.FromDatetime(datetime.now(UTC))
    request = market_service_pb2.ApplyCorporateActionRequest(
        request_id=str(uuid4()), action=action, reason="test"
    )
    after = (await client.market.ApplyCorporateAction(request)).market_snapshot_id
    decision_id = await decided(client, portfolio_id, instruments=[name], market_snapshot_id=after)
    found = await what_if(client, decision_id, market_snapshot_id=old)
    assert found.status == types_pb2.SIZING_STATUS_REFUSED
    assert "corporate action" in found.message


@pytest.mark.parametrize(
    ("variation", "path", "reason"),
    [
        (pb.DecisionVariation(limits_lifted=["wait_max"]), "limits_lifted[0]", "UNKNOWN_FIELD"),
        (pb.DecisionVariation(limits_lifted=["joint.nothing"]), "limits_lifted[0]",
         "UNKNOWN_FIELD"),
        (pb.DecisionVariation(limits_instead=limits_pb2.Limits(weight_max=-1.0)),
         "limits_instead.weight_max", "OUT_OF_RANGE"),
        (pb.DecisionVariation(market_snapshot_id="a", market_time=Timestamp(seconds=9)),
         "market_time", "AMBIGUOUS"),
        (pb.DecisionVariation(change=sizing.Variation(
            shocks=[sizing.InstrumentShock(instrument_id="nobody")])),
         "change.shocks[0].instrument_id", "UNKNOWN_INSTRUMENT"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named(
    client: Client, variation: pb.DecisionVariation, path: str, reason: str
) -> None:
    decision_id = await decided(client, await client.ready(**LIMITS))
    request = pb.WhatIfDecisionRequest(
        decision_id=decision_id, variations=[pb.DecisionVariation(), variation]
    )
    refused = await refusal(client.explanation.WhatIfDecision(request))
    assert refused.fields == {f"variations[1].{path}": reason}


async def test_what_was_looked_up_then_is_not_looked_up_again(client: Client) -> None:
    variation = pb.DecisionVariation()
    variation.change.parameters.drawdown_floor = 0.8
    decision_id = await decided(client, await client.ready(**LIMITS))
    request = pb.WhatIfDecisionRequest(decision_id=decision_id, variations=[variation])
    refused = await refusal(client.explanation.WhatIfDecision(request))
    path = "variations[0].change.parameters.drawdown_floor"
    assert refused.fields == {path: "NOT_APPLICABLE"}

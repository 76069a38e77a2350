"""A parameter in a what-if is what the same one stored would be, or is refused by its path."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import (
    condition_service_pb2,
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from compute.parameters import PARAMETERS
from server.convert.variation_parameters import REACH
from tests.server.support.service_client import Client, Refused, new_id, refusal

ALL_DAY = {"rows": [{"name": "always", "time_zone": "UTC", "multiplier": 0.1}]}
CONDITION, UNIVERSE = "what-if-index", "what-if-universe"
RULES = {
    "rules": [
        {
            "name": "high",
            "condition_id": CONDITION,
            "enter": 0.5,
            "leave": 0.2,
            "multiplier": 0.1,
        }
    ]
}

SAMPLES: dict[str, Any] = {
    "method": "SIZING_METHOD_RISK_PARITY",
    "kelly_fraction": 0.2,
    "drawdown_tolerance": {"wealth_floor": 0.5, "probability": 0.05},
    "confidence_shrinkage": "CONFIDENCE_SHRINKAGE_NONE",
    "risk_free_rate": 0.005,
    "cost_rate": 0.003,
    "impact_coefficient": 5.0,
    "no_trade_region": "NO_TRADE_REGION_LONG_RUN",
    "trade_rate": 0.3,
    "robust": {"set": "UNCERTAINTY_SET_BOX", "radius": 0.005},
    "volatility_target": 0.02,
    "stop_risk_max": 0.001,
    "risk_budget": 0.05,
    "interval_probability": 0.5,
    "prior_wins": 5.0,
    "prior_losses": 5.0,
    "reservation_ttl": "60s",
    "market_age_max": "1s",
    "portfolio_age_max": "1s",
    "joint_objective": {"kind": "OBJECTIVE_KIND_MEAN_VARIANCE", "risk_aversion": 3.0},
    "matrix_age_max": "1s",
    "periods_per_year": 252.0,
    "fill_deviation_max": 0.1,
    "covariance_universe": UNIVERSE,
    "correlation_penalty": "CORRELATION_PENALTY_PROPORTIONAL",
    "schedule": ALL_DAY,
    "edge_half_life": "3600s",
    "edge_model_id": "m",
    "size_model_id": "m",
    "drawdown_floor": 0.5,
    "equity_floor": 100_000.0,
    "drawdown_multiplier": 1.5,
    "condition_rules": RULES,
    "algorithm": {"name": "nobody"},
    "volatility_model": "there-is-none",
    "price_jump_max": 0.1,
    "equity_jump_max": 1e-6,
    "plan_periods": 5,
    "lot_choice": "LOT_CHOICE_SEARCHED",
    "edge_gone_action": "EDGE_GONE_ACTION_REDUCE_PORTFOLIO",
}
"""One value of every parameter, other than its default."""

BESIDE: dict[str, dict[str, Any]] = {
    "method": {"risk_budget": 0.1},
    "no_trade_region": {"cost_rate": 0.01},
    "drawdown_multiplier": {"drawdown_floor": 0.5},
}
"""What has to be there for a parameter to change anything."""

NOT_APPLICABLE = {
    "reservation_ttl",
    "fill_deviation_max",
    "edge_model_id",
    "size_model_id",
    "price_jump_max",
    "edge_gone_action",
}
WITHOUT_EFFECT = {
    "interval_probability",  # of intervals, not of sizes
    "periods_per_year",  # no correlation is read
    "prior_wins",  # of edges from outcomes; here they are given
    "prior_losses",
    "joint_objective",  # of another method
    "lot_choice",
    "plan_periods",
    "matrix_age_max",  # no matrix is read
    "correlation_penalty",  # no covariance is at hand
    "algorithm",  # of another method
    "equity_jump_max",  # no equity has been accepted yet
    "portfolio_age_max",  # the portfolio is young
}
"""Changes no size of this request, whether it is stored or varied."""


@pytest_asyncio.fixture
async def snapshot_id(client: Client) -> str:
    """A market of half a minute ago, with a covariance and a condition."""
    then = Timestamp()
    then.FromDatetime(datetime.now(UTC) - timedelta(seconds=30))
    await client.market.PutMatrix(
        market_service_pb2.PutMatrixRequest(
            matrix=market_service_pb2.Matrix(
                matrix_id=new_id("matrix"),
                kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
                as_of_time=then,
                universe_id=UNIVERSE,
                instrument_ids=["I0", "I1"],
                dense=market_service_pb2.DenseMatrix(values=[0.04, 0.02, 0.02, 0.04]),
            )
        )
    )
    await client.condition.PutCondition(
        condition_service_pb2.PutConditionRequest(
            condition=condition_service_pb2.Condition(condition_id=CONDITION, value=1.0)
        )
    )
    return await client.put_market(price=[0.1] * 8, as_of_time=then)


async def _portfolio(client: Client, stored: dict[str, Any]) -> str:
    portfolio_id = await client.put_portfolio(1e6)
    await client.set_limits(
        parameter_scope(portfolio_id), weight_max=3.0, leverage_max=5.0, cash_buffer=0.0
    )
    if stored:
        await client.parameter.SetParameters(
            parameter_service_pb2.SetParametersRequest(
                portfolio_id=portfolio_id, parameters=_message(stored)
            )
        )
    return portfolio_id


def parameter_scope(portfolio_id: str) -> portfolio_service_pb2.Scope:
    return portfolio_service_pb2.Scope(portfolio_id=portfolio_id)


def _message(given: dict[str, Any]) -> parameter_service_pb2.SizingParameters:
    return json_format.ParseDict(given, parameter_service_pb2.SizingParameters())


def _request(portfolio_id: str, snapshot_id: str) -> sizing_service_pb2.SizePositionsRequest:
    hour_ago = Timestamp()
    hour_ago.FromDatetime(datetime.now(UTC) - timedelta(hours=1))
    return sizing_service_pb2.SizePositionsRequest(
        portfolio_id=portfolio_id,
        market_snapshot_id=snapshot_id,
        validate_only=True,
        signals=sizing_pb2.SignalBatch(
            instrument_ids=["I0", "I1"],
            side=[1, 1],
            edge_source=[2, 2],
            expected_return=[0.02, 0.03],
            expected_return_error=[0.01, 0.01],
            volatility=[0.2, 0.2],
            stop_price=[0.09, 0.09],
            as_of_time=hour_ago,
        ),
    )


async def _sized(client: Client, stored: dict[str, Any], snapshot_id: str) -> list[float] | Refused:
    """The weights of a decision where these parameters are stored."""
    request = _request(await _portfolio(client, stored), snapshot_id)
    try:
        return list((await client.size(request)).sizes.weight)
    except Exception:
        return await refusal(client.size(request))


async def _varied(
    client: Client, stored: dict[str, Any], given: dict[str, Any], snapshot_id: str
) -> sizing_service_pb2.WhatIfResult:
    base = _request(await _portfolio(client, stored), snapshot_id)
    base.validate_only = False
    answer = await client.sizing.WhatIf(
        sizing_service_pb2.WhatIfRequest(
            base=base,
            variations=[sizing_service_pb2.Variation(name="v", parameters=_message(given))],
        )
    )
    return answer.results[0]


def test_every_parameter_is_decided_upon() -> None:
    contract = parameter_service_pb2.SizingParameters.DESCRIPTOR.fields_by_name
    assert set(SAMPLES) == set(contract)
    assert set(REACH) == {parameter.name for parameter in PARAMETERS}
    assert {p.contract_name for p in PARAMETERS} == set(contract)


@pytest.mark.parametrize("name", sorted(set(SAMPLES) - NOT_APPLICABLE))
async def test_a_variation_is_what_the_stored_parameter_would_be(
    name: str, client: Client, snapshot_id: str
) -> None:
    beside = BESIDE.get(name, {})
    given = {name: SAMPLES[name], **beside}
    varied = await _varied(client, {}, given, snapshot_id)
    stored = await _sized(client, given, snapshot_id)
    if isinstance(stored, Refused):
        assert varied.status == types_pb2.SIZING_STATUS_REFUSED
        assert varied.message
        return
    assert list(varied.sizes.weight) == pytest.approx(stored, rel=1e-4)
    plain = await _sized(client, beside, snapshot_id)
    assert (stored != pytest.approx(plain, rel=1e-4)) == (name not in WITHOUT_EFFECT)


@pytest.mark.parametrize("name", sorted(NOT_APPLICABLE))
async def test_what_a_variation_cannot_look_at_is_refused_by_its_path(
    name: str, client: Client, snapshot_id: str
) -> None:
    refused = await refusal(_varied(client, {}, {name: SAMPLES[name]}, snapshot_id))
    assert refused.fields == {f"variations[0].parameters.{name}": "NOT_APPLICABLE"}


@pytest.mark.parametrize(
    ("name", "stored", "without"),
    [
        ("schedule", ALL_DAY, {"rows": []}),
        ("condition_rules", RULES, {"rules": []}),
        ("edge_half_life", "3600s", "2592000s"),
    ],
)
async def test_a_variation_takes_back_what_is_stored(
    name: str, stored: Any, without: Any, client: Client, snapshot_id: str
) -> None:
    """The base is a tenth, or half; an hour of thirty days is a thousandth of the edge."""
    varied = await _varied(client, {name: stored}, {name: without}, snapshot_id)
    plain = await _sized(client, {}, snapshot_id)
    assert list(varied.sizes.weight) == pytest.approx(plain, rel=2e-3)


async def test_parameters_and_prices_vary_together(client: Client, snapshot_id: str) -> None:
    """A tenth of the stake from the schedule; the price alone changes no weight of this edge."""
    base = _request(await _portfolio(client, {}), snapshot_id)
    base.validate_only = False
    both = sizing_service_pb2.Variation(parameters=_message({"schedule": ALL_DAY}))
    both.price_multiplier = 2.0
    answer = await client.sizing.WhatIf(
        sizing_service_pb2.WhatIfRequest(
            base=base, variations=[both, sizing_service_pb2.Variation(price_multiplier=2.0)]
        )
    )
    tenth, whole = (list(result.sizes.weight) for result in answer.results)
    assert tenth == pytest.approx([weight / 10 for weight in whole], rel=1e-4)
    assert whole == pytest.approx(list(answer.base.sizes.weight), rel=1e-4)


@pytest.mark.parametrize("is_shock", [False, True])
@pytest.mark.parametrize("side", [1, 2])
async def test_a_price_beyond_the_stop_of_the_signal_sizes_nothing(
    side: int, is_shock: bool, client: Client
) -> None:
    """Price 10; a long stops at 9.5 and 9 has passed it, a short at 10.5 and 11 has."""
    multiplier = 0.9 if side == 1 else 1.1
    portfolio_id = await _portfolio(client, {"stop_risk_max": 0.001})
    await client.set_limits(
        parameter_scope(portfolio_id), weight_max=3.0, leverage_max=5.0, allow_short=True
    )
    base = _request(portfolio_id, await client.put_market())
    base.validate_only = False
    base.signals.side[:] = [side] * 2
    base.signals.stop_price[:] = [9.5, 1.0] if side == 1 else [10.5, 100.0]
    variation = sizing_service_pb2.Variation()
    if is_shock:
        variation.shocks.add(instrument_id="I0", price_multiplier=multiplier)
    else:
        variation.price_multiplier = multiplier
    request = sizing_service_pb2.WhatIfRequest(base=base, variations=[variation])
    answer = await client.sizing.WhatIf(request)
    assert answer.base.sizes.lots[0] != 0
    (found,) = answer.results
    assert found.sizes.line_status[0] == types_pb2.LINE_STATUS_REFUSED
    assert found.sizes.lots[0] == 0
    assert found.sizes.lots[1] != 0, "the other line has not passed its stop"
    assert "stop_price" in found.message
    request.base.all_or_nothing = True
    (found,) = (await client.sizing.WhatIf(request)).results
    assert found.status == types_pb2.SIZING_STATUS_REFUSED
    assert "stop_price" in found.message


async def test_so_does_one_beyond_the_stop_of_the_snapshot(client: Client) -> None:
    portfolio_id = await _portfolio(client, {"stop_risk_max": 0.001})
    market = await client.put_market(stop_price=[9.5, 1.0, *[0.0] * 6])
    base = _request(portfolio_id, market)
    base.validate_only = False
    del base.signals.stop_price[:]
    variation = sizing_service_pb2.Variation(price_multiplier=0.9)
    request = sizing_service_pb2.WhatIfRequest(base=base, variations=[variation])
    (found,) = (await client.sizing.WhatIf(request)).results
    assert found.sizes.line_status[0] == types_pb2.LINE_STATUS_REFUSED
    assert found.sizes.lots[1] != 0
    assert "stop" in found.message

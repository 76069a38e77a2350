"""The examples of docs/methods.md, sent as they stand, and numbers of its sentences and tables."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from positionsizing.v1 import (
    edge_service_pb2,
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    types_pb2,
)

from tests.server.support.service_client import INSTRUMENTS, PRICES, Client, new_id, sizing_request

PAGE = (Path(__file__).parents[3] / "docs" / "methods.md").read_text()
EXAMPLES = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
SENTENCES = " ".join(PAGE.split())
N = len(INSTRUMENTS)


def test_every_section_has_an_example() -> None:
    assert len(EXAMPLES) >= 10
    for section in PAGE.split("\n## ")[1:]:
        assert "```json" in section, section[:40]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: json.dumps(e)[:60])
async def test_the_numbers_of_the_page(client: Client, example: dict[str, Any]) -> None:
    assert await weight_of(client, example) == pytest.approx(example["weight"], abs=5e-8)


async def weight_of(client: Client, example: dict[str, Any]) -> float:
    """What an example comes to at its stage."""
    equity = float(example.get("equity", 1e9))
    market = dict(example.get("market", {}))
    columns: dict[str, Any] = {"margin_rate_long": [0.01] * N}
    if "daily_value" in market:
        volume = market.pop("daily_value")
        columns["average_daily_volume"] = [volume / price for price in PRICES]
    columns |= {name: [value] * N for name, value in market.items()}
    await client.put_market(**columns)
    held = example.get("held", 0.0)
    units = {"I0": held * equity / PRICES[0]} if held else {}
    portfolio_id = await client.put_portfolio(equity * (1 - held), units)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, leverage_max=60.0)
    given = {"kelly_fraction": 1.0, "confidence_shrinkage": "CONFIDENCE_SHRINKAGE_NONE"}
    parameters = parameter_service_pb2.SizingParameters()
    json_format.ParseDict(given | example.get("parameters", {}), parameters)
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=parameters)
    )
    signals = {"win_probability": [], "payoff": []}
    for name, value in example.get("signals", {}).items():
        signals[name] = value if isinstance(value, list) else [value]
    if "history_outcome" in signals:
        signals["history_length"] = [len(signals["history_outcome"])]
    request = sizing_request(portfolio_id, ["I0"], signals, validate_only=True)
    if "scenarios" in example:
        request.scenario_matrix_id = await put_scenarios(client, example)
    return weight_at(await client.size(request), example["stage"])


def weight_at(decision: Any, name: str) -> float:
    """The weight after a stage, which has to have changed it."""
    stages = {types_pb2.SizingStage.Name(s.stage): s for s in decision.waterfall.stages}
    return float(stages[f"SIZING_STAGE_{name}"].weight[0])


async def put_scenarios(client: Client, example: dict[str, Any]) -> str:
    values = np.tile(np.array(example["scenarios"])[:, None], N)
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("scenarios"),
        kind=market_service_pb2.MATRIX_KIND_SCENARIOS,
        instrument_ids=INSTRUMENTS,
        dense=market_service_pb2.DenseMatrix(values=values.ravel()),
        scenario_probability=example["scenario_probability"],
    )
    matrix.as_of_time.GetCurrentTime()
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    return matrix.matrix_id


async def stakes(client: Client, **given: Any) -> edge_service_pb2.EvaluateStakesResponse:
    return await client.edge.EvaluateStakes(edge_service_pb2.EvaluateStakesRequest(**given))


def percent(share: float) -> str:
    return f"{100.0 * share:.1f}".removesuffix(".0") + " %"


async def test_the_table_of_fractions(client: Client) -> None:
    asset = edge_service_pb2.AssetEdge(expected_return=0.06, volatility=0.2)
    fractions = [0.25, 0.5, 0.7, 1.0]
    answer = await stakes(client, asset=asset, kelly_fractions=fractions, levels=[0.5, 0.7])
    for row in answer.rows:
        growth = f"{100.0 * row.growth / answer.rows[-1].growth:.0f} %"
        chances = [row.doubles_before_halving, *row.ever_below]
        cells = [f"{row.kelly_fraction:g}", growth, *map(percent, chances)]
        assert f"| {' | '.join(cells)} |" in PAGE
    full = answer.rows[-1]
    assert full.ever_below[0] == pytest.approx(1 / 2)
    assert full.doubles_before_halving == pytest.approx(1 - 1 / 3)
    assert "half its money with a chance of 1/2, and with 1/3 before it has doubled it" in SENTENCES


async def test_intervals_floors_and_guarantees_of_sentences(client: Client) -> None:
    outcomes = edge_service_pb2.EstimateEdgeRequest(
        instrument_ids=["A"], history_outcome=[1.0] * 6 + [-1.0] * 4, history_length=[10]
    )
    edge = (await client.edge.EstimateEdge(outcomes)).estimates
    told = f"of these ten games from {edge.kelly_low[0]:.2f} to {edge.kelly_high[0]:.2f}"
    assert told in SENTENCES
    bet = edge_service_pb2.BetEdge(win_probability=0.6, payoff=1.0)
    floor = await stakes(client, bet=bet, wealth_floor=0.7, floor_probability=0.1)
    stake = floor.kelly * floor.floor_kelly_fraction
    assert f"stakes {stake:.4f} instead of {floor.kelly:g}" in SENTENCES
    guarantee = edge_service_pb2.GrowthGuarantee(periods=120, probability=0.05)
    asset = edge_service_pb2.AssetEdge(expected_return=0.01, volatility=0.05)
    (row,) = (await stakes(client, asset=asset, kelly_fractions=[0.25], guarantee=guarantee)).rows
    assert row.stake == pytest.approx(1.0)
    assert f"at a stake of 1, {100 * row.guaranteed_growth:.2f} % a period" in SENTENCES
    assert "36 months a month's Sharpe ratio must be above 0.5" in SENTENCES
    guarantee = edge_service_pb2.GrowthGuarantee(periods=36, probability=0.1)
    for ratio, is_staked in ((0.499, False), (0.501, True)):
        asset = edge_service_pb2.AssetEdge(expected_return=0.05 * ratio, volatility=0.05)
        answer = await stakes(client, asset=asset, guarantee=guarantee)
        assert (answer.guaranteed_stake > 0.0) == is_staked


async def test_costs_of_sentences(client: Client) -> None:
    asset = edge_service_pb2.AssetEdge(expected_return=0.05, volatility=0.4)
    (row,) = (await stakes(client, asset=asset, kelly_fractions=[1.0], spread=0.01)).rows
    assert (
        f"from {row.no_trade_low:.3f} to {row.no_trade_high:.3f} and "
        f"{100 * row.traded_safe_rate:.2f} %, where {100 * row.growth:.2f} % was without costs"
    ) in SENTENCES
    (region,) = (e for e in EXAMPLES if "no_trade_region" in e.get("parameters", {}))
    high = await weight_of(client, region)
    low = await weight_of(client, region | {"held": 0.0})
    assert f"decisions weigh at the mid, at which they are {low:.3f} and {high:.3f}" in SENTENCES
    f, e = row.stake, 0.01
    width = np.cbrt(0.75 * f**2 * (1 - f) ** 2 * e)
    assert (f - width, f + width) == pytest.approx((row.no_trade_low, row.no_trade_high), abs=1e-3)
    (impact,) = (e for e in EXAMPLES if "impact_coefficient" in e.get("parameters", {}))
    kept = await weight_of(client, impact)
    sold = await weight_of(client, impact | {"signals": impact["signals"] | {"holding_periods": 1}})
    assert (
        f"is {kept:.2f} of equity if it is held for twenty days, and "
        f"{100 * sold:.1f} % of it if it is sold again the next"
    ) in SENTENCES

"""The examples of docs/methods.md, sent as they stand."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from positionsizing.v1 import (
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    types_pb2,
)
from service_client import INSTRUMENTS, PRICES, Client, new_id, sizing_request

PAGE = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
EXAMPLES = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
N = len(INSTRUMENTS)


def test_every_section_has_an_example() -> None:
    assert len(EXAMPLES) >= 10
    for section in PAGE.split("\n## ")[1:]:
        assert "```json" in section, section[:40]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: json.dumps(e)[:60])
async def test_the_numbers_of_the_page(client: Client, example: dict[str, Any]) -> None:
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
    decision = await client.size(request)
    assert weight_at(decision, example["stage"]) == pytest.approx(example["weight"], abs=5e-8)


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

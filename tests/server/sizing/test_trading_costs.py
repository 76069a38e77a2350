"""What trading costs, taken out of edges alike by both methods; known numbers through the RPC."""

from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import (
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.limits.test_limits_on_lots import put_matrix
from tests.server.support.service_client import (
    INSTRUMENTS,
    PRICES,
    Client,
    new_id,
    refusal,
    sizing_request,
)

N = len(INSTRUMENTS)
JOINT, CLOSED = types_pb2.SIZING_METHOD_JOINT, types_pb2.SIZING_METHOD_CLOSED_FORM
Parameters = parameter_service_pb2.SizingParameters
NONE = parameter_service_pb2.CONFIDENCE_SHRINKAGE_NONE
Region = parameter_service_pb2.NoTradeRegion
STAGE = types_pb2.SizingStage
METHODS = pytest.mark.parametrize("method", [CLOSED, JOINT], ids=["closed form", "joint"])


async def book(
    client: Client,
    held: float = 0.0,
    market: dict[str, Any] | None = None,
    equity: float = 1e9,
    **parameters: Any,
) -> str:
    """A portfolio with the weight `held` in I0, full Kelly and next to no limits."""
    margin = {"margin_rate_long": [0.01] * N, "margin_rate_short": [0.01] * N}
    market_id = await client.put_market(**margin, **(market or {}))
    units = held * equity / PRICES[0]
    portfolio_id = await client.put_portfolio(equity * (1 - held), {"I0": units} if held else {})
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, leverage_max=60.0, allow_short=True)
    given = {"kelly_fraction": 1.0, "confidence_shrinkage": NONE} | parameters
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id, parameters=Parameters(**given)
        )
    )
    assert market_id
    return portfolio_id


async def moments(
    client: Client,
    portfolio_id: str,
    mean: float,
    variance: float,
    method: int = CLOSED,
    **signals: Any,
) -> sizing_pb2.SizingDecision:
    """The decision on an expected return of I0."""
    given: dict[str, Any] = {"method": method}
    if method == JOINT:
        matrix = await put_matrix(client, "COVARIANCE", variance * np.eye(N))
        given["covariance_matrix_id"] = matrix
    columns = {
        "win_probability": [],
        "payoff": [],
        "expected_return": [mean],
        "volatility": [variance**0.5],
    }
    request = sizing_request(portfolio_id, ["I0"], columns | signals, **given)
    return await client.size(request)


def at(decision: sizing_pb2.SizingDecision, stage: str) -> float:
    """The first line's weight after a stage, or the last before it that changed any."""
    numbers = [s.stage for s in decision.waterfall.stages]
    order = [
        "RAW_KELLY", "COST", "CONFIDENCE", "ROBUST", "KELLY_FRACTION", "CORRELATION", "TRADING_COST"
    ]  # fmt: skip
    wanted = [STAGE.Value(f"SIZING_STAGE_{name}") for name in order[: order.index(stage) + 1]]
    found = [number for number in wanted if number in numbers][-1]
    return decision.waterfall.stages[numbers.index(found)].weight[0]


@pytest.mark.parametrize(
    ("p", "b", "a", "fee", "stake"),
    [
        (0.6, 1.0, 1.0, 0.01, 0.1900190019),
        (0.55, 0.02, 0.01, 0.001, 26.3157894737),
        (0.6, 0.3, 0.2, 0.005, 1.5708970649),
    ],
)
@pytest.mark.parametrize("said", ["parameters", "fee_rate", "fee_per_unit", "spread", "signal"])
async def test_a_fee_on_the_stake_k10_1(
    client: Client, p: float, b: float, a: float, fee: float, stake: float, said: str
) -> None:
    """Whoever says the cost: it is one fraction of the notional."""
    market = {
        "fee_rate": [fee] * N,
        "spread": [2 * fee] * N,
        "fee_per_unit": [fee * price for price in PRICES],
    }
    portfolio_id = await book(
        client,
        market={said: market[said]} if said in market else {},
        cost_rate=fee if said == "parameters" else 0.0,
    )
    signals: dict[str, Any] = {"win_probability": [p], "payoff": [b], "loss_fraction": [a]}
    if said == "signal":
        signals["cost_rate"] = [fee]
    decision = await client.size(sizing_request(portfolio_id, ["I0"], signals))
    assert at(decision, "COST") == pytest.approx(stake, rel=1e-9)


async def test_the_spread_of_an_option_is_of_its_own_price(client: Client) -> None:
    """Half of 2 % of a premium of 5 is 0.05; exposure is 0.4 of an underlying at 100."""
    option = {
        "price": [5.0] * N,
        "underlying_price": [100.0] * N,
        "delta": [0.4] * N,
        "spread": [0.02] * N,
        "fee_rate": [0.01] * N,
    }
    portfolio_id = await book(client, market=option)
    mean, variance = 0.02, 0.01
    decision = await moments(client, portfolio_id, mean, variance)
    cost = (0.05 + 0.05) / 40.0
    assert at(decision, "COST") == pytest.approx((mean - cost) / variance, rel=1e-9)


@METHODS
@pytest.mark.parametrize(
    ("equity", "periods", "stake"),
    [(5e7, 1.0, 0.0090375352), (5e7, 20.0, 1.6391900193), (5e8, 20.0, 0.3181141751)],
)
async def test_impact_is_spread_over_the_holding_time_d7_12(
    joint_client: Client, method: int, equity: float, periods: float, stake: float
) -> None:
    volume = 2e8 / PRICES[0]
    market = {"average_daily_volume": [volume] * N, "volatility": [0.02 * 252**0.5] * N}
    portfolio_id = await book(joint_client, 0.0, market, equity, impact_coefficient=0.7)
    decision = await moments(
        joint_client, portfolio_id, 0.002, 4e-4, method, holding_periods=[periods]
    )
    assert decision.sizes.weight[0] == pytest.approx(stake, abs=2 * PRICES[0] / equity)
    if method == CLOSED:
        assert at(decision, "RAW_KELLY") == pytest.approx(5.0)
        assert at(decision, "TRADING_COST") == pytest.approx(stake, abs=1e-10)


@METHODS
@pytest.mark.parametrize(("held", "kept"), [(0.0, 1.15), (0.8, 1.15), (1.2, 1.2), (1.5, 1.35)])
async def test_what_is_held_moves_to_the_nearer_end_of_its_band_k10_2(
    joint_client: Client, method: int, held: float, kept: float
) -> None:
    portfolio_id = await book(joint_client, held, cost_rate=0.02)
    decision = await moments(joint_client, portfolio_id, 0.05, 0.04, method, holding_periods=[10.0])
    assert decision.sizes.weight[0] == pytest.approx(kept, abs=1e-6)
    if held == 1.2:
        assert list(decision.sizes.trade_lots) == [0]


@METHODS
@pytest.mark.parametrize("held", [0.0, -0.3, -0.58, -0.9])
async def test_the_band_of_a_short_position(joint_client: Client, method: int, held: float) -> None:
    """Half Kelly: from 0.5 x 1.15 to 0.5 x 1.35 short."""
    portfolio_id = await book(joint_client, held, cost_rate=0.004, kelly_fraction=0.5)
    decision = await moments(
        joint_client,
        portfolio_id,
        0.05,
        0.04,
        method,
        holding_periods=[2.0],
        side=[types_pb2.SIDE_SHORT],
    )
    wanted = min(max(-0.675, held), -0.575)
    assert decision.sizes.weight[0] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("mean", "volatility", "aversion", "spread", "low", "high"),
    [
        (0.05, 0.4, 1.0, 0.01, 0.24301653, 0.38198347),
        (0.05, 0.4, 1.0, 0.002, 0.27159438, 0.35340562),
        (0.08, 0.4, 1.0, 0.01, 0.42293332, 0.57706668),
        (0.08, 0.16, 5.0, 0.01, 0.58194231, 0.66805769),
    ],
    ids=["K10.5", "K10.6", "K10.7", "K10.8"],
)
async def test_the_region_of_trading_for_ever(
    client: Client,
    mean: float,
    volatility: float,
    aversion: float,
    spread: float,
    low: float,
    high: float,
) -> None:
    """The published ends are at the ask and at the bid; weights are at the price between them."""
    half = spread / (2.0 - spread)
    ends = low / (1 + half * (1 - low)), high / (1 - half * (1 - high))
    for held, wanted in ((0.0, ends[0]), (0.6 * sum(ends) / 1.2, None), (0.95, ends[1])):
        portfolio_id = await book(
            client,
            held,
            {"spread": [2 * half] * N},
            kelly_fraction=1.0 / aversion,
            no_trade_region=Region.NO_TRADE_REGION_LONG_RUN,
        )
        decision = await moments(client, portfolio_id, mean, volatility**2)
        if wanted is None:
            assert list(decision.sizes.trade_lots) == [0]
        else:
            assert at(decision, "TRADING_COST") == pytest.approx(wanted, abs=2e-8)


async def test_without_a_region_the_whole_target_is_charged(client: Client) -> None:
    portfolio_id = await book(client, 1.2, cost_rate=0.004)
    decision = await moments(client, portfolio_id, 0.05, 0.04)
    assert decision.sizes.weight[0] == pytest.approx(1.15, abs=1e-6)
    portfolio_id = await book(
        client, 1.2, cost_rate=0.004, no_trade_region=Region.NO_TRADE_REGION_NONE
    )
    decision = await moments(client, portfolio_id, 0.05, 0.04, holding_periods=[2.0])
    assert decision.sizes.weight[0] == pytest.approx(1.15, abs=1e-6)


@pytest.mark.parametrize("source", ["bet", "scenarios", "history"])
async def test_a_band_of_any_edge(client: Client, source: str) -> None:
    """A position that is right without costs stays; without one, less is bought."""
    signals: dict[str, Any] = {"holding_periods": [4.0]}
    given: dict[str, Any] = {}
    if source == "bet":
        signals |= {"win_probability": [0.6], "payoff": [0.3], "loss_fraction": [0.2]}
        free, net = 5 / 3, 0.6 / 0.205 - 0.4 / 0.295
    else:
        signals |= {"win_probability": [], "payoff": []}
        returns = np.array([0.3] * 36 + [-0.2] * 24)
        if source == "history":
            signals |= {"history_outcome": returns, "history_length": [60]}
            p = 37 / 62
            free, net = p / 0.2 - (1 - p) / 0.3, p / 0.205 - (1 - p) / 0.295
        else:
            values = np.tile(returns[:, None], N)
            given["scenario_matrix_id"] = await put_matrix(client, "SCENARIOS", values)
            free, net = 5 / 3, 0.6 / 0.205 - 0.4 / 0.295
    for held, wanted in ((0.0, net), (free, free)):
        portfolio_id = await book(client, held, cost_rate=0.01)
        decision = await client.size(sizing_request(portfolio_id, ["I0"], signals, **given))
        assert decision.sizes.weight[0] == pytest.approx(wanted, abs=1e-6)


async def test_a_cost_that_eats_every_edge_sells_nothing_that_still_earns(client: Client) -> None:
    portfolio_id = await book(client, 0.05, cost_rate=0.3)
    signals = {
        "win_probability": [0.55],
        "payoff": [0.02],
        "loss_fraction": [0.01],
        "holding_periods": [1.0],
    }
    decision = await client.size(sizing_request(portfolio_id, ["I0"], signals))
    assert list(decision.sizes.trade_lots) == [0]


@METHODS
async def test_a_part_of_the_way(joint_client: Client, method: int) -> None:
    """Garleanu and Pedersen's rate for rho = .02, gamma = 1, lambda = 3."""
    rate = 0.4269641587
    portfolio_id = await book(joint_client, 0.5, trade_rate=rate)
    decision = await moments(joint_client, portfolio_id, 0.05, 0.04, method)
    assert decision.sizes.weight[0] == pytest.approx(0.5 + rate * 0.75, abs=1e-6)
    stages = [stage.stage for stage in decision.waterfall.stages]
    assert types_pb2.SIZING_STAGE_TRADE_RATE in stages


@METHODS
async def test_an_edge_that_fades_is_aimed_at_less(joint_client: Client, method: int) -> None:
    rate, half_life = 0.4269641587, 5.0
    portfolio_id = await book(joint_client, 0.5, trade_rate=rate)
    decision = await moments(
        joint_client, portfolio_id, 0.05, 0.04, method, edge_half_life_periods=[half_life]
    )
    aim = 1.25 / (1 + (1 - 2 ** (-1 / half_life)) * (1 - rate) / rate)
    assert decision.sizes.weight[0] == pytest.approx(0.5 + rate * (aim - 0.5), abs=1e-6)


@METHODS
async def test_decisions_with_costs_replay(joint_client: Client, method: int) -> None:
    market = {"fee_rate": [0.001] * N, "spread": [0.002] * N, "fee_per_unit": [0.01] * N}
    portfolio_id = await book(
        joint_client, 0.3, market, impact_coefficient=0.5, trade_rate=0.8, kelly_fraction=0.4
    )
    decision = await moments(joint_client, portfolio_id, 0.05, 0.04, method, holding_periods=[5.0])
    assert decision.sizes.trade_lots[0] != 0
    replay = await joint_client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal
    assert replay.weight_difference_max < 1e-12


async def test_impact_needs_volumes(client: Client) -> None:
    portfolio_id = await book(
        client, market={"average_daily_volume": [0.0] + [1e6] * (N - 1)}, impact_coefficient=0.7
    )
    request = sizing_request(portfolio_id, ["I0", "I1"])
    decision = await client.size(request)
    (error,) = decision.line_errors
    assert (error.field, error.reason) == (
        "signals.instrument_ids[0]",
        "MISSING_AVERAGE_DAILY_VOLUME",
    )
    portfolio_id = await book(client, market={"average_daily_volume": []}, impact_coefficient=0.7)
    found = await refusal(client.size(sizing_request(portfolio_id, ["I0"])))
    assert found.reason == "MISSING_AVERAGE_DAILY_VOLUME"


async def test_wrong_costs_are_refused_by_path(client: Client) -> None:
    portfolio_id = await client.ready()
    for column, value in (
        ("holding_periods", -1.0),
        ("holding_periods", 1e-3),
        ("cost_rate", 0.7),
        ("edge_half_life_periods", -5.0),
    ):
        request = sizing_request(portfolio_id, ["I0"], {column: [value]}, all_or_nothing=True)
        found = await refusal(client.size(request))
        assert found.fields == {f"signals.{column}[0]": "OUT_OF_RANGE"}
    request = sizing_request(portfolio_id, ["I0"], {"holding_periods": [1.0, 2.0]})
    found = await refusal(client.size(request))
    assert found.fields == {"signals.holding_periods": "LENGTH_MISMATCH"}
    for name, value in (("trade_rate", 0.0), ("trade_rate", 1.5), ("impact_coefficient", -0.1)):
        asked = parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id, parameters=Parameters(**{name: value})
        )
        found = await refusal(client.parameter.SetParameters(asked))
        assert found.fields == {f"parameters.{name}": "OUT_OF_RANGE"}
    wrong = Parameters(no_trade_region=9)  # type: ignore[arg-type]
    asked = parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=wrong)
    found = await refusal(client.parameter.SetParameters(asked))
    assert found.fields == {"parameters.no_trade_region": "UNKNOWN_VALUE"}
    assert new_id("x")


async def test_fees_beyond_what_a_trade_is_of_are_told(client: Client) -> None:
    """One share left over, and 150 a ticket: it is closed where nothing is expected of it."""
    portfolio_id = await book(client, held=PRICES[0] / 1e9, market={"fee_fixed": [150.0] * N})
    signals = {"win_probability": [], "payoff": [], "volatility": [0.2], "expected_return": [0.0]}
    decision = await client.size(sizing_request(portfolio_id, ["I0"], signals))
    assert list(decision.sizes.trade_lots) == [-1]
    assert [note for note in decision.notes if "fees" in note] == [
        f"I0: fees of 150 for a trade of {PRICES[0]:.6g}, in the portfolio's base currency"
    ]

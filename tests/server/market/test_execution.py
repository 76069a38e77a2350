"""Illiquidity and schedules of trading, through the RPC and the commands."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from positionsizing.v1 import liquidity_service_pb2 as pb
from positionsizing.v1 import market_service_pb2, parameter_service_pb2, simulation_service_pb2
from scipy.optimize import minimize

from compute.risk.execution import TradingCost, priced, scheduled
from tests.server.support.service_client import Client, new_id, refusal

ALMGREN = {  # a share of 50 whose volatility is 0.95 a day, 5 million traded at a spread of 1/8
    "price": [50.0],
    "volatility": [0.95 / 50 * np.sqrt(252.0)],
    "average_daily_volume": [5e6],
    "spread": [0.125 / 50],
}


async def market(client: Client, **columns: Any) -> tuple[str, str]:
    """A snapshot of one instrument of its own, and its name."""
    name = new_id("traded")
    given = {"instrument_ids": [name], "lot_size": [1.0], "sector": [], **ALMGREN, **columns}
    return await client.put_market(**given), name


async def planned(client: Client, quantity: float = 1e6, **given: Any) -> pb.PlanExecutionResponse:
    snapshot_id, name = await market(client, **given.pop("columns", {}))
    portfolio_id = given.pop("portfolio_id", None) or await client.put_portfolio(1e6)
    request = pb.PlanExecutionRequest(
        portfolio_id=portfolio_id,
        market_snapshot_id=snapshot_id,
        instrument_ids=[name],
        quantities=[quantity],
        **({"days": 5.0, "period_count": 5} | given),
    )
    return await client.liquidity.PlanExecution(request)


async def test_the_example_of_almgren_and_chriss_d7_14(client: Client) -> None:
    answer = await planned(client, risk_aversion=1e-6)
    (plan,) = answer.schedules
    assert plan.urgency == pytest.approx(0.6070761632, abs=6e-11)
    left = [1e6, 541955.554, 289854.219, 147897.488, 62141.802, 0.0]
    assert list(plan.left) == pytest.approx(left, abs=6e-4)
    assert list(plan.trades) == pytest.approx(list(-np.diff(left)), abs=1.2e-3)
    assert plan.expected_cost == pytest.approx(911226.986, abs=6e-4)
    assert plan.cost_deviation == pytest.approx(603430.669, abs=6e-4)
    assert plan.straight_cost == pytest.approx(662500.0, abs=1e-6)
    assert plan.straight_deviation == pytest.approx(1040672.859, abs=6e-4)
    assert list(answer.times) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    sold = (await planned(client, -1e6, risk_aversion=1e-6)).schedules[0]
    assert list(sold.left) == pytest.approx([-x for x in plan.left])
    assert sold.expected_cost == pytest.approx(plan.expected_cost)


async def test_the_spread_of_an_option_is_of_its_own_price(client: Client) -> None:
    """A share of 50 at a spread of 1/8, and an option with that exposure at a premium of 5."""
    share = (await planned(client, risk_aversion=0.0)).schedules[0]
    option = {"price": [5.0], "underlying_price": [100.0], "delta": [0.5], "spread": [0.125 / 5]}
    found = (await planned(client, risk_aversion=0.0, columns=option)).schedules[0]
    assert found.expected_cost == pytest.approx(share.expected_cost)
    assert found.cost_deviation == pytest.approx(share.cost_deviation)


async def test_without_an_aversion_it_is_that_of_growth(client: Client) -> None:
    """1 / (2 c W): a million at half of Kelly."""
    portfolio_id = await client.put_portfolio(1e6)
    request = parameter_service_pb2.SetParametersRequest(
        portfolio_id=portfolio_id,
        parameters=parameter_service_pb2.SizingParameters(kelly_fraction=0.5),
    )
    await client.parameter.SetParameters(request)
    answer = await planned(client, portfolio_id=portfolio_id)
    assert answer.risk_aversion == pytest.approx(1e-6, rel=1e-12)
    assert answer.schedules[0].urgency == pytest.approx(0.6070761632, abs=6e-11)
    straight = (await planned(client, risk_aversion=0.0)).schedules[0]
    assert straight.urgency == 0.0
    assert straight.expected_cost == pytest.approx(straight.straight_cost)
    assert list(straight.trades) == pytest.approx([2e5] * 5)


@pytest.mark.parametrize(
    ("volume", "outstanding", "volatility", "permanent", "costs"),
    [
        (6.561e6, 1728e6, 0.0157, 19.86, [32.22, 24.64, 18.42]),
        (1.929e6, 168e6, 0.0226, 21.68, [42.93, 32.01, 23.06]),
    ],
    ids=["IBM", "DRI"],
)
async def test_costs_by_the_power_law_r18(
    client: Client,
    volume: float,
    outstanding: float,
    volatility: float,
    permanent: float,
    costs: list[float],
) -> None:
    """A tenth of the daily volume over a tenth, a fifth and half of a day, in basis points."""
    columns = {"average_daily_volume": [volume], "volatility": [volatility * np.sqrt(252.0)]}
    for days, cost in zip((0.1, 0.2, 0.5), costs, strict=True):
        answer = await planned(
            client, -0.1 * volume, days=days, columns=columns, shares_outstanding=[outstanding]
        )
        (plan,) = answer.schedules
        assert 1e4 * plan.power_law_permanent == pytest.approx(permanent, abs=6e-3)
        assert 1e4 * plan.power_law_cost == pytest.approx(cost, abs=6e-3)
    plain = (await planned(client)).schedules[0]
    assert not plain.HasField("power_law_cost")
    asked = planned(client, shares_outstanding=[1e6, 1e6])
    assert (await refusal(asked)).fields == {"shares_outstanding": "LENGTH_MISMATCH"}


async def test_costs_that_sizing_takes_r19_d7_10(client: Client) -> None:
    """Y s sqrt(Q / V) at Y = 1 and 2 % a day."""
    portfolio_id = await client.put_portfolio(1e6)
    parameters = parameter_service_pb2.SizingParameters(impact_coefficient=1.0)
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=parameters)
    )
    columns = {"volatility": [0.02 * np.sqrt(252.0)]}
    table = {0.001: 0.00063246, 0.01: 0.002, 0.05: 0.00447214, 0.1: 0.00632456, 0.25: 0.01}
    for share, cost in table.items():
        answer = await planned(client, share * 5e6, portfolio_id=portfolio_id, columns=columns)
        assert answer.schedules[0].square_root_cost == pytest.approx(cost, abs=5e-9)
    assert not (await planned(client)).schedules[0].HasField("square_root_cost")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"columns": {"spread": []}}, "MISSING_SPREAD"),
        ({"columns": {"volatility": []}}, "MISSING_VOLATILITY"),
        ({"columns": {"average_daily_volume": [0.0]}}, "MISSING_AVERAGE_DAILY_VOLUME"),
        ({"quantity": 0.0}, "quantities[0]"),
        ({"days": 0.0}, "days"),
        ({"period_count": 0}, "period_count"),
        ({"risk_aversion": -1.0}, "risk_aversion"),
        ({"days": 100.0, "period_count": 1}, "period_count"),
    ],
)
async def test_what_lacks_or_is_wrong_is_named(
    client: Client, given: dict[str, Any], reason: str
) -> None:
    refused = await refusal(planned(client, **given))
    assert reason in (refused.reason, *refused.fields)


async def test_unknown_instruments_and_lengths_are_named(client: Client) -> None:
    snapshot_id, name = await market(client)
    portfolio_id = await client.put_portfolio(1e6)
    for names, field in ((["elsewhere"], "instrument_ids[0]"), ([name, name], "instrument_ids[1]")):
        request = pb.PlanExecutionRequest(
            portfolio_id=portfolio_id,
            market_snapshot_id=snapshot_id,
            instrument_ids=names,
            quantities=[1.0] * len(names),
        )
        assert field in (await refusal(client.liquidity.PlanExecution(request))).fields
    request.quantities.append(1.0)
    assert "quantities" in (await refusal(client.liquidity.PlanExecution(request))).fields


def table(close: list[float], volume: list[float], **given: Any) -> pb.MeasureLiquidityRequest:
    n = len(close)
    return pb.MeasureLiquidityRequest(
        prices=simulation_service_pb2.PriceTable(
            dates=[f"2024-03-{day:02d}" for day in range(1, n + 1)],
            instrument_ids=["A"],
            close=close,
            volume=volume,
            **given,
        )
    )


async def test_illiquidity_d7_13(client: Client) -> None:
    """Returns of 1, -2, 0.5, 0 and 1.5 % on 2, 1, 0, 4 and 5 million."""
    close = list(100.0 * np.cumprod([1.0, 1.01, 0.98, 1.005, 1.0, 1.015]))
    value = [1e6, 2e6, 1e6, 0.0, 4e6, 5e6]
    volume = [v / c for v, c in zip(value, close, strict=True)]
    answer = await client.liquidity.MeasureLiquidity(table(close, volume))
    assert answer.illiquidity[0] == pytest.approx(7.0e-9, rel=1e-12)
    assert (answer.session_count[0], answer.left_out_count[0], answer.rank[0]) == (4, 1, 1)
    assert answer.value_traded[0] == pytest.approx(1.5e6)
    # A split of two for one moves the price and not the holder.
    halved = close[:3] + [price / 2 for price in close[3:]]
    twice = volume[:3] + [2 * units for units in volume[3:]]
    given = {"split": [1.0, 1.0, 1.0, 2.0, 1.0, 1.0]}
    again = await client.liquidity.MeasureLiquidity(table(halved, twice, **given))
    assert again.illiquidity[0] == pytest.approx(7.0e-9, rel=1e-9)


async def test_a_session_without_a_close_has_no_return_on_either_side(client: Client) -> None:
    answer = await client.liquidity.MeasureLiquidity(
        table([100.0, 0.0, 110.0, 111.1], [1e4, 1e4, 1e4, 1e4])
    )
    assert (answer.session_count[0], answer.left_out_count[0]) == (1, 2)
    assert answer.illiquidity[0] == pytest.approx(0.01 / 1.111e6, rel=1e-9)
    none = await client.liquidity.MeasureLiquidity(table([100.0, 101.0], [1e4, 0.0]))
    assert np.isnan(none.illiquidity[0])
    assert none.rank[0] == 0
    asked = client.liquidity.MeasureLiquidity(table([100.0, 101.0], []))
    assert (await refusal(asked)).fields == {"prices.volume": "MISSING"}
    empty = client.liquidity.MeasureLiquidity(pb.MeasureLiquidityRequest())
    assert (await refusal(empty)).fields == {"prices": "MISSING"}


@settings(max_examples=30)
@drawn(
    st.floats(1e-3, 3.0),
    st.integers(1, 12),
    st.floats(0.0, 3.0),
    st.floats(0.0, 0.9),
    st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1.0),
)
def test_no_schedule_costs_less(
    days: float, periods: int, aversion: float, permanent: float, units: float
) -> None:
    """Against a numerical minimum; urgencies up to where nothing is left after a period."""
    tau = days / periods
    cost = TradingCost(2.0, 0.1, 1e-5, 2e-5 * permanent / tau)
    scale = aversion / (abs(units) * 1e-1)
    best = scheduled(units, days, periods, cost, scale)
    assert best.left[0] == pytest.approx(units)
    assert best.left[-1] == 0.0
    assert (np.sign(units) * best.trades >= -1e-9 * abs(units)).all()

    def total(inner: np.ndarray) -> float:
        left = units * np.concatenate([[1.0], inner, [0.0]])
        made = priced(left, days, cost)
        return made.cost + scale * made.cost_deviation**2

    start = np.linspace(1.0, 0.0, periods + 1)[1:-1]
    own = total(best.left[1:-1] / units)
    if periods > 1:
        found = minimize(total, start, method="BFGS", options={"gtol": 1e-12})
        assert own <= found.fun * (1.0 + 1e-9)
    rng = np.random.default_rng(periods)
    for _ in range(5):
        other = np.sort(rng.uniform(0.0, 1.0, periods - 1))[::-1]
        assert own <= total(other) * (1.0 + 1e-12)


def test_the_fastest_and_the_slowest() -> None:
    """Where waiting is dear all is done at once, without overflow; where it is free, evenly."""
    cost = TradingCost(1.0, 0.0, 1e-6, 0.0)
    fast = scheduled(1.0, 250.0, 1000, cost, 1e6)
    assert fast.trades[0] == pytest.approx(1.0, abs=1e-9)
    assert np.isfinite(fast.left).all()
    slow = scheduled(1.0, 250.0, 1000, cost, 0.0)
    np.testing.assert_allclose(slow.trades, 1e-3, rtol=1e-9)
    nearly = scheduled(1.0, 1.0, 10, cost, 1e-25)
    np.testing.assert_allclose(nearly.trades, 0.1, rtol=1e-6)


TWO = {"price": [50.0, 20.0], "spread": [0.125 / 50, 0.002], "average_daily_volume": [5e6, 8e6]}


async def two_orders(client: Client, correlation: float, **given: Any) -> Any:
    """Orders of two names on a stored covariance of a day's returns, and what it costs by hand."""
    names = [new_id("pair"), new_id("pair")]
    snapshot_id = await client.put_market(instrument_ids=names, sector=[], volatility=[], **TWO)
    deviations = np.array([0.019, 0.03])
    matrix = np.array([[1.0, correlation], [correlation, 1.0]]) * np.outer(deviations, deviations)
    stored = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
        instrument_ids=names[::-1],
        dense={"values": matrix[::-1, ::-1].ravel()},
    )
    stored.as_of_time.GetCurrentTime()
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=stored))
    request = pb.PlanExecutionRequest(
        portfolio_id=await client.put_portfolio(1e6),
        market_snapshot_id=snapshot_id,
        instrument_ids=names,
        covariance_matrix_id=stored.matrix_id,
        risk_aversion=2e-7,
        days=5.0,
        period_count=5,
        **given,
    )
    return await client.liquidity.PlanExecution(request), matrix


def by_hand(quantities: np.ndarray, matrix: np.ndarray, aversion: float) -> np.ndarray:
    """The best of all ways to trade both in five days, by one linear system, (6, 2)."""
    price, spread = np.array(TWO["price"]), np.array(TWO["spread"])
    volume = np.array(TWO["average_daily_volume"])
    temporary, permanent = price * spread / (0.01 * volume), price * spread / (0.1 * volume)
    kept, c = temporary - permanent / 2, matrix * np.outer(price, price)
    # sum_k n_k' diag(kept) n_k + aversion sum_k x_k' C x_k over x_1 .. x_4; x_0 given, x_5 = 0.
    moves = np.eye(5, 4) - np.eye(5, 4, k=-1)
    system = np.kron(moves.T @ moves, np.diag(kept)) + aversion * np.kron(np.eye(4), c)
    right = np.kron(moves[0], kept * quantities)
    inner = np.linalg.solve(system, right).reshape(4, 2)
    return np.vstack([quantities, inner, np.zeros(2)])


@pytest.mark.parametrize("correlation", [0.9, 0.0, -0.5])
@pytest.mark.parametrize("quantities", [(6e5, 9e5), (6e5, -9e5)])
async def test_a_basket_is_scheduled_together(
    client: Client, correlation: float, quantities: tuple[float, float]
) -> None:
    answer, matrix = await two_orders(client, correlation, quantities=quantities)
    left = np.array([plan.left for plan in answer.schedules]).T
    expected = by_hand(np.array(quantities), matrix, 2e-7)
    np.testing.assert_allclose(left, expected, rtol=1e-9, atol=1e-3)
    price = np.array(TWO["price"])
    variance = sum(x @ (matrix * np.outer(price, price)) @ x for x in expected[1:])
    basket = answer.basket
    assert basket.cost_deviation == pytest.approx(np.sqrt(variance), rel=1e-9)
    assert basket.expected_cost == pytest.approx(sum(p.expected_cost for p in answer.schedules))

    def worth(cost: float, deviation: float) -> float:
        return cost + 2e-7 * deviation**2

    best = worth(basket.expected_cost, basket.cost_deviation)
    assert best <= worth(basket.straight_cost, basket.straight_deviation)
    apart = worth(basket.apart_cost, basket.apart_deviation)
    if correlation == 0.0:
        assert best == pytest.approx(apart, rel=1e-12)
    else:
        assert best < apart * (1 - 1e-4)


async def test_what_hedges_waits(client: Client) -> None:
    """A long and a short that move alike are traded more slowly than each alone."""
    hedged, _ = await two_orders(client, 0.9, quantities=[6e5, -9e5])
    alike, _ = await two_orders(client, 0.9, quantities=[6e5, 9e5])
    first = [[plan.trades[0] / plan.left[0] for plan in a.schedules] for a in (hedged, alike)]
    assert (np.array(first[0]) < 0.75 * np.array(first[1])).all()
    assert hedged.basket.expected_cost < hedged.basket.apart_cost


async def test_a_basket_needs_every_name_and_a_covariance(client: Client) -> None:
    answer = await planned(client)
    assert not answer.HasField("basket")
    asked = planned(client, covariance_matrix_id="nowhere")
    assert (await refusal(asked)).reason == "MATRIX_NOT_FOUND"
    stored = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
        instrument_ids=["I0"],
        dense={"values": [1e-4]},
    )
    stored.as_of_time.GetCurrentTime()
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=stored))
    asked = planned(client, covariance_matrix_id=stored.matrix_id)
    assert (await refusal(asked)).fields == {"instrument_ids[0]": "UNKNOWN_INSTRUMENT"}

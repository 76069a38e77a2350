"""Reference numbers of risk, estimates and liquidity, asked of a running service."""

from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from positionsizing.v1 import correlation_service_pb2 as correlation
from positionsizing.v1 import history_service_pb2 as history_pb
from positionsizing.v1 import market_service_pb2 as market_pb
from positionsizing.v1 import portfolio_service_pb2, sizing_service_pb2, types_pb2
from positionsizing.v1 import risk_service_pb2 as pb
from scipy.optimize import fsolve
from scipy.stats import norm

from tests.server.reference.test_known_numbers import ready, sized, stage
from tests.server.reference.test_reference_bets import from_scenarios
from tests.server.risk.test_estimates import estimate, numbers, values_of
from tests.server.risk.test_histories import part, put
from tests.server.risk.test_risk import losses_universe, report, tails, weights
from tests.server.support.service_client import INSTRUMENTS, Client, new_id, refusal, sizing_request

MOMENTS: dict[str, Any] = {"win_probability": [], "payoff": []}


async def put_covariance(client: Client, values: np.ndarray, names: list[str]) -> str:
    matrix = market_pb.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_pb.MATRIX_KIND_COVARIANCE,
        instrument_ids=names,
        dense=market_pb.DenseMatrix(values=values.ravel()),
    )
    await client.market.PutMatrix(market_pb.PutMatrixRequest(matrix=matrix))
    return matrix.matrix_id


@pytest.mark.parametrize(("target", "volatility", "w"), [(0.1, 0.25, 0.4), (0.15, 0.08, 1.875)])
async def test_a_volatility_target_r1(
    client: Client, target: float, volatility: float, w: float
) -> None:
    portfolio_id = await ready(client, volatility_target=target)
    await client.put_market(lot_size=[1e-6] * 8, volatility=[volatility] * 8)
    lines = {"expected_return": [0.5], "volatility": [0.2]}
    decision = await sized(client, portfolio_id, MOMENTS | lines)
    assert stage(decision, "VOLATILITY_TARGET") == pytest.approx([w], rel=1e-10)


async def test_an_ou_price_is_its_drift_over_its_variance(client: Client) -> None:
    """dX = k (th - X) dt + s dW of a log price: a simple return of k (th - x) + s^2 / 2."""
    drift = 2.0 * (0.0 + 0.05) + 0.2**2 / 2
    lines = {"expected_return": [drift], "volatility": [0.2]}
    decision = await sized(client, await ready(client), MOMENTS | lines)
    assert stage(decision, "RAW_KELLY") == pytest.approx([3.0], rel=1e-12)


@pytest.mark.parametrize(
    ("times", "staked"),
    [
        (1.0, {1e6: 0.4444444444, 950_000.0: 0.3508771930}),
        (4.0, {1e6: 1.7777777778, 950_000.0: 1.4035087719}),
        (8.0, {1e6: 2.2222222222, 950_000.0: 2.2222222222}),
    ],
)
async def test_a_drawdown_floor_of_grossman_and_zhou(
    client: Client, times: float, staked: dict[float, float]
) -> None:
    """f = f_K min(1, k (1 - alpha M / W)): 20/9, a floor of 0.8, at the mark and 5 % below it."""
    portfolio_id = await ready(client, drawdown_floor=0.8, drawdown_multiplier=times)
    lines = MOMENTS | {"expected_return": [0.05], "volatility": [0.15]}
    for equity, f in staked.items():
        lost = portfolio_service_pb2.SetHoldingsRequest(
            portfolio_id=portfolio_id, cash=equity, payment=0.0, confirm_equity=True
        )
        await client.portfolio.SetHoldings(lost)
        decision = await client.size(sizing_request(portfolio_id, ["I0"], lines))
        assert stage(decision, "KELLY_FRACTION") == pytest.approx([f], abs=6e-11)
        cancel = sizing_service_pb2.SettleDecisionRequest(
            request_id=str(uuid4()), decision_id=decision.decision_id, close=True
        )
        await client.sizing.SettleDecision(cancel)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"equity_floor": 800_000.0}, 0.2),
        ({"equity_floor": 800_000.0, "drawdown_multiplier": 4.0}, 0.8),
        ({"equity_floor": 1_000_000.0}, 0.0),
        ({"equity_floor": 800_000.0, "drawdown_floor": 0.9}, 0.1),  # the smaller counts
        ({"equity_floor": 950_000.0, "drawdown_floor": 0.9}, 0.05),
    ],
)
async def test_a_floor_that_does_not_rise_is_constant_proportion_insurance(
    client: Client, given: dict[str, float], part: float
) -> None:
    """f = f_K min(1, k (1 - F / W)): 20/9 at an equity of a million; D7.16 at the peak."""
    portfolio_id = await ready(client, **given)
    lines = MOMENTS | {"expected_return": [0.05], "volatility": [0.15]}
    decision = await client.size(sizing_request(portfolio_id, ["I0"], lines))
    assert stage(decision, "KELLY_FRACTION") == pytest.approx([part * 20.0 / 9.0], abs=1e-9)
    told = {item.name: item for item in decision.adjustments}
    assert ("is at the floor" in told["equity_floor"].explanation) == (part == 0.0)


@pytest.mark.parametrize(
    ("level", "var", "es"),
    [
        (0.95, 1.6448536270, 2.0627128075),
        (0.975, 1.9599639845, 2.3378027922),
        (0.99, 2.3263478740, 2.6652142203),
    ],
)
async def test_normal_tails_r3(client: Client, level: float, var: float, es: float) -> None:
    universe = await losses_universe(client, 0.01 * np.resize([1.0, -1.0], 60))
    matrix_id = await put_covariance(client, np.array([[1e-4]]), ["A"])
    answer = await report(
        client,
        universe_id=universe,
        proposed=weights(A=1.0),
        level=level,
        covariance_matrix_id=matrix_id,
    )
    found = tails(answer.after)["NORMAL"]
    assert found.value_at_risk == pytest.approx(0.01 * var, rel=1e-10)
    assert found.expected_shortfall == pytest.approx(0.01 * es, rel=1e-10)


def shaped(skewness: float, kurtosis: float, n: int = 80) -> np.ndarray:
    """Returns of mean 0 and variance 1 with these, by a cubic of normal quantiles, (n,)."""
    z = norm.ppf((np.arange(n) + 0.5) / n)

    def made(a: float, b: float) -> np.ndarray:
        x = z + a * z**2 + b * z**3
        x = x - x.mean()
        return np.asarray(x / np.sqrt((x**2).mean()))

    def off(point: np.ndarray) -> list[float]:
        x = made(*point)
        return [(x**3).mean() - skewness, (x**4).mean() - 3.0 - kurtosis]

    return made(*fsolve(off, [skewness / 6, 0.05], xtol=1e-12))


@pytest.mark.parametrize(
    ("level", "skewness", "kurtosis", "var"),
    [
        (0.99, -0.5, 1.0, 2.83370904),
        (0.99, -1.0, 3.0, 3.38668905),
        (0.99, 0.0, 3.0, 3.02771106),
        (0.95, -0.5, 1.0, 1.76210582),
    ],
)
async def test_cornish_fisher_r5_and_student_r4(
    client: Client, level: float, skewness: float, kurtosis: float, var: float
) -> None:
    universe = await losses_universe(client, -0.01 * shaped(skewness, kurtosis))
    matrix_id = await put_covariance(client, np.array([[1e-4]]), ["A"])
    answer = await report(
        client,
        universe_id=universe,
        proposed=weights(A=1.0),
        level=level,
        covariance_matrix_id=matrix_id,
    )
    assert answer.after.skewness == pytest.approx(skewness, abs=1e-9)
    found = tails(answer.after)
    assert found["CORNISH_FISHER"].value_at_risk == pytest.approx(0.01 * var, abs=6e-11)
    if kurtosis == 3.0:  # 6 degrees of freedom, of variance 1
        assert answer.after.student_degrees == pytest.approx(6.0, abs=1e-8)
        assert found["STUDENT"].value_at_risk == pytest.approx(0.0256597801, abs=6e-11)
        assert found["STUDENT"].expected_shortfall == pytest.approx(0.0329254506, abs=6e-11)


@pytest.mark.parametrize(
    ("level", "evar"),
    [
        (0.7, 9.3581167317),
        (0.75, 9.5342812079),
        (0.8, 9.7061843806),
        (0.9, 10.0),
        (0.95, 10.0),
    ],
)
async def test_entropic_value_at_risk_r27(client: Client, level: float, evar: float) -> None:
    """R27b: losses of 1 to 10; from 0.9 on it is the largest."""
    universe = await losses_universe(client, np.arange(1.0, 11.0) / 100)
    answer = await report(client, universe_id=universe, proposed=weights(A=1.0), level=level)
    assert answer.after.entropic_value_at_risk == pytest.approx(evar / 100, abs=6e-13)


async def test_hierarchical_risk_parity_r12b_by_condensed_distances(client: Client) -> None:
    values = np.array(
        [
            [1, -0.12, 0.56, 0.34],
            [-0.12, 1, 0.47, 0.38],
            [0.56, 0.47, 1, 0.52],
            [0.34, 0.38, 0.52, 1],
        ]
    ) * np.outer([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4])
    matrix_id = await put_covariance(client, values, list("ABCD"))
    answer = await client.correlation.AllocateByHierarchy(
        correlation.AllocateByHierarchyRequest(
            matrix_id=matrix_id, method=correlation.HIERARCHY_METHOD_HRP
        )
    )
    found = dict(zip(answer.instrument_ids, answer.weights, strict=True))
    expected = [0.69867540, 0.17895520, 0.07763060, 0.04473880]
    assert [found[name] for name in "ABCD"] == pytest.approx(expected, abs=6e-9)
    assert "condensed" in answer.variant


def with_covariance(values: np.ndarray, count: int) -> np.ndarray:
    """Returns (count, n) whose sample covariance, over count - 1, is exactly this."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((count, len(values)))
    x -= x.mean(axis=0)
    q = np.linalg.qr(x)[0] * np.sqrt(count - 1)
    return np.asarray(q @ np.linalg.cholesky(values).T)


async def returns_universe(client: Client, returns: np.ndarray) -> str:
    universe = new_id("returns")
    names = [f"R{i}" for i in range(returns.shape[1])]
    message = part(
        universe, returns.tolist(), kind=history_pb.HISTORY_KIND_RETURNS, instrument_ids=names
    )
    await put(client, message)
    return universe


async def test_denoised_correlations_r13b(client: Client) -> None:
    values = np.array(
        [[1, 0.6, 0.1, 0.05], [0.6, 1, 0.2, 0.1], [0.1, 0.2, 1, 0.3], [0.05, 0.1, 0.3, 1]]
    )
    universe = await returns_universe(client, 0.01 * with_covariance(values, 100))
    made = await estimate(
        client,
        universe,
        estimator=correlation.COVARIANCE_ESTIMATOR_DENOISED,
        kind=market_pb.MATRIX_KIND_CORRELATION,
    )
    upper = (await values_of(client, made.matrix_id))[np.triu_indices(4, 1)]
    expected = [0.33031704, 0.22112182, 0.17318240, 0.23068459, 0.18067194, 0.12094595]
    np.testing.assert_allclose(upper, expected, atol=6e-9)


async def test_ledoit_and_wolf_r14(client: Client) -> None:
    rows = [
        (0.01, 0.02, -0.01), (-0.02, -0.01, 0.005), (0.015, 0.03, 0.02),
        (-0.005, -0.02, -0.015), (0.02, 0.01, 0.0), (-0.01, 0.005, 0.01),
    ]  # fmt: skip
    universe = await returns_universe(client, np.array(rows))
    made = await estimate(client, universe)
    assert numbers(made.provenance)["shrinkage"] == pytest.approx(0.4980212903, abs=6e-11)
    found = await values_of(client, made.matrix_id)
    assert found[0, 0] == pytest.approx(0.00020798, abs=6e-9)
    assert found[0, 1] == pytest.approx(0.00008715, abs=6e-9)
    assert found[1, 2] == pytest.approx(0.00005368, abs=6e-9)


async def test_nonlinear_shrinkage_r15(client: Client) -> None:
    """Of 51 rows, whose mean takes one degree of freedom: 50 are left."""
    eigenvalues = np.array([0.1, 0.5, 1.0, 2.0, 5.0])
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((5, 5)))[0]
    values = 1e-4 * (turn * eigenvalues) @ turn.T
    universe = await returns_universe(client, with_covariance(values, 51))
    made = await estimate(
        client, universe, estimator=correlation.COVARIANCE_ESTIMATOR_LEDOIT_WOLF_NONLINEAR
    )
    shrunk = np.linalg.eigvalsh(await values_of(client, made.matrix_id)) / 1e-4
    expected = [0.12525794, 0.63175799, 1.14459389, 2.10848723, 4.94762134]
    np.testing.assert_allclose(shrunk, expected, atol=6e-9)


async def test_effective_bets_r22(client: Client) -> None:
    rng = np.random.default_rng(2)
    names = [f"R{i}" for i in range(4)]
    universe = await returns_universe(client, 0.01 * rng.standard_normal((60, 4)))
    matrix_id = await put_covariance(client, 1e-4 * (0.62 * np.eye(4) + 0.38), names)
    answer = await report(
        client,
        universe_id=universe,
        proposed=weights(**dict.fromkeys(names, 0.25)),
        covariance_matrix_id=matrix_id,
    )
    assert answer.after.effective_bets_variance == pytest.approx(1.8691588785, abs=6e-11)
    assert answer.effective_rank == pytest.approx(3.3252667286, abs=6e-11)


async def test_two_views_r29b_and_kelly_on_one_r29c(client: Client) -> None:
    returns = np.array([-0.1, -0.05, 0.0, 0.05, 0.1])
    universe = await losses_universe(client, -returns)
    mean, volatility = pb.RISK_VIEW_MEASURE_MEAN, pb.RISK_VIEW_MEASURE_VOLATILITY

    def view(measure: int, value: float) -> pb.RiskView:
        return pb.RiskView(
            instrument_id="A",
            measure=measure,  # type: ignore[arg-type]
            lower_bound=value,
            upper_bound=value,
        )

    views = [view(mean, 0.01), view(volatility, 0.006**0.5)]
    answer = await report(
        client, universe_id=universe, proposed=weights(A=1.0), level=0.75, views=views
    )
    worst = 0.214858511038  # by mpmath; R29b prints 0.21485845
    es = (worst * 0.1 + (0.25 - worst) * 0.05) / 0.25
    found = tails(answer.after)["HISTORICAL"].expected_shortfall
    assert found == pytest.approx(es, abs=1e-10)
    pooled = np.array([0.1277542831, 0.1565970949, 0.1919516867, 0.2352882093, 0.2884087260])
    decision = await from_scenarios(client, returns, pooled / pooled.sum())
    assert stage(decision, "RAW_KELLY") == pytest.approx([3.8871414503], abs=5e-8)


async def recorded(client: Client, n: int, hits: int, **given: Any) -> pb.BacktestRiskResponse:
    losses = np.zeros(n)
    losses[np.linspace(0, n - 1, hits).astype(int) if hits else []] = 3.0
    forecasts = pb.RecordedForecasts(losses=losses, value_at_risk=np.full(n, 2.0))
    return await client.risk.BacktestRisk(pb.BacktestRiskRequest(recorded=forecasts, **given))


@pytest.mark.parametrize(
    ("n", "hits", "ratio"),
    [
        (250, 4, 0.7691383644),
        (250, 8, 7.7335507245),
        (255, 7, 5.3163413410),
        (1000, 17, 4.0909725546),
        (250, 0, 5.0251679268),
    ],
)
async def test_kupiec_r30(client: Client, n: int, hits: int, ratio: float) -> None:
    answer = await recorded(client, n, hits)
    assert answer.coverage.statistic == pytest.approx(ratio, abs=6e-11)


@pytest.mark.parametrize(("n", "few", "many"), [(255, 1, 6), (510, 2, 10), (1000, 5, 16)])
async def test_how_many_kupiec_lets_pass_r30b(client: Client, n: int, few: int, many: int) -> None:
    for hits, passes in ((few - 1, False), (few, True), (many, True), (many + 1, False)):
        answer = await recorded(client, n, hits)
        assert (answer.coverage.p_value > 0.05) == passes, hits


async def test_zones_r32_and_one_bet_of_the_e_process_r34(client: Client) -> None:
    for hits, chance, zone in ((4, 0.8922, "GREEN"), (5, 0.9588, "YELLOW"), (9, 0.9997, "YELLOW")):
        answer = await recorded(client, 250, hits)
        assert (answer.zone, round(answer.zone_probability, 4)) == (zone, chance)
    assert (await recorded(client, 250, 10)).zone == "RED"
    forecasts = pb.RecordedForecasts(
        losses=[0.5, 3.0],
        value_at_risk=[norm.ppf(0.975)] * 2,
        expected_shortfall=[2.3378027922] * 2,
    )
    request = pb.BacktestRiskRequest(recorded=forecasts, level=0.975, betting_fraction=0.5)
    answer = await client.risk.BacktestRisk(request)
    assert answer.e_value == pytest.approx(0.5 * (0.5 + 0.5 * 110.10367), rel=1e-7)


@pytest.mark.parametrize(("rate", "days"), [(0.05, 50.0), (0.1, 25.0), (0.2, 12.5)])
async def test_days_to_leave_a_position_d7_11(client: Client, rate: float, days: float) -> None:
    """2.5 million shares of a million traded a day."""
    await client.put_market(average_daily_volume=[1e6] * 8)
    portfolio_id = await client.put_portfolio(1e9, {INSTRUMENTS[0]: 2.5e6})
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, leverage_max=1.0, participation_rate=rate, exit_days_max=5.0)
    found = await client.portfolio.GetBreaches(
        portfolio_service_pb2.GetBreachesRequest(portfolio_id=portfolio_id)
    )
    (breach,) = found.breaches
    assert (breach.kind, breach.limit) == (types_pb2.LIMIT_KIND_EXIT_DAYS_MAX, INSTRUMENTS[0])
    assert breach.value == pytest.approx(days, rel=1e-12)
    await client.put_market()


async def leaving(
    client: Client, held: dict[str, float], values: np.ndarray, **given: Any
) -> pb.ReportRiskResponse:
    """Of a portfolio worth a million at prices of 1: a million shares trade a day."""
    names = list(held)
    snapshot_id = await client.put_market(
        instrument_ids=names,
        price=[1.0] * len(names),
        average_daily_volume=[1e6] * len(names),
        spread=[0.002] * len(names),
        volatility=[],
        sector=[],
    )
    portfolio_id = await client.put_portfolio(1e6 - sum(held.values()), held)
    rows = 0.01 * np.random.default_rng(4).standard_normal((60, len(names)))
    universe = new_id("leaving")
    kind = history_pb.HISTORY_KIND_RETURNS
    await put(client, part(universe, rows.tolist(), kind=kind, instrument_ids=names))
    return await report(
        client,
        portfolio_id=portfolio_id,
        market_snapshot_id=snapshot_id,
        universe_id=universe,
        covariance_matrix_id=await put_covariance(client, values, names),
        **given,
    )


@pytest.mark.parametrize(
    ("days", "factor"), [(1, 1.0), (2, 1.1180340), (5, 1.4832397), (10, 1.9621417), (20, 2.6786190)]
)
async def test_value_at_risk_until_all_is_sold_d7_15(
    client: Client, days: int, factor: float
) -> None:
    """Half of equity in one name, sold in equal parts at the end of so many days."""
    answer = await leaving(
        client, {"L0": 500_000.0}, np.array([[1e-4]]), participation_rate=0.5 / days
    )
    found = answer.before.liquidation
    assert list(found.days) == [days]
    assert found.spread_cost == pytest.approx(0.5 * 0.001, rel=1e-12)
    own = 0.5 * 0.01
    var, es = 2.3263478740 * factor * own, 2.6652142203 * factor * own
    assert found.value_at_risk - found.spread_cost == pytest.approx(var, rel=3e-8)
    assert found.expected_shortfall - found.spread_cost == pytest.approx(es, rel=3e-8)


async def test_a_book_is_left_position_by_position(client: Client) -> None:
    """What is sold in 1, 3 and 4 days, day by day in full; a hedge that goes first helps less."""
    values = 1e-4 * np.array([[1.0, 0.6, 0.2], [0.6, 2.0, 0.1], [0.2, 0.1, 0.5]])
    held = {"L0": 100_000.0, "L1": -300_000.0, "L2": 390_000.0}
    answer = await leaving(client, held, values, participation_rate=0.1)
    found = answer.before.liquidation
    order = [list(held).index(name) for name in answer.instrument_ids]
    assert [found.days[order.index(i)] for i in range(3)] == [1, 3, 4]
    w = np.array(list(held.values())) / 1e6
    parts = np.array([[1, 0, 0, 0], [3, 2, 1, 0], [4, 3, 2, 1]]) / np.array([[1], [3], [4]])
    each = [w * parts[:, day] for day in range(4)]
    deviation = np.sqrt(sum(left @ values @ left for left in each))
    assert found.spread_cost == pytest.approx(0.001 * np.abs(w).sum(), rel=1e-12)
    var = 2.3263478740 * deviation + found.spread_cost
    assert found.value_at_risk == pytest.approx(var, rel=1e-9)


async def test_leaving_needs_a_portfolio_and_volumes(client: Client) -> None:
    universe = await losses_universe(client, 0.01 * np.resize([1.0, -1.0], 60))
    asked = {"universe_id": universe, "proposed": weights(A=1.0), "participation_rate": 0.1}
    assert (await refusal(report(client, **asked))).fields == {
        "participation_rate": "NOT_APPLICABLE"
    }
    slow = leaving(client, {"L0": 500_000.0}, np.array([[1e-4]]), participation_rate=1e-4)
    found = await refusal(slow)
    assert found.reason == "MISSING_AVERAGE_DAILY_VOLUME"
    assert "'L0'" in found.message
    wrong = {"portfolio_id": "any", "participation_rate": 2.0}
    out_of_range = report(client, **(asked | wrong))
    assert (await refusal(out_of_range)).fields["participation_rate"] == "OUT_OF_RANGE"

"""Reference numbers of single stakes and of bets together, asked of a running service."""

import math
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import edge_service_pb2 as pb
from positionsizing.v1 import market_service_pb2, parameter_service_pb2, sizing_pb2, types_pb2
from positionsizing.v1 import optimization_service_pb2 as optimization

from tests.server.joint.test_joint_bets import bets, kelly
from tests.server.joint.test_joint_truth import before_lots
from tests.server.limits.test_limits_on_lots import put_matrix
from tests.server.reference.test_known_numbers import ready, sized, stage
from tests.server.support.service_client import INSTRUMENTS, Client, new_id, sizing_request

N = len(INSTRUMENTS)


async def stakes(client: Client, *multiples: float, **given: Any) -> pb.EvaluateStakesResponse:
    if "win_probability" in given or "payoff" in given:
        edge: dict[str, Any] = {"bet": pb.BetEdge(**given)}
    else:
        edge = {"asset": pb.AssetEdge(**given)}
    asked = pb.EvaluateStakesRequest(kelly_fractions=multiples or [1.0], **edge)
    return await client.edge.EvaluateStakes(asked)


BETS = {  # p, b, a: stake, growth at it
    "K1.1": (0.60, 1.0, 1.0, 0.2, 0.020135513551),
    "K1.2": (0.51, 1.0, 1.0, 0.02, 0.000200013335),
    "K1.3": (0.53, 1.0, 1.0, 0.06, 0.001801081558),
    "K1.4": (0.50, 2.0, 1.0, 0.25, 0.058891517828),
    "K1.5": (0.60, 0.3, 0.2, 5 / 3, 0.081093021622),
    "K1.6": (0.55, 0.02, 0.01, 32.5, 0.098557243703),
    "K1.8 1:1": (0.57, 1.0, 1.0, 0.14, 0.009832266986),
    "K1.8 2:1": (0.38, 2.0, 1.0, 0.07, 0.004796910157),
    "K1.8 3:1": (0.285, 3.0, 1.0, 0.14 / 3, 0.003172730143),
    "K1.8 4:1": (0.228, 4.0, 1.0, 0.035, 0.002370262688),
    "K1.8 5:1": (0.19, 5.0, 1.0, 0.028, 0.001891795495),
}


@pytest.mark.parametrize("name", BETS)
async def test_one_bet(client: Client, name: str) -> None:
    p, b, a, f, g = BETS[name]
    answer = await stakes(client, win_probability=p, payoff=b, loss_fraction=a)
    assert answer.kelly == pytest.approx(f, rel=1e-12)
    assert answer.rows[0].growth == pytest.approx(g, abs=6e-13)
    portfolio_id = await ready(client)
    lines = {"win_probability": [p], "payoff": [b], "loss_fraction": [a]}
    decision = await sized(client, portfolio_id, lines)
    assert stage(decision, "RAW_KELLY") == pytest.approx([f], rel=1e-11)


async def test_a_losing_bet_k1_7(client: Client) -> None:
    answer = await stakes(client, win_probability=0.4, payoff=1.0)
    assert answer.kelly == pytest.approx(-0.2, rel=1e-12)
    assert not answer.rows
    decision = await sized(client, await ready(client), {"win_probability": [0.4]})
    assert (decision.sizes.weight[0], decision.sizes.lots[0]) == (0.0, 0)


async def test_zero_growth_sensitivities_interval_and_doubling_k1_9_to_k1_12(
    client: Client,
) -> None:
    sure = {"payoff": 1.0, "outcome_count": 100}
    answer = await stakes(client, win_probability=0.6, **sure)
    assert answer.zero_growth_stake == pytest.approx(0.3893906833, abs=5e-11)
    assert answer.kelly_error == pytest.approx(0.0979796, abs=5e-8)
    assert answer.rows[0].doubling_periods == pytest.approx(34.424, abs=5e-4)
    coin = await stakes(client, win_probability=0.51, payoff=1.0)
    assert coin.zero_growth_stake == pytest.approx(0.0399893339, abs=5e-11)
    assert coin.rows[0].doubling_periods == pytest.approx(3465.5, abs=0.05)
    portfolio_id = await ready(client)
    lines = {"win_probability": [0.6], "payoff": [0.3], "loss_fraction": [0.2]}
    request = sizing_request(
        portfolio_id, ["I0"], lines, validate_only=True, include_sensitivities=True
    )
    slopes = (await client.size(request)).sensitivities
    assert slopes.win_probability[0] == pytest.approx(25 / 3, rel=1e-9)
    assert slopes.payoff[0] == pytest.approx(40 / 9, rel=1e-9)
    assert slopes.loss_fraction[0] == pytest.approx(-15.0, rel=1e-9)


SCENARIOS = {"win_probability": [], "payoff": []}


async def from_scenarios(
    client: Client, returns: np.ndarray, probability: np.ndarray
) -> sizing_pb2.SizingDecision:
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MATRIX_KIND_SCENARIOS,
        instrument_ids=INSTRUMENTS[:1],
        dense={"values": returns},
        scenario_probability=probability,
    )
    matrix.as_of_time.GetCurrentTime()
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    portfolio_id = await ready(client)
    request = sizing_request(
        portfolio_id, ["I0"], SCENARIOS, validate_only=True, scenario_matrix_id=matrix.matrix_id
    )
    return await client.size(request)


async def test_the_crash_lottery_k1_13(client: Client) -> None:
    decision = await from_scenarios(client, np.array([0.02, -0.5]), np.array([0.98, 0.02]))
    assert stage(decision, "RAW_KELLY") == pytest.approx([0.96], rel=1e-9)
    mean, square = 0.0096, 0.98 * 0.02**2 + 0.02 * 0.25
    normal = {
        "expected_return": [mean],
        "volatility": [math.sqrt(square - mean**2)],
    }
    by_moments = await sized(client, await ready(client), SCENARIOS | normal)
    assert stage(by_moments, "RAW_KELLY") == pytest.approx([1.811375], abs=5e-7)


async def test_one_asset_k2_1_and_k2_2(client: Client) -> None:
    asset = {"expected_return": 0.11, "volatility": 0.15, "risk_free_rate": 0.06}
    answer = await stakes(client, 1.0, 0.45, 0.5, 2.0, **asset)
    assert answer.kelly == pytest.approx(20 / 9, rel=1e-12)
    growth = [0.06 + 1 / 18, 0.09875, 0.06 + 1 / 24, 0.06]
    assert [row.growth for row in answer.rows] == pytest.approx(growth, rel=1e-12)
    assert answer.rows[1].stake == pytest.approx(1.0)
    assert answer.rows[0].growth_volatility == pytest.approx(1 / 3, rel=1e-12)
    sp = {"expected_return": [0.058], "volatility": [0.216]}
    decision = await sized(client, await ready(client), SCENARIOS | sp)
    assert stage(decision, "RAW_KELLY") == pytest.approx([1.24314129], abs=5e-9)


@pytest.mark.parametrize(("deviation", "f"), [(0.216, 1.19742034), (0.218939, 1.16760018952524)])
async def test_a_normal_return_cut_at_three_deviations_k2_3_and_k2_4(
    client: Client, deviation: float, f: float
) -> None:
    """K2.4: 0.218939 is the deviation, to six digits, that is 0.216 once it is cut."""
    x, weight = np.polynomial.legendre.leggauss(64)
    weight = weight * np.exp(-((3 * x) ** 2) / 2)
    decision = await from_scenarios(client, 0.058 + deviation * 3 * x, weight / weight.sum())
    assert stage(decision, "RAW_KELLY") == pytest.approx([f], abs=6e-9)
    assert f == pytest.approx(1.1974 if deviation == 0.216 else 1.17, abs=3e-3)


async def test_the_noise_of_an_estimated_mean_k2_5(client: Client) -> None:
    answer = await stakes(client, expected_return=0.08, volatility=0.2, observed_periods=10)
    assert answer.kelly == pytest.approx(2.0, rel=1e-12)
    assert answer.kelly_error == pytest.approx(1.58114, abs=5e-6)
    assert (answer.kelly_low, answer.kelly_high) == pytest.approx((-1.099, 5.099), abs=5e-4)
    assert answer.growth_lost == pytest.approx(0.05, rel=1e-12)


FRACTIONS = [  # c: growth, P(double before halving), P(ever 1/2), P(ever 0.7)
    (0.2, 0.36, 0.998051, 0.001953, 0.040354),
    (0.25, 0.4375, 0.992248, 0.0078125, 0.082354),
    (0.5, 0.75, 8 / 9, 0.125, 0.343),
    (0.7, 0.91, 0.783685, 0.276022, 0.515614),
    (0.8, 0.96, 0.738796, 0.353553, 0.585662),
    (1.0, 1.0, 2 / 3, 0.5, 0.7),
    (1.5, 0.75, 0.557507, 0.793701, 0.887904),
    (2.0, 0.0, 0.5, 1.0, 1.0),
]


async def test_fractions_of_kelly(client: Client) -> None:
    """Section 1.3 of the tables: MacLean, Thorp and Ziemba 2010."""
    answer = await client.edge.EvaluateStakes(
        pb.EvaluateStakesRequest(
            asset=pb.AssetEdge(expected_return=0.08, volatility=0.2),
            kelly_fractions=[row[0] for row in FRACTIONS],
            levels=[0.5, 0.7],
        )
    )
    best = answer.kelly * 0.08 / 2
    for row, (c, growth, doubles, half, seven) in zip(answer.rows, FRACTIONS, strict=True):
        assert row.kelly_fraction == c
        assert row.growth == pytest.approx(growth * best, abs=1e-12)
        assert row.doubles_before_halving == pytest.approx(doubles, abs=6e-7)
        assert list(row.ever_below) == pytest.approx([half, seven], abs=6e-7)


@pytest.mark.parametrize(
    ("n", "p", "stake", "growth"),
    [
        (3, 0.6, 0.18419859, 0.05795409),
        (5, 0.6, 0.16538046, 0.09192728),
    ],
)
async def test_independent_even_bets_as_scenarios(
    joint_client: Client, n: int, p: float, stake: float, growth: float
) -> None:
    wins = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    names = [f"B{i}" for i in range(n)]
    scenarios = market_service_pb2.Matrix(
        kind=market_service_pb2.MATRIX_KIND_SCENARIOS,
        instrument_ids=names,
        dense={"values": (2.0 * wins - 1.0).ravel()},
        scenario_probability=np.prod(np.where(wins > 0, p, 1 - p), axis=1),
    )
    problem = optimization.OptimizationProblem(
        instrument_ids=names,
        objective=optimization.Objective(kind=optimization.OBJECTIVE_KIND_LOG_GROWTH),
        scenarios=scenarios,
    )
    request = optimization.OptimizePortfolioRequest(problem=problem)
    answer = await joint_client.optimization.OptimizePortfolio(request)
    np.testing.assert_allclose(answer.weights, np.full(n, stake), atol=1e-8)
    assert answer.certificate.objective == pytest.approx(growth, abs=6e-9)


@pytest.mark.parametrize(
    ("p", "stake", "growth"), [(0.6, 0.09988511, 0.14315002), (0.55, 0.08965275, None)]
)
async def test_ten_independent_even_bets_as_a_basket(
    client: Client, p: float, stake: float, growth: float | None
) -> None:
    """All stakes are alike, so that only the number of wins matters: 11 outcomes of their sum."""
    wins = np.arange(11)
    chance = np.array([math.comb(10, k) * p**k * (1 - p) ** (10 - k) for k in wins])
    decision = await from_scenarios(client, (2.0 * wins - 10.0) / 10, chance)
    assert stage(decision, "RAW_KELLY") == pytest.approx([10 * stake], abs=6e-8)
    if growth is not None:
        assert chance @ np.log1p(stake * (2.0 * wins - 10.0)) == pytest.approx(growth, abs=6e-9)


@pytest.mark.parametrize(("n", "rho", "share"), [(4, 0.38, 0.46729), (8, 0.3, 1 / 3.1)])
async def test_equal_correlations_share_what_one_would_get(
    client: Client, n: int, rho: float, share: float
) -> None:
    """f_i = f / (1 + (n - 1) rho): the penalty of the closed form."""
    matrix = 0.04 * (rho * np.ones((N, N)) + (1 - rho) * np.eye(N))
    matrix_id = await put_matrix(client, "COVARIANCE", matrix)
    quadratic = parameter_service_pb2.CORRELATION_PENALTY_QUADRATIC
    portfolio_id = await ready(client, correlation_penalty=quadratic)
    lines = {
        "win_probability": [],
        "payoff": [],
        "expected_return": [0.05] * n,
        "volatility": [0.2] * n,
    }
    request = sizing_request(
        portfolio_id,
        list(INSTRUMENTS[:n]),
        lines,
        validate_only=True,
        covariance_matrix_id=matrix_id,
    )
    decision = await client.size(request)
    found = {s.stage: s.weight for s in decision.waterfall.stages}
    after = found[types_pb2.SIZING_STAGE_CORRELATION]
    np.testing.assert_allclose(after, [1.25 * share] * n, rtol=2e-5)


RACES = {  # chances, gross odds, stakes, growth
    "K4.6": ([0.5, 0.3, 0.2], [1.8, 4.0, 5.0], [0, 0.0727272727, 0.0181818182], 0.0070413771),
    "K4.7": (
        [0.55, 0.25, 0.1],
        [3.0, 3.2, 8.0],
        [0.4045454545, 0.1136363636, 0.0454545455],
        0.1143982299,
    ),
    "K4.8": ([0.4, 0.3, 0.2, 0.1], [3.0, 3.5, 4.0, 8.0], [0.4, 0.3, 0.2, 0.1], 0.0206226066),
    "K4.9": ([0.6, 0.4], [2.0, 2.0], None, 0.0201355136),
    "K4.10": (
        [1 / 2, 1 / 4, 1 / 8, 1 / 16] + [1 / 64] * 4,
        [8.0] * 8,
        [1 / 2, 1 / 4, 1 / 8, 1 / 16] + [1 / 64] * 4,
        math.log(2.0),
    ),
}


@pytest.mark.parametrize("name", RACES)
async def test_races(joint_client: Client, name: str) -> None:
    chance, odds, expected, growth = RACES[name]
    outcomes = np.vstack([np.diag(odds) - 1.0, -np.ones((1, len(odds)))])
    weight = np.append(chance, max(1.0 - sum(chance), 0.0))
    kept = weight > 1e-12
    names = list(INSTRUMENTS[: len(odds)])
    problem = optimization.OptimizationProblem(
        instrument_ids=names,
        objective=optimization.Objective(kind=optimization.OBJECTIVE_KIND_LOG_GROWTH),
        scenarios=market_service_pb2.Matrix(
            kind=market_service_pb2.MATRIX_KIND_SCENARIOS,
            instrument_ids=names,
            dense={"values": outcomes[kept].ravel()},
            scenario_probability=weight[kept],
        ),
    )
    if name == "K4.10":  # fair odds: any part may be kept in cash, here none is
        problem.budget_min = 1.0
    request = optimization.OptimizePortfolioRequest(problem=problem)
    answer = await joint_client.optimization.OptimizePortfolio(request)
    assert answer.status == optimization.OPTIMIZATION_STATUS_OPTIMAL
    assert answer.certificate.objective == pytest.approx(growth, abs=1e-9)
    if expected is None:  # stakes of 0.2 and 0, or of 0.21 and 0.01: fair odds leave a choice
        assert answer.weights[0] - answer.weights[1] == pytest.approx(0.2, abs=1e-7)
    else:
        np.testing.assert_allclose(answer.weights, expected, atol=3e-7)


async def test_two_races_of_two_are_the_closed_form(joint_client: Client) -> None:
    """K4.1 to K4.5 in one formula, f = m / (1 + m^2 + rho (1 - m^2)), at a correlation of 0.25."""
    m, rho = 0.3, 0.25
    matrix_id = await put_matrix(
        joint_client, "COVARIANCE", 0.04 * ((1 - rho) * np.eye(N) + rho * np.ones((N, N)))
    )
    portfolio_id = await kelly(joint_client)
    request = bets(portfolio_id, [0.5 + m / 2] * 2, covariance_matrix_id=matrix_id)
    stake = m / (1 + m * m + rho * (1 - m * m))
    decision = await joint_client.size(request)
    np.testing.assert_allclose(before_lots(decision), [stake] * 2, atol=1e-8)
    assert decision.method == types_pb2.SIZING_METHOD_JOINT

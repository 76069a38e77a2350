"""Bets and histories sized together: correlation of their outcomes, and what is said without."""

from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import market_service_pb2, sizing_pb2, sizing_service_pb2, types_pb2
from positionsizing.v1 import optimization_service_pb2 as pb
from scipy.optimize import brentq

from compute.joint.outcomes import Bets, drawn_together
from tests.server.joint.test_joint_truth import before_lots, covariance_of, set_parameters, stored
from tests.server.support.service_client import INSTRUMENTS, Client


def bets(
    portfolio_id: str, win: list[float], payoff: list[float] | None = None, **given: Any
) -> sizing_service_pb2.SizePositionsRequest:
    """Bets on the first instruments."""
    n = len(win)
    given.setdefault("side", [types_pb2.SIDE_LONG] * n)
    signals = sizing_pb2.SignalBatch(
        instrument_ids=INSTRUMENTS[:n],
        side=given.pop("side"),
        win_probability=win,
        payoff=payoff or [1.0] * n,
    )
    return sizing_service_pb2.SizePositionsRequest(
        portfolio_id=portfolio_id,
        method=types_pb2.SIZING_METHOD_JOINT,
        validate_only=True,
        signals=signals,
        **given,
    )


async def kelly(client: Client, *matrices: market_service_pb2.Matrix, **limits: Any) -> str:
    """A portfolio sized at full Kelly with these limits."""
    portfolio_id = await stored(client, *matrices, **limits)
    await set_parameters(client, portfolio_id, kelly_fraction=1.0)
    return portfolio_id


@pytest.mark.parametrize(
    ("mean", "correlation", "stake"),
    [
        (0.02, 0.0, 0.0199920032),
        (0.2, 0.0, 0.1923076923),
        (0.2, 0.5, 0.1315789474),
        (0.2, 1.0, 0.1),
        (0.2, -0.5, 0.3571428571),
    ],
    ids=["K4.1", "K4.2", "K4.3", "K4.4", "K4.5"],
)
async def test_two_even_bets(
    joint_client: Client, mean: float, correlation: float, stake: float
) -> None:
    matrix = covariance_of(0.04 * np.array([[1.0, correlation], [correlation, 1.0]]))
    portfolio_id = await kelly(joint_client, matrix)
    win = [0.5 + 0.5 * mean] * 2
    decision = await joint_client.size(
        bets(portfolio_id, win, covariance_matrix_id=matrix.matrix_id)
    )
    found = before_lots(decision)
    if correlation == 1.0:
        assert found.sum() == pytest.approx(2 * stake, abs=1e-8)  # the split is not unique
    else:
        np.testing.assert_allclose(found, [stake] * 2, atol=1e-8)
    assert decision.status == types_pb2.SIZING_STATUS_OPTIMAL
    assert not decision.notes


async def test_bets_without_a_matrix_are_independent_and_it_is_said(joint_client: Client) -> None:
    portfolio_id = await kelly(joint_client)
    decision = await joint_client.size(bets(portfolio_id, [0.6, 0.6]))
    np.testing.assert_allclose(before_lots(decision), [0.1923076923] * 2, atol=1e-8)
    assert ["independent" in note for note in decision.notes] == [True]


async def test_a_short_bet_wins_when_its_instrument_falls(joint_client: Client) -> None:
    matrix = covariance_of(0.04 * np.array([[1.0, 0.5], [0.5, 1.0]]))
    portfolio_id = await kelly(joint_client, matrix, allow_short=True)
    request = bets(
        portfolio_id,
        [0.6, 0.6],
        side=[types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT],
        covariance_matrix_id=matrix.matrix_id,
    )
    found = before_lots(await joint_client.size(request))
    np.testing.assert_allclose(found, [0.3571428571, -0.3571428571], atol=1e-8)


@pytest.mark.parametrize(
    ("win", "odds", "stakes"),
    [
        ([0.5, 0.3, 0.2], [1.8, 4.0, 5.0], [0.0, 0.0727272727, 0.0181818182]),
        ([0.55, 0.25, 0.1], [3.0, 3.2, 8.0], [0.4045454545, 0.1136363636, 0.0454545455]),
    ],
    ids=["K4.6", "K4.7"],
)
async def test_a_horse_race_is_bets_of_which_one_at_most_wins(
    joint_client: Client, win: list[float], odds: list[float], stakes: list[float]
) -> None:
    chance = np.array(win)
    root = np.sqrt(chance / (1.0 - chance))
    correlation = np.eye(3) - np.outer(root, root) * ~np.eye(3, dtype=bool)
    if np.linalg.eigvalsh(correlation)[0] < 0.0:
        correlation += 1e-13 * np.eye(3)  # a race that somebody wins for sure has no variance
    matrix = covariance_of(correlation)
    portfolio_id = await kelly(joint_client, matrix)
    payoff = [each - 1.0 for each in odds]
    decision = await joint_client.size(
        bets(portfolio_id, win, payoff, covariance_matrix_id=matrix.matrix_id)
    )
    np.testing.assert_allclose(before_lots(decision), stakes, atol=1e-7)
    # The same race as scenarios: one for each winner, and one where nobody wins.
    outcomes = np.vstack([np.diag(odds) - 1.0, -np.ones((1, 3))])
    odds_of = np.append(chance, max(1.0 - chance.sum(), 0.0))
    kept = odds_of > 0.0
    scenarios = market_service_pb2.Matrix(
        kind=market_service_pb2.MATRIX_KIND_SCENARIOS,
        instrument_ids=INSTRUMENTS[:3],
        dense={"values": outcomes[kept].ravel()},
        scenario_probability=odds_of[kept],
    )
    problem = pb.OptimizationProblem(
        instrument_ids=INSTRUMENTS[:3],
        objective=pb.Objective(kind=pb.OBJECTIVE_KIND_LOG_GROWTH),
        scenarios=scenarios,
    )
    answer = await joint_client.optimization.OptimizePortfolio(
        pb.OptimizePortfolioRequest(problem=problem)
    )
    np.testing.assert_allclose(answer.weights, stakes, atol=1e-8)


async def test_a_history_is_a_bet_and_stands_beside_expected_returns(joint_client: Client) -> None:
    matrix = covariance_of(0.04 * np.array([[1.0, 0.3], [0.3, 1.0]]))
    portfolio_id = await kelly(joint_client, matrix)
    outcome = [0.5] * 12 + [-0.5] * 8
    request = bets(portfolio_id, [0.5, 0.5], covariance_matrix_id=matrix.matrix_id)
    signals = request.signals
    for name in ("win_probability", "payoff"):
        signals.ClearField(name)
    signals.edge_source.extend(
        [sizing_pb2.EDGE_SOURCE_HISTORY, sizing_pb2.EDGE_SOURCE_RETURN_VOLATILITY]
    )
    signals.history_outcome.extend(outcome)
    signals.history_length.extend([20, 0])
    signals.expected_return.extend([0.0, 0.01])
    signals.volatility.extend([0.2, 0.2])
    decision = await joint_client.size(request)
    found = before_lots(decision)
    assert decision.certificate.duality_gap_relative <= 1e-8
    assert found[0] > 0.05
    assert found[1] >= 0.0
    apart = covariance_of(0.04 * np.eye(2))
    alone_id = await kelly(joint_client, apart)
    request.portfolio_id, request.covariance_matrix_id = alone_id, apart.matrix_id
    alone = before_lots(await joint_client.size(request))
    assert alone[1] > found[1]  # what goes together is worth less together
    assert alone[1] == pytest.approx(0.25, rel=0.05)


async def test_six_bets_are_every_combination(joint_client: Client) -> None:
    """Independent even bets: the stake of each over the 2^6 combinations, by SciPy."""
    portfolio_id = await kelly(joint_client)
    decision = await joint_client.size(bets(portfolio_id, [0.55] * 6))
    wins = (np.arange(64)[:, None] >> np.arange(6)) & 1
    chance = np.prod(np.where(wins > 0, 0.55, 0.45), axis=1)

    def slope(stake: float) -> float:
        total = (2.0 * wins - 1.0).sum(axis=1)
        return float(chance @ (total / (1.0 + stake * total)))

    best = brentq(slope, 0.0, 0.16, xtol=1e-14)
    np.testing.assert_allclose(before_lots(decision), np.full(6, best), atol=1e-8)


async def test_a_sample_is_said(joint_client: Client) -> None:
    """The server of these tests takes 64 outcomes: all of six bets, a sample of seven."""
    portfolio_id = await kelly(joint_client)
    said = [
        [note for note in decision.notes if "sample" in note]
        for count in (6, 7)
        for decision in [await joint_client.size(bets(portfolio_id, [0.55] * count))]
    ]
    [none, [told]] = said
    assert none == []
    start = "outcomes of these 7 bets are a sample of 64, the same each time; chances are exact, "
    assert told.startswith(f"{start}correlations of two bets off by ")
    assert 0.0 <= float(told.split(" off by ")[1].split()[0]) < 0.2


def test_many_bets_are_sampled() -> None:
    """Twelve bets, a thousand samples: chances and correlations exact."""
    win, rho = np.linspace(0.4, 0.6, 12), 0.2
    correlation = np.full((12, 12), rho) + (1.0 - rho) * np.eye(12)
    made = drawn_together(Bets(win, np.ones(12), np.ones(12)), correlation, 0, 1024)
    assert made.probability.sum() == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(made.probability @ made.wins, win, atol=1e-12)
    centred = made.wins - win
    found = (centred.T * made.probability) @ centred
    size = np.sqrt(np.diagonal(found))
    np.testing.assert_allclose(found / np.outer(size, size), correlation, atol=1e-9)
    again = drawn_together(Bets(win, np.ones(12), np.ones(12)), correlation, 0, 1024)
    assert np.array_equal(made.wins, again.wins)
    assert np.array_equal(made.probability, again.probability)


async def test_the_variance_of_a_bet_is_that_of_its_outcomes(joint_client: Client) -> None:
    """Two outcomes are all there are, not a sample of two: p q (a + b)^2 = 0.96."""
    portfolio_id = await kelly(joint_client)
    objective = pb.Objective(kind=pb.OBJECTIVE_KIND_MEAN_VARIANCE, risk_aversion=4.0)
    await set_parameters(joint_client, portfolio_id, joint_objective=objective)
    found = before_lots(await joint_client.size(bets(portfolio_id, [0.6])))
    np.testing.assert_allclose(found, [0.2 / (4.0 * 0.96)], atol=1e-8)


async def test_correlations_that_cannot_be_had_cost_no_chance(joint_client: Client) -> None:
    """What is expected of stakes is that of their chances: by MAX_RETURN, sum w (p b - q)."""
    correlation = np.array([[1.0, 0.7, -0.6], [0.7, 1.0, 0.6], [-0.6, 0.6, 1.0]])
    correlation += 0.3 * np.eye(3)  # positive definite; the correlations are then 0.54 and 0.46
    matrix = covariance_of(correlation)
    portfolio_id = await kelly(joint_client, matrix, weight_max=0.1)
    objective = pb.Objective(kind=pb.OBJECTIVE_KIND_MAX_RETURN)
    await set_parameters(joint_client, portfolio_id, joint_objective=objective)
    win, payoff = np.array([0.25, 0.55, 0.8]), np.array([3.2, 0.9, 0.3])
    decision = await joint_client.size(
        bets(portfolio_id, win.tolist(), payoff.tolist(), covariance_matrix_id=matrix.matrix_id)
    )
    assert any("correlations" in note for note in decision.notes)
    np.testing.assert_allclose(before_lots(decision), [0.1, 0.1, 0.1], atol=1e-7)
    edge = win * payoff - (1.0 - win)
    assert decision.certificate.objective == pytest.approx(0.1 * edge.sum(), rel=1e-6)


async def test_what_hardly_ever_comes_is_in_the_sample(joint_client: Client) -> None:
    """A bet that is nearly sure and pays too little for what it loses then, among seven."""
    portfolio_id = await kelly(joint_client)
    win, payoff = [0.55] * 6 + [0.9997], [1.0] * 6 + [0.0002]
    decision = await joint_client.size(bets(portfolio_id, win, payoff))
    assert any("sample" in note for note in decision.notes)
    found = before_lots(decision)
    assert found[-1] == pytest.approx(0.0, abs=1e-9)
    assert (found[:-1] > 0.03).all()


async def test_a_sure_bet_takes_all_and_has_a_proof(joint_client: Client) -> None:
    """It doubles whatever happens; the other bet would take wealth from it."""
    portfolio_id = await kelly(joint_client)
    decision = await joint_client.size(bets(portfolio_id, [1.0, 0.6]))
    assert not decision.fallback_chain
    assert decision.certificate.duality_gap_relative <= 1e-8
    np.testing.assert_allclose(before_lots(decision), [1.0, 0.0], atol=1e-6)
    never = await joint_client.size(bets(portfolio_id, [0.0, 0.6]))
    np.testing.assert_allclose(before_lots(never), [0.0, 0.2], atol=1e-7)

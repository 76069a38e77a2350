"""Reference properties of portfolios and tails, and dynamics step by step, of a running service."""

import numpy as np
import pytest
from positionsizing.v1 import correlation_service_pb2 as pb
from positionsizing.v1 import limits_pb2, parameter_service_pb2, portfolio_service_pb2
from scipy.optimize import least_squares

from tests.server.reference.test_reference_estimates import CORRELATION
from tests.server.reference.test_reference_risk import put_covariance, returns_universe
from tests.server.risk.test_estimates import estimate, values_of
from tests.server.risk.test_risk import losses_universe, report, tails, weights
from tests.server.sizing.test_risk_parity import BUDGET, VOLATILITY, book, covariance, request
from tests.server.support.service_client import Client, sizing_request

A, B, MEAN = 0.05, 0.9, np.array([[1.0, 0.5], [0.5, 1.0]])
SHOCKS = np.array([[1.5, -1.0], [-2.0, -1.5]])


def ending_in(last: np.ndarray, count: int = 30) -> np.ndarray:
    """Returns whose last shocks are these, from the state `MEAN` before them, (count, 2).

    Such a state is no limit: of the shocks before it are found some that lead there, with `MEAN` as
    their own mean. Deviations are those that the estimate forecasts, of decay 0.97, from 1.
    """
    n = count - len(last)

    def returns_of(free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shocks = np.vstack([free.reshape(n, 2), last])
        out, variance = np.empty_like(shocks), np.ones(2)
        for t, e in enumerate(shocks):
            out[t] = e * np.sqrt(variance)
            variance = 0.97 * variance + 0.03 * out[t] ** 2
        return out, shocks

    def off(free: np.ndarray) -> np.ndarray:
        out, shocks = returns_of(free)
        state = MEAN.copy()
        for e in shocks[:n]:
            state = (1 - A - B) * MEAN + A * np.outer(e, e) + B * state
        s = shocks.T @ shocks / count
        mean = s[0, 1] / np.sqrt(s[0, 0] * s[1, 1]) - 0.5
        wrong = (state - MEAN)[np.triu_indices(2)]
        return np.concatenate([out.mean(axis=0), (out**2).mean(axis=0) - 1.0, [mean], wrong])

    start = np.random.default_rng(16).standard_normal(2 * n)
    found = least_squares(off, start, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert np.abs(found.fun).max() < 1e-12
    return returns_of(found.x)[0]


@pytest.mark.parametrize(("steps", "rho"), [(1, 0.3880570001), (2, 0.4725748982)])
async def test_two_steps_of_dynamic_correlation_r16(client: Client, steps: int, rho: float) -> None:
    """The table's two steps: Q = 0.05 S + 0.05 e e' + 0.9 Q from S of correlation 0.5."""
    universe = await returns_universe(client, 0.01 * ending_in(SHOCKS[:steps]))
    made = await estimate(
        client,
        universe,
        estimator=pb.COVARIANCE_ESTIMATOR_DCC,
        kind=CORRELATION,
        settings=pb.EstimatorSettings(dcc_shock=A, dcc_persistence=B),
    )
    found = await values_of(client, made.matrix_id)
    assert found[0, 1] == pytest.approx(rho, abs=6e-11)


@pytest.mark.parametrize("rho", [0.0, 0.4])
async def test_risk_parity_of_equal_correlations_r11b(client: Client, rho: float) -> None:
    """Inverse volatilities, and in proportion to the budget."""
    values = (rho + (1 - rho) * np.eye(3)) * np.outer(VOLATILITY[:3], VOLATILITY[:3]) / 252
    matrix_id = await covariance(client, values)
    for budget in (BUDGET, BUDGET / 2):
        asked = request(await book(client, risk_budget=budget), covariance_matrix_id=matrix_id)
        decision = await client.size(asked)
        risk = np.array(decision.sizes.weight) * VOLATILITY[:3]
        np.testing.assert_allclose(risk, budget / 3, rtol=1e-6)


HIERARCHIES = pb.HIERARCHY_METHOD_HRP, pb.HIERARCHY_METHOD_HERC, pb.HIERARCHY_METHOD_NCO


async def allocated(
    client: Client, values: np.ndarray, names: list[str], method: pb.HierarchyMethod.ValueType
) -> dict[str, float]:
    matrix_id = await put_covariance(client, values, names)
    answer = await client.correlation.AllocateByHierarchy(
        pb.AllocateByHierarchyRequest(matrix_id=matrix_id, method=method)
    )
    return dict(zip(answer.instrument_ids, answer.weights, strict=True))


@pytest.mark.parametrize("method", HIERARCHIES)
async def test_hierarchies_r12c(client: Client, method: pb.HierarchyMethod.ValueType) -> None:
    """Inverse variance of uncorrelated names; whatever order they are named in; all of it, long."""
    variance = np.array([0.01, 0.04, 0.16, 0.09, 0.0225])
    names = list("ABCDE")
    if method == pb.HIERARCHY_METHOD_HRP:
        for n in (2, 5):
            rho = 0.3 if n == 2 else 0.0
            deviation = np.sqrt(variance[:n])
            values = (rho + (1 - rho) * np.eye(n)) * np.outer(deviation, deviation)
            found = await allocated(client, values, names[:n], method)
            inverse = (1 / variance[:n]) / (1 / variance[:n]).sum()
            assert [found[x] for x in names[:n]] == pytest.approx(inverse, rel=1e-9)
    root = np.random.default_rng(12).standard_normal((5, 5))
    values = root @ root.T + np.diag(variance)
    found = await allocated(client, values, names, method)
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-12)
    assert min(found.values()) >= 0.0
    turn = [3, 0, 4, 2, 1]
    again = await allocated(client, values[np.ix_(turn, turn)], [names[i] for i in turn], method)
    assert [again[x] for x in names] == pytest.approx([found[x] for x in names], rel=1e-9)


async def test_cornish_fisher_outside_its_domain_r5b(client: Client) -> None:
    """A tenth of the periods loses: skewness -2.667, below -2.485, where it is no quantile.

    The table's pair, skewness -2.6 with excess kurtosis 2, no returns have: it is S^2 - 2 at least.
    """
    losses = np.where(np.arange(100) % 10 == 0, 0.09, -0.01)
    universe = await losses_universe(client, losses)
    answer = await report(client, universe_id=universe, proposed=weights(A=1.0))
    p = 0.1
    assert answer.after.skewness == pytest.approx(-(1 - 2 * p) / np.sqrt(p * (1 - p)), rel=1e-9)
    refused = tails(answer.after)["CORNISH_FISHER"]
    assert "domain" in refused.refused
    assert (refused.value_at_risk, refused.expected_shortfall) == (0.0, 0.0)


async def test_a_fixed_risk_with_fees_both_ways_k10_4(client: Client) -> None:
    """1,000 from 100 to a stop at 99.9, 5 basis points each way: R / (|e - s| + c (e + s))."""
    await client.put_market(price=[100.0] * 8, lot_size=[1e-4] * 8)
    portfolio_id = await client.put_portfolio(1e6)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    limits = limits_pb2.Limits(leverage_max=10.0, fee_rate=0.0005)
    await client.portfolio.SetLimits(
        portfolio_service_pb2.SetLimitsRequest(scope=scope, limits=limits)
    )
    parameters = parameter_service_pb2.SizingParameters(stop_risk_max=0.001, kelly_fraction=1.0)
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=parameters)
    )
    edge = {"win_probability": [0.99], "payoff": [10.0], "stop_price": [99.9]}
    decision = await client.size(sizing_request(portfolio_id, ["I0"], edge))
    assert decision.sizes.quantity[0] == pytest.approx(5001.2503, abs=1e-4)
    await client.put_market()

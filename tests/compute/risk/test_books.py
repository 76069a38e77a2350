"""Contributions, diversification, stress, views and backtests against their reference numbers."""

import numpy as np
import pytest

from compute.kelly.exact import exact_kelly_fraction
from compute.risk import backtest
from compute.risk.contributions import (
    diversification_ratio,
    effective_bets_principal,
    effective_bets_torsion,
    minimum_torsion,
    normal_contributions,
    scenario_contributions,
)
from compute.risk.measures import historical_tail, normal_tail, tail_weights
from compute.risk.pooling import InfeasibleViewError, View, pooled
from compute.risk.scenarios import (
    conditional_shocks,
    reverse_stress,
    shock_loss,
    window_shocks,
    worst_in_ellipsoid,
)

K52 = np.array([[0.04, 0.006, 0], [0.006, 0.09, 0.01], [0, 0.01, 0.0225]])
BOOK = np.array([0.5, 0.3, 0.2])


def equicorrelated(n: int, rho: float) -> np.ndarray:
    return (1 - rho) * np.eye(n) + rho


def test_components_sum_and_marginals_are_slopes() -> None:
    level, mean = normal_tail(0.99), np.array([0.001, -0.002, 0.0005])

    def shortfall(w: np.ndarray) -> float:
        return normal_tail(0.99, float(mean @ w), float(np.sqrt(w @ K52 @ w))).expected_shortfall

    parts = normal_contributions(BOOK, K52, level.expected_shortfall, mean)
    assert parts.component.sum() == pytest.approx(shortfall(BOOK), rel=1e-13)
    for i in range(3):
        step = np.eye(3)[i] * 1e-6
        slope = (shortfall(BOOK + step) - shortfall(BOOK - step)) / 2e-6
        assert parts.marginal[i] == pytest.approx(slope, rel=1e-7)
    returns = np.random.default_rng(0).normal(size=(200, 3)) * 0.01
    losses, equal = -(returns @ BOOK), np.full(200, 1 / 200)
    tail = historical_tail(losses, equal, 0.973)
    weights, place = tail_weights(losses, equal, 0.973)
    parts = scenario_contributions(BOOK, returns, weights)
    assert parts.component.sum() == pytest.approx(tail.expected_shortfall, rel=1e-12)
    parts = scenario_contributions(BOOK, returns, np.eye(200)[place])
    assert parts.component.sum() == pytest.approx(tail.value_at_risk, rel=1e-12)
    assert not normal_contributions(np.zeros(3), K52, 2.0).component.any()


def test_effective_bets_r22() -> None:
    alike, equal = equicorrelated(4, 0.38), np.full(4, 0.25)
    ratio = diversification_ratio(equal, alike * 0.04)
    assert ratio**2 == pytest.approx(1.8691588785, abs=5e-11)
    assert effective_bets_torsion(equal, alike) == pytest.approx(4.0, abs=1e-9), "by symmetry"
    assert effective_bets_principal(equal, alike) == pytest.approx(1.0), "one factor, the market"
    diagonal = np.diag([0.01, 0.04, 0.09])
    alone = np.array([1 / 0.1, 1 / 0.2, 1 / 0.3])
    for bets in (effective_bets_torsion, effective_bets_principal):
        assert bets(alone, diagonal) == pytest.approx(3.0, abs=1e-9)
        assert bets(np.array([1.0, 0, 0]), diagonal) == pytest.approx(1.0, abs=1e-9)
        assert np.isnan(bets(np.zeros(3), diagonal))


def test_torsion_is_uncorrelated_and_near() -> None:
    torsion = minimum_torsion(K52)
    product = torsion @ K52 @ torsion.T
    assert np.abs(product - np.diag(np.diag(product))).max() < 1e-12
    near = 1.0 - np.diag(torsion @ K52) / np.sqrt(np.diag(product) * np.diag(K52))
    assert near.max() < 0.05, "each factor is nearly its own instrument"
    with pytest.raises(ValueError, match="singular"):
        minimum_torsion(np.ones((2, 2)))


def test_reverse_stress_r35() -> None:
    found = reverse_stress(BOOK, K52 / 252, 0.05)
    np.testing.assert_allclose(found.shocks, [-0.04954545, -0.07272727, -0.01704545], atol=5e-9)
    assert found.distance == pytest.approx(np.sqrt(0.05**2 * 252 / 0.022), rel=1e-14)
    assert found.distance == pytest.approx(5.35129551, abs=5e-9)
    assert found.probability == pytest.approx(2.67e-6, abs=5e-9)
    assert shock_loss(BOOK, found.shocks) == pytest.approx(0.05, rel=1e-14)
    inverse = np.linalg.inv(K52 / 252)
    rng = np.random.default_rng(0)
    for _ in range(100):  # nothing of that loss is more plausible
        other = found.shocks + 0.02 * rng.normal(size=3)
        other *= 0.05 / shock_loss(BOOK, other)
        assert np.sqrt(other @ inverse @ other) >= found.distance - 1e-9
    with pytest.raises(ValueError, match="no risk"):
        reverse_stress(np.zeros(3), K52, 0.05)


def test_worst_in_an_ellipsoid_is_worst() -> None:
    found = worst_in_ellipsoid(BOOK, K52, 3.0)
    assert shock_loss(BOOK, found.shocks) == pytest.approx(found.loss, rel=1e-14)
    root = np.linalg.cholesky(K52)
    rng = np.random.default_rng(0)
    for _ in range(200):
        direction = rng.normal(size=3)
        point = 3.0 * root @ direction / np.linalg.norm(direction)
        assert shock_loss(BOOK, point) <= found.loss + 1e-12
    back = reverse_stress(BOOK, K52, found.loss)
    assert back.distance == pytest.approx(3.0, rel=1e-13)
    np.testing.assert_allclose(back.shocks, found.shocks, rtol=1e-12)


def test_shocks_of_windows_and_of_factors() -> None:
    np.testing.assert_allclose(window_shocks(np.array([[0.1, -0.5], [0.1, 0.5]])), [0.21, -0.25])
    spread = conditional_shocks(K52, np.array([1]), np.array([-0.3]))
    np.testing.assert_allclose(spread, K52[1] / K52[1, 1] * -0.3, rtol=1e-13)
    assert spread[1] == pytest.approx(-0.3)


X = np.array([-0.1, -0.05, 0.0, 0.05, 0.1])
EQUAL = np.full(5, 0.2)


def test_pooled_mean_r29() -> None:
    found = pooled(EQUAL, [View(X, 0.02, 0.02)])
    expected = [0.1277542831, 0.1565970949, 0.1919516867, 0.2352882093, 0.2884087260]
    np.testing.assert_allclose(found.probability, expected, atol=5e-11)
    assert found.multipliers[0] == pytest.approx(4.0713495270, abs=5e-10)
    assert found.entropy == pytest.approx(0.0403533327, abs=5e-11)
    assert found.effective_share == pytest.approx(0.9604500208, abs=5e-11)
    further = pooled(EQUAL, [View(X, 0.04, 0.04)])
    assert further.entropy == pytest.approx(0.1660076074, abs=5e-11)


def test_pooled_second_moment_r29b_and_kelly_r29c() -> None:
    both = pooled(EQUAL, [View(X, 0.01, 0.01), View(X**2, 0.006, 0.006)])
    # By mpmath's root of the two moment equations; R29b prints 7 right digits.
    expected = [0.214858511038, 0.154724444678, 0.146675599738, 0.183041422338, 0.300700022208]
    np.testing.assert_allclose(both.probability, expected, atol=5e-13)
    printed = [0.2148584533, 0.1547244324, 0.1466756072, 0.1830414446, 0.3007000625]
    np.testing.assert_allclose(both.probability, printed, atol=6e-8)
    q = pooled(EQUAL, [View(X, 0.02, 0.02)]).probability
    stake = float(exact_kelly_fraction(X, q))
    assert stake == pytest.approx(3.887141404937, abs=5e-11), "by mpmath; R29c prints 3.88714145"
    assert q @ np.log1p(stake * X) == pytest.approx(0.0397738435, abs=5e-11)
    assert float(exact_kelly_fraction(X, EQUAL)) == pytest.approx(0.0, abs=1e-12)


def test_bounds_bind_or_cost_nothing() -> None:
    none = pooled(EQUAL, [])
    assert (none.probability == EQUAL).all()
    assert (none.entropy, none.effective_share) == pytest.approx((0.0, 1.0))
    unbounded = pooled(EQUAL, [View(X, -np.inf, np.inf)])
    np.testing.assert_allclose(unbounded.probability, EQUAL)
    free = pooled(EQUAL, [View(X, -0.05, np.inf)])
    np.testing.assert_allclose(free.probability, EQUAL, atol=1e-9)
    bound = pooled(EQUAL, [View(X, 0.02, np.inf)])
    same = pooled(EQUAL, [View(X, 0.02, 0.02)])
    np.testing.assert_allclose(bound.probability, same.probability, atol=1e-9)
    capped = pooled(EQUAL, [View(X, 0.02, np.inf), View(X**2, -np.inf, 0.004)])
    assert capped.probability @ X == pytest.approx(0.02, abs=1e-9)
    assert capped.probability @ X**2 == pytest.approx(0.004, abs=1e-9)


def test_a_view_that_cannot_hold_is_named() -> None:
    with pytest.raises(InfeasibleViewError, match=r"reach from -0\.1 to 0\.1") as caught:
        pooled(EQUAL, [View(X, 0.02, 0.02), View(X, 0.11, np.inf)])
    assert caught.value.view == 1


@pytest.mark.parametrize(
    ("count", "probability", "exceedances", "statistic"),
    [
        (250, 0.01, 4, 0.7691383644),
        (250, 0.01, 8, 7.7335507245),
        (255, 0.01, 7, 5.3163413410),
        (1000, 0.01, 17, 4.0909725546),
        (250, 0.01, 0, 5.0251679268),
    ],
)
def test_kupiec_r30(count: int, probability: float, exceedances: int, statistic: float) -> None:
    found = backtest.kupiec(count, exceedances, probability)
    assert found.statistic == pytest.approx(statistic, abs=5e-10)


@pytest.mark.parametrize(("count", "low", "high"), [(255, 1, 6), (510, 2, 10), (1000, 5, 16)])
def test_kupiec_does_not_reject_r30b(count: int, low: int, high: int) -> None:
    passed = [x for x in range(60) if backtest.kupiec(count, x, 0.01).statistic < 3.8415]
    assert passed == list(range(low, high + 1))


def test_christoffersen_r31() -> None:
    hits = np.zeros(250, dtype=bool)
    hits[[10, 50, 51, 52, 120, 200]] = True
    assert backtest.transitions(hits) == (239, 4, 4, 2)
    assert backtest.independence(hits).statistic == pytest.approx(8.1364685744, abs=5e-10)
    both = backtest.conditional_coverage(hits, 0.01)
    assert backtest.kupiec(250, 6, 0.01).statistic == pytest.approx(3.5553547711, abs=5e-10)
    assert both.statistic == pytest.approx(11.6918233454, abs=5e-10)
    assert both.p_value == pytest.approx(0.0028917, abs=5e-8)
    apart = np.zeros(250, dtype=bool)
    apart[[10, 50, 90, 130, 170, 210]] = True
    assert backtest.independence(apart).statistic == pytest.approx(0.2963264105, abs=5e-10)


def test_zones_r32() -> None:
    zones = [backtest.traffic_light(250, x, 0.01)[0] for x in range(12)]
    assert zones == ["GREEN"] * 5 + ["YELLOW"] * 5 + ["RED"] * 2
    for x, reached in ((4, 0.8922), (5, 0.9588), (9, 0.9997)):
        assert backtest.traffic_light(250, x, 0.01)[1] == pytest.approx(reached, abs=5e-5)


def test_shortfall_r33() -> None:
    """5 % critical value of Z2 for right normal forecasts, by simulation."""
    tail = normal_tail(0.975)
    losses = np.random.default_rng(0).normal(size=(20_000, 250))
    z2 = 1 - np.where(losses > tail.value_at_risk, losses, 0).sum(axis=1) / (
        250 * 0.025 * tail.expected_shortfall
    )
    one = backtest.shortfall_test(
        losses[0], np.full(250, tail.value_at_risk), np.full(250, tail.expected_shortfall), 0.025
    )
    assert one == pytest.approx(z2[0], rel=1e-12)
    assert np.quantile(z2, 0.05) == pytest.approx(-0.704, abs=0.02)
    assert z2.mean() == pytest.approx(0.0, abs=0.01)
    var, es = np.full(250, tail.value_at_risk), np.full(250, tail.expected_shortfall)
    z1 = [backtest.shortfall_size_test(row, var, es) for row in losses[:5000]]
    assert np.nanquantile(z1, 0.05) == pytest.approx(-0.114, abs=0.01)
    assert np.isnan(backtest.shortfall_size_test(np.zeros(250), var, es))


def test_e_values_r34() -> None:
    tail = normal_tail(0.975)
    losses = np.array([0.5, 2.2, 3.0])
    var, es = np.full(3, tail.value_at_risk), np.full(3, tail.expected_shortfall)
    values = backtest.e_values(losses, var, es, 0.025)
    assert values[2] == pytest.approx(110.10367, abs=5e-6)
    assert values[0] == 0.0
    wealth = backtest.e_process(values)
    np.testing.assert_allclose(wealth, [0.99, 1.23167357, 2.57547469], atol=5e-9)
    draws = np.random.default_rng(1).normal(size=400_000)
    right = backtest.e_values(draws, np.full(400_000, var[0]), np.full(400_000, es[0]), 0.025)
    assert right.mean() == pytest.approx(1.0, abs=0.05)

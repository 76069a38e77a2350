"""Measures of risk against reference numbers and SciPy, and what always holds between them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import genpareto, t

from compute.risk.conditional import (
    Garch,
    filtered,
    garch_variances,
)
from compute.risk.extremes import ParetoTail, fit_pareto, pareto_tail
from compute.risk.measures import (
    OutsideDomainError,
    cornish_fisher_quantile,
    cornish_fisher_tail,
    entropic_value_at_risk,
    historical_tail,
    moments,
    normal_tail,
    spectral_risk,
    student_tail,
    tail_weights,
)

TEN = np.arange(1.0, 11.0)
EQUAL = np.full(10, 0.1)


@pytest.mark.parametrize(
    ("level", "var", "es"),
    [
        (0.95, 1.6448536270, 2.0627128075),
        (0.975, 1.9599639845, 2.3378027922),
        (0.99, 2.3263478740, 2.6652142203),
    ],
)
def test_normal_r3(level: float, var: float, es: float) -> None:
    found = normal_tail(level)
    assert (found.value_at_risk, found.expected_shortfall) == pytest.approx((var, es), abs=5e-11)
    shifted = normal_tail(level, 0.01, 0.2)
    assert shifted.value_at_risk == pytest.approx(0.2 * var - 0.01, abs=1e-10)


@pytest.mark.parametrize(
    ("degrees", "var", "es"), [(4, 2.64949191, 3.69151049), (6, 2.56597801, 3.29254506)]
)
def test_student_r4(degrees: float, var: float, es: float) -> None:
    found = student_tail(0.99, degrees)
    assert (found.value_at_risk, found.expected_shortfall) == pytest.approx((var, es), abs=5e-9)
    raw = np.sqrt(degrees / (degrees - 2.0))
    if degrees == 4:
        assert raw * found.value_at_risk == pytest.approx(3.74694739, abs=5e-9)
        assert raw * found.expected_shortfall == pytest.approx(5.22058419, abs=5e-9)
    mean, _ = quad(lambda u: t.ppf(u, degrees), 0.99, 1.0)
    assert raw * found.expected_shortfall == pytest.approx(mean / 0.01, rel=1e-6)
    with pytest.raises(OutsideDomainError):
        student_tail(0.99, 2.0)


@pytest.mark.parametrize(
    ("probability", "skewness", "kurtosis", "expected"),
    [
        (0.01, -0.5, 1, -2.83370904),
        (0.01, -1, 3, -3.38668905),
        (0.01, 0, 3, -3.02771106),
        (0.05, -0.5, 1, -1.76210582),
        (0.01, 0, 0, -2.32634787),
    ],
)
def test_cornish_fisher_r5(
    probability: float, skewness: float, kurtosis: float, expected: float
) -> None:
    found = cornish_fisher_quantile(probability, skewness, kurtosis)
    assert found == pytest.approx(expected, abs=5e-9)


def test_cornish_fisher_shortfall_is_the_mean_of_its_quantiles() -> None:
    found = cornish_fisher_tail(0.975, -0.5, 1.0, 0.02)
    quantile = cornish_fisher_quantile(0.025, -0.5, 1.0)
    assert found.value_at_risk == pytest.approx(-0.02 * quantile, rel=1e-12)
    mean, _ = quad(lambda u: cornish_fisher_quantile(u, -0.5, 1.0), 0.0, 0.025)
    assert found.expected_shortfall == pytest.approx(-0.02 * mean / 0.025, rel=1e-6)
    plain, normal = cornish_fisher_tail(0.99, 0.0, 0.0), normal_tail(0.99)
    assert plain.expected_shortfall == pytest.approx(normal.expected_shortfall, rel=1e-12)


@pytest.mark.parametrize(("skewness", "kurtosis"), [(-2.6, 2.0), (0.0, 9.0), (0.5, 0.0), (0, -0.5)])
def test_cornish_fisher_is_refused_where_it_is_no_quantile_r5b(
    skewness: float, kurtosis: float
) -> None:
    with pytest.raises(OutsideDomainError, match="domain"):
        cornish_fisher_quantile(0.01, skewness, kurtosis)


@given(st.floats(-3, 3), st.floats(-1, 12))
@settings(deadline=None)
def test_where_it_is_allowed_it_rises(skewness: float, kurtosis: float) -> None:
    grid = np.linspace(0.0005, 0.9995, 60)
    try:
        values = [cornish_fisher_quantile(float(p), skewness, kurtosis) for p in grid]
    except OutsideDomainError:
        return
    assert (np.diff(values) >= -1e-12).all()


@pytest.mark.parametrize(
    ("level", "var", "es"),
    [(0.75, 8, 9.2), (0.8, 8, 9.5), (0.85, 9, 9.6666667), (0.9, 9, 10), (0.95, 10, 10)],
)
def test_historical_r7(level: float, var: float, es: float) -> None:
    shuffled = np.random.default_rng(0).permutation(TEN)
    found = historical_tail(shuffled, EQUAL, level)
    assert found.value_at_risk == var
    assert found.expected_shortfall == pytest.approx(es, abs=5e-8)
    weights, _ = tail_weights(shuffled, EQUAL, level)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert weights @ shuffled == pytest.approx(found.expected_shortfall, abs=1e-12)


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=40),
    st.integers(0, 1000),
    st.sampled_from([0.5, 0.75, 0.9, 0.95, 0.99]),
)
@settings(deadline=None)
def test_es_is_the_mean_of_the_quantiles_beyond(
    losses: list[float], seed: int, level: float
) -> None:
    values = np.array(losses)
    probability = np.random.default_rng(seed).dirichlet(np.ones(len(values)))
    probability = np.maximum(probability, 1e-6)
    probability /= probability.sum()
    found = historical_tail(values, probability, level)
    order = np.argsort(values)
    upper = np.cumsum(probability[order])
    lower = np.concatenate([[0.0], upper[:-1]])
    share = np.maximum(np.minimum(upper, 1.0) - np.maximum(lower, level), 0.0)
    mean = share @ values[order] / (1.0 - level)
    assert found.expected_shortfall == pytest.approx(mean, abs=1e-8)
    entropic = entropic_value_at_risk(values, probability, level)
    assert found.value_at_risk <= found.expected_shortfall + 1e-9
    assert found.expected_shortfall <= entropic + 1e-7
    assert entropic <= values.max() + 1e-9


def test_entropic_r27() -> None:
    grid = np.linspace(-12, 12, 20_001)
    density = np.exp(-0.5 * grid**2)
    density /= density.sum()
    for level, expected in ((0.95, 2.4477468307), (0.975, 2.7162030315), (0.99, 3.0348542588)):
        assert np.sqrt(-2 * np.log(1 - level)) == pytest.approx(expected, abs=5e-11)
        assert entropic_value_at_risk(grid, density, level) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("level", "expected"),
    [(0.7, 9.3581167317), (0.75, 9.5342812079), (0.8, 9.7061843806), (0.9, 10), (0.99, 10)],
)
def test_entropic_of_ten_losses_r27b(level: float, expected: float) -> None:
    assert entropic_value_at_risk(TEN, EQUAL, level) == pytest.approx(expected, abs=5e-10)


def test_spectral_r28() -> None:
    assert spectral_risk(TEN, EQUAL, 5.0) == pytest.approx(8.5263424665, abs=5e-11)
    assert spectral_risk(TEN, EQUAL, 20.0) == pytest.approx(9.8434823779, abs=5e-11)
    assert spectral_risk(TEN, EQUAL, 1e-7) == pytest.approx(5.5, abs=1e-5), (
        "the mean, for no aversion"
    )


DANISH = ParetoTail(threshold=10, shape=0.4968062, scale=6.9745523, count=2167, exceedances=109)


@pytest.mark.parametrize(
    ("level", "var", "es"),
    [
        (0.99, 27.284878, 58.210909),
        (0.999, 94.28955, 191.3697),
        (0.9999, 304.62448, 609.3696),
    ],
)
def test_pareto_tail_r8(level: float, var: float, es: float) -> None:
    found = DANISH.tail(level)
    assert found.value_at_risk == pytest.approx(var, rel=5e-7)
    assert found.expected_shortfall == pytest.approx(es, rel=5e-7)


def test_pareto_tail_r8b_and_its_domain() -> None:
    daily = ParetoTail(threshold=0.02, shape=0.25, scale=0.01, count=1000, exceedances=100)
    for level, var, es in ((0.99, 0.051131, 0.074842), (0.995, 0.064590, 0.092786)):
        found = daily.tail(level)
        assert (found.value_at_risk, found.expected_shortfall) == pytest.approx((var, es), abs=5e-7)
    with pytest.raises(OutsideDomainError, match="below the threshold"):
        daily.tail(0.5)
    with pytest.raises(OutsideDomainError, match="no mean"):
        ParetoTail(1, 1.2, 1, 100, 30).tail(0.99)
    exponential = ParetoTail(0.0, 0.0, 1.0, 100, 100).tail(0.9)
    assert exponential.value_at_risk == pytest.approx(np.log(10))
    assert exponential.expected_shortfall == pytest.approx(np.log(10) + 1)


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.3, 0.8])
def test_pareto_fit_is_the_maximum_of_scipy(shape: float) -> None:
    sample = genpareto.rvs(shape, scale=2.0, size=800, random_state=5)
    xi, scale = fit_pareto(sample)

    def likelihood(c: float, s: float) -> float:
        return float(genpareto.logpdf(sample, c, scale=s).sum())

    oracle = genpareto.fit(sample, floc=0.0)
    assert likelihood(xi, scale) >= likelihood(oracle[0], oracle[2]) - 1e-5
    assert xi == pytest.approx(shape, abs=0.12)
    for dx, ds in ((0.01, 0), (-0.01, 0), (0, 0.02), (0, -0.02)):
        assert likelihood(xi + dx, scale + ds) <= likelihood(xi, scale) + 1e-9


def test_diagnostics_of_a_tail() -> None:
    losses = t.rvs(4, size=40_000, random_state=1)
    found = pareto_tail(losses, 0.01)
    assert found.exceedances == 400
    assert found.shape == pytest.approx(0.25, abs=3 * found.shape_error)
    assert found.distance < 1.36 / np.sqrt(400) * 1.5
    assert found.tail(0.999).value_at_risk == pytest.approx(t.ppf(0.999, 4), rel=0.2)
    with pytest.raises(OutsideDomainError, match="20 are needed"):
        pareto_tail(losses[:150], 0.1)


R2 = np.array([0.01, -0.02, 0.015, -0.005, 0.03])


def test_ewma_r2() -> None:
    found = garch_variances(R2, Garch(0.0, 0.06, 0.94), 1e-4)
    assert found[-1] == pytest.approx(0.000165347512, abs=5e-16)
    assert np.sqrt(found[-1]) == pytest.approx(0.0128587524, abs=5e-11)


def test_garch_d73_and_gjr_d74() -> None:
    model = Garch(2e-6, 0.08, 0.90)
    found = garch_variances(R2, model, 1e-4)
    np.testing.assert_allclose(found * 1e4, [1, 1, 1.24, 1.316, 1.2244, 1.84196], atol=5e-9)
    assert model.forecast(found[-1], 5)[-1] == pytest.approx(1.7765971e-4, abs=5e-12)
    assert np.sqrt(model.forecast(found[-1], 22).mean()) == pytest.approx(0.0129870558, abs=5e-11)
    assert np.log(0.5) / np.log(model.persistence) == pytest.approx(34.31, abs=0.005)
    leverage = Garch(2e-6, 0.02, 0.91, 0.10)
    assert leverage.long_run == pytest.approx(1e-4)
    found = garch_variances(R2, leverage, 1e-4)
    expected = [1, 0.95, 1.3645, 1.306695, 1.23909245, 1.3275741295]
    np.testing.assert_allclose(found * 1e4, expected, atol=5e-11)


def test_filtered_history_scales_to_today() -> None:
    calm, wild = np.random.default_rng(0).normal(size=(2, 2000))
    returns = np.concatenate([0.01 * calm, 0.04 * wild])
    assert filtered(returns).std() == pytest.approx(0.04, rel=0.2)
    assert filtered(returns[::-1]).std() == pytest.approx(0.01, rel=0.25)
    assert (filtered(np.zeros(5)) == 0).all()


def test_moments_count_probabilities() -> None:
    losses, probability = np.array([0.0, 1.0]), np.array([0.9, 0.1])
    mean, deviation, skewness, kurtosis = moments(losses, probability)
    assert (mean, deviation) == pytest.approx((0.1, 0.3))
    assert skewness == pytest.approx(0.8 / 0.3)
    assert kurtosis == pytest.approx(1 / 0.09 - 6)

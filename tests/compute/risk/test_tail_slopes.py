"""Tails of a book's losses and their slopes, against published numbers and differences."""

import numpy as np
import pytest
from scipy.stats import genpareto

from compute.risk.measures import OutsideDomainError
from compute.risk.tail_method import TailKind, TailMethod
from compute.risk.tail_slopes import normal_multiple, sloped_tail

VAR, ES = TailKind.VALUE_AT_RISK, TailKind.EXPECTED_SHORTFALL
METHODS = list(TailMethod)
IN_ORDER = (TailMethod.EXTREME_VALUE, TailMethod.HISTORICAL, TailMethod.FILTERED_HISTORICAL)
TEN = np.arange(1.0, 11.0)


def equal(count: int) -> np.ndarray:
    """Equal probabilities."""
    return np.full(count, 1.0 / count)


@pytest.mark.parametrize(
    ("level", "var", "es"),
    [(0.95, 1.6448536270, 2.0627128075), (0.975, 1.9599639845, 2.3378027922),
     (0.99, 2.3263478740, 2.6652142203)],
)  # fmt: skip
def test_normal_tails_r3(level: float, var: float, es: float) -> None:
    assert normal_multiple(VAR, level) == pytest.approx(var, abs=1e-10)
    assert normal_multiple(ES, level) == pytest.approx(es, abs=1e-10)


@pytest.mark.parametrize(
    ("level", "var", "es"),
    [(0.75, 8, 9.2), (0.8, 8, 9.5), (0.85, 9, 9.6666666667), (0.9, 9, 10), (0.95, 10, 10)],
)
def test_historical_tails_split_the_atom_r7(level: float, var: float, es: float) -> None:
    for kind, expected in ((VAR, var), (ES, es)):
        found = sloped_tail(kind, TailMethod.HISTORICAL, level, TEN, equal(10))
        assert found.value == pytest.approx(expected, abs=1e-9)


def test_cornish_fisher_is_refused_outside_its_domain_r5b() -> None:
    """One loss of a hundred: a skewness that the expansion has no quantile for."""
    losses = np.zeros(200)
    losses[:2] = 1.0
    with pytest.raises(OutsideDomainError, match="Cornish-Fisher"):
        sloped_tail(VAR, TailMethod.CORNISH_FISHER, 0.99, losses, equal(200))


def test_an_extreme_value_tail_is_the_one_that_scipy_fits_r8() -> None:
    losses = np.random.default_rng(5).standard_t(4.0, 2000)
    ordered = np.sort(losses)
    u = ordered[-201]
    xi, _, b = genpareto.fit(ordered[-200:] - u, floc=0.0)
    var = u + b / xi * ((2000 / 200 * 0.01) ** -xi - 1.0)
    es = var / (1.0 - xi) + (b - xi * u) / (1.0 - xi)
    for kind, expected in ((VAR, var), (ES, es)):
        found = sloped_tail(kind, TailMethod.EXTREME_VALUE, 0.99, losses, equal(2000))
        assert found.value == pytest.approx(expected, rel=1e-4)


def test_too_few_exceedances_and_unequal_scenarios_are_refused() -> None:
    losses = np.random.default_rng(0).standard_normal(190)
    with pytest.raises(OutsideDomainError, match="19 of 190"):
        sloped_tail(VAR, TailMethod.EXTREME_VALUE, 0.99, losses, equal(190))
    losses = np.random.default_rng(0).standard_normal(400)
    unequal = np.linspace(1.0, 2.0, 400)
    with pytest.raises(OutsideDomainError, match="equally likely"):
        sloped_tail(VAR, TailMethod.EXTREME_VALUE, 0.99, losses, unequal / unequal.sum())


def test_filtered_history_is_scaled_period_by_period() -> None:
    losses = np.random.default_rng(2).standard_normal(120) * np.linspace(1.0, 4.0, 120)
    variance, before = float(np.mean(losses**2)), []
    for loss in losses:
        before.append(variance)
        variance = 0.97 * variance + 0.03 * float(loss) ** 2
    scaled = np.sort([x * (variance / h) ** 0.5 for x, h in zip(losses, before, strict=True)])
    found = sloped_tail(VAR, TailMethod.FILTERED_HISTORICAL, 0.95, losses, equal(120))
    assert found.value == pytest.approx(scaled[-7], rel=1e-12)
    found = sloped_tail(ES, TailMethod.FILTERED_HISTORICAL, 0.95, losses, equal(120))
    assert found.value == pytest.approx(scaled[-6:].mean(), rel=1e-12)
    with pytest.raises(OutsideDomainError, match="50 are needed"):
        sloped_tail(VAR, TailMethod.FILTERED_HISTORICAL, 0.9, losses[:49], equal(49))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", TailKind)
@pytest.mark.parametrize("seed", range(4))
def test_slopes_are_those_of_differences_and_measures_grow_with_the_book(
    kind: TailKind, method: TailMethod, seed: int
) -> None:
    rng = np.random.default_rng([11, seed])
    returns, weights = 0.01 * rng.standard_t(6.0, (600, 4)), rng.normal(0.0, 0.5, 4)
    probability = equal(600)
    if method not in IN_ORDER and seed % 2:
        probability = rng.uniform(0.5, 1.5, 600)
        probability = probability / probability.sum()

    def of(at: np.ndarray) -> float:
        return sloped_tail(kind, method, 0.98, -(returns @ at), probability).value

    found = sloped_tail(kind, method, 0.98, -(returns @ weights), probability)
    slope, step = -(found.slope @ returns), 1e-5
    moved = [(of(weights + step * e) - of(weights - step * e)) / (2 * step) for e in np.eye(4)]
    exact = method is not TailMethod.EXTREME_VALUE  # a fit is as exact as its search
    assert slope == pytest.approx(moved, rel=1e-5 if exact else 2e-2, abs=1e-7 if exact else 1e-4)
    assert slope @ weights == pytest.approx(found.value, rel=1e-7)
    assert of(3.0 * weights) == pytest.approx(3.0 * found.value, rel=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_book_has_no_tail(method: TailMethod) -> None:
    found = sloped_tail(VAR, method, 0.99, np.zeros(300), equal(300))
    assert found.value == 0.0
    assert not found.slope.any()

"""How sure an edge is: it shrinks the stake, is never a weight, and the interval says it truly."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest

from compute.kelly.confidence import numeric_shrinkage
from compute.kelly.exact import exact_kelly_fraction
from compute.limits.policy import Limits
from compute.parameters import EffectiveParameters, Shrinkage
from compute.shapes import KernelRegistry
from compute.waterfall.edge_inputs import Scenarios
from compute.waterfall.layout import Source, Stage
from compute.waterfall.pipeline import Sizing
from tests.compute.test_pipeline_golden import sized, with_signals
from tests.compute.test_pipeline_properties import simple

FULL = EffectiveParameters(kelly_fraction=1.0)
Z = float(mpmath.sqrt(2) * mpmath.erfinv(mpmath.mpf("0.95")))


def stake_of(made: Sizing) -> np.ndarray:
    """The stake after confidence, before the fraction and the limits."""
    return made.stages[Stage.CONFIDENCE]


@pytest.mark.parametrize("cost", [0.0, 0.004])
@pytest.mark.parametrize("source", [Source.WIN_LOSS, Source.RETURN_VOLATILITY, Source.SCENARIOS])
def test_confidence_is_a_relative_error_of_the_stake(
    kernels: KernelRegistry, source: Source, cost: float
) -> None:
    """k = f^2 / (f^2 + f^2 (1/c - 1)) = c, and the interval is f -+ z f sqrt(1/c - 1)."""
    confidence = np.array([1.0, 0.9, 0.5, 0.1])
    item = with_signals(
        simple(4, Limits()),
        source=np.full(4, int(source)),
        confidence=confidence,
        expected_return=np.full(4, 0.03),
        volatility=np.full(4, 0.3),
    )
    item = replace(item, parameters=replace(FULL, cost_rate=cost))
    # Many draws alike: next to nothing is added by how few scenarios there are.
    draws = np.tile([0.3] * 6 + [-0.3] * 4, 20)
    scenarios = Scenarios(np.tile(draws, (4, 1)), np.full(200, 1 / 200))
    made = sized(item, kernels, scenarios)
    net = made.stages[Stage.COST]
    if source is not Source.SCENARIOS:
        np.testing.assert_allclose(stake_of(made), confidence * net, rtol=1e-12, atol=2.0**-40)
        spread = net * np.sqrt(1.0 / confidence - 1.0)
        np.testing.assert_allclose(made.weight_high, net + Z * spread, rtol=1e-9)
        np.testing.assert_allclose(
            made.weight_low, np.maximum(net - Z * spread, 0.0), rtol=1e-9, atol=1e-12
        )
    else:
        sure = stake_of(made)[0] / net[0]
        expected = 1.0 / (1.0 / confidence + 1.0 / sure - 1.0)
        np.testing.assert_allclose(stake_of(made), expected * net, rtol=1e-9)


@pytest.mark.parametrize("mode", list(Shrinkage))
def test_confidence_is_the_standard_error_that_it_stands_for(
    kernels: KernelRegistry, mode: Shrinkage
) -> None:
    p, b, a = np.array([0.6, 0.55, 0.35, 0.7]), np.array([1.0, 1.0, 2.5, 0.8]), 1.0
    confidence = np.array([0.8, 0.5, 0.3, 0.95])
    error = (p - a / (a + b)) * np.sqrt(1.0 / confidence - 1.0)
    item = with_signals(simple(4), win_probability=p, payoff=b)
    item = replace(item, parameters=replace(FULL, confidence_shrinkage=mode))
    told = sized(with_signals(item, confidence=confidence), kernels)
    given = sized(with_signals(item, win_probability_error=error), kernels)
    np.testing.assert_allclose(stake_of(told), stake_of(given), rtol=1e-11, atol=2.0**-39)
    np.testing.assert_allclose(told.weight_low, given.weight_low, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(told.weight_high, given.weight_high, rtol=1e-11)


@pytest.mark.parametrize(
    ("p", "b", "error", "k"),
    [
        (0.60, 1.0, 0.05, 0.7966),
        (0.55, 1.0, 0.05, 0.5620),
        (0.55, 1.0, 0.02, 0.8612),
        (0.60, 1.0, 0.10, 0.5606),
        (0.35, 2.5, 0.04, 0.7422),
        (0.52, 1.0, 0.03, 0.4220),
    ],
)
def test_the_numeric_form(kernels: KernelRegistry, p: float, b: float, error: float, k: float):
    """K6, last column."""
    item = with_signals(
        simple(1, probability=p), payoff=np.array([b]), win_probability_error=np.array([error])
    )
    numeric = replace(FULL, confidence_shrinkage=Shrinkage.BAKER_MCHALE_NUMERIC)
    made = sized(replace(item, parameters=numeric), kernels)
    assert stake_of(made)[0] / made.stages[Stage.RAW_KELLY][0] == pytest.approx(k, abs=1e-3)


def test_the_numeric_form_is_that_of_the_edge_after_cost(kernels: KernelRegistry) -> None:
    """Bets shrink as the bet that costs leave; other edges by the closed form, over the rate."""
    p, b, a, error, cost, rate = 0.6, 1.0, 0.8, 0.05, 0.03, 0.01
    item = with_signals(
        simple(2, probability=p),
        source=np.array([int(Source.WIN_LOSS), int(Source.RETURN_VOLATILITY)]),
        payoff=np.full(2, b),
        loss_fraction=np.full(2, a),
        win_probability_error=np.full(2, error),
        expected_return=np.full(2, 0.07),
        volatility=np.full(2, 0.3),
        expected_return_error=np.full(2, 0.02),
    )
    numeric = Shrinkage.BAKER_MCHALE_NUMERIC
    parameters = replace(FULL, confidence_shrinkage=numeric, cost_rate=cost, risk_free_rate=rate)
    made = sized(replace(item, parameters=parameters), kernels)
    kept = stake_of(made) / made.stages[Stage.COST]
    edge = 0.07 - rate - cost
    expected = [float(numeric_shrinkage(p, b - cost, a + cost, error)), edge**2 / (edge**2 + 4e-4)]
    np.testing.assert_allclose(kept, expected, rtol=1e-10)


@pytest.mark.parametrize("mode", list(Shrinkage))
def test_confidence_only_ever_shrinks_what_the_edge_asks_for(
    kernels: KernelRegistry, mode: Shrinkage
) -> None:
    rng = np.random.default_rng(31)
    item = with_signals(
        simple(16, Limits(allow_short=True)),
        side=rng.choice([1.0, -1.0], 16),
        win_probability=rng.uniform(0.3, 0.8, 16),
        payoff=rng.uniform(0.5, 2.0, 16),
    )
    item = replace(item, parameters=replace(FULL, confidence_shrinkage=mode))
    sizes = []
    for confidence in (1.0, 0.7, 0.2):
        made = sized(with_signals(item, confidence=np.full(16, confidence)), kernels)
        sizes.append(np.abs(stake_of(made)))
        no_edge = made.stages[Stage.RAW_KELLY] == 0
        assert no_edge.any()
        assert not stake_of(made)[no_edge].any()
    assert (sizes[0] >= sizes[1]).all()
    assert (sizes[1] >= sizes[2]).all()


def test_shrinking_pays_where_the_edge_is_an_estimate(kernels: KernelRegistry) -> None:
    """Over many estimates of one true edge, the shrunk stakes grow faster than the raw ones."""
    rng = np.random.default_rng(32)
    p, error, n = 0.55, 0.05, 16
    growth: dict[Shrinkage, list[float]] = {mode: [] for mode in Shrinkage}
    for _ in range(100):
        estimate = np.clip(rng.normal(p, error, n), 0.01, 0.99)
        item = with_signals(
            simple(n), win_probability=estimate, win_probability_error=np.full(n, error)
        )
        for mode, found in growth.items():
            made = sized(
                replace(item, parameters=replace(FULL, confidence_shrinkage=mode)), kernels
            )
            f = stake_of(made)
            found.extend(p * np.log1p(f) + (1 - p) * np.log1p(-f))
    raw = np.array(growth[Shrinkage.NONE])
    for mode in (Shrinkage.BAKER_MCHALE, Shrinkage.BAKER_MCHALE_NUMERIC):
        gain = np.array(growth[mode]) - raw
        assert gain.mean() > 4.0 * gain.std() / np.sqrt(len(gain))


def covered(made: Sizing, truth: float) -> float:
    """How often the interval contains the true stake."""
    inside = (made.weight_low <= truth + 1e-12) & (truth <= made.weight_high + 1e-12)
    return float(inside.mean())


@pytest.mark.parametrize("p", [0.52, 0.6, 0.75])
def test_the_interval_of_a_history_covers_the_truth(kernels: KernelRegistry, p: float) -> None:
    """60 outcomes a line; the prior is worth two more."""
    rng, n, length = np.random.default_rng(33), 16, 60
    hits = []
    for _ in range(150):
        won = rng.random((n, length)) < p
        size = rng.lognormal(-0.02, 0.2, (n, length))  # mean 1
        item = with_signals(
            simple(n),
            source=np.full(n, int(Source.HISTORY)),
            history_outcome=(0.1 * np.where(won, size, -size)).ravel(),
            history_length=np.full(n, length),
        )
        hits.append(covered(sized(replace(item, parameters=FULL), kernels), (2 * p - 1) / 0.1))
    assert 0.93 < np.mean(hits) < 0.97


def test_the_interval_of_moments_covers_the_truth(kernels: KernelRegistry) -> None:
    rng, n, m, s = np.random.default_rng(34), 256, 0.02, 0.2
    hits = []
    for _ in range(10):
        item = with_signals(
            simple(n),
            source=np.full(n, int(Source.RETURN_VOLATILITY)),
            expected_return=rng.normal(m, s / 16, n),
            volatility=np.full(n, s),
            expected_return_error=np.full(n, s / 16),
        )
        hits.append(covered(sized(replace(item, parameters=FULL), kernels), m / s**2))
    assert 0.93 < np.mean(hits) < 0.97


def test_the_interval_of_scenarios_covers_the_truth(kernels: KernelRegistry) -> None:
    rng, n, count = np.random.default_rng(35), 16, 200
    law, odds = np.array([0.06, 0.01, -0.03, -0.1]), np.array([0.3, 0.4, 0.25, 0.05])
    truth = float(exact_kelly_fraction(law, odds))
    hits = []
    for _ in range(100):
        draws = rng.choice(law, p=odds, size=(count, n))
        item = with_signals(simple(n), source=np.full(n, int(Source.SCENARIOS)))
        scenarios = Scenarios(draws.T, np.full(count, 1 / count))
        hits.append(covered(sized(replace(item, parameters=FULL), kernels, scenarios), truth))
    assert 0.93 < np.mean(hits) < 0.97


def test_no_edge_has_an_interval_that_says_how_surely(kernels: KernelRegistry) -> None:
    """p = 0.4 at even money is f = -0.2: with an error of 0.05 its upper end is -0.2 + 0.196."""
    error = np.array([0.05, 0.08, 0.05])
    item = with_signals(
        simple(3), win_probability=np.array([0.4, 0.4, 0.6]), win_probability_error=error
    )
    made = sized(replace(item, parameters=FULL), kernels)
    expected = [max(f + Z * 2 * e, 0.0) for f, e in zip((-0.2, -0.2, 0.2), error, strict=True)]
    np.testing.assert_allclose(made.weight_high, expected, rtol=1e-9, atol=1e-12)
    assert made.weight_low.tolist()[:2] == [0.0, 0.0]

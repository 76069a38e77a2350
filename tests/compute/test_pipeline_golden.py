"""Known numbers through the whole pipeline, and its derivatives against independent oracles."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest

from compute.inputs import Inputs
from compute.limits.bounds import prepare
from compute.limits.policy import Limits
from compute.parameters import DrawdownTolerance, EffectiveParameters, Shrinkage
from compute.shapes import KernelRegistry
from compute.signals import Signals
from compute.sizing import size
from compute.waterfall.edge_inputs import Scenarios
from compute.waterfall.kernels import SENSITIVE
from compute.waterfall.layout import Source, Stage
from compute.waterfall.pipeline import LineStatus, sensitivities
from tests.compute.test_pipeline_properties import decided, simple, weights

mpmath.mp.dps = 50


def inputs_of(item, scenarios=None):  # type: ignore[no-untyped-def]
    limit_bounds = prepare(item.market, item.positions, item.limits, item.shared)
    known = np.ones(len(item.index), dtype=bool)
    return Inputs(
        item.signals,
        item.index,
        item.active,
        known,
        limit_bounds,
        item.parameters,
        scenarios=scenarios,
    )


def sized(item, kernels, scenarios=None):  # type: ignore[no-untyped-def]
    return size(inputs_of(item, scenarios), kernels)


def with_signals(item, **columns):  # type: ignore[no-untyped-def]
    return replace(item, signals=replace(item.signals, **columns))


@pytest.mark.parametrize(
    ("p", "b", "a", "stake"),
    [
        (0.60, 1.0, 1.0, 0.2),
        (0.51, 1.0, 1.0, 0.02),
        (0.50, 2.0, 1.0, 0.25),
        (0.60, 0.3, 0.2, 5 / 3),
        (0.55, 0.02, 0.01, 32.5),
        (0.40, 1.0, 1.0, 0.0),
    ],
    ids=["K1.1", "K1.2", "K1.4", "K1.5", "K1.6", "K1.7"],
)
def test_raw_kelly_of_a_bet(
    kernels: KernelRegistry, p: float, b: float, a: float, stake: float
) -> None:
    item = with_signals(
        simple(1, Limits(weight_max=0.1)),
        win_probability=np.array([p]),
        payoff=np.array([b]),
        loss_fraction=np.array([a]),
    )
    made = decided(item, kernels)
    assert made is not None
    assert made.stages[Stage.RAW_KELLY][0] == pytest.approx(stake, abs=2.0**-40)
    # A stake beyond every limit is capped, not rejected.
    assert made.weight[0] == pytest.approx(min(stake, 0.1), abs=1e-4)
    if stake > 0.1:
        assert made.status[0] == LineStatus.CAPPED


def test_the_crash_lottery_is_sized_from_its_outcomes(kernels: KernelRegistry) -> None:
    """K1.13: moments would bet 1.81 and lose."""
    item = simple(1)
    item = with_signals(item, source=np.array([int(Source.SCENARIOS)]))
    scenarios = Scenarios(np.array([[0.02, -0.5]]), np.array([0.98, 0.02]))
    made = sized(item, kernels, scenarios)
    assert made.stages[Stage.RAW_KELLY][0] == pytest.approx(0.96, abs=1e-11)
    f = mpmath.mpf(float(made.weight[0]))
    growth = mpmath.mpf("0.98") * mpmath.log(1 + f / 50) + mpmath.mpf("0.02") * mpmath.log(
        1 - f / 2
    )
    assert made.growth[0] == pytest.approx(float(growth), rel=1e-11)


def test_a_history_is_a_bet_with_errors(kernels: KernelRegistry) -> None:
    """60 wins and 40 losses at even money, prior Beta(1, 1): posterior mean 61/102."""
    outcomes = np.array([1.0] * 36 + [-1.0] * 24)
    item = with_signals(
        simple(1, probability=0.5),
        source=np.array([int(Source.HISTORY)]),
        history_outcome=outcomes,
        history_length=np.array([60]),
    )
    made = decided(item, kernels)
    assert made is not None
    assert made.stages[Stage.RAW_KELLY][0] == pytest.approx(2 * 37 / 62 - 1, abs=1e-11)
    assert made.weight_low[0] < made.weight[0] < made.weight_high[0]


@pytest.mark.parametrize(
    ("p", "error", "shrunk"), [(0.60, 0.05, 0.16), (0.55, 0.05, 0.05), (0.60, 0.10, 0.1)]
)
def test_uncertainty_shrinks_the_stake(
    kernels: KernelRegistry, p: float, error: float, shrunk: float
) -> None:
    """K6.1, K6.2, K6.4."""
    item = with_signals(simple(1, probability=p), win_probability_error=np.array([error]))
    item = replace(item, parameters=EffectiveParameters(kelly_fraction=1.0))
    made = decided(item, kernels)
    assert made is not None
    assert made.stages[Stage.CONFIDENCE][0] == pytest.approx(shrunk, abs=1e-11)
    numeric = replace(item, parameters=replace(item.parameters, confidence_shrinkage=Shrinkage(3)))
    other = decided(numeric, kernels)
    assert other is not None
    assert other.stages[Stage.CONFIDENCE][0] >= made.stages[Stage.CONFIDENCE][0] - 2e-3


def test_a_tolerated_drawdown_chooses_the_fraction(kernels: KernelRegistry) -> None:
    """P(ever halve) = 1/8 at half Kelly (Thorp 2006, 7.3)."""
    item = simple(1)
    parameters = EffectiveParameters(
        kelly_fraction=1.0,
        confidence_shrinkage=Shrinkage.NONE,
        drawdown_tolerance=DrawdownTolerance(0.5, 0.125),
    )
    assert weights(replace(item, parameters=parameters), kernels)[0] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("equity", "risk", "entry", "stop", "fee", "units"),
    [
        # A risk of 1 % of ten, half of it to spend: 2.5, 1.25.
        (10.0, 0.01, 1.0, 0.98, 0.0, 5.0),
        (10.0, 0.01, 1.0, 0.96, 0.0, 2.5),
        # A thousandth of a million over a tenth of a cent: a million units.
        (1e6, 0.001, 1.001, 1.0, 0.0, 1_000_000.0),
        # Fees on both notionals belong to the loss (K10.4); without them 10,000 units.
        (1e6, 0.001, 100.0, 99.9, 0.0005, 5001.0),
    ],
)
def test_fixed_risk_to_the_stop(
    kernels: KernelRegistry,
    equity: float,
    risk: float,
    entry: float,
    stop: float,
    fee: float,
    units: float,
) -> None:
    lot = 0.01 if equity < 100 else 1.0
    item = with_signals(
        simple(1, Limits(fee_rate=fee), cash=equity),
        win_probability=np.array([0.99]),
        payoff=np.array([10.0]),
        loss_fraction=np.array([0.05]),
        stop_price=np.array([stop]),
    )
    item = replace(
        item,
        market=replace(item.market, price=np.array([entry]), lot_size=np.array([lot])),
        parameters=replace(item.parameters, stop_risk_max=risk),
    )
    made = decided(item, kernels)
    assert made is not None
    expected = equity * risk / (entry - stop + fee * (entry + stop)) / equity
    assert made.stages[Stage.STOP_RISK][0] == pytest.approx(expected * entry, rel=1e-9)
    limited_by_cash = min(units, equity / (entry * (1.0 + fee)))
    assert made.quantity[0] == pytest.approx(limited_by_cash, abs=1.01 * lot)


def test_the_volatility_target_and_the_risk_budget(kernels: KernelRegistry) -> None:
    item = simple(2)
    target = replace(item, parameters=replace(item.parameters, volatility_target=0.025))
    assert weights(target, kernels) == pytest.approx([0.1, 0.1])
    budget = replace(item, parameters=replace(item.parameters, risk_budget=0.05))
    assert weights(budget, kernels) == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize("mode", list(Shrinkage)[:2])
@pytest.mark.parametrize("error", [None, 0.03])
def test_sensitivities_are_slopes(
    kernels: KernelRegistry, mode: Shrinkage, error: float | None
) -> None:
    n = 6
    rng = np.random.default_rng(7)
    source = np.array([1, 1, 1, 2, 2, 2])
    item = simple(n, Limits(allow_short=True))
    item = with_signals(
        item,
        side=np.array([1.0, -1.0, 1.0, 1.0, -1.0, 1.0]),
        source=source,
        win_probability=rng.uniform(0.55, 0.7, n),
        payoff=rng.uniform(0.8, 1.5, n),
        loss_fraction=rng.uniform(0.5, 1.0, n),
        expected_return=rng.uniform(0.02, 0.05, n),
        volatility=rng.uniform(0.2, 0.4, n),
        win_probability_error=None if error is None else np.full(n, error),
        expected_return_error=None if error is None else np.full(n, error / 10),
    )
    item = replace(item, parameters=EffectiveParameters(kelly_fraction=0.7,
                   confidence_shrinkage=mode, cost_rate=0.001, risk_free_rate=0.001))  # fmt: skip
    slopes = sensitivities(inputs_of(item), kernels)
    step = 1e-4
    for row, line in enumerate(SENSITIVE):
        name = line.name.lower()
        ends = []
        for sign in (1.0, -1.0):
            moved = with_signals(item, **{name: getattr(item.signals, name) + sign * step})
            ends.append(sized(moved, kernels).stages[Stage.KELLY_FRACTION])
        slope = (ends[0] - ends[1]) / (2.0 * step)
        assert slopes[row] == pytest.approx(slope, rel=2e-6, abs=2e-6), name
        used = source == (1 if row < 3 else 2)
        assert (slopes[row][used] != 0.0).all(), name


def test_growth_and_its_slope_to_fifty_digits(kernels: KernelRegistry) -> None:
    p, b, a = 0.58, 1.3, 0.9
    item = with_signals(
        simple(1, Limits(weight_max=0.13)),
        win_probability=np.array([p]),
        payoff=np.array([b]),
        loss_fraction=np.array([a]),
    )
    made = decided(item, kernels)
    assert made is not None
    f, p, b, a = (mpmath.mpf(float(x)) for x in (made.weight[0], p, b, a))
    growth = p * mpmath.log(1 + b * f) + (1 - p) * mpmath.log(1 - a * f)
    slope = p * b / (1 + b * f) - (1 - p) * a / (1 - a * f)
    assert made.growth[0] == pytest.approx(float(growth), rel=1e-12)
    assert made.marginal[0] == pytest.approx(float(slope), rel=1e-12)


def test_ruin_has_no_growth(kernels: KernelRegistry) -> None:
    """A position already larger than a loss could take, kept while only reducing is allowed."""
    item = with_signals(
        simple(1, held=[15_000.0], cash=-5e5, probability=0.5),
        payoff=np.array([1.0]),
        loss_fraction=np.array([1.0]),
    )
    item = replace(item, limits=Limits(trade_notional_max=1e4))
    made = decided(item, kernels)
    assert made is not None
    assert made.weight[0] > 1.0
    assert made.growth[0] == -np.inf
    assert made.marginal[0] == -np.inf


def test_signals_are_read_only_as_far_as_their_source(kernels: KernelRegistry) -> None:
    item = simple(1)
    zeros = np.zeros(1)
    other = with_signals(item, expected_return=zeros, volatility=zeros, confidence=np.ones(1))
    assert isinstance(other.signals, Signals)
    assert weights(other, kernels).tolist() == weights(item, kernels).tolist()

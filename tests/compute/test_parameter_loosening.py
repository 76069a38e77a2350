"""What counts as loosening of sizing parameters, against the sizes themselves."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.adapt.condition import ConditionRule
from compute.adapt.schedule import Schedule, ScheduleRow
from compute.correlation.penalty import CorrelationPenalty
from compute.methods import Method
from compute.optimize.problem import Objective, ObjectiveKind
from compute.parameter_loosening import (
    LARGER_IS_TIGHTER,
    ONLY_SMALLER,
    REPORTED_ONLY,
    SMALLER_IS_TIGHTER,
    loosened,
)
from compute.parameters import (
    PARAMETERS,
    AlgorithmChoice,
    DrawdownTolerance,
    EdgeGoneAction,
    EffectiveParameters,
    LotChoice,
    NoTradeRegion,
    Robust,
    RobustSet,
    Shrinkage,
)
from compute.shapes import KernelRegistry
from compute.signals import Signals
from compute.waterfall.layout import Source
from tests.compute.test_pipeline_properties import gross, simple

DEFAULTS = EffectiveParameters()
ROW = ScheduleRow("night", "UTC", 0.5)
RULE = ConditionRule("calm", "vix", 0.5, 30.0, 25.0)
PENALTY = CorrelationPenalty
STEPS: dict[str, list[Any]] = {
    "kelly_fraction": [0.25, 0.5, 1.0],
    "drawdown_tolerance": [DrawdownTolerance(0.5, 0.01), DrawdownTolerance(0.5, 0.1), None],
    "confidence_shrinkage": [Shrinkage.BAKER_MCHALE, Shrinkage.NONE],
    "risk_free_rate": [0.01, 0.0, -0.01],
    "cost_rate": [0.01, 0.001, 0.0],
    "impact_coefficient": [0.7, 0.1, 0.0],
    "robust": [Robust(RobustSet.BOX, 0.2), Robust(RobustSet.BOX, 0.1), None],
    "volatility_target": [0.1, 0.2, None],
    "stop_risk_max": [0.01, 0.02, None],
    "risk_budget": [0.1, 0.2, None],
    "reservation_ttl_s": [900.0, 60.0],
    "market_age_max_s": [60.0, 900.0, None],
    "portfolio_age_max_s": [60.0, 900.0, None],
    "matrix_age_max_s": [60.0, 900.0, None],
    "fill_deviation_max": [0.1, 0.5],
    "price_jump_max": [0.1, 0.5],
    "equity_jump_max": [0.1, 0.5],
    "correlation_penalty": [PENALTY.QUADRATIC, PENALTY.NONE],
    "schedule": [Schedule((ROW, replace(ROW, name="noon"))), Schedule((ROW,)), Schedule()],
    "edge_half_life_s": [60.0, 900.0, None],
    "size_model_id": ["m", None],
    "drawdown_floor": [0.9, 0.8, None],
    "equity_floor": [900_000.0, 800_000.0, None],
    "drawdown_multiplier": [1.0, 4.0],
    "edge_gone_action": [EdgeGoneAction.REDUCE_PORTFOLIO, EdgeGoneAction.ALERT],
    "condition_rules": [(RULE, replace(RULE, name="wild")), (RULE,), ()],
    "volatility_model": ["v", None],
}
"""From the tightest to the loosest."""
INCOMPARABLE: dict[str, list[Any]] = {
    "method": [Method.CLOSED_FORM, Method.JOINT],
    "no_trade_region": [NoTradeRegion.NONE, NoTradeRegion.HOLDING_TIME, None],
    "trade_rate": [0.5, 1.0],
    "plan_periods": [0, 5],
    "prior_wins": [1.0, 2.0],
    "prior_losses": [1.0, 2.0],
    "joint_objective": [None, Objective(ObjectiveKind.LOG_GROWTH)],
    "lot_choice": list(LotChoice),
    "edge_gone_action": [EdgeGoneAction.REDUCE_PORTFOLIO, EdgeGoneAction.REDUCE_STRATEGY],
    "periods_per_year": [1.0, 252.0],
    "covariance_universe": [None, "u"],
    "edge_model_id": [None, "m"],
    "algorithm": [None, AlgorithmChoice("mine"), AlgorithmChoice("mine", (("a", 1.0),))],
    "confidence_shrinkage": [Shrinkage.BAKER_MCHALE, Shrinkage.BAKER_MCHALE_NUMERIC],
    "robust": [
        Robust(RobustSet.BOX, 0.1),
        Robust(RobustSet.KL, 0.2),
        Robust(RobustSet.UNCORRELATED, 0.0, 120.0, 0.05),
        Robust(RobustSet.UNCORRELATED, 0.0, 120.0, 0.1),
    ],
    "correlation_penalty": [PENALTY.PROPORTIONAL, PENALTY.QUADRATIC],
    "schedule": [Schedule((ROW,)), Schedule((replace(ROW, multiplier=0.4),))],
    "condition_rules": [(RULE,), (replace(RULE, multiplier=0.4),)],
    "size_model_id": ["m", "n"],
    "volatility_model": ["v", "w"],
}


def test_every_parameter_is_tried() -> None:
    names = {item.name for item in PARAMETERS}
    assert set(STEPS) | set(INCOMPARABLE) | REPORTED_ONLY == names
    assert names >= SMALLER_IS_TIGHTER | LARGER_IS_TIGHTER | ONLY_SMALLER


@pytest.mark.parametrize("name", STEPS)
def test_a_step_towards_the_loose_end_is_named_and_one_back_is_not(name: str) -> None:
    says = next(item.contract_name for item in PARAMETERS if item.name == name)
    for i, tight in enumerate(STEPS[name]):
        for loose in STEPS[name][i:]:
            left, right = (replace(DEFAULTS, **{name: value}) for value in (tight, loose))
            assert loosened(left, right) == (() if tight == loose else (says,))
            assert loosened(right, left) == ()


@pytest.mark.parametrize("name", INCOMPARABLE)
def test_what_cannot_be_compared_counts_as_loosened(name: str) -> None:
    for left in INCOMPARABLE[name]:
        for right in INCOMPARABLE[name]:
            pair = (replace(DEFAULTS, **{name: value}) for value in (left, right))
            assert bool(loosened(*pair)) == (left != right)


def test_what_is_only_reported_is_nobodys_business() -> None:
    assert loosened(DEFAULTS, replace(DEFAULTS, interval_probability=0.5)) == ()
    wide, none = Robust(RobustSet.KL, 0.1), Robust(RobustSet.BOX, 0.0)
    assert loosened(replace(DEFAULTS, robust=none), replace(DEFAULTS, robust=wide)) == ()


OF_A_LINE = (
    *("kelly_fraction", "drawdown_tolerance", "confidence_shrinkage", "risk_free_rate"),
    *("cost_rate", "impact_coefficient", "volatility_target", "stop_risk_max", "risk_budget"),
    "interval_probability",
)
"""Those that one line shows, without a clock, a model or a correlation."""


def values(name: str) -> st.SearchStrategy[Any]:
    """Those tried above and, of numbers without None, any between."""
    steps = STEPS.get(name, [0.5, 0.95])
    if all(isinstance(step, float) for step in steps):
        return st.floats(min(steps), max(steps))
    return st.sampled_from(steps)


SETS = st.fixed_dictionaries({name: values(name) for name in OF_A_LINE})


@given(left=SETS, right=SETS, is_bet=st.booleans(), edge=st.floats(0.0, 0.2))
@settings(max_examples=150, deadline=None)
def test_where_nothing_is_named_no_stake_is_larger(
    left: dict[str, Any], right: dict[str, Any], is_bet: bool, edge: float, kernels: KernelRegistry
) -> None:
    """Of pairs made comparable: each parameter of `right` moved to the tight side of `left`."""
    old = replace(DEFAULTS, **left)
    new = old
    for name in OF_A_LINE:
        moved = replace(new, **{name: right[name]})
        new = new if loosened(old, moved) else moved
    assert loosened(old, new) == ()
    one = np.ones(1)
    signals = Signals(
        side=one,
        source=np.array([Source.WIN_LOSS if is_bet else Source.RETURN_VOLATILITY]),
        win_probability=np.array([0.5 + edge]),
        payoff=one,
        win_probability_error=np.array([0.05]),
        expected_return=np.array([edge]),
        volatility=np.array([0.3]),
        expected_return_error=np.array([0.02]),
        stop_price=np.array([90.0]),
    )
    was, now = (
        gross(simple(1, signals=signals, parameters=parameters), kernels)
        for parameters in (old, new)
    )
    assert now <= was + 1e-12


def test_pairs_that_a_parameter_decides_are_among_them(kernels: KernelRegistry) -> None:
    """So that the property above says something: the loose end is really larger."""
    base = {"kelly_fraction": 1.0, "confidence_shrinkage": Shrinkage.NONE, "cost_rate": 0.0}
    signals = Signals(
        side=np.ones(1),
        source=np.array([Source.RETURN_VOLATILITY]),
        expected_return=np.array([0.2]),
        volatility=np.array([0.5]),
        expected_return_error=np.array([0.02]),
        stop_price=np.array([90.0]),
    )
    for name in OF_A_LINE[:-1]:
        sizes = [
            gross(
                simple(
                    1,
                    signals=signals,
                    parameters=replace(DEFAULTS, **{**base, name: value}),  # type: ignore[arg-type]
                ),
                kernels,
            )
            for value in (STEPS[name][0], STEPS[name][-1])
        ]
        assert sizes[0] < sizes[1], name

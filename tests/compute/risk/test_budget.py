"""Risk budgets per strategy."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compute.risk.budget import risk_budget_scale


def test_each_strategy_is_scaled_to_its_own_budget():
    risk, strategy = np.array([60.0, 40.0, 30.0, 10.0]), np.array([0, 0, 1, 2])
    scale = risk_budget_scale(risk, strategy, np.array([50.0, 100.0, 0.0]))
    np.testing.assert_allclose(scale, [0.5, 0.5, 1.0, 0.0], rtol=1e-12)


def test_risk_already_used_comes_first():
    risk, strategy = np.array([50.0, 50.0]), np.array([0, 1])
    scale = risk_budget_scale(risk, strategy, np.array([60.0, 60.0]), np.array([35.0, 70.0]))
    np.testing.assert_allclose(scale, [0.5, 0.0], rtol=1e-12)


def test_idle_unlimited_and_broken_lines():
    risk, strategy = np.array([0.0, 10.0, np.nan, 1.0]), np.array([0, 1, 2, 2])
    scale = risk_budget_scale(risk, strategy, np.array([0.0, np.inf, 5.0]))
    np.testing.assert_array_equal(scale, [1.0, 1.0, np.nan, np.nan])


@settings(deadline=None)
@given(
    # Kernels flush subnormal numbers to zero: a risk of 1e-308 is no risk.
    hnp.arrays(np.float64, 8, elements=st.floats(0.0, 1e6, allow_subnormal=False)),
    hnp.arrays(np.int64, 8, elements=st.integers(0, 2)),
    hnp.arrays(np.float64, 3, elements=st.floats(0.0, 1e6)),
)
def test_no_strategy_exceeds_its_budget(risk, strategy, budget):
    scaled = np.asarray(risk_budget_scale(risk, strategy, budget)) * risk
    for index, limit in enumerate(budget):
        assert scaled[strategy == index].sum() <= limit * (1 + 1e-12)

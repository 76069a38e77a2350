"""Growth by stage sums exactly to realised growth."""

from dataclasses import replace

import numpy as np
import pytest

from compute.simulate.account import Account
from compute.simulate.backtest import Backtest
from compute.simulate.growth_ledger import LOTS, growth_ledger
from compute.waterfall.layout import Stage

RETURNS = np.array([[0.02, -0.01], [-0.03, 0.02], [0.015, 0.005]])
WEIGHTS = [(1.5, 1.0), (0.9, 0.6), (0.9, 0.4), (0.85, 0.4)]


def backtest(stage_growth: np.ndarray, end: float = 1.02) -> Backtest:
    return Backtest(
        dates=("2024-01-01", "2024-01-02"),
        equity=np.array([1.0, end]),
        cash=np.ones(2),
        gross_weight=np.zeros(2),
        turnover=np.zeros(2),
        trades=0,
        decisions=0,
        stage_growth=stage_growth,
        account=Account(1.0, np.zeros(2)),
        scaled_fills=0,
        refused={},
        bindings={},
        ruined=None,
    )


def test_the_steps_are_those_worked_out_by_hand() -> None:
    growth = np.array([np.log1p(RETURNS @ np.array(w)).sum() for w in WEIGHTS])
    np.testing.assert_allclose(
        growth, [0.0216134867, 0.0131802871, 0.0101011878, 0.0099035668], atol=5.1e-11
    )
    padded = np.concatenate([growth, np.full(len(Stage) + 1 - 4, growth[-1])])
    found = growth_ledger(backtest(padded))
    np.testing.assert_allclose(
        found.step[:3], [-0.0084331996, -0.0030790994, -0.0001976210], atol=1.1e-10
    )
    assert found.total is not None
    assert found.execution is not None
    assert found.start + found.step.sum() + found.execution == pytest.approx(found.total, abs=1e-15)


def test_stages_that_would_have_been_ruined_are_left_out() -> None:
    growth = np.full(len(Stage) + 1, 0.01)
    growth[:2] = -np.inf
    found = growth_ledger(backtest(growth))
    assert found.first_stage == 2
    assert len(found.step) == LOTS - 2
    assert np.isfinite(found.step).all()


def test_an_account_that_was_ruined_has_no_total() -> None:
    found = growth_ledger(replace(backtest(np.zeros(len(Stage) + 1)), ruined=1))
    assert (found.total, found.execution) == (None, None)

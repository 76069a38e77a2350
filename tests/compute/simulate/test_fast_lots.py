"""Whole lots of the fast mode: turnover, least trades, and the check of limits on sums."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from compute.limits.policy import GroupLimit, Limits
from compute.limits.turnover_lots import within_turnover as of_live
from compute.parameters import EffectiveParameters
from compute.shapes import KernelRegistry
from compute.simulate.backtest import run
from compute.simulate.fast_settings import run_fast
from compute.simulate.fast_turnover import within_turnover
from compute.simulate.setting import FillAt, Setting
from compute.simulate.strategies import GivenSignals, MeanReturn, SessionSignals
from tests.compute.simulate.test_fast import NAMES, history, one_signal

LOTS = 8


def test_turnover_is_shared_out_in_lots_as_live() -> None:
    """A trade each rounded down and to the safe side, and what limits need of some."""
    rng, shared = np.random.default_rng(5), jax.jit(within_turnover)
    limits_met = 0
    for _ in range(300):
        lot_weight = np.exp(rng.normal(-5.0, 1.5, LOTS))
        down = np.round(rng.normal(0.0, 6.0, LOTS))
        safe = down + np.sign(down) * (rng.random(LOTS) < 0.5)
        needed = np.where(rng.random(LOTS) < 0.3, np.round(rng.normal(0.0, 8.0, LOTS)), 0.0)
        # What limits need is of the trade that is wanted, which goes the same way.
        needed = np.abs(needed) * np.where(down == 0.0, np.sign(needed), np.sign(down))
        most = float(np.abs(down) @ lot_weight) * rng.uniform(1.0, 1.3)
        wanted = of_live(down, safe, needed, lot_weight, most)
        found = np.asarray(shared(down, safe, needed, lot_weight, most))
        assert list(found) == list(wanted)
        limits_met += bool(np.any(wanted != safe))
    assert limits_met > 100


def both(kernels: KernelRegistry, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Units held at each close, in mode FAST and in mode EXACT."""
    past = history()
    (quick,) = run_fast(past, [setting], units=True)
    exact = run(past, setting, kernels)
    assert exact.units is not None
    assert quick.units is not None
    assert exact.trades > 20
    return quick.units, exact.units


def test_what_would_be_less_than_a_lot_closes_though_it_is_a_small_trade(
    kernels: KernelRegistry,
) -> None:
    """A long of a few lots, and a signal for the other side, which no flip follows."""
    setting = Setting(
        MeanReturn(sessions=5),
        EffectiveParameters(kelly_fraction=0.02),
        Limits(weight_max=0.5, leverage_max=1.5, trade_notional_min=2e3, allow_short=True),
        cash=1e5,
        lot_size=10.0,
    )
    quick, exact = both(kernels, setting)
    assert np.abs(quick - exact).max() <= 10.0 + 1e-6


@pytest.mark.parametrize("turnover_max", [None, 0.15])
def test_no_whole_lots_break_a_limit_on_a_sum(
    kernels: KernelRegistry, turnover_max: float | None
) -> None:
    """Small trades are dropped and positions rounded in coarse lots, by which nets are missed."""
    group = GroupLimit(
        "half", instrument_ids=frozenset(NAMES[:3]), net_weight_max=0.05, net_weight_min=-0.05
    )
    limits = Limits(
        weight_max=0.5,
        groups=(group,),
        net_weight_max=0.06,
        net_weight_min=-0.04,
        turnover_max=turnover_max,
        trade_notional_min=2e3,
        allow_short=True,
        allow_flip=True,
    )
    setting = Setting(
        MeanReturn(sessions=6),
        EffectiveParameters(kelly_fraction=0.05),
        limits,
        cash=2e5,
        lot_size=5.0,
        fill_at=FillAt.SAME_CLOSE,
    )
    quick, exact = both(kernels, setting)
    assert np.abs(quick - exact).max() <= 5.0 + 1e-6
    past = history()
    close = past.close
    spent = (np.diff(quick, axis=0) * close[:-1]).sum(axis=1).cumsum()
    cash = 2e5 - np.concatenate([[0.0], spent])
    before, after = quick[:-1] * close[:-1], quick[1:] * close[:-1]
    equity = cash[:-1] + before.sum(axis=1)
    for member, low, high in ((np.ones(6), -0.04, 0.06), (np.arange(6) < 3, -0.05, 0.05)):
        then, now = before @ member / equity, after @ member / equity
        assert (now <= np.maximum(high, then) + 1e-9).all()
        assert (now >= np.minimum(low, then) - 1e-9).all()
    if turnover_max is not None:
        assert (np.abs(after - before).sum(axis=1) / equity).max() <= turnover_max + 1e-9


def test_settings_with_signals_of_their_own_run_together() -> None:
    """Signals have no one answer to whether they are equal."""
    past = history()
    told = one_signal(1.0)
    plain = Setting(
        GivenSignals({past.dates[3]: told}), EffectiveParameters(), Limits(weight_max=0.1)
    )
    pair = SessionSignals(np.array([1]), told.signals)
    other = replace(plain, strategy=GivenSignals({past.dates[3]: pair}))
    one, two = run_fast(past, [plain, other], units=True)
    assert one.units is not None
    assert two.units is not None
    assert (one.units[-1] != 0.0).tolist() == [True] + [False] * 5
    assert (two.units[-1] != 0.0).tolist() == [False, True] + [False] * 4

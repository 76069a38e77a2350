"""Projections onto linear limits, against a solver that knows nothing of prices."""

from dataclasses import replace
from functools import partial

import cvxpy
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compute.limits.policy import JointLimits, LimitKind, Limits, LinearLimit, StressLimit
from compute.limits.stress_limits import Others, StressEvent
from compute.parameters import EffectiveParameters
from compute.shapes import KernelRegistry
from compute.simulate.account import TradingCosts
from compute.simulate.backtest import run
from compute.simulate.fast import Account as FastAccount
from compute.simulate.fast import decided
from compute.simulate.fast_rows import Rows, nearest
from compute.simulate.fast_settings import _bounds, _features, _sessions, run_fast
from compute.simulate.history import PriceHistory
from compute.simulate.honoured import Mode, refused
from compute.simulate.setting import FillAt, Setting
from compute.simulate.signal_table import signal_table
from compute.simulate.strategies import MeanReturn
from tests.compute.simulate.test_fast import NAMES, history


@pytest.mark.parametrize("seed", range(12))
def test_the_nearest_weights_are_those_of_a_quadratic_program(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, k = int(rng.integers(2, 9)), int(rng.integers(1, 5))
    wanted = rng.normal(0.0, 0.3, m)
    end = np.where(rng.random(m) < 0.3, wanted, wanted * rng.uniform(-0.5, 0.9, m))
    low, high = np.minimum(end, wanted), np.maximum(end, wanted)
    rows = rng.normal(0.0, 0.3, (k, m))
    inside = low + rng.random(m) * (high - low)
    bound = rows @ inside + rng.uniform(0.0, 0.02, k)
    w = cvxpy.Variable(m)
    held = [rows @ w <= bound, w >= low, w <= high]
    cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(w - wanted)), held).solve(
        solver=cvxpy.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12
    )
    found = np.asarray(nearest(*map(jnp.asarray, (wanted, low, high)), Rows(rows, bound)))
    np.testing.assert_allclose(found, w.value, atol=1e-6)
    # Of the two ours is the nearer: what is left between them is the solver's.
    assert ((found - wanted) ** 2).sum() <= ((w.value - wanted) ** 2).sum() + 1e-12
    assert (rows @ found <= bound + 1e-10).all()
    assert (found >= low).all()
    assert (found <= high).all()


def test_rows_whose_prices_trade_places_while_no_weight_moves() -> None:
    """Lines at the ends of their boxes hold the weights still in the second of four sweeps."""
    wanted = np.array([0.194560808838, 0.034240910464, 0.175420783556, 0.047474991278])
    low = np.array([0.08491057568, 0.034240910464, 0.0, 0.0])
    rows = np.array(
        [
            [0.348859929543, 0.002211666602, 0.092924782168, 0.392146027188],
            [0.358184140702, 0.310221329839, 0.181990807266, 0.34166455289],
        ]
    )
    bound = np.array([0.054385985256, 0.062901637366])
    found = np.asarray(nearest(*map(jnp.asarray, (wanted, low, wanted)), Rows(rows, bound)))
    w = cvxpy.Variable(4)
    held = [rows @ w <= bound, w >= low, w <= wanted]
    cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(w - wanted)), held).solve(
        solver=cvxpy.CLARABEL, tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13
    )
    np.testing.assert_allclose(found, w.value, atol=1e-7)
    assert found[0] > 0.08508, "0.08491 is where it had stopped"


def test_rows_that_can_t_be_kept_are_missed_least() -> None:
    """One line may go from 0.5 to 0.2: 0.2 is as near to 0.1 as it comes."""
    one = np.ones(1)
    found = nearest(0.5 * one, 0.2 * one, 0.5 * one, Rows(np.ones((1, 1)), 0.1 * one))
    assert float(found[0]) == pytest.approx(0.2)
    inside = nearest(0.05 * one, 0.0 * one, 0.05 * one, Rows(np.ones((1, 1)), 0.1 * one))
    assert float(inside[0]) == 0.05


def crash(rng: np.random.Generator, name: str) -> StressEvent:
    """Most names fall, some rise."""
    shocks = rng.uniform(-0.4, 0.1, len(NAMES))
    return StressEvent(name, 1, Others.STAY, NAMES, tuple(shocks))


def stressed(rng: np.random.Generator, *, is_short: bool) -> Setting:
    """One to three scenarios, of which at least one is near what the weights alone would lose."""
    events = tuple(crash(rng, f"s{i}") for i in range(int(rng.integers(1, 4))))
    limits = tuple(StressLimit(one.scenario_id, float(rng.uniform(0.02, 0.1))) for one in events)
    return Setting(
        MeanReturn(sessions=int(rng.integers(5, 12))),
        EffectiveParameters(kelly_fraction=float(rng.uniform(0.3, 1.0))),
        Limits(
            weight_max=float(rng.uniform(0.1, 0.3)),
            leverage_max=1.0,
            turnover_max=float(rng.uniform(0.1, 0.5)) if rng.random() < 0.5 else None,
            allow_short=is_short,
            joint=JointLimits(stress=limits),
        ),
        costs=TradingCosts(commission_rate=0.0005),
        fill_at=FillAt(int(rng.integers(1, 4))),
        stress=events,
    )


def lots_apart(setting: Setting, past: PriceHistory, kernels: KernelRegistry) -> list[float]:
    """The largest difference of each decision in lots, both made from the exact mode's account."""
    exact = run(past, setting, kernels)
    assert exact.units is not None
    tables = [signal_table(setting.strategy, past)]
    features = _features([setting], tables, past, setting.fill_at, units=False)
    sessions = _sessions(past, tables, features, setting.fill_at)
    own = jax.tree.map(lambda column: column[0], _bounds(past, [setting], [0], features))
    decide = jax.jit(partial(decided, features=features))
    zero, apart = jnp.zeros(()), []
    for t in range(len(past.dates) - 1):
        session = jax.tree.map(lambda column, t=t: column[t], sessions)
        account = FastAccount(
            jnp.asarray(exact.cash[t]), jnp.asarray(exact.units[t]), jnp.zeros(len(NAMES)),
            jnp.asarray(exact.equity[t]), zero == 0.0, zero, zero, zero, jnp.zeros(6), zero,
        )  # fmt: skip
        found = np.asarray(decide(account, own, session).orders)
        apart.append(float(np.abs(exact.units[t] + found - exact.units[t + 1]).max()))
    return apart


@pytest.mark.parametrize("is_short", [False, True])
def test_stress_limits_are_kept_as_in_the_exact_mode(
    kernels: KernelRegistry, is_short: bool
) -> None:
    """Decision by decision: the guard, which the fast mode hasn't, takes back lots in a few.

    Along a whole path a lot may decide which of two limits stops all trades.
    """
    past, rng = history(), np.random.default_rng(60 + is_short)
    settings = [
        replace(
            stressed(rng, is_short=is_short),
            fill_at=FillAt.SAME_CLOSE,
            costs=TradingCosts(),
        )
        for _ in range(8)
    ]
    cut, apart = 0, list[float]()
    for setting in settings:
        cut += run(past, setting, kernels).bindings.get(LimitKind.STRESS_LOSS_MAX, 0)
        apart += lots_apart(setting, past, kernels)
    assert cut > 100
    assert np.mean(np.array(apart) <= 1.0 + 1e-6) >= 0.95


def test_no_book_decided_loses_more_than_the_limit_in_any_scenario() -> None:
    """Filled at the closes decided on, and before prices move."""
    past, rng = history(), np.random.default_rng(8)
    for setting in (replace(stressed(rng, is_short=False), fill_at=FillAt.SAME_CLOSE),) * 3:
        (found,) = run_fast(past, [setting], units=True)
        assert found.units is not None
        weight = found.units[1:] * past.close[:-1] / found.equity[:-1, None]
        for event, limit in zip(setting.stress, setting.limits.joint.stress, strict=True):
            loss = -(weight @ np.array(event.returns))
            assert loss.max() > 0.0
            # Sales are reductions: after a loss of equity a book may start beyond the limit.
            before = -(found.units[:-1] * past.close[:-1] / found.equity[:-1, None])
            allowed = np.maximum(before @ np.array(event.returns), limit.loss_max)
            assert (loss <= allowed + 1e-9).all()


def test_linear_limits_of_both_ends_are_kept_as_in_the_exact_mode(
    kernels: KernelRegistry,
) -> None:
    past = history()
    rows = (
        LinearLimit("pair", {"I0": 1.0, "I1": 1.0}, upper=0.15),
        LinearLimit("spread", {"I2": 1.0, "I3": -1.0}, lower=-0.05, upper=0.05),
    )
    setting = Setting(
        MeanReturn(sessions=6),
        EffectiveParameters(kelly_fraction=0.6),
        Limits(weight_max=0.2, leverage_max=1.0, joint=JointLimits(linear=rows)),
    )
    exact, (quick,) = run(past, setting, kernels), run_fast(past, [setting], units=True)
    assert exact.units is not None
    assert quick.units is not None
    assert exact.bindings[LimitKind.LINEAR] > 20
    assert np.abs(quick.units - exact.units).max() <= 1.0 + 1e-6


def test_what_the_fast_mode_can_t_say_of_a_scenario_is_refused() -> None:
    past = history()
    known = StressEvent("window", 1, Others.UNKNOWN, NAMES, (-0.1,) * len(NAMES))
    part = StressEvent("window", 1, Others.UNKNOWN, NAMES[1:], (-0.1,) * (len(NAMES) - 1))
    limits = Limits(joint=JointLimits(stress=(StressLimit("window", 0.05),)))
    setting = Setting(MeanReturn(sessions=5), EffectiveParameters(), limits, stress=(known,))
    assert not list(refused(setting, past, Mode.FAST))
    partly = replace(setting, stress=(part,))
    assert not list(refused(partly, past, Mode.EXACT))
    (found,) = refused(partly, past, Mode.FAST)
    assert (found.field, found.reason) == ("limits.joint.stress", "NOT_APPLICABLE")
    assert "'I0'" in found.message
    soft = JointLimits(linear=(LinearLimit("soft", {"I0": 1.0}, upper=0.1, soft_price=0.01),))
    priced = replace(setting, limits=Limits(joint=soft), stress=())
    assert [item.field for item in refused(priced, past, Mode.FAST)] == ["limits.joint.linear"]

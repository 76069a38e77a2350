"""Ends of backtests that are known beforehand, in both modes: games, equations, chance alone."""

import csv
from dataclasses import dataclass
from datetime import date, timedelta
from math import comb, log
from pathlib import Path

import numpy as np
import pytest

from compute.limits.policy import Limits, SaleProceeds
from compute.parameters import EffectiveParameters, Shrinkage
from compute.shapes import KernelRegistry
from compute.signals import Signals
from compute.simulate.account import TradingCosts
from compute.simulate.backtest import run
from compute.simulate.fast_settings import run_fast
from compute.simulate.history import PriceHistory
from compute.simulate.setting import FillAt, Setting
from compute.simulate.strategies import GivenSignals, SessionSignals, Strategy
from compute.waterfall.layout import Source

PRICES = Path(__file__).parents[3] / "examples" / "prices.csv"
FULL = EffectiveParameters(kelly_fraction=1.0, confidence_shrinkage=Shrinkage.NONE)
AT_ONCE = SaleProceeds.AT_ONCE


def days(count: int) -> tuple[str, ...]:
    return tuple((date(2001, 1, 1) + timedelta(days=i)).isoformat() for i in range(count))


@dataclass(frozen=True)
class Beyond:
    """An edge that every limit on single weights is below."""

    def __call__(self, history: PriceHistory, session: int) -> SessionSignals:
        m = len(history.instrument_ids)
        source = np.full(m, int(Source.RETURN_VOLATILITY))
        told = Signals(
            np.ones(m), source, expected_return=np.full(m, 0.5), volatility=np.full(m, 0.1)
        )
        return SessionSignals(np.arange(m), told)


def setting(strategy: Strategy, weight_max: float, **more: object) -> Setting:
    given: dict[str, object] = {"fill_at": FillAt.SAME_CLOSE, "lot_size": 1e-6, **more}
    limits = Limits(weight_max=weight_max, sale_proceeds=AT_ONCE)
    return Setting(strategy, FULL, limits, **given)  # type: ignore[arg-type]


LOST = 1e-14
"""What is left of a bet that is lost: prices are above 0."""


def next_cards(reds: np.ndarray) -> tuple[PriceHistory, GivenSignals]:
    """A bet a card, on the colour of which more are left: each an instrument of its own."""
    n = len(reds)
    close = np.full((n + 1, n), 100.0)
    left = {True: int(reds.sum()), False: n - int(reds.sum())}
    said = {}
    for t, red in enumerate(reds):
        likely = left[True] >= left[False]
        chance = max(left.values()) / sum(left.values())
        close[t + 1 :, t] *= 2.0 if red == likely else LOST
        before = [t - 1] if t else []  # what was won or lost is sold
        told = Signals(
            side=np.ones(len(before) + 1),
            source=np.full(len(before) + 1, int(Source.WIN_LOSS)),
            win_probability=np.array([0.5] * len(before) + [chance]),
            payoff=np.ones(len(before) + 1),
            loss_fraction=np.full(len(before) + 1, 1.0 - LOST),
        )
        said[days(n + 1)[t]] = SessionSignals(np.array([*before, t]), told)
        left[bool(red)] -= 1
    return PriceHistory(days(n + 1), tuple(f"C{i}" for i in range(n)), close), GivenSignals(said)


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_the_next_card_game_ends_the_same_for_every_order(
    kernels: KernelRegistry, seed: int | None
) -> None:
    """B11.2: 2^52 / C(52, 26), whatever comes first."""
    reds = np.repeat([True, False], 26)
    if seed is not None:
        reds = np.random.default_rng(seed).permutation(reds)
    history, rule = next_cards(reds)
    tried = setting(rule, 1.0, lot_size=1e-10)
    for found in (run(history, tried, kernels), run_fast(history, [tried])[0]):
        assert found.equity[-1] / 1e6 == pytest.approx(9.081329549428, rel=1e-6)
    assert 2.0**52 / comb(52, 26) == pytest.approx(9.081329549428, abs=5.1e-13)


def test_a_daily_constant_mix_pays_its_costs(kernels: KernelRegistry) -> None:
    """B11.4 and B11.5: sized before fees, and so within 1e-4 of the equation."""
    with PRICES.open() as file:
        rows = list(csv.reader(file))
    table = np.array([[float(cell) for cell in row[1:]] for row in rows[1:]])
    history = PriceHistory(tuple(row[0] for row in rows[1:]), tuple(rows[0][1:]), table)
    by_cost = {0.0: 1718979.490401, 0.0005: 1709984.0857, 0.002: 1683282.9077}
    tried = [setting(Beyond(), 0.05, costs=TradingCosts(commission_rate=cost)) for cost in by_cost]
    for one, fast, exact in zip(tried, run_fast(history, tried), by_cost.values(), strict=True):
        rel = 1e-8 if one.costs.commission_rate == 0.0 else 1e-4
        assert fast.equity[-1] == pytest.approx(exact, rel=rel)
    found = run(history, tried[1], kernels)
    assert found.equity[-1] == pytest.approx(1709984.0857, rel=1e-5)


def test_a_constant_mix_of_a_random_walk_converges_to_its_closed_form() -> None:
    """B11.7: W = (S / S0)^f exp((1 - f)(r + f s^2 / 2) T); the error falls as the step."""
    f, r, s, years = 0.6, 0.03, 0.3, 2.0
    errors = []
    for steps in (64, 256, 1024):
        dt = years / steps
        luck = np.random.default_rng(5).permutation(np.repeat([1.0, -1.0], steps // 2))
        logs = np.concatenate([[0.0], np.cumsum(0.02 * dt + s * np.sqrt(dt) * luck)])
        history = PriceHistory(days(steps + 1), ("S",), 100.0 * np.exp(logs)[:, None])
        costs = TradingCosts(credit_rate=r, days_per_year=1.0 / dt)
        (found,) = run_fast(history, [setting(Beyond(), f, costs=costs)])
        exact = f * logs[-1] + (1.0 - f) * (r + f * s**2 / 2.0) * years
        # The night before the first session earns, too; the last has none.
        errors.append(abs(log(found.equity[-1] / 1e6) - exact))
    assert errors[0] < 0.01
    assert errors[1] < 0.4 * errors[0]
    assert errors[2] < 0.4 * errors[1]


def test_sizes_without_an_edge_earn_what_they_cost() -> None:
    """B11.10: mean simple return -c u within three standard errors; log growth half the variance
    lower."""
    sessions, names, cost = 1500, 12, 0.002
    rng = np.random.default_rng(10)
    moved = 1.0 + 0.01 * rng.standard_normal((sessions, names))
    history = PriceHistory(
        days(sessions), tuple(f"I{i}" for i in range(names)), 100.0 * np.cumprod(moved, axis=0)
    )
    said = {}
    for day in history.dates:
        source = np.full(names, int(Source.RETURN_VOLATILITY))
        expected = 1e-4 * 0.05 * rng.random(names)  # at a volatility of 0.01 weights up to 0.05
        told = Signals(np.ones(names), source, expected_return=expected,
                       volatility=np.full(names, 0.01))  # fmt: skip
        said[day] = SessionSignals(np.arange(names), told)
    costs = TradingCosts(commission_rate=cost)
    (found,) = run_fast(history, [setting(GivenSignals(said), 0.2, costs=costs)])
    returns, paid = found.returns, cost * found.turnover[1:]
    assert found.turnover.mean() > 0.1
    rest = returns + paid
    error = rest.std(ddof=1) / np.sqrt(len(rest))
    assert abs(rest.mean()) < 3.0 * error
    assert returns.mean() < -0.8 * paid.mean()
    lower = returns.mean() - np.log1p(returns).mean()
    assert lower == pytest.approx(returns.var() / 2.0 + returns.mean() ** 2 / 2.0, rel=0.05)

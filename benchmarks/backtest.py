"""Backtests of many settings: the fast mode against the exact one and a plain loop in NumPy.

    .venv/bin/python -m benchmarks.backtest [--settings 1000] [--names 20] [--sessions 2520]

A random walk, moving means as signals, caps on weight and leverage, commissions, whole lots: every
setting differs in its fraction, its caps and its window. The exact mode runs a few of the settings
and is scaled; NumPy rebalances to capped weights for all settings at once, without lots, limits on
sums or an account. Wall time and the processor time of this process are both told: on a shared
machine the second is what the work takes.
"""

import argparse
import os
import time
from collections.abc import Callable
from datetime import date, timedelta
from typing import TypeVar

import jax
import numpy as np

from compute.limits.policy import Limits
from compute.parameters import EffectiveParameters
from compute.simulate.account import TradingCosts
from compute.simulate.backtest import run
from compute.simulate.fast_settings import in_threads, run_fast
from compute.simulate.history import PriceHistory
from compute.simulate.setting import Setting
from compute.simulate.strategies import MeanReturn
from compute.waterfall.kernels import just_in_time

T = TypeVar("T")
WINDOWS = (40, 60, 120, 250)
EXACT = 2


def random_walk(sessions: int, names: int) -> PriceHistory:
    """Closes of independent names with a drift of 10 % a year."""
    rng = np.random.default_rng(0)
    logs = 0.0004 + 0.015 * rng.standard_normal((sessions, names))
    days = tuple((date(2010, 1, 1) + timedelta(days=i)).isoformat() for i in range(sessions))
    return PriceHistory(days, tuple(f"I{i}" for i in range(names)), 100.0 * np.exp(logs.cumsum(0)))


def settings_of(count: int) -> list[Setting]:
    """Settings that differ in everything that is tuned."""
    rng = np.random.default_rng(1)
    rules = [MeanReturn(sessions=n) for n in WINDOWS]
    return [
        Setting(
            rules[i % len(rules)],
            EffectiveParameters(kelly_fraction=float(rng.uniform(0.05, 1.0))),
            Limits(
                weight_max=float(rng.uniform(0.03, 0.2)),
                leverage_max=float(rng.uniform(0.5, 2.0)),
                allow_short=True,
            ),
            costs=TradingCosts(commission_rate=0.0005),
        )
        for i in range(count)
    ]


def timed(work: Callable[[], T]) -> tuple[T, float, float]:
    """The result, wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - processor


def numpy_loop(history: PriceHistory, settings: list[Setting]) -> np.ndarray:
    """Growth of capped Kelly weights, all settings in one array a session."""
    windows = {n: i for i, n in enumerate(WINDOWS)}
    returns = history.total_return
    sums = np.concatenate([np.zeros((1, returns.shape[1])), returns.cumsum(0)])
    row = np.array([windows[s.strategy.sessions] for s in settings])  # type: ignore[attr-defined]
    fraction = np.array([s.parameters.kelly_fraction for s in settings])[:, None]
    cap = np.array([s.limits.weight_max for s in settings])[:, None]
    wealth, variance = np.ones(len(settings)), np.full(returns.shape[1], 1e-4)
    weight = np.zeros((len(settings), returns.shape[1]))
    for t in range(len(returns)):
        wealth *= 1.0 + weight @ returns[t]
        variance = 0.97 * variance + 0.03 * returns[t] ** 2
        means = np.stack([(sums[t + 1] - sums[max(t + 1 - n, 0)]) / n for n in WINDOWS])
        weight = np.clip(fraction * means[row] / variance, -cap, cap)
    return wealth


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--settings", type=int, default=1000)
    parser.add_argument("--names", type=int, default=20)
    parser.add_argument("--sessions", type=int, default=2520)
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    history, settings = random_walk(given.sessions, given.names), settings_of(given.settings)
    threads = os.cpu_count() or 1

    def fast() -> object:
        return run_fast(history, settings, run=in_threads(threads))

    rows = [("fast, cold", *timed(fast)[1:])]
    warm = min((timed(fast)[1:] for _ in range(3)), key=lambda pair: pair[0])
    rows.append(("fast, warm", *warm))
    rows.append(("NumPy loop, no lots or sums", *timed(lambda: numpy_loop(history, settings))[1:]))
    kernels = just_in_time()
    run(history, settings[0], kernels)
    took = timed(lambda: [run(history, one, kernels) for one in settings[:EXACT]])
    scale = given.settings / EXACT
    rows.append((f"exact, {EXACT} settings times {scale:g}", took[1] * scale, took[2] * scale))
    shape = f"{given.settings} settings x {given.names} names x {given.sessions} sessions"
    print(f"{shape}, {threads} processors, load {os.getloadavg()[0]:.1f}")
    for name, wall, processor in rows:
        print(f"| {name} | {wall:.2f} | {processor:.2f} |")


if __name__ == "__main__":
    main()

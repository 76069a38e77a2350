"""Engines we did not write as oracles: the same books through bt, vectorbt and backtesting.py.

    make bench-engines        # in .venv-bench; or --settings N for a smaller comparison of speed

First the ends: twenty names held, and rebalanced daily to a twentieth each, without costs and with
5 and 20 basis points; then one trade filled at the next open. "Equation" is the self-financing book
V' = V - c sum |V'/n - h| solved at every close but the last. Then the time of many settings of the
daily book, whose ends must agree too.
"""

import argparse
import csv
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from benchmarks.backtest import random_walk, timed
from compute.limits.policy import InstrumentLimit, Limits, SaleProceeds
from compute.parameters import EffectiveParameters, Shrinkage
from compute.signals import Signals
from compute.simulate.account import TradingCosts
from compute.simulate.backtest import run
from compute.simulate.fast_settings import in_threads, run_fast
from compute.simulate.history import PriceHistory
from compute.simulate.setting import FillAt, Setting
from compute.simulate.strategies import GivenSignals, SessionSignals
from compute.waterfall.kernels import just_in_time
from compute.waterfall.layout import Source

PRICES = Path(__file__).parents[1] / "examples" / "prices.csv"
CASH = 1e6
FULL = EffectiveParameters(kelly_fraction=1.0, confidence_shrinkage=Shrinkage.NONE)


@dataclass(frozen=True)
class Beyond:
    """An edge that every limit on single weights is below."""

    def __call__(self, history: PriceHistory, session: int) -> SessionSignals:
        """Every instrument, every session."""
        m = len(history.instrument_ids)
        return SessionSignals(np.arange(m), _edge(np.full(m, 0.5)))


def _edge(expected: np.ndarray) -> Signals:
    m = len(expected)
    source = np.full(m, int(Source.RETURN_VOLATILITY))
    return Signals(np.ones(m), source, expected_return=expected, volatility=np.full(m, 0.1))


def mixed(weight: float, cost: float, *, is_held: bool = False) -> Setting:
    """Each name at `weight`, daily or once; fractions of shares, filled at the close decided on."""
    return Setting(
        Beyond(),
        FULL,
        Limits(weight_max=weight, sale_proceeds=SaleProceeds.AT_ONCE),
        cash=CASH,
        costs=TradingCosts(commission_rate=cost),
        fill_at=FillAt.SAME_CLOSE,
        lot_size=1e-6,
        rebalance_sessions=10**6 if is_held else 1,
    )


def equation(close: np.ndarray, cost: float, *, is_held: bool = False) -> float:
    """The end of the self-financing book, by bisection."""
    n, wealth = close.shape[1], CASH
    held = np.zeros(n)
    for t in range(len(close)):
        if t:
            held = held * close[t] / close[t - 1]
            wealth = float(held.sum())
        if t == len(close) - 1 or (is_held and t):
            continue
        low, high = 0.9 * wealth, wealth
        for _ in range(200):
            middle = (low + high) / 2.0
            short = middle > wealth - cost * np.abs(middle / n - held).sum()
            low, high = (low, middle) if short else (middle, high)
        held = np.full(n, low / n)
    return wealth


def by_bt(history: PriceHistory, weight: float, cost: float, *, is_held: bool = False) -> float:
    import bt
    import pandas as pd

    names = list(history.instrument_ids)
    frame = pd.DataFrame(history.close, index=pd.to_datetime(history.dates), columns=names)
    when = bt.algos.RunOnce() if is_held else bt.algos.RunDaily()
    target = bt.algos.WeighSpecified(**dict.fromkeys(names, weight))
    rules = [when, bt.algos.SelectAll(), target, bt.algos.Rebalance()]
    tested = bt.Backtest(
        bt.Strategy("mix", rules),
        frame,
        initial_capital=CASH,
        integer_positions=False,
        commissions=lambda quantity, price: abs(quantity) * price * cost,
        progress_bar=False,
    )
    tested.run()
    return float(tested.strategy.values.iloc[-1])


def by_vectorbt(
    history: PriceHistory, weights: Sequence[float], cost: float, *, is_held: bool = False
) -> np.ndarray:
    """A group of columns a setting: what vectorbt is fast at."""
    import pandas as pd
    import vectorbt as vbt

    count, n = len(weights), len(history.instrument_ids)
    columns = pd.MultiIndex.from_product([range(count), range(n)])
    close = pd.DataFrame(np.tile(history.close, (1, count)), columns=columns)
    size = np.full(close.shape, np.nan)
    size[: 1 if is_held else -1] = np.repeat(weights, n)
    found = vbt.Portfolio.from_orders(
        close,
        size=size,
        size_type="targetpercent",
        group_by=np.repeat(np.arange(count), n),
        cash_sharing=True,
        call_seq="auto",
        fees=cost,
        init_cash=CASH,
        freq="1D",
    )
    return np.atleast_1d(found.final_value())


def ends() -> None:
    """The ends of the same books."""
    with PRICES.open() as file:
        rows = list(csv.reader(file))
    table = np.array([[float(cell) for cell in row[1:]] for row in rows[1:]])
    history = PriceHistory(tuple(row[0] for row in rows[1:]), tuple(rows[0][1:]), table)
    kernels = just_in_time()
    print("| book | equation | ours, exact | ours, fast | bt | vectorbt |")
    print("|---|---|---|---|---|---|")
    for cost, is_held in [(0.0, True), (0.0, False), (0.0005, False), (0.002, False)]:
        setting = mixed(0.05, cost, is_held=is_held)
        right = equation(table, cost, is_held=is_held)
        found = [
            run(history, setting, kernels).equity[-1],
            run_fast(history, [setting])[0].equity[-1],
            by_bt(history, 0.05, cost, is_held=is_held),
            float(by_vectorbt(history, [0.05], cost, is_held=is_held)[0]),
        ]
        name = "held" if is_held else f"daily, {cost * 1e4:g} bp"
        told = " | ".join(f"{end:.4f} ({end / right - 1.0:+.1e})" for end in found)
        print(f"| {name} | {right:.4f} | {told} |")


def next_open() -> None:
    """1,000 shares bought and sold again, each at the open after the decision, at 0.1 %."""
    from backtesting import Backtest, Strategy
    from backtesting.test import GOOG

    class Once(Strategy):
        """Decides at the first close that it sees, and at the last but one."""

        def init(self) -> None:
            """Nothing is computed before."""

        def next(self) -> None:
            if len(self.data) == 2:
                self.buy(size=1000)
            elif len(self.data) == len(GOOG) - 1:
                self.position.close()

    theirs = Backtest(GOOG, Once, cash=CASH, commission=0.001, trade_on_close=False).run()
    days = [str(day.date()) for day in GOOG.index]
    history = PriceHistory(
        tuple(days), ("GOOG",), GOOG[["Close"]].to_numpy(), GOOG[["Open"]].to_numpy()
    )
    said = {
        days[1]: SessionSignals(np.zeros(1, dtype=int), _edge(np.array([0.5]))),
        days[-2]: SessionSignals(np.zeros(1, dtype=int), _edge(np.array([-0.5]))),
    }
    setting = Setting(
        GivenSignals(said),
        FULL,
        Limits(instruments={"GOOG": InstrumentLimit(quantity_max=1000.0)}),
        cash=CASH,
        costs=TradingCosts(commission_rate=0.001),
    )
    ours = run(history, setting, just_in_time())
    print(
        f"one trade at the next open: ours {ours.equity[-1]:.2f} in {ours.trades} trades, ", end=""
    )
    print(f"backtesting.py {theirs['Equity Final [$]']:.2f}")


def best_of(count: int, work: Callable[[], object]) -> tuple[float, float]:
    """Least wall and processor seconds of some runs."""
    walls, processors = zip(*(timed(work)[1:] for _ in range(count)), strict=True)
    return min(walls), min(processors)


def speed(settings: int, sessions: int, alone: int, grouped: int) -> None:
    """Time of many settings of the daily book; the others' scaled from fewer.

    Ours runs in a thread a processor, theirs in one: processor time is the fairer figure.
    """
    history, cost = random_walk(sessions, 20), 0.0005
    weights = np.linspace(0.005, 0.045, settings)
    ours = [mixed(float(weight), cost) for weight in weights]
    some = np.linspace(0, settings - 1, grouped).astype(int)
    few = some[:: max(grouped // alone, 1)][:alone]
    threads = in_threads(os.cpu_count() or 1)
    print(f"{settings} settings x 20 names x {sessions} sessions, load {os.getloadavg()[0]:.1f}")
    found = np.array([one.equity[-1] for one in run_fast(history, ours, run=threads)])
    fast = best_of(3, lambda: run_fast(history, ours, run=threads))
    print(f"| ours, fast, warm | {fast[0]:.2f} s, {fast[1]:.2f} s of processor | |")

    def told(name: str, places: np.ndarray, ends: np.ndarray, took: tuple[float, float]) -> None:
        wall, processor = (one * settings / len(places) for one in took)
        worst = np.abs(ends / found[places] - 1.0).max()
        print(
            f"| {name}, {len(places)} settings scaled | {wall:.0f} s, {processor:.0f} s of "
            f"processor | {wall / fast[0]:.0f} and {processor / fast[1]:.0f} times ours; "
            f"ends within {worst:.1e} |"
        )

    ends = by_vectorbt(history, weights[some], cost)  # compiles
    told(
        "vectorbt, warm", some, ends, best_of(2, lambda: by_vectorbt(history, weights[some], cost))
    )
    ends, *took = timed(lambda: np.array([by_bt(history, float(weights[i]), cost) for i in few]))
    told("bt", few, ends, (took[0], took[1]))


def main() -> None:
    """Prints tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--settings", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=2520)
    parser.add_argument("--grouped", type=int, default=20, help="settings of vectorbt, scaled")
    parser.add_argument("--alone", type=int, default=3, help="settings of bt, scaled")
    parser.add_argument("--speed-only", action="store_true")
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")
    if not given.speed_only:
        ends()
        next_open()
    speed(given.settings, given.sessions, given.alone, given.grouped)


if __name__ == "__main__":
    main()

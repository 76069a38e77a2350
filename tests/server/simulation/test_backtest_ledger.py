"""Accounts of backtests over gRPC, against a ledger written here from the contract alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray
from positionsizing.v1 import (
    job_service_pb2,
    limits_pb2,
    parameter_service_pb2,
    sizing_pb2,
    types_pb2,
)
from positionsizing.v1 import simulation_service_pb2 as pb

from tests.server.support.service_client import Client, new_id, refusal

LONG_S = 600.0
EXACT, FAST = pb.BACKTEST_MODE_EXACT, pb.BACKTEST_MODE_FAST
OPEN, CLOSE, SAME = (
    pb.FILL_AT_NEXT_OPEN,
    pb.FILL_AT_NEXT_CLOSE,
    pb.FILL_AT_SAME_CLOSE,
)
COSTS = pb.TradingCosts(
    commission_fixed=1.0,
    commission_rate=0.0005,
    slippage_rate=0.0002,
    credit_rate=0.03,
    debit_rate=0.06,
    borrow_rate=0.02,
)
FRACTION, WEIGHT_MAX = 0.5, 0.1
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Signal:
    """Instrument, side (1 or -1), expected return and volatility."""

    place: int
    side: int
    mean: float
    deviation: float


@dataclass(frozen=True)
class Book:
    """Sessions by instruments, a price of 0 where there is none, and the signals of sessions."""

    dates: list[str]
    close: Array
    open: Array
    dividend: Array
    split: Array
    signals: Mapping[int, list[Signal]]

    @property
    def ids(self) -> list[str]:
        return [f"I{i}" for i in range(self.close.shape[1])]


def weekdays(count: int) -> list[str]:
    first = date(2023, 1, 2)
    days = (first + timedelta(days=i) for i in range(2 * count))
    return [day.isoformat() for day in days if day.weekday() < 5][:count]


def random_book(seed: int, sessions: int = 60, m: int = 5) -> Book:
    rng = np.random.default_rng(seed)
    moves = np.cumsum(rng.normal(0.0, 0.02, (sessions, m)), axis=0)
    close = 100.0 * np.exp(moves) * rng.uniform(0.2, 3.0, m)
    split = np.ones((sessions, m))
    for _ in range(5):
        split[rng.integers(2, sessions), rng.integers(m)] = rng.choice([2.0, 3.0, 1.5, 0.1])
    close = np.round(close / np.cumprod(split, axis=0), 4)
    opened = np.round(close * np.exp(rng.normal(0.0, 0.005, close.shape)), 4)
    dividend = np.where(rng.random(close.shape) < 0.03, np.round(close * 0.01, 4), 0.0)
    dividend[0] = 0.0
    missing = rng.random(close.shape) < 0.05
    missing[[0, *range(sessions - 6, sessions)]] = False
    close[missing], opened[missing] = 0.0, 0.0
    signals = {
        t: [
            Signal(
                i,
                int(rng.choice([-1, 1])),
                float(rng.uniform(0.0, 0.002)),
                float(rng.uniform(0.015, 0.05)),
            )
            for i in range(m)
            if close[t, i] > 0.0 and rng.random() < 0.8
        ]
        for t in range(sessions - 1)
    }
    told = {t: row for t, row in signals.items() if row}
    return Book(weekdays(sessions), close, opened, dividend, split, told)


@dataclass
class Ledger:
    """Cash and units by the contract: actions, fills, a night, a mark, a decision."""

    book: Book
    fill_at: pb.FillAt
    lot: float
    every: int
    cash: float = 1e6
    equity: list[float] = field(default_factory=list)
    paid: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(
            ("commission", "slippage", "dividends", "interest", "borrow", "fractions"), 0.0
        )
    )

    def run(self) -> "Ledger":
        sessions, m = self.book.close.shape
        self.units, self.orders, self.mark = np.zeros(m), np.zeros(m), np.zeros(m)
        for t in range(sessions):
            self.actions(t)
            if self.fill_at != SAME:
                self.fill(self.book.open[t] if self.fill_at == OPEN else self.book.close[t])
            self.mark = np.where(self.book.close[t] > 0.0, self.book.close[t], self.mark)
            if t + 1 == sessions:
                self.equity.append(self.worth)
                break
            if self.fill_at != SAME:
                self.night(t)
            self.equity.append(self.worth)
            if t % self.every == 0:
                self.decide(t)
            if self.fill_at == SAME:
                self.fill(self.book.close[t])
                self.night(t)
        return self

    @property
    def worth(self) -> float:
        return self.cash + float(self.units @ self.mark)

    def earn(self, name: str, money: float, sign: int = 1) -> None:
        self.paid[name] += money
        self.cash += sign * money

    def actions(self, t: int) -> None:
        self.earn("dividends", float(self.book.dividend[t] @ self.units))
        for i in np.flatnonzero(self.book.split[t] != 1.0):
            ratio = self.book.split[t, i]
            self.mark[i] /= ratio
            step = min(self.lot, 1.0)
            exact = round(self.units[i] * ratio, 9)
            self.units[i] = round(int(round(exact / step, 6)) * step, 9)
            self.earn("fractions", (exact - self.units[i]) * self.mark[i])
            lots = int(round(self.orders[i] * ratio / self.lot, 6))
            self.orders[i] = round(lots * self.lot, 9)

    def fill(self, prices: Array) -> None:
        for i in np.flatnonzero((self.orders != 0.0) & (prices > 0.0)):
            trade = self.orders[i]
            price = prices[i] * (1.0 + COSTS.slippage_rate * np.sign(trade))
            self.paid["slippage"] += abs(trade) * prices[i] * COSTS.slippage_rate
            self.cash -= trade * price
            fee = COSTS.commission_fixed + COSTS.commission_rate * abs(trade) * price
            self.earn("commission", fee, sign=-1)
            self.units[i] = round(self.units[i] + trade, 9)
        self.orders[:] = 0.0

    def night(self, t: int) -> None:
        first, second = (date.fromisoformat(self.book.dates[i]) for i in (t, t + 1))
        years = (second - first).days / 360.0
        short = -float(np.minimum(self.units, 0.0) @ self.mark)
        free = self.cash - short
        rate = COSTS.credit_rate if free > 0.0 else COSTS.debit_rate
        self.earn("interest", free * rate * years)
        self.earn("borrow", short * COSTS.borrow_rate * years, sign=-1)

    def decide(self, t: int) -> None:
        for signal in self.book.signals.get(t, []):
            i = signal.place
            stake = min(FRACTION * signal.mean / signal.deviation**2, WEIGHT_MAX)
            wanted = signal.side * stake * self.equity[t] / self.mark[i]
            exact = (wanted - self.units[i]) / self.lot
            # Positions are rounded towards zero, those that end on the other side of it as well.
            down = np.floor if wanted > 0.0 else np.ceil
            self.orders[i] = round(float(down(round(exact, 9))) * self.lot, 9)


def request_of(book: Book, mode: pb.BacktestMode, **setting: object) -> pb.RunBacktestRequest:
    rows = [(t, signal) for t, row in sorted(book.signals.items()) for signal in row]
    given = pb.GivenSignals(
        dates=[book.dates[t] for t, _ in rows],
        signals=sizing_pb2.SignalBatch(
            instrument_ids=[book.ids[signal.place] for _, signal in rows],
            side=[
                types_pb2.SIDE_LONG if signal.side > 0 else types_pb2.SIDE_SHORT
                for _, signal in rows
            ],
            expected_return=[signal.mean for _, signal in rows],
            volatility=[signal.deviation for _, signal in rows],
        ),
    )
    limits = {"weight_max": WEIGHT_MAX, "allow_short": True, "allow_flip": True}
    told = {
        "given": given,
        "parameters": parameter_service_pb2.SizingParameters(
            kelly_fraction=FRACTION,
            confidence_shrinkage=parameter_service_pb2.CONFIDENCE_SHRINKAGE_NONE,
        ),
        "limits": limits_pb2.Limits(**limits),
        "costs": COSTS,
        **setting,
    }
    prices = pb.PriceTable(
        dates=book.dates,
        instrument_ids=book.ids,
        close=book.close.ravel(),
        open=book.open.ravel(),
        dividend=book.dividend.ravel(),
        split=book.split.ravel(),
    )
    return pb.RunBacktestRequest(
        prices=prices,
        settings=[pb.BacktestSetting(**told)],  # type: ignore[arg-type]
        mode=mode,
        confirm_prices=True,
        experiment=new_id("experiment"),
    )


@pytest.mark.parametrize("mode", [EXACT, FAST], ids=["exact", "fast"])
@pytest.mark.parametrize(
    ("seed", "fill_at", "lot", "every"),
    [
        (0, OPEN, 1.0, 1),
        (1, CLOSE, 1.0, 3),
        (2, SAME, 1.0, 1),
        (3, OPEN, 0.01, 1),
        (5, SAME, 0.01, 3),
    ],
)
async def test_accounts_with_opens_dividends_splits_gaps_shorts_and_costs_are_the_ledger(
    client: Client, mode: pb.BacktestMode, seed: int, fill_at: pb.FillAt, lot: float, every: int
) -> None:
    book = random_book(seed)
    own = Ledger(book, fill_at, lot, every).run()
    request = request_of(book, mode, fill_at=fill_at, lot_size=lot, rebalance_sessions=every)
    answer = await client.simulation.RunBacktest(request, timeout=LONG_S)
    [result] = answer.results
    assert np.array(result.equity) == pytest.approx(np.array(own.equity), abs=0.005)
    assert result.scaled_fills == 0
    for name, money in own.paid.items():
        assert getattr(result.account, name) == pytest.approx(money, abs=0.005), name
    assert own.paid["fractions"] != 0.0


def flat(split: float, price: float) -> Book:
    """101 units of one name, then the other side from the split on; prices stand still."""
    close = np.full((9, 1), 100.0)
    close[3:] = price
    ratios = np.ones((9, 1))
    ratios[3] = split
    signals = {0: [Signal(0, 1, 0.01, 0.1)]}
    signals |= {t: [Signal(0, -1, 0.01, 0.1)] for t in range(4, 8)}
    return Book(weekdays(9), close, close.copy(), np.zeros((9, 1)), ratios, signals)


@pytest.mark.parametrize("mode", [EXACT, FAST], ids=["exact", "fast"])
@pytest.mark.parametrize(("split", "price"), [(0.1, 1000.0), (1.5, 200.0 / 3.0)])
async def test_what_a_split_leaves_of_a_unit_is_paid_and_keeps_no_side_taken(
    client: Client, mode: pb.BacktestMode, split: float, price: float
) -> None:
    book = flat(split, price)
    limits = limits_pb2.Limits(weight_max=WEIGHT_MAX, allow_short=True)
    request = request_of(book, mode, limits=limits, costs=pb.TradingCosts(), cash=101_055.0)
    [result] = (await client.simulation.RunBacktest(request, timeout=LONG_S)).results
    units = (np.array(result.equity) - np.array(result.cash)) / book.close[:, 0]
    whole = int(101 * split)
    assert units[2:5] == pytest.approx([101.0, whole, whole])
    assert result.account.fractions == pytest.approx((101 * split - whole) * price, abs=1e-6)
    assert np.array(result.equity) == pytest.approx(101_055.0, abs=1e-6)
    # Flips are not allowed: flat first, short after that.
    short = -int(WEIGHT_MAX * 101_055.0 / price)
    assert units[5:] == pytest.approx([0.0, short, short, short], abs=1e-9)


@pytest.mark.parametrize("mode", [EXACT, FAST], ids=["exact", "fast"])
async def test_a_rounding_error_of_a_split_is_no_position(
    client: Client, mode: pb.BacktestMode
) -> None:
    """50 x 1.1 is 55 and not 55.00000000000001: a sale of 55 leaves nothing long behind."""
    assert 50 * 1.1 > 55.0
    book = flat(1.1, 100.0 / 1.1)
    limits = limits_pb2.Limits(weight_max=WEIGHT_MAX, allow_short=True)
    request = request_of(book, mode, limits=limits, costs=pb.TradingCosts(), cash=5e4)
    [result] = (await client.simulation.RunBacktest(request, timeout=LONG_S)).results
    held = (np.array(result.equity) - np.array(result.cash)) / book.close[:, 0]
    assert held == pytest.approx([0.0, 50.0, 50.0, 55.0, 55.0, 0.0, -55.0, -55.0, -55.0])
    assert result.account.fractions == pytest.approx(0.0, abs=1e-9)


async def test_the_night_after_a_fill_at_the_same_close_is_of_what_is_held_then(
    client: Client,
) -> None:
    """All is bought at the first close: from then on free cash, which earns interest, is 0."""
    book = flat(1.0, 100.0)
    book = Book(book.dates, book.close, book.open, book.dividend, book.split, {0: book.signals[0]})
    costs = pb.TradingCosts(credit_rate=0.36)
    told = {"limits": limits_pb2.Limits(weight_max=1.0), "costs": costs, "cash": 1e5}
    parameters = parameter_service_pb2.SizingParameters(kelly_fraction=1.0)
    request = request_of(book, EXACT, fill_at=SAME, parameters=parameters, **told)
    fast = request_of(book, FAST, fill_at=SAME, parameters=parameters, **told)
    for one in (request, fast):
        [result] = (await client.simulation.RunBacktest(one, timeout=LONG_S)).results
        assert result.account.interest == pytest.approx(0.0, abs=1e-9)
        assert result.equity == pytest.approx([1e5] * len(book.dates))


async def test_wealth_beyond_all_numbers_is_refused_by_its_fraction(client: Client) -> None:
    request = pb.SimulateGrowthRequest(
        fractions=[0.01, 100.0], years=1000.0, steps_per_year=12, paths=100
    )
    request.bootstrap.excess_returns.extend([100.0] * 30)
    refused = await refusal(client.simulation.SimulateGrowth(request, timeout=LONG_S))
    assert refused.fields == {"fractions[0]": "OUT_OF_RANGE"}


async def test_a_job_that_searches_with_opens_dividends_and_splits_has_the_numbers_of_backtests(
    client: Client,
) -> None:
    book = random_book(11, sessions=160, m=4)
    prices = request_of(book, FAST).prices
    setting = pb.BacktestSetting(
        mean_return=pb.MeanReturnStrategy(sessions=15),
        parameters=parameter_service_pb2.SizingParameters(kelly_fraction=0.4),
        limits=limits_pb2.Limits(weight_max=0.2, leverage_max=0.9, allow_short=True),
        costs=COSTS,
    )
    search = pb.TuneParametersRequest(
        prices=prices,
        setting=setting,
        ranges=[pb.TunedRange(field="parameters.kelly_fraction", low=0.05, high=1.0)],
        trials=16,
        segments=3,
        locked_share=0.2,
        seed=7,
        confirm_prices=True,
        experiment=new_id("experiment"),
    )
    started = await client.jobs.StartJob(job_service_pb2.StartJobRequest(tune_parameters=search))
    watch = job_service_pb2.WatchJobRequest(job_id=started.job.job_id)
    *_, last = [told.job async for told in client.jobs.WatchJob(watch, timeout=LONG_S)]
    assert last.state == job_service_pb2.JOB_STATE_SUCCEEDED, last.error
    asked = job_service_pb2.GetJobRequest(job_id=last.job_id)
    found = (await client.jobs.GetJob(asked)).tune_parameters
    assert len(found.trials) == found.overfitting.trials_counted == 16

    settings = []
    for trial in found.trials:
        tried = pb.BacktestSetting()
        tried.CopyFrom(setting)
        tried.parameters.kelly_fraction = trial.values[0]
        settings.append(tried)
    backtest = pb.RunBacktestRequest(
        prices=prices, settings=settings, mode=FAST, confirm_prices=True
    )
    answer = await client.simulation.RunBacktest(backtest, timeout=LONG_S)
    assert sum(result.account.dividends != 0.0 for result in answer.results) == 16
    assert sum(result.account.fractions != 0.0 for result in answer.results) > 0
    growth = np.diff(np.log([result.equity for result in answer.results]), axis=1)
    seen = growth[:, : int(0.8 * 160) - 1]
    segments = np.array([part.mean(axis=1) for part in np.array_split(seen, 3, axis=1)])
    worth = np.quantile(segments, 0.25, axis=0)
    assert [trial.objective for trial in found.trials] == pytest.approx(worth.tolist(), abs=1e-15)
    assert found.locked_from == book.dates[int(0.8 * 160)]
    locked = growth[found.chosen, int(0.8 * 160) - 1 :]
    assert found.locked_growth.mean == pytest.approx(locked.mean(), abs=1e-15)
    search.prices.open[:] = [price * 1.001 for price in prices.open]
    search.experiment = new_id("experiment")
    moved = await client.simulation.TuneParameters(search, timeout=LONG_S)
    assert moved.trials[0].objective != found.trials[0].objective, "opens are filled at"

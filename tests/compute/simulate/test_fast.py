"""The fast mode against the exact one, on the same books."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from compute.limits.policy import GroupLimit, InstrumentLimit, Limits, SaleProceeds
from compute.parameters import EffectiveParameters, Shrinkage
from compute.shapes import KernelRegistry
from compute.signals import Signals
from compute.simulate.account import TradingCosts
from compute.simulate.backtest import run
from compute.simulate.fast_settings import run_fast
from compute.simulate.history import PriceHistory
from compute.simulate.setting import FillAt, Setting
from compute.simulate.signal_table import UnsupportedError, signal_table
from compute.simulate.strategies import GivenSignals, MeanReturn, SessionSignals
from compute.waterfall.layout import Source

SESSIONS, NAMES = 45, tuple(f"I{i}" for i in range(6))
RNG = np.random.default_rng(20261129)


def history(*, actions: bool = False, seed: int = 1) -> PriceHistory:
    """Random walks with opens apart from closes; with `actions` gaps, dividends and splits."""
    rng = np.random.default_rng(seed)
    moved = 1.0 + 0.02 * rng.standard_normal((SESSIONS, len(NAMES))) + 0.001
    close = np.array([20.0, 50.0, 80.0, 100.0, 9.0, 250.0]) * np.cumprod(moved, axis=0)
    opened = close / (1.0 + 0.004 * rng.standard_normal(close.shape))
    given: dict[str, Any] = {}
    if actions:
        dividend, split = np.zeros_like(close), np.ones_like(close)
        dividend[20, 1] = 0.5
        split[25, 2] = 2.0
        close[25:, 2], opened[25:, 2] = close[25:, 2] / 2.0, opened[25:, 2] / 2.0
        close[:8, 4] = np.nan  # begins later
        close[30, 0] = opened[30, 0] = np.nan  # one session missing
        opened[:8, 4] = np.nan
        given = {"dividend": dividend, "split": split}
    days = tuple((date(2024, 1, 1) + timedelta(days=i)).isoformat() for i in range(SESSIONS))
    volume = rng.uniform(2e3, 2e5, close.shape)
    sector = tuple("AB"[i % 2] for i in range(len(NAMES)))
    return PriceHistory(days, NAMES, close, opened, volume=volume, sector=sector, **given)


def maybe(rng: np.random.Generator, low: float, high: float) -> float | None:
    return float(rng.uniform(low, high)) if rng.random() < 0.4 else None


def random_setting(rng: np.random.Generator) -> Setting:
    """Any limits and parameters that the fast mode knows."""
    group = GroupLimit("A", sector="A", gross_weight_max=float(rng.uniform(0.1, 0.6)))
    net = GroupLimit("first", instrument_ids=frozenset(NAMES[:3]), net_weight_max=0.4)
    groups = tuple(one for one in (group, net) if rng.random() < 0.3)
    return Setting(
        strategy=MeanReturn(
            sessions=int(rng.integers(5, 12)),
            is_reversal=bool(rng.random() < 0.3),
            is_long_only=bool(rng.random() < 0.3),
        ),
        parameters=EffectiveParameters(
            kelly_fraction=float(rng.uniform(0.05, 1.0)),
            confidence_shrinkage=Shrinkage(int(rng.integers(1, 3))),
            cost_rate=float(rng.uniform(0.0, 0.001)),
            risk_free_rate=1e-5,
            volatility_target=maybe(rng, 0.05, 0.3),
            risk_budget=maybe(rng, 0.05, 0.4),
        ),
        limits=Limits(
            weight_max=float(rng.uniform(0.03, 0.4)),
            notional_max=maybe(rng, 2e4, 3e5),
            instruments={"I1": InstrumentLimit(weight_max=0.05, quantity_max=900.0)}
            if rng.random() < 0.3
            else {},
            groups=groups,
            leverage_max=float(rng.uniform(0.5, 1.5)),
            gross_notional_max=maybe(rng, 3e5, 1.2e6),
            net_weight_max=maybe(rng, 0.1, 0.9),
            net_weight_min=maybe(rng, -0.5, -0.05),
            cash_buffer=maybe(rng, 0.0, 0.2),
            fee_rate=maybe(rng, 0.0, 0.002),
            short_margin_rate=maybe(rng, 0.2, 1.5),
            sale_proceeds=SaleProceeds(int(rng.integers(1, 3))),
            adv_trade_max=maybe(rng, 0.02, 0.5),
            adv_position_max=maybe(rng, 0.1, 2.0),
            trade_notional_max=maybe(rng, 2e4, 2e5),
            trade_notional_min=maybe(rng, 1e2, 1e4),
            turnover_max=maybe(rng, 0.01, 0.4),
            restricted=frozenset(["I5"]) if rng.random() < 0.2 else frozenset(),
            allow_short=bool(rng.random() < 0.6),
            allow_flip=bool(rng.random() < 0.5),
        ),
        cash=float(rng.uniform(2e5, 2e6)),
        costs=TradingCosts(
            commission_fixed=float(rng.choice([0.0, 1.0])),
            commission_rate=float(rng.uniform(0.0, 0.001)),
            slippage_rate=float(rng.uniform(0.0, 0.001)),
            credit_rate=0.02,
            debit_rate=0.05,
            borrow_rate=0.01,
        ),
        fill_at=FillAt(int(rng.integers(1, 4))),
        lot_size=float(rng.choice([1.0, 10.0])),
        rebalance_sessions=int(rng.choice([1, 1, 5])),
    )


@pytest.mark.parametrize("actions", [False, True])
def test_random_settings_agree_with_the_exact_mode(kernels: KernelRegistry, actions: bool) -> None:
    """Nearly all have every position within a lot, and all the same equity."""
    past = history(actions=actions)
    rng = np.random.default_rng(7 + actions)
    settings = [random_setting(rng) for _ in range(16)]
    fast = run_fast(past, settings, units=True)
    traded, within = 0, 0
    for setting, quick in zip(settings, fast, strict=True):
        exact = run(past, setting, kernels)
        assert exact.units is not None
        assert quick.units is not None
        lots = np.abs(quick.units - exact.units) / setting.lot_size
        within += bool(lots.max() <= 1.0 + 1e-6)
        assert quick.equity == pytest.approx(exact.equity, rel=3e-3)
        assert quick.decisions == exact.decisions
        traded += exact.trades
    assert traded > 300
    assert within >= 0.9 * len(settings)


def test_plain_settings_agree_within_a_lot(kernels: KernelRegistry) -> None:
    """Weights, gross exposure and cash: what no rounding can break."""
    past, rng = history(), np.random.default_rng(11)
    settings = [
        Setting(
            MeanReturn(sessions=int(rng.integers(5, 12))),
            EffectiveParameters(kelly_fraction=float(rng.uniform(0.05, 1.0))),
            Limits(
                weight_max=float(rng.uniform(0.03, 0.3)),
                leverage_max=float(rng.uniform(0.5, 1.0)),
                allow_short=bool(rng.random() < 0.5),
            ),
            costs=TradingCosts(commission_rate=0.0005, slippage_rate=0.0002),
            fill_at=FillAt(int(rng.integers(1, 4))),
        )
        for _ in range(20)
    ]
    for setting, quick in zip(settings, run_fast(past, settings, units=True), strict=True):
        exact = run(past, setting, kernels)
        assert exact.units is not None
        assert quick.units is not None
        assert np.abs(quick.units - exact.units).max() <= 1.0 + 1e-6
        assert quick.equity == pytest.approx(exact.equity, rel=1e-4)
        assert quick.account.commission == pytest.approx(exact.account.commission, rel=1e-2)


@pytest.mark.parametrize("volume", [None, 0.0], ids=["not given", "nothing traded"])
def test_a_largest_trade_asks_for_no_volume(kernels: KernelRegistry, volume: float | None) -> None:
    """It is in the stage of the limits by volume, which don't hold where they are not set."""
    given = history()
    none_traded = None if volume is None else np.full_like(given.close, volume)
    past = replace(given, volume=none_traded)
    limits = Limits(weight_max=0.2, leverage_max=1.0, trade_notional_max=5e4)
    parameters = EffectiveParameters(kelly_fraction=0.5)
    setting = Setting(MeanReturn(sessions=6), parameters, limits)
    plain = replace(setting, limits=replace(limits, trade_notional_max=None))
    both = [setting, plain]
    for one, quick in zip(both, run_fast(past, both, units=True), strict=True):
        exact = run(past, one, kernels)
        assert exact.units is not None
        assert quick.units is not None
        assert exact.trades > 0
        assert np.abs(quick.units - exact.units).max() <= 1.0 + 1e-6


def test_sales_keep_the_turnover_to_the_lot(kernels: KernelRegistry) -> None:
    """Rounded towards zero a position is sold by more than the limit leaves; the guard objects."""
    past = history()
    one = replace(
        past,
        instrument_ids=past.instrument_ids[:1],
        close=past.close[:, :1],
        open=None,
        volume=None,
        sector=(),
    )
    limits = Limits(weight_max=0.8, leverage_max=1.0, turnover_max=0.1, allow_short=True)
    setting = Setting(
        MeanReturn(sessions=6),
        EffectiveParameters(kelly_fraction=0.3),
        limits,
        cash=1e4,
        fill_at=FillAt.SAME_CLOSE,
    )
    (quick,) = run_fast(one, [setting], units=True)
    exact = run(one, setting, kernels)
    assert exact.units is not None
    assert quick.units is not None
    assert exact.trades > 10
    assert np.abs(quick.units - exact.units).max() <= 1.0 + 1e-6
    # What a session holds was decided and filled at the close before.
    worth = one.close[:-1, 0] / quick.equity[:-1]
    moved = np.abs(np.diff(quick.units[:, 0])) * worth
    assert moved.max() <= 0.1 + 1e-9


def test_settings_don_t_see_each_other() -> None:
    """One setting alone is what it is among others, whatever the others use."""
    past, rng = history(), np.random.default_rng(3)
    settings = [random_setting(rng) for _ in range(5)]
    together = run_fast(past, settings, units=True)
    for setting, one in zip(settings, together, strict=True):
        (alone,) = run_fast(past, [setting], units=True)
        assert alone.equity == pytest.approx(one.equity, rel=1e-9)
        assert alone.account.cash == pytest.approx(one.account.cash, rel=1e-6)


def test_nothing_knows_the_future() -> None:
    """With other prices from a session on, everything before is the same to the last bit."""
    past, rng = history(), np.random.default_rng(4)
    settings = [random_setting(rng) for _ in range(4)]
    changed = past.close.copy()
    changed[30:] *= 1.7
    assert past.open is not None
    opened = past.open.copy()
    opened[30:] *= 0.4
    other = PriceHistory(past.dates, NAMES, changed, opened, volume=past.volume, sector=past.sector)
    for one, two in zip(run_fast(past, settings), run_fast(other, settings), strict=True):
        assert (one.equity[:30] == two.equity[:30]).all()


def test_ruin_ends_it_as_in_the_exact_mode(kernels: KernelRegistry) -> None:
    close = np.array([[100.0], [101.0], [102.0], [250.0], [260.0], [255.0]])
    days = tuple(f"2024-01-0{i}" for i in range(1, 7))
    past = PriceHistory(days, ("X",), close)
    short = GivenSignals({days[1]: one_signal(-1.0)})
    setting = Setting(
        short,
        EffectiveParameters(kelly_fraction=1.0, confidence_shrinkage=Shrinkage.NONE),
        Limits(allow_short=True, short_margin_rate=0.2),
        cash=1e5,
    )
    exact, (quick,) = run(past, setting, kernels), run_fast(past, [setting], units=True)
    assert exact.ruined == quick.ruined == 3
    assert quick.equity == pytest.approx(exact.equity)
    assert (quick.equity[3:] == 0.0).all()


def one_signal(side: float, **given: Any) -> SessionSignals:
    columns: dict[str, Any] = {"win_probability": [0.6], "payoff": [0.05], "loss_fraction": [0.04]}
    columns = {name: np.array(value) for name, value in {**columns, **given}.items()}
    signals = Signals(np.array([side]), np.array([int(Source.WIN_LOSS)]), **columns)
    return SessionSignals(np.array([0]), signals)


def test_bets_and_moments_are_sized_alike(kernels: KernelRegistry) -> None:
    past = history()
    rng = np.random.default_rng(9)
    by_date = {}
    for day in past.dates[3::4]:
        n = len(NAMES)
        bets = rng.random(n) < 0.5
        by_date[day] = SessionSignals(
            np.arange(n),
            Signals(
                side=rng.choice([-1.0, 1.0], n),
                source=np.where(bets, int(Source.WIN_LOSS), int(Source.RETURN_VOLATILITY)),
                win_probability=rng.uniform(0.45, 0.6, n),
                payoff=rng.uniform(0.02, 0.1, n),
                loss_fraction=rng.uniform(0.02, 0.1, n),
                expected_return=rng.uniform(0.0, 0.003, n),
                volatility=rng.uniform(0.01, 0.03, n),
                win_probability_error=rng.uniform(0.0, 0.02, n),
                expected_return_error=rng.uniform(0.0, 0.001, n),
                confidence=rng.uniform(0.5, 1.0, n),
            ),
        )
    setting = Setting(
        GivenSignals(by_date),
        EffectiveParameters(kelly_fraction=0.2),
        Limits(weight_max=0.3, leverage_max=1.0, allow_short=True),
    )
    exact, (quick,) = run(past, setting, kernels), run_fast(past, [setting], units=True)
    assert exact.units is not None
    assert quick.units is not None
    assert np.abs(exact.units - quick.units).max() <= 1.0
    assert exact.trades > 20


def test_the_table_of_a_rule_is_what_the_rule_says() -> None:
    past, rule = history(actions=True), MeanReturn(sessions=7, is_reversal=True)
    table = signal_table(rule, past)
    for t in range(SESSIONS):
        told = rule(past, t)
        places = np.zeros(0, dtype=int) if told is None else told.instrument
        assert list(np.flatnonzero(table.active[t])) == list(places)
        assert table.said[t] == (told is not None)
        if told is not None:
            signals = told.signals
            assert table.side[t, places] == pytest.approx(signals.side)
            assert table.expected_return[t, places] == pytest.approx(signals.expected_return)
            assert table.edge_error[t, places] == pytest.approx(signals.expected_return_error)


def test_signals_from_scenarios_are_refused() -> None:
    told = one_signal(1.0)
    scenario = Signals(told.signals.side, np.array([int(Source.SCENARIOS)]))
    past = history()
    strategy = GivenSignals({past.dates[1]: SessionSignals(told.instrument, scenario)})
    with pytest.raises(UnsupportedError):
        signal_table(strategy, past)

"""A strategy's signals of all sessions in dense columns: what the fast mode of backtests reads."""

from dataclasses import dataclass, fields

import numpy as np

from compute.market import Floats, Integers
from compute.ranges import RANGES
from compute.signals import Signals, check
from compute.simulate.history import PriceHistory
from compute.simulate.strategies import MeanReturn, Strategy
from compute.waterfall.layout import Source


@dataclass(frozen=True)
class SignalTable:
    """Signals of T sessions in m instruments, (T, m) each; neutral where `active` is 0.

    said: 1 where the strategy says anything in a session, (T,). is_bet: 1 where the edge is a bet
    (win probability, payoff, loss fraction), 0 where it is mean and volatility.
    edge_error: of the win probability or of the mean.
    """

    said: Floats
    active: Floats
    side: Floats
    is_bet: Floats
    win_probability: Floats
    payoff: Floats
    loss_fraction: Floats
    expected_return: Floats
    volatility: Floats
    edge_error: Floats
    confidence: Floats


_NEUTRAL = {
    "side": 1.0,
    "win_probability": 0.5,
    "payoff": 1.0,
    "loss_fraction": 1.0,
    "volatility": 1.0,
    "confidence": 1.0,
}
COLUMNS = tuple(item.name for item in fields(SignalTable) if item.name != "said")


class UnsupportedError(ValueError):
    """Something that the fast mode doesn't know; says what."""


def signal_table(strategy: Strategy, history: PriceHistory) -> SignalTable:
    """The table of a strategy. Raises `UnsupportedError` for edges from scenarios or histories."""
    if isinstance(strategy, MeanReturn):
        return _mean_return(strategy, history)
    table = _neutral(history)
    for session in range(len(history.dates)):
        told = strategy(history, session)
        if told is not None:
            _write(table, session, told.instrument, told.signals, history)
    return SignalTable(**table)


def _neutral(history: PriceHistory) -> dict[str, Floats]:
    shape = history.close.shape
    table = {name: np.full(shape, _NEUTRAL.get(name, 0.0)) for name in COLUMNS}
    return {**table, "said": np.zeros(shape[0])}


def _write(
    table: dict[str, Floats], t: int, places: Integers, signals: Signals, history: PriceHistory
) -> None:
    """One session's signals, those that a sizing would refuse left out."""
    if not np.isin(signals.source, (Source.WIN_LOSS, Source.RETURN_VOLATILITY)).all():
        raise UnsupportedError("edges from scenarios and histories of outcomes")
    if signals.stop_price is not None and (signals.stop_price > 0.0).any():
        raise UnsupportedError("stop prices")
    for name in ("cost_rate", "holding_periods"):
        if getattr(signals, name) is not None:
            raise UnsupportedError(f"{name} of single signals")
    good = ~np.isnan(history.last_close[t][places])
    good[[error.line for error in check(signals, history.last_close[t][places])]] = False
    kept, bet = places[good], (signals.source == Source.WIN_LOSS)[good]
    table["said"][t] = 1.0
    table["active"][t, kept] = 1.0
    table["side"][t, kept] = signals.side[good]
    table["is_bet"][t, kept] = bet
    used = {"win_probability": bet, "payoff": bet, "loss_fraction": bet}
    used |= {"expected_return": ~bet, "volatility": ~bet}
    for name, mine in used.items():
        column = getattr(signals, name)
        if column is not None:
            table[name][t, kept[mine]] = column[good][mine]
    for column, mine in (
        (signals.win_probability_error, bet),
        (signals.expected_return_error, ~bet),
    ):
        if column is not None:
            table["edge_error"][t, kept[mine]] = column[good][mine]
    if signals.confidence is not None:
        sure = signals.confidence[good]
        table["confidence"][t, kept] = np.where(sure > 0.0, sure, 1.0)


def _mean_return(rule: MeanReturn, history: PriceHistory) -> SignalTable:
    """The rule over all sessions at once: moments of moving windows by running sums."""
    table, n = _neutral(history), rule.sessions
    returns = history.total_return
    sessions = len(returns)
    if sessions <= n:
        return SignalTable(**table)
    windows = np.lib.stride_tricks.sliding_window_view(returns, n, axis=0)[1:]
    mean = windows.mean(axis=-1) * (-1.0 if rule.is_reversal else 1.0)
    error = windows.std(axis=-1, ddof=1) / np.sqrt(n)
    volatility = history.daily_volatility[n:]
    started = ~np.isnan(history.last_close[: sessions - n])
    usable = started & ~np.isnan(history.close[n:]) & (volatility > 0.0) & (mean != 0.0)
    if rule.is_long_only:
        usable &= mean > 0.0
    good = usable.copy()
    for name, column in (
        ("expected_return", np.abs(mean)),
        ("volatility", volatility),
        ("expected_return_error", error),
    ):
        good &= ~RANGES[f"SignalBatch.{name}"].wrong(np.where(usable, column, 0.5))
    table["said"][n:] = usable.any(axis=1)
    table["active"][n:] = good
    table["side"][n:] = np.where(good & (mean < 0.0), -1.0, 1.0)
    table["expected_return"][n:] = np.where(good, np.abs(mean), 0.0)
    table["volatility"][n:] = np.where(good, volatility, 1.0)
    table["edge_error"][n:] = np.where(good, error, 0.0)
    return SignalTable(**table)

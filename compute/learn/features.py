"""Bets out of closes and what was known before each: the same function for the past and for today.

Every feature of a bar is of the closes up to that bar. A feature is NaN where there are too few.
"""

import numpy as np

from compute.learn.labels import triple_barrier
from compute.learn.rows import Rows
from compute.market import Floats, Integers

FEATURES = ("momentum_21", "momentum_126", "reversal_5", "volatility_ratio", "drawdown_252")
"""Change of the log close over 21 and 126 bars in its own deviations; the same over 5; deviation of
21 returns over that of 252, in logs; log close less its highest of 252."""
SHORT, LONG = 21, 252


def close_features(closes: Floats) -> Floats:
    """(T, 5) of closes (T,), in the order of `FEATURES`."""
    logs = np.log(closes)
    returns = np.diff(logs, prepend=np.nan)
    short, long = _rolling(returns, SHORT, np.std), _rolling(returns, LONG, np.std)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = [
            _change(logs, 21) / (long * np.sqrt(21.0)),
            _change(logs, 126) / (long * np.sqrt(126.0)),
            _change(logs, 5) / (short * np.sqrt(5.0)),
            np.log(short / long),
            logs - _rolling(logs, LONG, np.max),
        ]
    features = np.stack(columns, axis=1)
    features[~np.isfinite(features)] = np.nan
    return features


def barrier_widths(closes: Floats, horizon: int, width: float) -> Floats:
    """`width` deviations of `horizon` bars' returns, by the last 21, (T,); NaN for too few."""
    returns = np.diff(np.log(closes), prepend=np.nan)
    widths: Floats = width * _rolling(returns, SHORT, np.std) * np.sqrt(horizon)
    return widths


def bets_of_closes(
    closes: Floats,
    times: Integers,
    horizon: int,
    width: float,
    cost: float,
    group: int,
    first: int = 0,
) -> Rows:
    """A long bet at each close (T,) from `first` on: which comes first, +w, -w or `horizon` bars.

    times: nanoseconds since 1970. It pays w - cost and loses w + cost; one that time ends is won
    where its return is above the cost, and counts as if it had paid or lost as much. Bars without
    whole features, or without an outcome yet, are left out, and so are those without a close (NaN):
    nobody could trade there. Features take the close before in its place.
    """
    filled = carried_forward(closes[:, None])[:, 0]
    features, widths = close_features(filled), barrier_widths(filled, horizon, width)
    labels = triple_barrier(closes, widths, widths, horizon, cost)
    known = np.isfinite(features).all(axis=1) & (labels.end >= 0) & (widths > cost)
    places = np.flatnonzero(known & (np.arange(len(closes)) >= first))
    return Rows(
        names=FEATURES,
        features=features[places],
        start=times[places],
        end=times[labels.end[places]],
        won=(labels.outcome[places] > 0.0).astype(np.float64),
        payoff=widths[places] - cost,
        loss=np.minimum(widths[places] + cost, 1.0),
        group=np.full(len(places), group),
    )


def carried_forward(closes: Floats) -> Floats:
    """Closes (T, n), the last one before where there is none."""
    bars = np.arange(len(closes))[:, None]
    seen = np.maximum.accumulate(np.where(np.isnan(closes), -1, bars), axis=0)
    filled = np.take_along_axis(closes, np.maximum(seen, 0), axis=0)
    return np.where(seen >= 0, filled, np.nan)


def bets_of_universe(
    closes: Floats, times: Integers, horizon: int, width: float, cost: float
) -> Rows:
    """The bets of all instruments of closes (T, n), by time; NaN where there is none.

    Only those that were taken `horizon` bars before the last, so that each has its outcome
    whichever way it went.
    """
    found = [
        bets_of_closes(column, times, horizon, width, cost, group)
        for group, column in enumerate(closes.T)
    ]
    every = Rows(
        names=FEATURES,
        **{
            name: np.concatenate([getattr(rows, name) for rows in found])
            for name in ("features", "start", "end", "won", "payoff", "loss", "group")
        },
    )
    last = times[-1 - horizon] if len(times) > horizon else np.iinfo(np.int64).min
    return every.take(np.flatnonzero(every.start <= last)).by_time()


def _change(values: Floats, bars: int) -> Floats:
    out = np.full(len(values), np.nan)
    out[bars:] = values[bars:] - values[:-bars]
    return out


def _rolling(values: Floats, bars: int, of: "np.ufunc | object") -> Floats:
    """`of` the last `bars` values, (T,); NaN before there are so many."""
    out = np.full(len(values), np.nan)
    if len(values) >= bars:
        view = np.lib.stride_tricks.sliding_window_view(values, bars)
        out[bars - 1 :] = of(view, axis=1)  # type: ignore[operator]
    return out

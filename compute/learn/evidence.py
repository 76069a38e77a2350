"""Whether forecasts beat the bars, with evidence that overlapping bets can't make up.

Bars: climatology, the win rate known before, and the probability that the odds imply. A model that
doesn't beat both makes no money that a constant would not.
"""

from dataclasses import dataclass

import numpy as np

from compute.learn.conformal import Coverage, coverage
from compute.learn.rows import Rows
from compute.learn.scores import BrierParts, Decomposition, brier_parts, decomposed, log_losses
from compute.learn.splits import windows
from compute.market import Floats, Integers
from compute.simulate.bootstrap import Interval, mean_interval

E_VALUE_MIN = 20.0
"""Wealth of a bet against a claim that is as surprising as one chance in 20."""


@dataclass(frozen=True)
class Advantage:
    """Log loss of a bar less that of the model, which is the growth a bet gained over it.

    growth: the mean of each start time, in the order of time, with its interval by the stationary
    bootstrap. e_value: see `e_value`.
    """

    bar_log_loss: float
    growth: Interval
    e_value: float

    @property
    def is_evident(self) -> bool:
        """Better, and not by luck: the e-value is 20 or more, or the interval above 0."""
        low = self.growth.low
        return self.growth.mean > 0.0 and (
            self.e_value >= E_VALUE_MIN or (low is not None and low > 0.0)
        )


@dataclass(frozen=True)
class Evidence:
    """What forecasts of bets were worth. e_value_gone: of the bar against the model; at 20 or more
    its edge is gone. coverage: of the intervals that its standard errors make."""

    rows: int
    log_loss: float
    over_climatology: Advantage
    over_implied: Advantage
    parts: Decomposition
    brier: BrierParts
    e_value_gone: float
    coverage: Coverage

    @property
    def beats_bars(self) -> bool:
        """Whether both bars are beaten with evidence."""
        return self.over_climatology.is_evident and self.over_implied.is_evident


def evidence(rows: Rows, probability: Floats, error: Floats, climatology: Floats) -> Evidence:
    """Judges forecasts (n,), with standard errors (n,), of rows in the order of time, made before
    each; probabilities in (0, 1)."""
    window = windows(rows)
    ratio = {
        name: np.exp(log_losses(bar, rows.won) - log_losses(probability, rows.won))
        for name, bar in (("climatology", climatology), ("implied", rows.implied))
    }
    over = [
        Advantage(
            float(log_losses(bar, rows.won).mean()),
            mean_interval(by_start(rows.start, np.log(ratio[name]))),
            e_value(window, ratio[name]),
        )
        for name, bar in (("climatology", climatology), ("implied", rows.implied))
    ]
    return Evidence(
        rows=len(rows),
        log_loss=float(log_losses(probability, rows.won).mean()),
        over_climatology=over[0],
        over_implied=over[1],
        parts=decomposed(probability, rows.won),
        brier=brier_parts(probability, rows.won),
        e_value_gone=max(e_value(window, 1.0 / item) for item in ratio.values()),
        coverage=coverage(rows, probability, error),
    )


def e_value(window: Integers, ratio: Floats) -> float:
    """Wealth of betting with likelihood ratios (n,): product over windows of the mean in each.

    Where the bar is right each ratio has mean 1 given what was known before, so means of bets that
    run together have so too, whatever their dependence, and wealth of bets after each other is
    multiplied. By Ville's inequality it reaches 20 with one chance in 20, however often one looks.
    """
    used = window >= 0
    if not used.any():
        return 1.0
    counts = np.bincount(window[used])
    means = np.bincount(window[used], weights=ratio[used])[counts > 0] / counts[counts > 0]
    with np.errstate(divide="ignore"):
        return float(np.exp(np.clip(np.log(means).sum(), -700.0, 700.0)))


def by_start(start: Integers, values: Floats) -> Floats:
    """The mean of `values` (n,) at each start time, in the order of time."""
    _, places = np.unique(start, return_inverse=True)
    means: Floats = np.bincount(places, weights=values) / np.bincount(places)
    return means

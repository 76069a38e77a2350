"""Were the edges true: forecasts held against what came.

Looking as often as one likes is allowed: an e-value is the wealth of a bet against a claim, and
whatever the claim, wealth above 20 is as surprising as one chance in 20 (Ville's inequality).
Bets of one decision come out together and may move together: wealth is split evenly over them,
which needs no independence; from decision to decision it is staked anew.
"""

from dataclasses import dataclass
from math import exp, sqrt

import numpy as np

from compute.market import Floats, Integers
from compute.simulate.bootstrap import Interval, mean_interval

PROBABILITY_MARGIN = 1e-9
"""Claims of certainty are moved in by this much, so that a surprise costs much and not all."""

E_VALUE_GONE = 20.0
"""An edge is doubted where betting against it has made so much of 1: 5 % whenever one looks."""
E_LOG_MAX = 700.0
"""E-values are kept within exp of plus and minus this."""
BINS = 10


@dataclass(frozen=True)
class GrowthForecast:
    """Expected log growth a line against realised.

    difference: realised less expected. slope: of realised on expected by least squares, 1 where
    forecasts are right, a half where they promise twice too much; None for fewer than three lines
    or no spread; slope_error its standard error.
    """

    expected: float
    realised: float
    difference: Interval
    slope: float | None
    slope_error: float | None


@dataclass(frozen=True)
class BetForecast:
    """Claimed win probabilities against wins.

    brier: mean (p - x)^2; brier_base: the same of the mean win rate. log_loss: mean -log of the
    probability of what came. e_value_gone: wealth of the bet that the edge is gone, claims p
    against the break-even probability; at 20 or more the edge is doubtful. e_value_edge: wealth of
    betting the claims against the break-even probability; at 20 or more there is an edge. bins:
    claimed mean, win rate and count in each tenth of the claims that is not empty.
    """

    bets: int
    brier: float
    brier_base: float
    log_loss: float
    e_value_gone: float
    e_value_edge: float
    bins: list[tuple[float, float, int]]


def growth_forecast(expected: Floats, realised: Floats) -> GrowthForecast | None:
    """Compares expected and realised log growth, (n,) each; None for no lines."""
    n = len(expected)
    if n == 0:
        return None
    spread = expected - expected.mean()
    square = float(spread @ spread)
    slope = error = None
    if n > 2 and square > 0.0:
        slope = float(spread @ realised) / square
        rest = realised - realised.mean() - slope * spread
        error = sqrt(float(rest @ rest) / (n - 2) / square)
    difference = mean_interval(realised - expected)
    return GrowthForecast(float(expected.mean()), float(realised.mean()), difference, slope, error)


def bet_forecast(
    claimed: Floats, break_even: Floats, won: Floats, decision: Integers
) -> BetForecast | None:
    """Compares claimed win probabilities with wins in {0, 1}, (n,) each; None for no bets.

    break_even: the probability at which the bet is worth nothing, a / (a + b). decision: number of
    the decision that made the bet.
    """
    n = len(claimed)
    if n == 0:
        return None
    p = np.clip(claimed, PROBABILITY_MARGIN, 1.0 - PROBABILITY_MARGIN)
    q = np.clip(break_even, PROBABILITY_MARGIN, 1.0 - PROBABILITY_MARGIN)
    base = float(won.mean())
    return BetForecast(
        bets=n,
        brier=float(np.mean((p - won) ** 2)),
        brier_base=float(np.mean((base - won) ** 2)),
        log_loss=float(-np.mean(np.where(won > 0.0, np.log(p), np.log1p(-p)))),
        e_value_gone=edge_gone(p, q, won, decision),
        e_value_edge=e_value(p, q, won, decision),
        bins=_reliability(p, won),
    )


def edge_gone(claimed: Floats, break_even: Floats, won: Floats, decision: Integers) -> float:
    """Wealth of betting that wins come at the break-even rate, not at the claimed one.

    A bet gives 1 + lam (p0 - x) with lam = (p0 - p1) / (p0 (1 - p0)): the likelihood ratio of p1
    against p0. Only claims above break-even are bets; the others say nothing.
    """
    held = claimed > break_even
    return e_value(break_even[held], claimed[held], won[held], decision[held])


def e_value(alternative: Floats, null: Floats, won: Floats, decision: Integers) -> float:
    """Wealth of betting p1 against p0: prod over decisions of the mean of its bets' ratios.

    The ratio of a bet is p1^x (1 - p1)^(1 - x) / (p0^x (1 - p0)^(1 - x)). 1 for no bets.
    """
    ratio = np.where(won > 0.0, alternative / null, (1.0 - alternative) / (1.0 - null))
    _, place = np.unique(decision, return_inverse=True)
    means = np.bincount(place, ratio) / np.bincount(place)
    return from_log(float(np.log(means).sum()))


def from_log(log_e_value: float) -> float:
    """The e-value of a logarithm, finite and above 0."""
    return exp(max(-E_LOG_MAX, min(E_LOG_MAX, log_e_value)))


def _reliability(claimed: Floats, won: Floats) -> list[tuple[float, float, int]]:
    tenth = np.minimum((claimed * BINS).astype(int), BINS - 1)
    return [
        (float(claimed[inside].mean()), float(won[inside].mean()), int(inside.sum()))
        for place in range(BINS)
        if (inside := tenth == place).any()
    ]

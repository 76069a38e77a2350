"""Proper scores, in money: log loss is growth.

With the Kelly bet f = p'/a - (1 - p')/b of a believed p', at any odds and neither floored nor
capped, 1 + b f = p' (a + b) / a and 1 - a f = (1 - p')(a + b) / b. So the growth lost by believing
p' where p is true is

    g(f*(p)) - g(f*(p')) = p ln(p / p') + (1 - p) ln((1 - p) / (1 - p')) = KL(p || p')

whatever the odds, and a model's mean log loss less another's is the growth a bet that it loses.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import xlogy

from compute.market import Floats


def log_losses(probability: Floats, won: Floats) -> Floats:
    """-ln of the probability of what came, in nats, (n,); infinite for a certainty that failed."""
    with np.errstate(divide="ignore"):
        losses: Floats = -(xlogy(won, probability) + xlogy(1.0 - won, 1.0 - probability))
    return losses


@dataclass(frozen=True)
class Decomposition:
    """score = miscalibration - discrimination + uncertainty (Dimitriadis, Gneiting, Jordan 2021).

    miscalibration: what the best rising map of the forecasts would gain, >= 0; of log loss that is
    growth lost a bet. discrimination: what that map gains over the win rate alone, >= 0.
    """

    score: float
    miscalibration: float
    discrimination: float
    uncertainty: float


def decomposed(probability: Floats, won: Floats, *, brier: bool = False) -> Decomposition:
    """The mean log loss, or the Brier score, of (n,) forecasts and outcomes in its parts."""
    loss = _brier if brier else log_losses
    score = float(loss(probability, won).mean())
    best = float(loss(rising(probability, won), won).mean())
    base = float(loss(np.full(len(won), won.mean()), won).mean())
    return Decomposition(score, score - best, base - best, base)


GROUPS = 10
"""Forecasts of more values than these are grouped by rank."""


@dataclass(frozen=True)
class BrierParts:
    """score = reliability - resolution + uncertainty + within (Murphy 1973).

    With groups k of n_k forecasts, their mean p_k and win rate o_k, and the win rate o of all n:
    reliability sum n_k (p_k - o_k)^2 / n, resolution sum n_k (o_k - o)^2 / n and uncertainty
    o (1 - o). within: what forecasts of one group differ by (Stephenson and others 2008); 0 where
    each group is one value.
    """

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float


def brier_parts(probability: Floats, won: Floats) -> BrierParts:
    """The Brier score of (n,) forecasts and outcomes in its parts.

    A group is a value, or where there are more than `GROUPS`, a tenth by rank; equal forecasts are
    never parted.
    """
    values, places = np.unique(probability, return_inverse=True)
    if len(values) > GROUPS:
        counts = np.bincount(places)
        middle = np.cumsum(counts) - 0.5 * counts
        places = (GROUPS * middle / len(won)).astype(np.int64)[places]
        _, places = np.unique(places, return_inverse=True)
    n = np.bincount(places)
    forecast, rate = (np.bincount(places, weights=x) / n for x in (probability, won))
    base = float(won.mean())
    score = float(_brier(probability, won).mean())
    reliability = float(n @ (forecast - rate) ** 2 / len(won))
    resolution = float(n @ (rate - base) ** 2 / len(won))
    uncertainty = base * (1.0 - base)
    within = score - (reliability - resolution + uncertainty)
    return BrierParts(score, reliability, resolution, uncertainty, within)


def rising(score: Floats, won: Floats) -> Floats:
    """The isotonic fit of `won` on `score`, (n,): equal scores get one value."""
    _, places, counts = np.unique(score, return_inverse=True, return_counts=True)
    wins = np.bincount(places, weights=won)
    fitted: Floats = isotonic_regression(wins / counts, weights=counts).x[places]
    return np.clip(fitted, 0.0, 1.0)


def _brier(probability: Floats, won: Floats) -> Floats:
    squares: Floats = (probability - won) ** 2
    return squares

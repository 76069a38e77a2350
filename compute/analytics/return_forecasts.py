"""Were forecasts of returns true: proper scores of whole distributions against what came.

A score is proper where nobody gains by saying anything but what they believe (Gneiting and Raftery
2007). With F the forecast's distribution function and y what came,

    CRPS = integral (F(x) - 1[y <= x])^2 dx = E|X - y| - E|X - X'| / 2

in units of return, smaller better, the absolute error of a forecast that says one number. The
interval score of a central interval [l, u] of probability 1 - a is u - l + 2/a (l - y)+ +
2/a (y - u)+; the pinball loss of a quantile q at t is (t - 1[y < q]) (y - q). The probability
integral transform (PIT) F(y) is uniform where forecasts are right.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import pi, sqrt

import numpy as np
from scipy.special import ndtr, ndtri

from compute.market import Floats, Integers
from compute.simulate.bootstrap import Interval, mean_interval

INTERVAL = 0.9
"""Probability of the central interval that is scored."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

BINS = 10


@dataclass(frozen=True)
class Scores:
    """Scores line by line, (n,) each.

    crps_fair: as if the members of an ensemble were drawn from what they stand for, so that few of
    them are no fault (Ferro 2014); of a normal forecast its CRPS. crps_no_edge: of the same
    forecast moved to a mean of 0. log_score: -log density; NaN of an ensemble, which has none.
    covered: whether the interval has y. pinball, below: (len(QUANTILES), n), the loss of each
    quantile and whether y is under it.
    """

    crps: Floats
    crps_fair: Floats
    crps_no_edge: Floats
    log_score: Floats
    pit: Floats
    interval_score: Floats
    covered: Floats
    pinball: Floats
    below: Floats


@dataclass(frozen=True)
class ReturnForecast:
    """Means over all lines; see `Scores`.

    edge_gain: crps_no_edge less crps, a decision its lines' mean, above 0 where expected returns
    said something. log_score: None without normal forecasts. pit_bins: lines in each tenth of PIT.
    pit_distance: the largest distance of their distribution from uniform (Kolmogorov);
    pit_probability: how often it is as large where forecasts are right and lines independent.
    """

    lines: int
    ensembles: int
    crps: float
    crps_fair: float
    crps_no_edge: float
    edge_gain: Interval
    log_score: float | None
    interval_score: float
    coverage: float
    pinball: Floats
    below: Floats
    pit_bins: Integers
    pit_distance: float
    pit_probability: float


def crps_normal(mean: Floats, deviation: Floats, y: Floats) -> Floats:
    """s (z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi)) with z = (y - m)/s (Gneiting and Raftery)."""
    z = (y - mean) / deviation
    density = np.exp(-0.5 * z**2) / sqrt(2.0 * pi)
    found: Floats = deviation * (z * (2.0 * ndtr(z) - 1.0) + 2.0 * density - 1.0 / sqrt(pi))
    return found


def crps_ensemble(
    members: Floats, probability: Floats, y: Floats, *, is_fair: bool = False
) -> Floats:
    """CRPS of n ensembles of K members, (K, n) with probabilities (K,), against y (n,).

    is_fair: E|X - X'| over different members, sum_{i != j} p_i p_j |x_i - x_j| / (1 - sum p_i^2),
    which for equal ones divides by K (K - 1); of one member it is the plain one.
    """
    x, weight = _sorted(members, probability)
    upper = np.cumsum(weight, axis=0)
    apart = 2.0 * (weight * x * (2.0 * upper - weight - 1.0)).sum(axis=0)
    same = float(probability @ probability)
    if is_fair and same < 1.0:
        apart = apart / (1.0 - same)
    found: Floats = (weight * np.abs(x - y)).sum(axis=0) - 0.5 * apart
    return found


def interval_score(low: Floats, high: Floats, y: Floats, alpha: float) -> Floats:
    """Of central intervals of probability 1 - alpha: their width, and 2/alpha of what misses."""
    missed = np.maximum(low - y, 0.0) + np.maximum(y - high, 0.0)
    return high - low + 2.0 / alpha * missed


def pinball(quantile: Floats, level: float, y: Floats) -> Floats:
    """Loss of a quantile: level (y - q) above it, (1 - level) (q - y) below."""
    return np.where(y >= quantile, level * (y - quantile), (1.0 - level) * (quantile - y))


def normal_scores(mean: Floats, deviation: Floats, y: Floats) -> Scores:
    """Scores of normal forecasts, (n,) each."""
    z = (y - mean) / deviation
    crps = crps_normal(mean, deviation, y)
    return _scores(
        crps=crps,
        crps_fair=crps,
        crps_no_edge=crps_normal(np.zeros_like(mean), deviation, y),
        log_score=0.5 * z**2 + np.log(deviation * sqrt(2.0 * pi)),
        pit=np.asarray(ndtr(z), dtype=np.float64),
        quantile=lambda level: mean + deviation * float(ndtri(level)),
        y=y,
    )


def ensemble_scores(members: Floats, probability: Floats, y: Floats, draw: Floats) -> Scores:
    """Scores of ensembles, (K, n) with probabilities (K,).

    draw: uniform numbers, (n,): where the place of y among K members is uniform, so is
    (members below + draw) / (K + 1); of ties and unequal members likewise by probability, K being
    1 / sum p^2.
    """
    x, weight = _sorted(members, probability)
    upper = np.cumsum(weight, axis=0)
    count = 1.0 / float(probability @ probability)
    under = (weight * (x < y)).sum(axis=0)
    tied = (weight * (x == y)).sum(axis=0)

    def quantile(level: float) -> Floats:
        place = np.minimum((upper < level - 1e-12).sum(axis=0), len(x) - 1)
        return x[place, np.arange(x.shape[1])]

    mean = probability @ members
    return _scores(
        crps=crps_ensemble(members, probability, y),
        crps_fair=crps_ensemble(members, probability, y, is_fair=True),
        crps_no_edge=crps_ensemble(members - mean, probability, y),
        log_score=np.full(len(y), np.nan),
        pit=(count * under + draw * (count * tied + 1.0)) / (count + 1.0),
        quantile=quantile,
        y=y,
    )


def return_forecast(decisions: Sequence[Scores]) -> ReturnForecast | None:
    """Means over the lines of all decisions, in the order they were made; None without lines."""
    held = [scores for scores in decisions if len(scores.crps)]
    if not held:
        return None
    from scipy.stats import kstwo  # brings all of scipy.stats, a seventh of a start or more

    every = joined(held)
    gains = np.array([float((item.crps_no_edge - item.crps).mean()) for item in held])
    normal = every.log_score[np.isfinite(every.log_score)]
    n = len(every.crps)
    pit = np.sort(every.pit)
    step = np.arange(n) / n
    distance = float(max((pit - step).max(), (step + 1.0 / n - pit).max()))
    tenth = np.clip((every.pit * BINS).astype(int), 0, BINS - 1)
    return ReturnForecast(
        lines=n,
        ensembles=n - len(normal),
        crps=float(every.crps.mean()),
        crps_fair=float(every.crps_fair.mean()),
        crps_no_edge=float(every.crps_no_edge.mean()),
        edge_gain=mean_interval(gains),
        log_score=float(normal.mean()) if len(normal) else None,
        interval_score=float(every.interval_score.mean()),
        coverage=float(every.covered.mean()),
        pinball=every.pinball.mean(axis=1),
        below=every.below.mean(axis=1),
        pit_bins=np.bincount(tenth, minlength=BINS),
        pit_distance=distance,
        pit_probability=float(kstwo.sf(distance, n)),
    )


def joined(parts: Sequence[Scores]) -> Scores:
    """The lines of several after each other."""
    return Scores(
        **{
            item.name: np.concatenate([getattr(part, item.name) for part in parts], axis=-1)
            for item in fields(Scores)
        }
    )


def _scores(quantile, y: Floats, **told: Floats) -> Scores:  # type: ignore[no-untyped-def]
    """Scores with those of the interval and the quantiles, told `quantile(level)` -> (n,)."""
    tail = 0.5 * (1.0 - INTERVAL)
    low, high = quantile(tail), quantile(1.0 - tail)
    ends = [quantile(level) for level in QUANTILES]
    return Scores(
        interval_score=interval_score(low, high, y, 1.0 - INTERVAL),
        covered=((low <= y) & (y <= high)).astype(np.float64),
        pinball=np.array([pinball(q, t, y) for q, t in zip(ends, QUANTILES, strict=True)]),
        below=np.array([(y < q).astype(np.float64) for q in ends]),
        **told,
    )


def _sorted(members: Floats, probability: Floats) -> tuple[Floats, Floats]:
    """Members of each column in rising order, and the probability of each, (K, n) both."""
    order = np.argsort(members, axis=0)
    return np.take_along_axis(members, order, axis=0), probability[order]

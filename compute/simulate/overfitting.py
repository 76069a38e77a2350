"""How much of the best of many backtests is luck.

Whoever tries N settings and keeps the best has a high Sharpe ratio even where none has an edge.
`expected_maximum` says how high; `deflated_sharpe` is the probability that the best is better than
that; `overfitting_probability` how often the best in one half of the periods is below the median in
the other.
"""

from dataclasses import dataclass
from itertools import combinations
from math import comb, e, log
from statistics import NormalDist

import numpy as np

from compute.market import Floats
from compute.simulate.sharpe import sharpe_error, sharpe_ratio

EULER = 0.5772156649015329
BLOCKS = 16
"""Periods are cut into so many blocks, half of them for choosing (Bailey et al. 2017)."""


@dataclass(frozen=True)
class Overfitting:
    """probability: share of splits whose best in sample ranks at or below the median out of sample.

    logit_mean: mean of ln(w / (1 - w)), w the rank of the chosen one out of sample over N + 1. On
    pure noise the probability is about a half with a standard deviation of about a quarter.
    """

    probability: float
    logit_mean: float
    splits: int


def expected_maximum(trials: int) -> float:
    """Expected largest of N independent standard normals.

    (1 - g) z(1 - 1/N) + g z(1 - 1/(N e)), g Euler's constant (Bailey and Lopez de Prado 2014);
    0 for a single trial.
    """
    if trials < 2:
        return 0.0
    quantile = NormalDist().inv_cdf
    first = quantile(1.0 - 1.0 / trials)
    return (1.0 - EULER) * first + EULER * quantile(1.0 - 1.0 / (trials * e))


def deflated_sharpe(excess: Floats, ratios: Floats, trials: int) -> float | None:
    """P(true Sharpe ratio of the chosen series > what the best of `trials` noise series has).

    excess: returns of the chosen series less the risk-free rate, (n,); ratios: Sharpe ratios per
    period of all that were tried, (k,), whose spread says how much luck there was to be had.
    """
    ratio, error = sharpe_ratio(excess), sharpe_error(excess)
    if ratio is None or not error:
        return None
    deviation = float(ratios.std(ddof=1)) if len(ratios) > 1 else 0.0
    return deflated(ratio, error, deviation, trials)


def deflated(ratio: float, error: float, deviation: float, trials: int) -> float:
    """The same of a Sharpe ratio per period, its standard error, and the spread of all ratios.

    Phi((S - sd E[max of N]) / se).
    """
    return NormalDist().cdf((ratio - deviation * expected_maximum(trials)) / error)


def overfitting_probability(returns: Floats, blocks: int = BLOCKS) -> Overfitting:
    """Combinatorially symmetric cross-validation of returns (n periods, N settings).

    Raises `ValueError` where there are fewer than two settings, or fewer periods than blocks.
    """
    n, settings = returns.shape
    if settings < 2 or n < 2 * blocks or blocks % 2:
        raise ValueError(
            f"{settings} settings over {n} periods in {blocks} blocks: at least two settings, an "
            "even number of blocks and two periods a block are needed"
        )
    # Sums over blocks give the mean and the deviation of any choice of them.
    pieces = np.array_split(np.arange(n), blocks)
    count = np.array([len(piece) for piece in pieces], dtype=float)
    first = np.array([returns[piece].sum(axis=0) for piece in pieces])
    second = np.array([(returns[piece] ** 2).sum(axis=0) for piece in pieces])
    below, logits = 0, []
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.zeros(blocks, dtype=bool)
        inside[list(chosen)] = True
        best = int(_ratios(count, first, second, inside).argmax())
        outside = _ratios(count, first, second, ~inside)
        rank = float((outside < outside[best]).sum() + 1)
        share = rank / (settings + 1.0)
        logits.append(log(share / (1.0 - share)))
        below += logits[-1] <= 0.0
    splits = comb(blocks, blocks // 2)
    return Overfitting(below / splits, float(np.mean(logits)), splits)


def sharpe_ratios(returns: Floats) -> Floats:
    """Sharpe ratio per period of each column of returns (n, N); NaN where there is none."""
    found = [sharpe_ratio(column) for column in returns.T]
    return np.array([np.nan if ratio is None else ratio for ratio in found])


def _ratios(count: Floats, first: Floats, second: Floats, chosen: np.ndarray) -> Floats:
    n = count[chosen].sum()
    mean = first[chosen].sum(axis=0) / n
    variance = (second[chosen].sum(axis=0) - n * mean**2) / (n - 1.0)
    ratios: Floats = mean / np.sqrt(np.maximum(variance, 1e-300))
    return ratios

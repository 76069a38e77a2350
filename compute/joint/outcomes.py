"""Scenarios for bets: outcomes of a whole batch, drawn together.

A bet wins b with probability p and loses a. That bets go together is said by the correlation of
their outcomes, which a covariance or a scenario matrix of the request gives:

    P(both win) = p_i p_j + rho_ij sqrt(p_i q_i p_j q_j),

no less than max(0, p_i + p_j - 1) and no more than min(p_i, p_j).

Of up to twelve bets and nothing else every combination of outcomes is a scenario. Their
probabilities have these margins exactly and are otherwise those of a Gaussian copula, whose latent
correlations are such that the outcomes have the ones given (Emrich and Piedmonte 1991, Am.
Statistician 45(4)).
Beyond, and beside expected returns, scenarios or holdings, the copula is sampled by a Sobol
sequence of fixed seed, whose weights are raked until every bet wins as often as it should.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from compute.market import Floats

SAMPLES_MAX = 1024
COMBINED_MAX = 12
"""Of so many bets all combinations are taken: 4096, and twice as many for each one more."""
_SEED, _STARTS = 7, 1 << 14
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)
_BISECTIONS, _RAKES = 40, 60
# Weight of the margins against the copula where both are fitted; margins missed by less are kept;
# what that weight leaves of probabilities that are nothing.
_FIRM, _MISSED, _LEAK = 1e4, 1e-9, 1e-6
_NEWTON_STEPS, _SHARE_MIN, _ROUNDING = 100, 1e-8, 1e-14
SAMPLED = "outcomes of these {bets} bets are a sample of {rows:,}, the same each time"
INDEPENDENT = "bets were taken as independent: the request names no matrix with their instruments"
UNATTAINABLE = "no bets with these chances have the correlations given: the nearest were taken"


@dataclass(frozen=True)
class Bets:
    """m bets on positions: chance of a win in (0, 1), gain and loss per unit of stake, (m,)."""

    win: Floats
    gain: Floats
    loss: Floats


@dataclass(frozen=True)
class Drawn:
    """wins: bool (k, m); normal: standard normal numbers (k, c) of what else is drawn with them.

    probability: (k,), summing to 1. attained: whether the correlations given could be had.
    is_sample: whether there are more outcomes than these.
    """

    wins: Floats
    normal: Floats
    probability: Floats
    attained: bool = True
    is_sample: bool = False


def outcomes(bets: Bets, drawn: Drawn) -> Floats:
    """Return of each position on its stake, (k, m)."""
    out: Floats = np.where(drawn.wins > 0.0, bets.gain, -bets.loss)
    return out


def drawn_together(bets: Bets, correlation: Floats, others: int, scenarios_max: int) -> Drawn:
    """Outcomes of m bets and `others` continuous returns with their correlations (m + c, m + c)."""
    m = len(bets.win)
    if others == 0 and m <= COMBINED_MAX and 1 << m <= scenarios_max:
        return _all_combinations(bets, correlation)
    return _sampled(bets, correlation, others, scenarios_max)


def both_win(bets: Bets, correlation: Floats) -> tuple[Floats, bool]:
    """P(i and j win) (m, m), and whether bets with these chances can have the correlations."""
    p = bets.win
    spread = np.sqrt(p * (1.0 - p))
    wanted = np.outer(p, p) + correlation * np.outer(spread, spread)
    least = np.maximum(0.0, np.add.outer(p, p) - 1.0)
    most = np.minimum.outer(p, p)
    apart = ~np.eye(len(p), dtype=bool)
    off = np.maximum(least - wanted, wanted - most)
    return np.clip(wanted, least, most), not np.any(off[apart] > _MISSED)


def _all_combinations(bets: Bets, correlation: Floats) -> Drawn:
    m, p = len(bets.win), bets.win
    wins = (np.arange(1 << m)[:, None] >> np.arange(m) & 1).astype(np.float64)
    alone = np.prod(np.where(wins > 0.0, p, 1.0 - p), axis=1)
    none = np.zeros((len(wins), 0))
    apart = ~np.eye(m, dtype=bool)
    if not np.any(correlation[apart]):
        return Drawn(wins, none, alone)
    joint, attained = both_win(bets, correlation)
    start = alone if m == 2 else _tallied(bets, joint)
    first, second = np.triu_indices(m, 1)
    margins = np.vstack([np.ones(len(wins)), wins.T, (wins[:, first] * wins[:, second]).T])
    wanted = np.concatenate([[1.0], p, joint[first, second]])
    probability = _nearest(margins, wanted, start)
    missed = float(np.abs(margins @ probability - wanted).max())
    return Drawn(wins, none, probability, attained and missed <= _MISSED)


def _tallied(bets: Bets, joint: Floats) -> Floats:
    """How often each combination comes in a large sample of the copula."""
    m = len(bets.win)
    root = _root(_latent_of_bets(bets, joint))
    normal = _normals(m, _STARTS) @ root.T
    number = (normal < ndtri(bets.win)) @ (1 << np.arange(m))
    return np.bincount(number, minlength=1 << m) / _STARTS


def _nearest(margins: Floats, wanted: Floats, start: Floats) -> Floats:
    """The probabilities with these margins that are nearest to `start`, (k,)."""
    found = _fitted(margins, wanted, start)
    # The margins were not met quite: what is clearly positive can, where the rest is nothing.
    for least in (_LEAK, _MISSED):
        held, exact = found > least, np.zeros_like(found)
        rest = wanted - margins[:, held] @ found[held]
        exact[held] = found[held] + np.linalg.lstsq(margins[:, held], rest, rcond=None)[0]
        if exact.min() >= 0.0 and np.abs(margins @ exact - wanted).max() <= _MISSED:
            return exact
    return np.asarray(found / found.sum())


def _fitted(margins: Floats, wanted: Floats, start: Floats) -> Floats:
    """The x >= 0 (k,) of least |x - start|^2 + F^2 |M x - wanted|^2, F = `_FIRM`.

    By Newton's method on its dual, which has a price y for each of the few margins: x is
    max(0, start + M'y) where M x - wanted + y / F^2 = 0 (Qi and Sun 2006, SIAM J. Matrix Analysis
    28(2)). Some k margins^2 operations a step, and few steps, which end at the solution itself.
    """
    give = 1.0 / _FIRM**2
    price = np.zeros(len(wanted))

    def dual(price: Floats) -> tuple[float, Floats]:
        found = np.maximum(start + price @ margins, 0.0)
        height = 0.5 * (found @ found + give * (price @ price)) - wanted @ price
        return float(height), found

    height, found = dual(price)
    for _ in range(_NEWTON_STEPS):
        slope, held = margins @ found - wanted + give * price, found > 0.0
        curvature = margins[:, held] @ margins[:, held].T + give * np.eye(len(wanted))
        step = np.linalg.solve(curvature, -slope)
        share, fall = 1.0, float(slope @ step)
        while True:
            moved, there = dual(price + share * step)
            hidden = _ROUNDING * abs(height)
            if moved <= height + 1e-4 * share * fall + hidden or share < _SHARE_MIN:
                break
            share *= 0.5
        price, height, found = price + share * step, moved, there
        if share == 1.0 and np.array_equal(found > 0.0, held):
            break  # linear in between: this step led to the solution
        if share < _SHARE_MIN:
            break  # rounding hides what is left to gain
    return found


def _sampled(bets: Bets, correlation: Floats, others: int, scenarios_max: int) -> Drawn:
    m = len(bets.win)
    count = 1 << int(np.log2(min(SAMPLES_MAX, scenarios_max)))
    joint, attained = both_win(bets, correlation[:m, :m])
    latent = correlation.copy()
    latent[:m, :m] = _latent_of_bets(bets, joint)
    # Of a bet and a normal number: rho = r phi(t) / sqrt(p q), t the threshold of the win.
    density = np.exp(-0.5 * ndtri(bets.win) ** 2) / np.sqrt(2.0 * np.pi)
    share = np.sqrt(bets.win * (1.0 - bets.win)) / density
    latent[:m, m:] = np.clip(latent[:m, m:] * share[:, None], -1.0, 1.0)
    latent[m:, :m] = latent[:m, m:].T
    normal = _normals(m + others, count) @ _root(latent).T
    # Every column has the same numbers in its own order: no draw is luckier than another.
    place = (np.argsort(np.argsort(normal, axis=0), axis=0) + 0.5) / count
    wins = (place[:, :m] > 1.0 - bets.win).astype(np.float64)
    return Drawn(wins, ndtri(place[:, m:]), _raked(wins, bets.win), attained, is_sample=True)


def _raked(wins: Floats, chance: Floats) -> Floats:
    """Weights (k,) with which each bet wins as often as it should (Deming and Stephan 1940)."""
    weight = np.full(len(wins), 1.0 / len(wins))
    usable = (wins.min(axis=0) < wins.max(axis=0)).nonzero()[0]
    for _ in range(_RAKES):
        for bet in usable:
            won = float(weight @ wins[:, bet])
            factor = np.where(
                wins[:, bet] > 0.0, chance[bet] / won, (1.0 - chance[bet]) / (1.0 - won)
            )
            weight = weight * factor
        if np.abs(weight @ wins - chance)[usable].max(initial=0.0) < 1e-14:
            break
    return weight / weight.sum()


def _normals(size: int, count: int) -> Floats:
    """`count` points of a Sobol sequence as standard normal numbers, (count, size)."""
    from scipy.stats import qmc  # brings all of scipy.stats, a seventh of a start or more

    points = qmc.Sobol(size, scramble=True, rng=np.random.default_rng(_SEED)).random(count)
    tiny = 1e-12
    out: Floats = ndtri(np.clip(points, tiny, 1.0 - tiny))
    return out


def _root(correlation: Floats) -> Floats:
    """R with R R' the nearest correlation matrix by its eigenvalues."""
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    size = np.sqrt((root**2).sum(axis=1, keepdims=True))
    out: Floats = root / np.where(size > 0.0, size, 1.0)
    return out


def _latent_of_bets(bets: Bets, joint: Floats) -> Floats:
    """Correlations of normal numbers that are below their thresholds together so often, (m, m)."""
    m, level = len(bets.win), ndtri(bets.win)
    first, second = np.triu_indices(m, 1)
    h, k, target = level[first], level[second], joint[first, second]
    low, high = np.full(len(h), -0.5 * np.pi), np.full(len(h), 0.5 * np.pi)
    for _ in range(_BISECTIONS if len(h) else 0):
        middle = 0.5 * (low + high)
        below = _both_below(h, k, middle) < target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    latent = np.eye(m)
    latent[first, second] = latent[second, first] = np.sin(0.5 * (low + high))
    return latent


def _both_below(h: Floats, k: Floats, angle: Floats) -> Floats:
    """P(Z1 < h, Z2 < k) of normal numbers with correlation sin(angle), (k,).

    Drezner and Wesolowsky 1990, J. Statistical Computation and Simulation 35.
    """
    at = 0.5 * angle[:, None] * (_NODES + 1.0)
    sine, cosine = np.sin(at), np.maximum(np.cos(at), 1e-9)
    h, k = h[:, None], k[:, None]
    inside = np.exp(-(h**2 + k**2 - 2.0 * h * k * sine) / (2.0 * cosine**2)) @ _WEIGHTS
    out: Floats = ndtr(h[:, 0]) * ndtr(k[:, 0]) + 0.5 * angle * inside / (2.0 * np.pi)
    return out

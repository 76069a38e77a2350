"""Scenarios for bets: outcomes of a whole batch, drawn together.

A bet wins b with probability p and loses a. That bets go together is said by the correlation of
their outcomes, which a covariance or a scenario matrix of the request gives:

    P(both win) = p_i p_j + rho_ij sqrt(p_i q_i p_j q_j),

no less than max(0, p_i + p_j - 1) and no more than min(p_i, p_j).

Of up to twelve bets and nothing else every combination of outcomes is a scenario. Their
probabilities have the chances of the bets exactly, the correlations as nearly as bets with these
chances can, and are otherwise those of a Gaussian copula, whose latent correlations are such that
the outcomes have the ones given (Emrich and Piedmonte 1991, Am. Statistician 45(4)).
Beyond, and beside expected returns, scenarios or holdings, the copula is sampled by a Sobol
sequence of fixed seed, weighted such that every bet wins as often as it should, and every two of
them together, where the sample is large enough to say so.
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
_BISECTIONS = 40
# Weights against the copula of chances, and of correlations where not all can be had: of all
# combinations, and of a sample, which can be near to them only. Margins missed by less are kept;
# what these weights leave of probabilities that are nothing.
_CHANCES, _CORRELATIONS, _SAMPLED, _MISSED, _LEAK = 1e6, 1e4, 1e2, 1e-9, 1e-6
_WEAKER = (1e2, 1.0, 1e-2)
"""Weights of correlations that are so far from any that can be had that the others lead nowhere."""
_RARE = 4
"""Scenarios of a sample in which an outcome comes at least."""
_ROWS_PER_MARGIN = 2
"""A sample of fewer says nothing of correlations: its weights would be all about them."""
_NEWTON_STEPS, _SHARE_MIN, _ROUNDING = 100, 1e-8, 1e-14
_AT_ONCE, _IN_TURN = (1.0,), (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)
"""Parts of the weights that are solved for one after the other, where that doesn't lead there."""
SAMPLED = (
    "outcomes of these {bets} bets are a sample of {rows:,}, the same each time; chances are "
    "exact, correlations of two bets off by {off:.2g} at most"
)
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
    is_sample: whether there are more outcomes than these. off: by how much the correlation of two
    bets in it differs from the one that bets can have, at most.
    """

    wins: Floats
    normal: Floats
    probability: Floats
    attained: bool = True
    is_sample: bool = False
    off: float = 0.0


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
    margins, wanted = _margins(wins, p, joint)
    probability = _nearest(margins, wanted, start, m, _CORRELATIONS)
    missed = float(np.abs(margins @ probability - wanted).max())
    return Drawn(wins, none, probability, attained and missed <= _MISSED)


def _tallied(bets: Bets, joint: Floats) -> Floats:
    """How often each combination comes in a large sample of the copula."""
    m = len(bets.win)
    root = _root(_latent_of_bets(bets, joint))
    normal = _normals(m, _STARTS) @ root.T
    number = (normal < ndtri(bets.win)) @ (1 << np.arange(m))
    return np.bincount(number, minlength=1 << m) / _STARTS


def _nearest(margins: Floats, wanted: Floats, start: Floats, bets: int, firm: float) -> Floats:
    """The probabilities nearest to `start`, (k,), that have the margins.

    The chances of the bets they have, and each other margin as nearly as is told by its weight.
    """
    chances = 1 + bets
    found = start
    for pairs in (firm, *(weaker for weaker in _WEAKER if weaker < firm)):
        weight = np.where(np.arange(len(wanted)) < chances, _CHANCES, pairs)
        found = _fitted(margins, wanted, start, weight)
        # The margins were not met quite: what is clearly positive can, where the rest is nothing.
        for kept, least in ((len(wanted), _LEAK), (len(wanted), _MISSED), (chances, 0.0)):
            exact = _met(margins[:kept], wanted[:kept], np.where(found > least, found, 0.0))
            missed = np.abs(margins[:kept] @ exact - wanted[:kept]).max()
            if exact.min() >= 0.0 and missed <= _MISSED:
                return exact
    return np.asarray(found / found.sum())


def _met(margins: Floats, wanted: Floats, found: Floats) -> Floats:
    """`found` (k,) with the margins met by the least change, in squares over what is there."""
    missed = wanted - margins @ found
    price, *_ = np.linalg.lstsq((margins * found) @ margins.T, missed, rcond=None)
    out: Floats = found * (1.0 + price @ margins)
    return out


def _fitted(margins: Floats, wanted: Floats, start: Floats, firm: Floats) -> Floats:
    """The x >= 0 (k,) of least |x - start|^2 + |F (M x - wanted)|^2, F = diag(firm).

    By Newton's method on its dual, which has a price y for each of the few margins: x is
    max(0, start + M'y) where M x - wanted + F^-2 y = 0 (Qi and Sun 2006, SIAM J. Matrix Analysis
    28(2)). Some k margins^2 operations a step, and few steps, which end at the solution itself.
    """
    found = start
    for parts in (_AT_ONCE, _IN_TURN):
        price = np.zeros(len(wanted))
        for part in parts:
            give = 1.0 / (part * firm) ** 2
            price, found, is_solution = _descended(margins, wanted, start, give, price)
        if is_solution:
            break
    return found


def _descended(
    margins: Floats, wanted: Floats, start: Floats, give: Floats, price: Floats
) -> tuple[Floats, Floats, bool]:
    """Newton's method from `price` on: the price it ends at, x there, and whether it is least."""

    def dual(price: Floats) -> tuple[float, Floats]:
        found = np.maximum(start + price @ margins, 0.0)
        height = 0.5 * (found @ found + give @ price**2) - wanted @ price
        return float(height), found

    height, found = dual(price)
    for _ in range(_NEWTON_STEPS):
        slope, held = margins @ found - wanted + give * price, found > 0.0
        curvature = margins[:, held] @ margins[:, held].T + np.diag(give)
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
            return price, found, True  # linear in between: this step led to the solution
        if share < _SHARE_MIN:
            break  # rounding hides what is left to gain
    return price, found, False


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
    # The rarest outcome is in the sample too, with the weight that it should have.
    chance = np.clip(bets.win, _RARE / count, 1.0 - _RARE / count)
    wins = (place[:, :m] > 1.0 - chance).astype(np.float64)
    weight = _weighted(wins, bets.win, joint)
    if m + 1 < count and np.abs(weight @ wins - bets.win).max() > _MISSED:
        # Of outcomes that always come together in a sample none can be rarer than another.
        wins[count - m - 1 :] = _stairs(bets.win)
        weight = _weighted(wins, bets.win, joint, unlikely=m + 1)
    together = (wins.T * weight) @ wins
    spread = np.sqrt(bets.win * (1.0 - bets.win))
    off = np.abs(np.triu((together - joint) / np.outer(spread, spread), 1)).max(initial=0.0)
    normal = ndtri(place[:, m:])
    return Drawn(wins, normal, weight, attained, is_sample=True, off=float(off))


def _stairs(chance: Floats) -> Floats:
    """Outcomes (m + 1, m) whose mixtures have any chances in this order.

    Nothing wins, the likeliest bet does, the two likeliest, ..., all of them: with probabilities
    1 - p_1, p_1 - p_2, ..., p_m every bet wins as often as it should.
    """
    rank = np.argsort(np.argsort(-chance, kind="stable"), kind="stable")
    out: Floats = (rank[None, :] < np.arange(len(chance) + 1)[:, None]).astype(np.float64)
    return out


def _weighted(wins: Floats, chance: Floats, joint: Floats, unlikely: int = 0) -> Floats:
    """Weights (k,) with which each bet wins as often as it should, and each two of them.

    unlikely: so many of the last outcomes have a weight only where chances need it.
    """
    margins, wanted = _margins(wins, chance, joint)
    m, won = len(chance), wins.mean(axis=0)
    start = np.prod(np.where(wins > 0.0, chance / won, (1.0 - chance) / (1.0 - won)), axis=1)
    start[len(start) - unlikely :] = 0.0
    if len(wanted) * _ROWS_PER_MARGIN > len(wins):
        margins, wanted = margins[: 1 + m], wanted[: 1 + m]
    return _nearest(margins, wanted, start / start.sum(), m, _SAMPLED)


def _margins(wins: Floats, chance: Floats, joint: Floats) -> tuple[Floats, Floats]:
    """Rows M (1 + m + pairs, k) of probabilities x, and M x: all, wins of each, of each two."""
    first, second = np.triu_indices(len(chance), 1)
    margins = np.vstack([np.ones(len(wins)), wins.T, (wins[:, first] * wins[:, second]).T])
    return margins, np.concatenate([[1.0], chance, joint[first, second]])


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

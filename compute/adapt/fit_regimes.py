"""Parameters of a hidden Markov chain of regimes with normal returns, by expectation-maximisation.

    g_t(i) = P(regime i at t | all returns)        x_t(i, j) = P(i at t, j at t + 1 | all returns)
    m_i = sum g_t(i) r_t / sum g_t(i)              s_i^2 = sum g_t(i) (r_t - m_i)^2 / sum g_t(i)
    P_ij = sum x_t(i, j) / sum_t<T g_t(i)

(Baum and others 1970, Hamilton 1990), from several starts, of which the most likely end counts.
g takes in later returns: it serves to fit on what is past, and sizes nothing. What the fit is for
is filtered and predicted (`regimes.py`).

Products of the T matrices of a step are computed by doubling, log2 T times for all at once.
"""

from dataclasses import dataclass
from math import log, pi

import numpy as np

from compute.adapt.regimes import RegimeSwitching
from compute.market import Floats
from compute.optimize.time_limit import checkpoint

OBSERVATIONS_MIN = 1000
OCCUPANCY_MIN = 0.05
DURATION_MIN = 3.0
STARTS = 10
_ROUGH, _FINE = 10, 1000
_TOLERANCE = 1e-9
"""Of the log likelihood of a return, between two iterations."""
_ENTRY_MIN = 1e-9


@dataclass(frozen=True)
class RegimeFit:
    """The regimes by rising deviation. occupancy: share of the returns, duration: mean periods."""

    regimes: RegimeSwitching
    occupancy: tuple[float, ...]
    duration: tuple[float, ...]
    log_likelihood: float
    converged: bool

    @property
    def is_noise(self) -> bool:
        """Whether a regime holds too little, or lasts too short, to be one."""
        return min(self.occupancy) < OCCUPANCY_MIN or min(self.duration) < DURATION_MIN


@dataclass(frozen=True)
class _Guess:
    mean: Floats
    deviation: Floats
    transition: Floats
    start: Floats


def fit_regimes(returns: Floats, count: int, seed: int = 0) -> RegimeFit:
    """The most likely `count` regimes of returns, (T,), oldest first.

    seed: of the starts; the same one gives the same fit. Raises `ValueError` for returns that
    don't vary.
    """
    scale = float(np.std(returns))
    if not scale > 0.0:
        raise ValueError("the returns don't vary")
    x = returns / scale
    generator = np.random.default_rng(seed)
    rough = [_climbed(x, _start(x, count, generator), _ROUGH) for _ in range(STARTS)]
    rough.sort(key=lambda item: -item[1])
    ends = [_climbed(x, guess, _FINE) for guess, *_ in rough[:2]]
    guess, value, converged, share = max(ends, key=lambda item: item[1])
    order = np.argsort(guess.deviation)
    transition = np.maximum(guess.transition[np.ix_(order, order)], _ENTRY_MIN)
    transition /= transition.sum(axis=1, keepdims=True)
    regimes = RegimeSwitching(
        tuple((guess.mean[order] * scale).tolist()),
        tuple((guess.deviation[order] * scale).tolist()),
        tuple(map(tuple, transition.tolist())),
    )
    stay = np.diag(transition)
    duration = np.where(stay < 1.0, 1.0 / np.maximum(1.0 - stay, 1e-300), np.inf)
    return RegimeFit(
        regimes,
        tuple(share[order].tolist()),
        tuple(duration.tolist()),
        value - len(x) * log(scale),
        converged,
    )


def _start(x: Floats, count: int, generator: np.random.Generator) -> _Guess:
    """A guess that differs from the others in level, spread and length of the regimes."""
    spread = np.sort(np.exp(generator.uniform(log(0.3), log(2.5), count)))
    stay = generator.uniform(0.8, 0.99, count)
    transition = np.full((count, count), 1.0) * ((1.0 - stay) / (count - 1))[:, None]
    np.fill_diagonal(transition, stay)
    mean = float(x.mean()) + 0.1 * generator.standard_normal(count)
    return _Guess(mean, spread, transition, np.full(count, 1.0 / count))


def _climbed(x: Floats, guess: _Guess, most: int) -> tuple[_Guess, float, bool, Floats]:
    """The guess after at most so many iterations, its likelihood, whether it stays, the shares."""
    before, converged = -np.inf, False
    for _ in range(most):
        checkpoint()
        share, pairs, value = _smoothed(x, guess)
        converged = value - before <= _TOLERANCE * len(x)
        if converged:
            break
        before, guess = value, _better(x, share, pairs)
    share, _, value = _smoothed(x, guess)
    return guess, value, converged, share.mean(axis=0)


def _better(x: Floats, share: Floats, pairs: Floats) -> _Guess:
    total = np.maximum(share.sum(axis=0), 1e-12)
    mean = share.T @ x / total
    variance = np.sum(share * (x[:, None] - mean) ** 2, axis=0) / total
    rows = np.maximum(pairs.sum(axis=1, keepdims=True), 1e-300)
    # A regime of one return would have no spread and any likelihood.
    return _Guess(mean, np.sqrt(np.maximum(variance, 1e-4)), pairs / rows, share[0])


def _smoothed(x: Floats, guess: _Guess) -> tuple[Floats, Floats, float]:
    """g, (T, K); sum of x_t(i, j), (K, K); ln of the density of all returns."""
    z = (x[:, None] - guess.mean) / guess.deviation
    logs = -0.5 * (z**2 + log(2.0 * pi)) - np.log(guess.deviation)
    top = logs.max(axis=1)
    density = np.exp(logs - top[:, None])
    steps = guess.transition[None] * density[1:, None, :]  # (T - 1, from, to)
    first = guess.start * density[0]
    ahead, scales = _products(steps)
    forward = np.concatenate([first[None], np.einsum("i,tij->tj", first, ahead)])
    back = np.concatenate([_products_back(steps).sum(axis=2), np.ones((1, len(first)))])
    value = float(np.log(forward[-1].sum()) + (scales[-1] if len(scales) else 0.0) + top.sum())
    share = forward * back
    share /= share.sum(axis=1, keepdims=True)
    pairs = forward[:-1, :, None] * steps * back[1:, None, :]
    pairs /= pairs.sum(axis=(1, 2), keepdims=True)
    return share, pairs.sum(axis=0), value


def _products(steps: Floats) -> tuple[Floats, Floats]:
    """M_1 ... M_t for each t, each divided by its largest entry, and ln of what it was divided by.

    Doubling: after k rounds a product is of the last 2^k matrices.
    """
    out, logs, width = steps.copy(), np.zeros(len(steps)), 1
    size = out.max(axis=(1, 2), keepdims=True)
    out, logs = out / size, logs + np.log(size[:, 0, 0])
    while width < len(out):
        joined = out[:-width] @ out[width:]
        size = joined.max(axis=(1, 2), keepdims=True)
        moved = logs[width:] + logs[:-width] + np.log(size[:, 0, 0])
        out, logs = out.copy(), logs.copy()
        out[width:], logs[width:] = joined / size, moved
        width *= 2
    return out, logs


def _products_back(steps: Floats) -> Floats:
    """M_t ... M_(T-1) for each t, each divided by some number: those of the reversed transposes."""
    reverse = steps[::-1].transpose(0, 2, 1)
    return _products(reverse)[0][::-1].transpose(0, 2, 1)

"""What a book loses when something happens, and what would have to happen for it to lose so much.

Shocks are simple returns of instruments over the event; losses fractions of equity, positive.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

from compute.history import Floats, Integers


def shock_loss(weights: Floats, shocks: Floats) -> float:
    """-sum_i w_i shock_i."""
    return float(-(weights @ shocks))


def window_shocks(returns: Floats) -> Floats:
    """Compound return of each instrument over a window of returns (T, n): prod (1 + r) - 1."""
    return np.asarray(np.prod(1.0 + returns, axis=0) - 1.0)


def conditional_shocks(covariance: Floats, known: Integers, shocks: Floats) -> Floats:
    """Expected returns of all given some: E[x | x_K = s] = S_K' S_KK^-1 s, (n,).

    known: places of the instruments or factors that are shocked, shocks: their returns (k,). What
    a shock of an index means to what was not shocked, by normal returns.
    """
    chosen = covariance[np.ix_(known, known)]
    return np.asarray(covariance[:, known] @ np.linalg.lstsq(chosen, shocks, rcond=None)[0])


@dataclass(frozen=True)
class Extreme:
    """shocks (n,), their distance sqrt(x' S^-1 x) in deviations, and P(distance is exceeded)."""

    shocks: Floats
    loss: float
    distance: float
    probability: float


def worst_in_ellipsoid(weights: Floats, covariance: Floats, distance: float) -> Extreme:
    """The largest loss among returns with x' S^-1 x <= d^2: d sqrt(w'Sw), at x = -d S w / s."""
    product = covariance @ weights
    volatility = float(np.sqrt(max(float(weights @ product), 0.0)))
    shocks = -distance * product / volatility if volatility > 0.0 else np.zeros(len(weights))
    return Extreme(shocks, distance * volatility, distance, _exceeded(distance, len(weights)))


def reverse_stress(weights: Floats, covariance: Floats, loss: float) -> Extreme:
    """The most plausible returns with that loss: x = -S w l / w'Sw, at distance l / sqrt(w'Sw).

    Plausible in the sense of normal returns with covariance S. Raises `ValueError` for a book
    without risk, which cannot lose.
    """
    product = covariance @ weights
    variance = float(weights @ product)
    if variance <= 0.0:
        raise ValueError("the book has no risk, so that no scenario of returns loses anything")
    distance = loss / float(np.sqrt(variance))
    return Extreme(-product * loss / variance, loss, distance, _exceeded(distance, len(weights)))


def _exceeded(distance: float, n: int) -> float:
    return float(chdtrc(n, distance**2))

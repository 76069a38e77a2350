"""Dynamic conditional correlation: Q_t moves with yesterday's shocks and falls back to its mean.

    Q_{t+1} = (1 - a - b) S + a e_t e_t' + b Q_t,   R_t = diag(Q_t)^-1/2 Q_t diag(Q_t)^-1/2

for returns e_t divided by their conditional volatilities (Engle 2002, "Dynamic conditional
correlation", J. Business and Economic Statistics 20(3)). S is the correlation of e.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from compute.correlation.sample import correlation_of, scaled
from compute.history import Floats
from compute.optimize.time_limit import checkpoint

DECAY = 0.97
"""Of the volatilities that returns are divided by (EWMA; no fit, so no failure of a fit)."""
_PERSISTENCE_MAX = 0.9999


@dataclass(frozen=True)
class DynamicCorrelation:
    """The forecast for the next period, and the fitted parameters."""

    correlation: Floats
    deviation: Floats
    shock: float
    """a: how much of yesterday's shock is taken in."""
    persistence: float
    """b: how much of yesterday's state stays."""

    @property
    def covariance(self) -> Floats:
        """Forecast covariance of the next period, (n, n)."""
        return scaled(self.correlation, self.deviation)


def dcc_step(state: Floats, shock: Floats, mean: Floats, a: float, b: float) -> Floats:
    """Q_{t+1} from Q_t (n, n) and e_t (n,)."""
    return (1.0 - a - b) * mean + a * np.outer(shock, shock) + b * state


def ewma_deviations(returns: Floats, decay: float = DECAY) -> tuple[Floats, Floats]:
    """Deviations forecast before each return (T, n), and the one for the next period (n,).

    v_{t+1} = L v_t + (1 - L) r_t^2, started at the mean square of all T: only the weight L^t of
    the start looks ahead, and it is gone after some 1 / (1 - L) periods.
    """
    variance = np.mean(returns**2, axis=0)
    out = np.empty_like(returns)
    for t, row in enumerate(returns):
        checkpoint()
        out[t] = variance
        variance = decay * variance + (1.0 - decay) * row**2
    floor = np.finfo(np.float64).tiny
    return np.sqrt(np.maximum(out, floor)), np.sqrt(variance)


def fit_dcc(returns: Floats, dynamics: tuple[float, float] | None = None) -> DynamicCorrelation:
    """a and b by the composite likelihood of neighbouring pairs, then the forecast.

    The likelihood of all n instruments is biased for large n and needs n^3 each period; the sum
    over pairs (i, i+1) is neither (Engle, Shephard and Sheppard 2008, "Fitting vast dimensional
    time-varying covariance models"). returns (T, n), n >= 2, T >= 20. dynamics: a and b where they
    are given, a + b < 1.
    """
    count, n = returns.shape
    if n < 2 or count < 20:
        raise ValueError(f"has {count} periods of {n} instruments; DCC needs 20 of 2")
    centred = returns - returns.mean(axis=0)
    deviations, forecast = ewma_deviations(centred)
    shocks = centred / deviations
    mean, _ = correlation_of(shocks.T @ shocks / count)
    a, b = dynamics or _fitted(shocks, np.diagonal(mean, 1))
    state = mean.copy()
    for shock in shocks:
        checkpoint()
        state = dcc_step(state, shock, mean, a, b)
    correlation, _ = correlation_of(state)
    return DynamicCorrelation(correlation, forecast, a, b)


def _fitted(shocks: Floats, pair: Floats) -> tuple[float, float]:
    """a and b of the largest composite likelihood; pair: means of neighbours, (n - 1,)."""
    left, right = shocks[:, :-1], shocks[:, 1:]

    def loss(point: Floats) -> float:
        a, b = _shock_and_persistence(point)
        return _pair_loss(left, right, pair, a, b)

    best = min(
        (
            minimize(loss, _point(a, b), method="Nelder-Mead", options={"maxiter": 120})
            for a, b in ((0.02, 0.95), (0.05, 0.85))
        ),
        key=lambda found: float(found.fun),
    )
    return _shock_and_persistence(best.x)


def _point(a: float, b: float) -> Floats:
    total = a + b
    return np.array([np.log(total / (_PERSISTENCE_MAX - total)), np.log(a / b)])


def _shock_and_persistence(point: Floats) -> tuple[float, float]:
    """a, b > 0 with a + b < 1 from two numbers without bounds."""
    total = _PERSISTENCE_MAX / (1.0 + np.exp(-np.clip(point[0], -30, 30)))
    share = 1.0 / (1.0 + np.exp(-np.clip(point[1], -30, 30)))
    return float(total * share), float(total * (1.0 - share))


def _pair_loss(left: Floats, right: Floats, mean: Floats, a: float, b: float) -> float:
    """-2 log likelihood of the pairs' correlations, constants left out; all pairs at once."""
    rest = 1.0 - a - b
    q11, q22, q12 = np.ones_like(mean), np.ones_like(mean), mean.copy()
    total = 0.0
    for x, y in zip(left, right, strict=True):
        checkpoint()
        rho = q12 / np.sqrt(q11 * q22)
        free = np.maximum(1.0 - rho * rho, 1e-12)
        total += float(np.sum(np.log(free) + (x * x - 2.0 * rho * x * y + y * y) / free))
        q11 = rest + a * x * x + b * q11
        q22 = rest + a * y * y + b * q22
        q12 = rest * mean + a * x * y + b * q12
    return total

"""Several assets over several periods: predictable returns, their covariance, and costs of trading.

    max over w_1 .. w_H of
        sum_t  m_t'w_t - g/2 w_t' S w_t - g k/2 sum_i s_i^2 (w_ti - w_(t-1)i)^2

m_t the expected excess returns of period t, S their covariance, s_i^2 its diagonal, g the risk
aversion, k what a trade costs in units of the risk of its size. What is held after H is worth
nothing more and costs nothing to close. Garleanu and Pedersen 2013, section II, with an end and
with costs of each asset's own: for one asset it is `multiperiod.trade_plan`.

In the scale y_i = s_i w_i the costs are those of a ball, and risk is the correlation R = U e U', so
that z = U'y falls apart into one problem of each direction j, with a_t = U'(m_t / s) / g:

    max  sum_t  a_tj z_t - e_j z_t^2 / 2 - k (z_t - z_(t-1))^2 / 2

By backward recursion of V_t(z) = -A z^2 / 2 + b z from A = b = 0 after the end:

    z_t = (k z_(t-1) + a_t + b') / (k + e + A')
    A = k (e + A') / (k + e + A')      b = k (a_t + b') / (k + e + A')

Exact for any H. One decomposition of (n, n), then n^2 work a period.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SINGULAR = 1e-10
"""Of the largest eigenvalue of a correlation: risk below it is none, and bounds no position."""


def planned_weights(
    held: Floats, means: Floats, covariance: Floats, aversion: float, cost: float
) -> Floats:
    """The weights w_1 .. w_H that are best over the whole horizon, (H, n).

    held (n,): w_0. means (H, n): expected excess returns of each period. covariance (n, n), of a
    period. aversion g > 0. cost k >= 0.

    Raises `ValueError` for an asset without risk, and where neither risk nor a cost bounds some
    book: a singular covariance with k = 0.
    """
    scale = np.sqrt(np.diag(covariance))
    if not (scale > 0.0).all():
        raise ValueError("an asset has no risk in the covariance")
    risk, axes = np.linalg.eigh(covariance / np.outer(scale, scale))
    risk = np.maximum(risk, 0.0)
    if cost == 0.0 and risk[0] <= SINGULAR * risk[-1]:
        raise ValueError("the covariance is singular: without a cost some book has no bound")
    wanted = (means / scale / aversion) @ axes
    pull, firm = np.empty_like(means), np.empty_like(means)
    curvature, slope = np.zeros(len(held)), np.zeros(len(held))
    for t in range(len(means) - 1, -1, -1):
        firm[t], pull[t] = cost + risk + curvature, wanted[t] + slope
        curvature = cost * (risk + curvature) / firm[t]
        slope = cost * pull[t] / firm[t]
    place, path = (scale * held) @ axes, np.empty_like(means)
    for t in range(len(means)):
        place = (cost * place + pull[t]) / firm[t]
        path[t] = (axes @ place) / scale
    return path


def cost_of_rate(rate: float) -> float:
    """k = (1 - r) / r^2: the cost that makes r the part to trade of one asset without an end."""
    return (1.0 - rate) / rate**2

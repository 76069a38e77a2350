"""Coefficients of GARCH(1, 1), or GJR's, by maximum likelihood of normal returns.

    h_t = w + (a + g [e_(t-1) < 0]) e_(t-1)^2 + b h_(t-1),     e_t = r_t - m

over m, w >= 0, a, g, b >= 0 with a + g / 2 + b < 1. Before the first return e^2 and h are the mean
of all e^2, and half of g counts (Bollerslev and Ghysels 1996 do so; others begin elsewhere and come
to other optima). The recursion and its derivatives are linear filters, so that a step costs a few
passes over the returns.
"""

from dataclasses import dataclass
from itertools import product
from math import log, pi

import numpy as np
from scipy.optimize import minimize

from compute.market import Floats
from compute.recursion import decayed_sums

PERSISTENCE_MAX = 1.0 - 1e-6
_STARTS = tuple(product((0.02, 0.05, 0.1, 0.2), (0.0, 0.05, 0.15), (0.6, 0.9, 0.97)))

_TRIED = 4
"""Of these, the likeliest: a search now and then ends somewhere else."""
_OMEGA = (1e-8, 4.0)
"""Of returns with a variance of 1."""


@dataclass(frozen=True)
class GarchFit:
    """Coefficients per period, with `omega` and `mean` in units of the returns.

    log_likelihood: of all returns, in nats. converged: whether the search ended where it can't be
    improved; else the coefficients are the best found.
    """

    mean: float
    omega: float
    alpha: float
    gamma: float
    beta: float
    log_likelihood: float
    converged: bool

    @property
    def persistence(self) -> float:
        """How much of a deviation from the long-run variance is left a period later."""
        return self.alpha + 0.5 * self.gamma + self.beta

    @property
    def long_run_variance(self) -> float:
        """Per period."""
        return self.omega / (1.0 - self.persistence)


def fit_garch(returns: Floats, *, asymmetric: bool) -> GarchFit:
    """The most likely coefficients of returns, (T,), oldest first; asymmetric: with gamma, else 0.

    Raises `ValueError` for returns that don't vary.
    """
    scale = float(np.std(returns))
    if not scale > 0.0:
        raise ValueError("the returns don't vary")
    x = returns / scale  # makes the coefficients of a size, whatever the unit
    center = float(np.mean(x))

    def loss(theta: Floats) -> tuple[float, Floats]:
        full = theta if asymmetric else np.insert(theta, 3, 0.0)
        value, slope = _likelihood(full, x)
        return -value / len(x), -(slope if asymmetric else np.delete(slope, 3)) / len(x)

    starts = []
    for a, g, p in _STARTS:
        if (g and not asymmetric) or a + 0.5 * g >= p:
            continue
        start = [center, 1.0 - p, a, g, p - a - 0.5 * g]
        starts.append(np.array(start if asymmetric else [*start[:3], start[4]]))
    starts.sort(key=lambda theta: loss(theta)[0])
    weights = np.array([0.0, 0.0, 1.0, 0.5, 1.0] if asymmetric else [0.0, 0.0, 1.0, 1.0])
    ends = [
        minimize(
            loss,
            begin,
            jac=True,
            method="SLSQP",
            bounds=[(center - 1.0, center + 1.0), _OMEGA, *[(0.0, 1.0)] * (len(begin) - 2)],
            constraints={
                "type": "ineq",
                "fun": lambda theta: PERSISTENCE_MAX - weights @ theta,
                "jac": lambda theta: -weights,
            },
            options={"ftol": 1e-14, "maxiter": 1000},
        )
        for begin in starts[:_TRIED]
    ]
    found = min(ends, key=lambda end: float(end.fun))
    best = found.x if asymmetric else np.insert(found.x, 3, 0.0)
    return GarchFit(
        mean=float(best[0] * scale),
        omega=float(best[1] * scale**2),
        alpha=float(best[2]),
        gamma=float(best[3]),
        beta=float(best[4]),
        log_likelihood=float(-len(x) * (found.fun + log(scale))),
        converged=bool(found.success),
    )


def _recursion(theta: Floats, e: Floats) -> tuple[Floats, tuple[Floats, Floats, float]]:
    """h, and e^2 before each period, what of it is of falls, and the mean of e^2."""
    _, w, a, g, b = theta
    square = e**2
    level = float(square.mean())
    before = np.concatenate([[level], square[:-1]])
    fell = np.concatenate([[0.5 * level], np.where(e[:-1] < 0.0, square[:-1], 0.0)])
    news = w + a * before + g * fell
    news[0] += b * level
    h = decayed_sums(news, b)
    return h, (before, fell, level)


def _likelihood(theta: Floats, x: Floats) -> tuple[float, Floats]:
    """ln of the density of returns x, and its derivatives by the coefficients."""
    m, _, a, g, b = theta
    e = x - m
    h, (before, fell, level) = _recursion(theta, e)
    value = -0.5 * float(np.sum(log(2.0 * pi) + np.log(h) + e**2 / h))
    of_mean = -2.0 * np.concatenate([[0.0], e[:-1] * (a + g * (e[:-1] < 0.0))])
    of_mean[0] = (a + 0.5 * g + b) * -2.0 * float(e.mean())
    last = np.concatenate([[level], h[:-1]])
    news = np.stack([of_mean, np.ones_like(e), before, fell, last])
    by_h = -0.5 * (1.0 / h - e**2 / h**2)
    slope = decayed_sums(news, b) @ by_h
    slope[0] += float(np.sum(e / h))
    return value, slope

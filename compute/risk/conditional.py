"""Conditional volatility of one series, and history scaled to today's (filtered historical).

EWMA   h' = L h + (1 - L) e^2
GARCH  h' = w + a e^2 + b h                      (Bollerslev 1986)
GJR    h' = w + (a + g 1[e < 0]) e^2 + b h       (Glosten, Jagannathan and Runkle 1993)
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from compute.history import Floats


@dataclass(frozen=True)
class Garch:
    """omega w, alpha a, beta b and, for GJR, gamma g; variances per period."""

    omega: float
    alpha: float
    beta: float
    gamma: float = 0.0

    @property
    def persistence(self) -> float:
        """a + b + g / 2: the share of a shock left after one period."""
        return self.alpha + self.beta + 0.5 * self.gamma

    @property
    def long_run(self) -> float:
        """w / (1 - persistence), the variance it falls back to."""
        return self.omega / (1.0 - self.persistence)

    def forecast(self, variance: float, periods: int) -> Floats:
        """VL + persistence^(h-1) (h1 - VL), h = 1 .. periods, from next period's variance h1."""
        decay = self.persistence ** np.arange(periods)
        return np.asarray(self.long_run + decay * (variance - self.long_run))


def garch_variances(residuals: Floats, model: Garch, start: float) -> Floats:
    """h_1 = start, h_2, .. h_{T+1}: the variance forecast before each residual, and the next."""
    out = np.empty(len(residuals) + 1)
    out[0] = start
    for t, e in enumerate(residuals):
        news = model.alpha + (model.gamma if e < 0.0 else 0.0)
        out[t + 1] = model.omega + news * e * e + model.beta * out[t]
    return out


def garch_log_likelihood(residuals: Floats, variances: Floats) -> float:
    """sum of log N(e_t; 0, h_t)."""
    h = variances[: len(residuals)]
    return float(-0.5 * np.sum(np.log(2.0 * np.pi * h) + residuals**2 / h))


def fit_garch(residuals: Floats) -> Garch:
    """GARCH(1,1) by quasi maximum likelihood, started at the mean square, w, a, b >= 0.

    Raises `ValueError` for fewer than 250 residuals: the fit would be noise.
    """
    if len(residuals) < 250:
        raise ValueError(f"has {len(residuals)} periods; GARCH needs 250")
    variance = float(np.mean(residuals**2))

    def model(point: Floats) -> Garch:
        total = 0.9999 / (1.0 + np.exp(-np.clip(point[0], -30, 30)))
        share = 1.0 / (1.0 + np.exp(-np.clip(point[1], -30, 30)))
        scale = float(np.exp(np.clip(point[2], -10, 10)))
        return Garch(variance * scale * (1.0 - total), total * share, total * (1.0 - share))

    def loss(point: Floats) -> float:
        found = garch_variances(residuals, model(point), variance)
        return -garch_log_likelihood(residuals, found)

    starts = (np.array([3.5, -2.2, 0.0]), np.array([2.0, -1.4, 0.0]))
    options = {"maxiter": 600, "xatol": 1e-6, "fatol": 1e-7}
    tried = [minimize(loss, x, method="Nelder-Mead", options=options) for x in starts]
    return model(min(tried, key=lambda found: float(found.fun)).x)


def filtered(returns: Floats, decay: float = 0.97) -> Floats:
    """Returns scaled from the volatility before each to today's, (T,): s_{T+1} r_t / s_t.

    Their quantiles are those of filtered historical simulation (Hull and White 1998;
    Barone-Adesi, Giannopoulos and Vosper 1999), with EWMA volatility.
    """
    start = float(np.mean(returns**2))
    if start <= 0.0:
        return returns.copy()
    variances = garch_variances(returns, Garch(0.0, 1.0 - decay, decay), start)
    ratio = np.sqrt(variances[-1] / variances[:-1])
    return np.asarray(returns * ratio)

"""Conditional volatility of one series, and history scaled to today's (filtered historical).

EWMA   h' = L h + (1 - L) e^2
GARCH  h' = w + a e^2 + b h                      (Bollerslev 1986)
GJR    h' = w + (a + g 1[e < 0]) e^2 + b h       (Glosten, Jagannathan and Runkle 1993)
"""

from dataclasses import dataclass

import numpy as np

from compute.history import Floats

FILTER_DECAY = 0.97
"""Of the volatility that filtered history is scaled by."""

FILTERED_MIN = 50
"""Periods that it needs."""


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

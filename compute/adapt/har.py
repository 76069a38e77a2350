"""Heterogeneous autoregression of variances (Corsi 2009): the next one from means over days, a week
and a month.

    x_(t+1) = c + d x_t + w mean(x_t, ..., x_(t-4)) + m mean(x_t, ..., x_(t-21)) + e

The windows overlap, and all of them include t. x is the variance of a period's bar, or its
logarithm; of logarithms the variance forecast is exp(x + s^2 / 2), with s^2 the variance of the
error: without it forecasts are too small. k periods ahead forecasts take the place of what is not
there, and the error is that of k + 1 steps, s^2 sum_i psi_i^2 with psi the response to one error.
"""

from dataclasses import dataclass

import numpy as np

from compute.market import Floats, Integers

WEEK, MONTH = 5, 22
"""Periods of the windows."""


@dataclass(frozen=True)
class Har:
    """Coefficients per period.

    constant: in the unit of x; None: of each instrument, such that its mean of x so far is the long
    run's. residual_variance: s^2, read where `logarithmic`.
    """

    daily: float
    weekly: float
    monthly: float
    constant: float | None = None
    logarithmic: bool = False
    residual_variance: float = 0.0

    @property
    def lags(self) -> Floats:
        """The weight of each of the last `MONTH` x, the newest first."""
        out = np.full(MONTH, self.monthly / MONTH)
        out[:WEEK] += self.weekly / WEEK
        out[0] += self.daily
        return out

    @property
    def persistence(self) -> float:
        """The largest modulus of the roots of the autoregression: below 1 it has a long run."""
        companion = np.eye(MONTH, k=-1)
        companion[0] = self.lags
        return float(np.abs(np.linalg.eigvals(companion)).max())

    def of(self, variance: Floats) -> Floats:
        """What is regressed: the variance, or its logarithm."""
        return np.log(variance) if self.logarithmic else variance


def taken_in(window: Floats, x: Floats, times: Integers) -> Floats:
    """The window (MONTH, m), newest first, with x (m,) as each of the last `times` periods."""
    out = np.concatenate([x[None], window[:-1]])
    for count in np.unique(times[times > 1]):
        own, k = times == count, min(int(count), MONTH)
        out[:, own] = np.concatenate(
            [np.broadcast_to(x[own], (k, int(own.sum()))), window[: MONTH - k, own]]
        )
    return out


def forecast(window: Floats, mean: Floats, missed: Integers, model: Har) -> Floats:
    """Variance of the period after `missed` (m,) without a bar, (m,); mean: of x so far, (m,)."""
    lags, window = model.lags, window.copy()
    total = float(lags.sum())
    level = (1.0 - total) * mean if model.constant is None else np.full(len(mean), model.constant)
    x, error = _next(window, level, lags), np.full(len(mean), model.residual_variance)
    impulse = np.zeros(MONTH)
    impulse[0] = 1.0
    for step in range(1, int(missed.max(initial=0)) + 1):
        left = missed >= step
        window[:, left] = np.concatenate([x[None, left], window[:-1, left]])
        x[left] = _next(window[:, left], level[left], lags)
        response = float(lags @ impulse)
        error[left] += model.residual_variance * response**2
        impulse = np.concatenate([[response], impulse[:-1]])
    return np.exp(x + 0.5 * error) if model.logarithmic else x


def _next(window: Floats, level: Floats, lags: Floats) -> Floats:
    """Line by line: what an instrument gets doesn't depend on those beside it."""
    out = level.copy()
    for weight, row in zip(lags, window, strict=True):
        out += weight * row
    return out

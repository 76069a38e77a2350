"""Coefficients of `har.Har` by least squares on past variances of bars."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear

from compute.adapt.har import MONTH, WEEK, Har
from compute.market import Floats


@dataclass(frozen=True)
class HarFit:
    """The model with all coefficients given, and what part of the variance of x it explains."""

    model: Har
    r_squared: float


def fit_har(variance: Floats, *, logarithmic: bool) -> HarFit:
    """Least squares over all periods with a whole month before them; variance: (T,), > 0, oldest
    first, T > MONTH + 4.

    Without logarithms no coefficient is below 0, so that no forecast is (constrained least
    squares). Raises `ValueError` where the variances don't vary.
    """
    unit = 1.0 if logarithmic else float(variance.mean())
    x = np.log(variance) if logarithmic else variance / unit
    if not np.ptp(x) > 0.0:
        raise ValueError("the variances don't vary")
    design, after = regressors(x)[:-1], x[MONTH:]
    if logarithmic:
        found = np.linalg.lstsq(design, after, rcond=None)[0]
    else:
        found = lsq_linear(design, after, bounds=(0.0, np.inf), method="bvls", tol=1e-14).x
    rest = after - design @ found
    constant, daily, weekly, monthly = found.tolist()
    residual = float(np.mean(rest**2))
    model = Har(daily, weekly, monthly, constant * unit, logarithmic, residual * logarithmic)
    return HarFit(model, 1.0 - residual / float(np.var(after)))


def regressors(x: Floats) -> Floats:
    """1, x_t and the means over a week and a month that end with it, (T - MONTH + 1, 4)."""
    sums = np.concatenate([[0.0], np.cumsum(x)])
    last = np.arange(MONTH, len(x) + 1)
    means = [(sums[last] - sums[last - k]) / k for k in (WEEK, MONTH)]
    return np.column_stack([np.ones(len(last)), x[last - 1], *means])


def har_variances(variance: Floats, model: Har) -> Floats:
    """Predicted before each period, (T,), from the periods before it; NaN in the first month."""
    x, count = model.of(variance), len(variance)
    out = np.full(count, np.nan)
    said = np.full(max(count - MONTH, 0), 0.0 if model.constant is None else model.constant)
    for lag, weight in enumerate(model.lags):
        said += weight * x[MONTH - 1 - lag : count - 1 - lag]
    out[MONTH:] = np.exp(said + 0.5 * model.residual_variance) if model.logarithmic else said
    return out

"""How well variances are predicted: QLIKE, which noise of the proxy doesn't bias (Patton 2011).

    L = mean(z - ln z - 1),  z = r^2 / v,  v predicted before r

Each prediction is made as a volatility model makes it live: nothing after it is read, and the mean
of returns is not taken out of them.
"""

import numpy as np

from compute.adapt.fit_garch import GarchFit
from compute.adapt.regimes import RegimeSwitching, ahead, filtered, mixture
from compute.market import Floats
from compute.recursion import decayed_sums


def qlike(returns: Floats, variance: Floats) -> float:
    """Mean loss of predictions, (T,) each; returns of 0, which have no logarithm, are left out."""
    z = returns**2 / variance
    z = z[z > 0.0]
    return float(np.mean(z - np.log(z) - 1.0))


def exponential_variances(returns: Floats, half_life: float) -> Floats:
    """Of exponential weights before each return, (T,); the first is NaN: nothing came before."""
    decay = 0.5 ** (1.0 / half_life)
    sums = decayed_sums((1.0 - decay) * returns**2, decay)
    weights = 1.0 - decay ** np.arange(1, len(returns) + 1)
    out: Floats = np.concatenate([[np.nan], (sums / weights)[:-1]])
    return out


def garch_variances(returns: Floats, fit: GarchFit) -> Floats:
    """Of GARCH before each return, (T,), from its long-run variance on."""
    news = fit.omega + (fit.alpha + fit.gamma * (returns < 0.0)) * returns**2
    level = fit.long_run_variance
    rest = decayed_sums(news[:-1], fit.beta, before=level)
    out: Floats = np.concatenate([[level], rest])
    return out


def regime_variances(returns: Floats, regimes: RegimeSwitching) -> Floats:
    """Of the mixture of regimes predicted before each return, (T,)."""
    predicted, one = regimes.stationary[:, None], np.ones(1, dtype=np.int64)
    out = np.empty(len(returns))
    for place in range(len(returns)):
        out[place] = mixture(predicted, regimes)[1][0]
        found, _ = filtered(predicted, returns[place : place + 1], regimes)
        predicted = ahead(found, one, regimes)
    return out

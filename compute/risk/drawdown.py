"""Drawdowns of a path of wealth."""

import numpy as np

from compute.history import Floats
from compute.risk.measures import historical_tail


def drawdowns(returns: Floats) -> Floats:
    """Return 1 - W_t / max(1, W_1..t) of the compounded path, (..., T) like ``returns``.

    The starting wealth counts as a peak. NaN makes the rest of the path NaN.
    """
    wealth = np.cumprod(1.0 + returns, axis=-1)
    peak = np.maximum(np.maximum.accumulate(wealth, axis=-1), 1.0)
    return np.asarray(1.0 - wealth / peak)


def drawdown_tail(returns: Floats, level: float) -> tuple[float, float]:
    """Largest drawdown of a path of returns (T,), and the mean of the worst 1 - level of them.

    The latter is the conditional drawdown at risk of Chekhlov, Uryasev and Zabarankin 2005, of the
    compounded path, the atom at the level split. A path that loses everything is 1 below its peak.
    """
    falls = drawdowns(np.maximum(returns, -1.0))
    equal = np.full(len(falls), 1.0 / len(falls))
    return float(falls.max()), historical_tail(falls, equal, level).expected_shortfall

"""Drawdowns of a path of wealth."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from compute.edge.numeric import floats
from compute.history import Floats
from compute.risk.measures import historical_tail


def drawdowns(returns: ArrayLike) -> Array:
    """Return 1 - W_t / max(1, W_1..t) of the compounded path, (..., T) like ``returns``.

    The starting wealth counts as a peak. NaN makes the rest of the path NaN.
    """
    (r,) = floats(returns)
    wealth = jnp.cumprod(1.0 + r, axis=-1)
    peak = jnp.maximum(jax.lax.cummax(wealth, axis=r.ndim - 1), 1.0)
    return 1.0 - wealth / peak


def drawdown_tail(returns: Floats, level: float) -> tuple[float, float]:
    """Largest drawdown of a path of returns (T,), and the mean of the worst 1 - level of them.

    The latter is the conditional drawdown at risk of Chekhlov, Uryasev and Zabarankin 2005, of the
    compounded path, the atom at the level split. A path that loses everything is 1 below its peak.
    """
    wealth = np.cumprod(1.0 + np.maximum(returns, -1.0))
    peak = np.maximum(np.maximum.accumulate(wealth), 1.0)
    falls = 1.0 - wealth / peak
    equal = np.full(len(falls), 1.0 / len(falls))
    return float(falls.max()), historical_tail(falls, equal, level).expected_shortfall

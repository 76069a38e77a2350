"""Sums that forget: the recursion under exponential weights and under GARCH variances."""

import numpy as np

from compute.history import Floats


def decayed_sums(values: Floats, decay: float, before: float = 0.0) -> Floats:
    """y_t = L y_{t-1} + x_t along the last axis of x (..., T), decay L, with y_{-1} = `before`.

    `before` is for x of one axis. NaN in x makes all that follows NaN.
    """
    # Here, as it brings scipy.stats and more with it: a seventh of what a process takes to start.
    from scipy.signal import lfilter

    if before == 0.0:
        return np.asarray(lfilter([1.0], [1.0, -decay], values))
    return np.asarray(lfilter([1.0], [1.0, -decay], values, zi=[decay * before])[0])

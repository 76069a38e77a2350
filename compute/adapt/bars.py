"""Variance of a period from its opening, highest, lowest and closing price.

With u = ln(H / O), d = ln(L / O), c = ln(C / O) and the gap o = ln(O / C_before):

Parkinson (1980):           (u - d)^2 / (4 ln 2)
Garman and Klass (1980):    (u - d)^2 / 2 - (2 ln 2 - 1) c^2
Rogers and Satchell (1991): u (u - c) + d (d - c)
Yang and Zhang (2000):      var(o) + k var(c) + (1 - k) mean(Rogers-Satchell), over several periods,
                            k = 0.34 / (1.34 + (n + 1) / (n - 1))

The first three are of the session alone; with o^2 added they are of the whole period (Garman-Klass
is then what others call Garman-Klass-Yang-Zhang). Parkinson and Garman-Klass take a drift for
volatility, the other two do not. All take the range of the trades there were for that of the price,
so that few trades make them too small (`volatility.RangeModel.scale_to_returns`).
"""

from dataclasses import dataclass
from enum import IntEnum
from math import log

import numpy as np
import numpy.typing as npt

from compute.market import Floats

_FOUR_LN_2 = 4.0 * log(2.0)


class RangeEstimator(IntEnum):
    """Which formula. The numbers are those of the contract."""

    PARKINSON = 1
    GARMAN_KLASS = 2
    ROGERS_SATCHELL = 3
    YANG_ZHANG = 4


@dataclass(frozen=True)
class Bars:
    """Opening, highest and lowest prices of a period, (m,) each; what is not there is NaN or 0."""

    open: Floats
    high: Floats
    low: Floats

    def usable(self, close: Floats) -> npt.NDArray[np.bool_]:
        """Which are whole and in order, low <= open, close <= high, with a range above 0; bool.

        A range of 0 is of an instrument that hardly traded: it says nothing of its volatility.
        """
        known = (self.low > 0.0) & (self.high > self.low)
        inside = (self.low <= np.fmin(self.open, close)) & (np.fmax(self.open, close) <= self.high)
        return np.asarray(known & inside & np.isfinite(self.open) & np.isfinite(close))


def session_variance(bars: Bars, close: Floats, estimator: RangeEstimator) -> Floats:
    """Variance of each session from open to close, per period, (m,); usable bars only.

    Of YANG_ZHANG it is the term of Rogers and Satchell. Never below 0 but for rounding.
    """
    high, low = np.log(bars.high / bars.open), np.log(bars.low / bars.open)
    change = np.log(close / bars.open)
    if estimator is RangeEstimator.PARKINSON:
        out: Floats = (high - low) ** 2 / _FOUR_LN_2
    elif estimator is RangeEstimator.GARMAN_KLASS:
        out = 0.5 * (high - low) ** 2 - (2.0 * log(2.0) - 1.0) * change**2
    else:
        out = high * (high - change) + low * (low - change)
    return out


def yang_zhang(gap: Floats, change: Floats, session: Floats, n: Floats) -> Floats:
    """The variance from var(o), var(c) (both of n - 1), the mean of Rogers-Satchell, and n > 1."""
    k = 0.34 / (1.34 + (n + 1.0) / (n - 1.0))
    out: Floats = gap + k * change + (1.0 - k) * session
    return out

"""Models of volatility, what they observe, and the state that observations move."""

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from compute.adapt.bars import Bars, RangeEstimator
from compute.adapt.har import MONTH, Har
from compute.adapt.regimes import REGIMES_MAX, RegimeSwitching
from compute.market import Floats


@dataclass(frozen=True)
class GjrGarch:
    """Coefficients per period; long_run_variance None: the mean of squared returns so far."""

    alpha: float
    beta: float
    gamma: float = 0.0
    long_run_variance: float | None = None

    @property
    def persistence(self) -> float:
        """How much of a deviation from the long-run variance is left a period later."""
        return self.alpha + 0.5 * self.gamma + self.beta


@dataclass(frozen=True)
class RangeModel:
    """Variances from bars in place of squared returns.

    session_only: without the gap before each session; sizes held over night are then too large.
    scale_to_returns: where the mean of all squared returns so far is above that of the bars'
    variances, the estimate is raised in that proportion: few trades make ranges too small.
    """

    estimator: RangeEstimator
    session_only: bool = False
    scale_to_returns: bool = False


@dataclass(frozen=True)
class VolatilityModel:
    """How volatilities are estimated; half_life in periods, band relative.

    band: the volatility in use follows the estimate only where it is off by more than this part,
    which keeps targets, and so positions, from moving every day. observations_min: with fewer
    returns nothing is said.
    """

    sampling_period_s: float = 86400.0
    periods_per_year: float = 252.0
    half_life: float = 23.0
    band: float = 0.1
    observations_min: int = 20
    garch: GjrGarch | None = None
    range: RangeModel | None = None
    regimes: RegimeSwitching | None = None
    har: Har | None = None
    """Of the variances of bars: with `range`."""


class Row(IntEnum):
    """Rows of `VolatilityState.rows`."""

    PRICE = 0
    VARIANCE = 1
    """Per period: s of the EWMA, before it is divided by its weights, or h; NaN: none yet."""
    MEAN_SQUARE = 2
    COUNT = 3
    """Returns seen."""
    PERIOD = 4
    """Of the newest price, counted as `VolatilityState.periods`."""
    LISTED = 5
    """Period of the newest observation that lists the instrument."""
    IN_USE = 6
    """Annual volatility, within the band of the estimate; 0: none yet."""
    BAR_MEAN = 7
    """Of the variances of bars, of range models; of all so far, as MEAN_SQUARE is of returns."""
    GAP = 8
    """Of YANG_ZHANG, exponentially weighted as VARIANCE, which is of its session term: the gaps."""
    GAP_SQUARE = 9
    CHANGE = 10
    """From open to close."""
    CHANGE_SQUARE = 11
    REGIME = 12
    """This row and the next ones: predicted probabilities of the regimes, of the period after
    PERIOD; 0 before the first return."""
    HAR_PERIODS = REGIME + REGIMES_MAX
    """Of HAR: periods that its window is made of, at most a month."""
    HAR_MEAN = HAR_PERIODS + 1
    """Of HAR: mean of what is regressed, so far."""
    HAR = HAR_MEAN + 1
    """This row and the next ones: what is regressed, of the last month, the newest first."""


HAR_ROWS = slice(Row.HAR, Row.HAR + MONTH)
ROWS = Row.HAR + MONTH


@dataclass(frozen=True)
class VolatilityState:
    """rows: (ROWS, m). bucket: of the newest observation, periods: how many have been seen."""

    instrument_ids: tuple[str, ...] = ()
    rows: Floats = field(default_factory=lambda: np.empty((ROWS, 0)))
    bucket: int = -1
    periods: int = 0
    late: int = 0
    """Observations that came after one of a later period, and were left out."""

    @property
    def in_use(self) -> Floats:
        """Annual volatilities, (m,); 0 where there are too few returns."""
        return self.rows[Row.IN_USE]


@dataclass(frozen=True)
class Prices:
    """Prices in a period; NaN, or not above 0: missing.

    bars: what range models need beside; a price whose bar is not usable is missing to them.
    """

    bucket: int
    instrument_ids: tuple[str, ...]
    price: Floats
    bars: Bars | None = None

"""Volatility of each instrument, moved by one observation of prices at a time.

    state' = step(state, observation, model)

costs the same for any history and looks at nothing but the observation, so that what it says of a
day never depends on what comes after. With returns r = ln(price' / price) over one period:

EWMA (no model of GARCH): s' = L s + (1 - L) r^2, L = 2^(-1 / half_life); variance s / (1 - L^n)
after n returns, so that the first ones are not taken for small.
GJR-GARCH (Glosten, Jagannathan and Runkle 1993): h' = (1 - p) v + (a + g 1[r < 0]) r^2 + b h with
p = a + g / 2 + b < 1 and v the long-run variance: the one that is given, or the mean of all r^2 so
far.

Of each period the first observation that lists an instrument counts. A price that is missing there
is a period of prediction: EWMA keeps its variance, GARCH's goes to v by p; the return to the next
price, over k + 1 periods, counts as r / sqrt(k + 1). Days without any observation are no periods,
so that a return over a weekend is one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from math import floor

import numpy as np

from compute.market import Floats, Integers

FORGOTTEN_AFTER = 400
"""Periods without a price after which an instrument is left out of the state."""


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


@dataclass(frozen=True)
class VolatilityState:
    """rows: (len(Row), m). bucket: of the newest observation, periods: how many have been seen."""

    instrument_ids: tuple[str, ...] = ()
    rows: Floats = field(default_factory=lambda: np.empty((len(Row), 0)))
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
    """Prices in a period; NaN, or not above 0: missing."""

    bucket: int
    instrument_ids: tuple[str, ...]
    price: Floats


def bucket_of(time_s: float, model: VolatilityModel) -> int:
    """The period of a time, in seconds since 1970, UTC."""
    return floor(time_s / model.sampling_period_s)


def repriced(
    state: VolatilityState, instrument_id: str, factor: float, payment: float
) -> VolatilityState:
    """The state with the newest price of an instrument as factor x price - payment.

    What a corporate action does to it: the return to the next price is then none of the market.
    """
    if instrument_id not in state.instrument_ids:
        return state
    place, rows = state.instrument_ids.index(instrument_id), state.rows.copy()
    price = rows[Row.PRICE, place] * factor - payment
    rows[Row.PRICE, place] = price if price > 0.0 else np.nan
    return replace(state, rows=rows)


def step(state: VolatilityState, seen: Prices, model: VolatilityModel) -> VolatilityState:
    """The state after one more observation: the same one again, or a late one, moves nothing."""
    if seen.bucket < state.bucket:
        return replace(state, late=state.late + 1)
    periods = state.periods + (seen.bucket > state.bucket)
    state, places = _with_all(state, seen.instrument_ids, periods)
    price = np.full(len(state.instrument_ids), np.nan)
    price[places] = np.where(seen.price > 0.0, seen.price, np.nan)
    rows = state.rows.copy()
    fresh = np.isfinite(price) & (rows[Row.LISTED] < periods)
    rows[Row.LISTED, places] = periods
    returned = fresh & (rows[Row.PERIOD] > 0)
    span = np.where(returned, periods - rows[Row.PERIOD], 1.0)
    before = np.where(returned, rows[Row.PRICE], 1.0)
    change = np.log(np.where(returned, price, 1.0) / before) / np.sqrt(span)
    _move(rows, returned, change, span, model)
    rows[Row.PRICE] = np.where(fresh, price, rows[Row.PRICE])
    rows[Row.PERIOD] = np.where(fresh, periods, rows[Row.PERIOD])
    moved = replace(state, rows=rows, bucket=seen.bucket, periods=periods)
    rows[Row.IN_USE] = _in_use(rows, estimates(moved, model), model)
    return moved


def estimates(state: VolatilityState, model: VolatilityModel) -> Floats:
    """Annual volatility of the next period, (m,), without the band; NaN before any return."""
    rows = state.rows
    if model.garch is None:
        weight = 1.0 - _decay(model) ** rows[Row.COUNT]
        variance = rows[Row.VARIANCE] / np.where(weight > 0.0, weight, np.nan)
    else:
        variance = _predicted(rows, state.periods - rows[Row.PERIOD], model.garch)
    return np.sqrt(model.periods_per_year * variance)


def long_run(state: VolatilityState, model: VolatilityModel) -> Floats:
    """Annual volatility in the long run, (m,): what is given, or of all returns; NaN before any."""
    if model.garch is not None and model.garch.long_run_variance is not None:
        variance = np.full(len(state.instrument_ids), model.garch.long_run_variance)
    else:
        variance = np.where(state.rows[Row.COUNT] > 0, state.rows[Row.MEAN_SQUARE], np.nan)
    return np.sqrt(model.periods_per_year * variance)


def _move(
    rows: Floats, returned: Floats, change: Floats, span: Floats, model: VolatilityModel
) -> None:
    """Takes in the returns per period, of lines where there is one."""
    square = change**2
    count = rows[Row.COUNT] + returned
    mean = rows[Row.MEAN_SQUARE] + (square - rows[Row.MEAN_SQUARE]) / np.maximum(count, 1.0)
    mean = np.where(returned, mean, rows[Row.MEAN_SQUARE])
    if model.garch is None:
        decay = _decay(model)
        old = np.where(rows[Row.COUNT] > 0, rows[Row.VARIANCE], 0.0)
        new = decay * old + (1.0 - decay) * square
    else:
        garch = model.garch
        old = _predicted(rows, span - 1.0, garch)
        level = mean if garch.long_run_variance is None else garch.long_run_variance
        old = np.where(np.isfinite(old), old, level)
        news = garch.alpha + garch.gamma * (change < 0.0)
        new = (1.0 - garch.persistence) * level + news * square + garch.beta * old
    rows[Row.VARIANCE] = np.where(returned, new, rows[Row.VARIANCE])
    rows[Row.COUNT], rows[Row.MEAN_SQUARE] = count, mean


def _predicted(rows: Floats, missed: Floats, garch: GjrGarch) -> Floats:
    """The variance after `missed` periods without a price."""
    level = garch.long_run_variance
    mean = rows[Row.MEAN_SQUARE] if level is None else np.full(rows.shape[1], level)
    predicted: Floats = mean + garch.persistence**missed * (rows[Row.VARIANCE] - mean)
    return np.where(missed > 0, predicted, rows[Row.VARIANCE])


def _in_use(rows: Floats, estimate: Floats, model: VolatilityModel) -> Floats:
    known = np.isfinite(estimate) & (rows[Row.COUNT] >= model.observations_min)
    used = rows[Row.IN_USE]
    off = np.abs(estimate - used) > model.band * used
    return np.where(known, np.where(off, estimate, used), 0.0)


def _decay(model: VolatilityModel) -> float:
    return float(0.5 ** (1.0 / model.half_life))


def _with_all(
    state: VolatilityState, names: Sequence[str], periods: int
) -> tuple[VolatilityState, Integers]:
    """The state with these instruments as well, and their places; without forgotten ones."""
    if tuple(names) == state.instrument_ids:
        return state, np.arange(len(state.instrument_ids))
    kept = periods - state.rows[Row.PERIOD] <= FORGOTTEN_AFTER
    ids = [name for name, keep in zip(state.instrument_ids, kept, strict=True) if keep]
    place = {name: i for i, name in enumerate(ids)}
    new = [name for name in names if name not in place]
    place |= {name: len(ids) + i for i, name in enumerate(new)}
    fresh = np.zeros((len(Row), len(new)))
    fresh[[Row.PRICE, Row.VARIANCE]] = np.nan
    rows = np.hstack([state.rows[:, kept], fresh])
    places = np.array([place[name] for name in names], dtype=np.int64)
    return replace(state, instrument_ids=(*ids, *new), rows=rows), places

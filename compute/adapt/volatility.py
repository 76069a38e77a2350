"""Volatility of each instrument, moved by one observation of prices at a time.

    state' = step(state, observation, model)

costs the same for any history and looks at nothing but the observation, so that what it says of a
day never depends on what comes after. With returns r = ln(price' / price) over one period:

EWMA (no model of GARCH): s' = L s + (1 - L) r^2, L = 2^(-1 / half_life); variance s / (1 - L^n)
after n returns, so that the first ones are not taken for small.
GJR-GARCH (Glosten, Jagannathan and Runkle 1993): h' = (1 - p) v + (a + g 1[r < 0]) r^2 + b h with
p = a + g / 2 + b < 1 and v the long-run variance: the one that is given, or the mean of all r^2 so
far.

A range model takes the variance of the period's bar (`bars.py`), with the gap before it, in place
of r^2. Yang and Zhang's has no such value of one period: the mean of its session term and the means
and mean squares of gaps and changes are weighted exponentially, and their variances are divided by
1 - 1 / n with n = 1 / sum w^2: where weights are equal that is the usual n - 1.

With `har.py` the last month of these variances is kept, and the variance is that of a regression on
it; nothing is said before there is a month. Bars over several periods count as each of them.

With regimes (`regimes.py`) the variance is that of the mixture predicted for the next period.

Of each period the first observation that lists an instrument counts. A price that is missing there
is a period of prediction: EWMA keeps its variance, GARCH's goes to v by p; the return to the next
price, over k + 1 periods, counts as r / sqrt(k + 1). Days without any observation are no periods,
so that a return over a weekend is one.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import floor

import numpy as np

from compute.adapt.bars import Bars, RangeEstimator, session_variance, yang_zhang
from compute.adapt.har import MONTH, Har, forecast, taken_in
from compute.adapt.regimes import RegimeSwitching, ahead, filtered, mixture
from compute.adapt.volatility_model import (
    HAR_ROWS,
    ROWS,
    GjrGarch,
    Prices,
    Row,
    VolatilityModel,
    VolatilityState,
)
from compute.market import Floats, Integers

FORGOTTEN_AFTER = 400
"""Periods without a price after which an instrument is left out of the state."""


def bucket_of(time_s: float, model: VolatilityModel) -> int:
    """The period of a time, in seconds since 1970, UTC."""
    return floor(time_s / model.sampling_period_s)


def is_listed(state: VolatilityState, instrument_id: str) -> bool:
    """Whether the newest period has an observation of the instrument, with a price or without."""
    if instrument_id not in state.instrument_ids:
        return False
    place = state.instrument_ids.index(instrument_id)
    return bool(state.rows[Row.LISTED, place] == state.periods)


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
    price, bars = _observed(seen, places, len(state.instrument_ids), model)
    rows = state.rows.copy()
    fresh = np.isfinite(price) & (rows[Row.LISTED] < periods)
    rows[Row.LISTED, places] = periods
    returned = fresh & (rows[Row.PERIOD] > 0)
    span = np.where(returned, periods - rows[Row.PERIOD], 1.0)
    before = np.where(returned, rows[Row.PRICE], 1.0)
    change = np.log(np.where(returned, price, 1.0) / before) / np.sqrt(span)
    square = change**2
    if model.range is not None and bars is not None:
        square = _from_bars(rows, returned, (before, price, bars), span, model)
    _move(rows, returned, (change, square), span, model)
    rows[Row.PRICE] = np.where(fresh, price, rows[Row.PRICE])
    rows[Row.PERIOD] = np.where(fresh, periods, rows[Row.PERIOD])
    moved = replace(state, rows=rows, bucket=seen.bucket, periods=periods)
    rows[Row.IN_USE] = _in_use(rows, estimates(moved, model), model)
    return moved


def estimates(state: VolatilityState, model: VolatilityModel) -> Floats:
    """Annual volatility of the next period, (m,), without the band; NaN before any return."""
    rows = state.rows
    if model.regimes is not None:
        _, variance = mixture(regime_probabilities(state, model.regimes), model.regimes)
        variance = np.where(rows[Row.COUNT] > 0, variance, np.nan)
    elif model.har is not None:
        variance = _regressed(rows, state.periods - rows[Row.PERIOD], model.har)
    elif model.garch is None:
        weight = 1.0 - _decay(model) ** rows[Row.COUNT]
        variance = rows[Row.VARIANCE] / np.where(weight > 0.0, weight, np.nan)
        if model.range is not None and model.range.estimator is RangeEstimator.YANG_ZHANG:
            variance = _yang_zhang(rows, variance, weight, model)
    else:
        variance = _predicted(rows, state.periods - rows[Row.PERIOD], model.garch)
    if model.range is not None and model.range.scale_to_returns:
        known = rows[Row.BAR_MEAN] > 0.0
        ratio = rows[Row.MEAN_SQUARE] / np.where(known, rows[Row.BAR_MEAN], np.inf)
        variance = variance * np.maximum(ratio, 1.0)
    return np.sqrt(model.periods_per_year * variance)


def regime_probabilities(state: VolatilityState, regimes: RegimeSwitching) -> Floats:
    """Of each regime in the next period, (K, m), as predicted from what has been; 0 before any."""
    rows, k = state.rows, len(regimes.mean)
    missed = np.where(rows[Row.COUNT] > 0, state.periods - rows[Row.PERIOD], 0.0)
    return ahead(rows[Row.REGIME : Row.REGIME + k], missed.astype(np.int64), regimes)


def long_run(state: VolatilityState, model: VolatilityModel) -> Floats:
    """Annual volatility in the long run, (m,): what is given, or of all returns; NaN before any."""
    if model.regimes is not None:
        _, one = mixture(model.regimes.stationary[:, None], model.regimes)
        variance = np.full(len(state.instrument_ids), one[0])
    elif model.garch is not None and model.garch.long_run_variance is not None:
        variance = np.full(len(state.instrument_ids), model.garch.long_run_variance)
    else:
        variance = np.where(state.rows[Row.COUNT] > 0, state.rows[Row.MEAN_SQUARE], np.nan)
    return np.sqrt(model.periods_per_year * variance)


def _observed(
    seen: Prices, places: Integers, count: int, model: VolatilityModel
) -> tuple[Floats, Bars | None]:
    """Prices, and bars of range models, of all instruments of the state; NaN: missing."""
    found = np.where(seen.price > 0.0, seen.price, np.nan)
    price = np.full(count, np.nan)
    if model.range is None:
        price[places] = found
        return price, None
    if seen.bars is None:
        return price, None
    whole = seen.bars.usable(found)
    columns = np.full((4, count), np.nan)
    given = (found, seen.bars.open, seen.bars.high, seen.bars.low)
    columns[:, places] = np.where(whole, given, np.nan)
    return columns[0], Bars(*columns[1:])


def _from_bars(
    rows: Floats,
    returned: Floats,
    prices: tuple[Floats, Floats, Bars],
    span: Floats,
    model: VolatilityModel,
) -> Floats:
    """Variance of each bar per period; moves the rows of range models. prices: before, and now.

    What stands for `span` periods, gap and session together, counts as a part of it for each.
    """
    assert model.range is not None
    before, price, bars = prices
    close, opened = np.where(returned, price, 1.0), np.where(returned, bars.open, 1.0)
    whole = Bars(opened, *(np.where(returned, x, 1.0) for x in (bars.high, bars.low)))
    estimator = model.range.estimator
    session = np.maximum(session_variance(whole, close, estimator), 0.0) / span
    gap, change = (np.log(x) / np.sqrt(span) for x in (opened / before, close / opened))
    if estimator is RangeEstimator.YANG_ZHANG:
        decay = _decay(model)
        moments = (gap, gap**2, change, change**2)
        for row, value in zip(range(Row.GAP, Row.CHANGE_SQUARE + 1), moments, strict=True):
            rows[row] = np.where(returned, decay * rows[row] + (1.0 - decay) * value, rows[row])
        return session
    variance: Floats = session if model.range.session_only else session + gap**2
    count = np.maximum(rows[Row.COUNT] + returned, 1.0)
    mean = rows[Row.BAR_MEAN] + (variance - rows[Row.BAR_MEAN]) / count
    rows[Row.BAR_MEAN] = np.where(returned, mean, rows[Row.BAR_MEAN])
    return variance


def _yang_zhang(rows: Floats, session: Floats, weight: Floats, model: VolatilityModel) -> Floats:
    """The variance from exponentially weighted moments; NaN before two returns."""
    decay, two = _decay(model), rows[Row.COUNT] >= 2
    total = np.where(two, weight, np.nan)
    n = (1.0 + decay) / (1.0 - decay) * total / (2.0 - total)
    gap, change = (
        np.maximum(rows[square] / total - (rows[mean] / total) ** 2, 0.0) / (1.0 - 1.0 / n)
        for mean, square in ((Row.GAP, Row.GAP_SQUARE), (Row.CHANGE, Row.CHANGE_SQUARE))
    )
    return yang_zhang(gap, change, session, n)


def _move(
    rows: Floats,
    returned: Floats,
    news: tuple[Floats, Floats],
    span: Floats,
    model: VolatilityModel,
) -> None:
    """Takes in the returns per period and what counts as their squares, where there is one."""
    change, square = news
    count = rows[Row.COUNT] + returned
    mean = rows[Row.MEAN_SQUARE] + (change**2 - rows[Row.MEAN_SQUARE]) / np.maximum(count, 1.0)
    mean = np.where(returned, mean, rows[Row.MEAN_SQUARE])
    if model.regimes is not None:
        new = _filter(rows, returned, change, span, model.regimes)
    elif model.har is not None:
        new = _keep(rows, returned, square, span, model.har)
    elif model.garch is None:
        decay = _decay(model)
        old = np.where(rows[Row.COUNT] > 0, rows[Row.VARIANCE], 0.0)
        new = decay * old + (1.0 - decay) * square
    else:
        garch = model.garch
        old = _predicted(rows, span - 1.0, garch)
        level = mean if garch.long_run_variance is None else garch.long_run_variance
        old = np.where(np.isfinite(old), old, level)
        weight = garch.alpha + garch.gamma * (change < 0.0)
        new = (1.0 - garch.persistence) * level + weight * square + garch.beta * old
    rows[Row.VARIANCE] = np.where(returned, new, rows[Row.VARIANCE])
    rows[Row.COUNT], rows[Row.MEAN_SQUARE] = count, mean


def _filter(
    rows: Floats, returned: Floats, change: Floats, span: Floats, regimes: RegimeSwitching
) -> Floats:
    """Moves the probabilities; the variance of the next period.

    A return over several periods is taken for one of a regime that lasted: of k of its means and
    variances, which is what `change` divided by sqrt(k) has k = 1 of but for the mean.
    """
    k = len(regimes.mean)
    own = slice(Row.REGIME, Row.REGIME + k)
    fresh = rows[Row.COUNT] == 0
    before = np.where(fresh, regimes.stationary[:, None], rows[own])
    before = ahead(before, (span - 1.0).astype(np.int64), regimes)
    found, _ = filtered(before, change, regimes, np.sqrt(span))
    after = ahead(found, np.ones(len(span), dtype=np.int64), regimes)
    rows[own] = np.where(returned, after, rows[own])
    return mixture(after, regimes)[1]


def _keep(rows: Floats, returned: Floats, square: Floats, span: Floats, har: Har) -> Floats:
    """Moves the last month of variances; the variance of the next period."""
    x, times = har.of(np.where(returned, square, 1.0)), span.astype(np.int64)
    rows[HAR_ROWS] = np.where(returned, taken_in(rows[HAR_ROWS], x, times), rows[HAR_ROWS])
    mean = rows[Row.HAR_MEAN] + (x - rows[Row.HAR_MEAN]) / np.maximum(rows[Row.COUNT] + 1.0, 1.0)
    rows[Row.HAR_MEAN] = np.where(returned, mean, rows[Row.HAR_MEAN])
    periods = np.minimum(rows[Row.HAR_PERIODS] + np.where(returned, span, 0.0), MONTH)
    rows[Row.HAR_PERIODS] = periods
    return _regressed(rows, np.zeros(len(span)), har)


def _regressed(rows: Floats, missed: Floats, har: Har) -> Floats:
    """The variance after `missed` periods without a bar; NaN before there is a month."""
    known = rows[Row.HAR_PERIODS] >= MONTH
    ahead_by = np.where(known, missed, 0.0).astype(np.int64)
    return np.where(known, forecast(rows[HAR_ROWS], rows[Row.HAR_MEAN], ahead_by, har), np.nan)


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
    fresh = np.zeros((ROWS, len(new)))
    fresh[[Row.PRICE, Row.VARIANCE]] = np.nan
    rows = np.hstack([state.rows[:, kept], fresh])
    places = np.array([place[name] for name in names], dtype=np.int64)
    return replace(state, instrument_ids=(*ids, *new), rows=rows), places

"""FitVolatilityModel: from a checked request and a history to a model that nothing has stored."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import sqrt

import numpy as np
from positionsizing.v1 import volatility_service_pb2 as pb

from compute.adapt.bars import Bars, RangeEstimator, session_variance
from compute.adapt.fit_garch import GarchFit, fit_garch
from compute.adapt.fit_har import HarFit, fit_har, har_variances
from compute.adapt.fit_regimes import OBSERVATIONS_MIN, RegimeFit, fit_regimes
from compute.adapt.held_out import (
    exponential_variances,
    garch_variances,
    qlike,
    regime_variances,
)
from compute.market import Floats
from server.calls.errors import FieldViolation, precondition
from server.convert import volatility as volatility_convert
from server.convert.history import moment_of
from server.convert.names import id_violations, text_violations, timestamp
from server.convert.ranges import number_violations
from server.risk.histories import Read

RETURNS_MAX = 20_000
_GARCH_MIN = 100
_HELD_OUT = 1.0 / 3.0
_OF_ANOTHER = ("garch", "range", "half_life")
_OF_BARS = (pb.VOLATILITY_FIT_HAR, pb.VOLATILITY_FIT_LOG_HAR)
_BAR_COLUMNS = ("open_instrument_id", "high_instrument_id", "low_instrument_id")


def violations(request: pb.FitVolatilityModelRequest) -> Iterator[FieldViolation]:
    """What is wrong with a request by itself."""
    if request.fit == pb.VOLATILITY_FIT_UNSPECIFIED:
        yield FieldViolation("fit", "MISSING", "must be given")
    elif request.fit not in pb.VolatilityFit.values():
        yield FieldViolation("fit", "UNKNOWN_VALUE", "is not known")
    yield from id_violations(request.universe_id, "universe_id")
    yield from text_violations(request.instrument_id, "instrument_id")
    if not request.instrument_id:
        yield FieldViolation("instrument_id", "MISSING", "must be given")
    if not request.HasField("base"):
        yield FieldViolation("base", "MISSING", "must be given, with its model_id")
        return
    bare = _bare(request.base)
    yield from number_violations(bare, "base")
    yield from volatility_convert.violations(bare, "base")
    is_regimes = request.fit == pb.VOLATILITY_FIT_REGIMES
    if request.regime_count and not is_regimes:
        yield FieldViolation("regime_count", "NOT_APPLICABLE", "is read by REGIMES alone")
    if request.fit in _OF_BARS:
        yield from _bar_violations(request)
        return
    if request.base.HasField("range"):
        text = "needs bars; coefficients are fitted to returns"
        yield FieldViolation("base.range", "NOT_APPLICABLE", text)
    if request.HasField("bars"):
        yield FieldViolation("bars", "NOT_APPLICABLE", "is read by HAR and LOG_HAR alone")


def _bar_violations(request: pb.FitVolatilityModelRequest) -> Iterator[FieldViolation]:
    for name in _BAR_COLUMNS:
        value, where = getattr(request.bars, name), f"bars.{name}"
        if value:
            yield from text_violations(value, where)
        else:
            yield FieldViolation(where, "MISSING", "must be given: HAR is of bars")
    with_har = _bare(request.base)
    with_har.har.logarithmic = request.fit == pb.VOLATILITY_FIT_LOG_HAR
    with_har.ClearField("half_life")  # of the weights that the fit is compared with
    yield from volatility_convert.violations(with_har, "base")


def instrument_ids(request: pb.FitVolatilityModelRequest) -> list[str]:
    """What is read of the history: closes, and of HAR opening, highest and lowest prices."""
    columns = [getattr(request.bars, name) for name in _BAR_COLUMNS]
    return [request.instrument_id, *(columns if request.fit in _OF_BARS else ())]


def _bare(base: pb.VolatilityModel) -> pb.VolatilityModel:
    """A model without what is to be fitted."""
    out = pb.VolatilityModel()
    out.CopyFrom(base)
    for name in ("garch", "regimes", "har"):
        out.ClearField(name)
    return out


@dataclass(frozen=True)
class _Sample:
    """Returns, (T,), oldest first, with the times of the first and the last observation; of HAR
    variances in their place."""

    returns: Floats
    first: datetime
    last: datetime


def _sample(history: Read, least: int) -> _Sample:
    """The returns of the one instrument of a history. Raises `Refusal`: too few or too many."""
    values = history.table.values[:, 0]
    known = np.isfinite(values) & (values > (0.0 if history.is_prices else -1.0))
    times = history.table.times[known]
    column = values[known]
    returns = np.diff(np.log(column)) if history.is_prices else np.log1p(column)
    if not least <= len(returns) <= RETURNS_MAX:
        text = f"there are {len(returns)} returns in the span; from {least} to {RETURNS_MAX}"
        raise precondition("TOO_FEW_PERIODS", f"{text} are needed")
    return _Sample(returns, moment_of(int(times[0])), moment_of(int(times[-1])))


def _bar_sample(request: pb.FitVolatilityModelRequest, history: Read) -> _Sample:
    """Variances of whole bars, as a model takes them. Raises `Refusal`: see `_sample`, and bars out
    of order."""
    if not history.is_prices:
        raise precondition("OTHER_HISTORY_KIND", "bars are prices; the history is of returns")
    close, opened, high, low = history.table.values.T
    times, bars = history.table.times, Bars(opened, high, low)
    known = (history.table.values > 0.0).all(axis=1)
    ordered = (low <= np.minimum(opened, close)) & (np.maximum(opened, close) <= high)
    if (known & ~ordered).any():
        when = moment_of(int(times[known & ~ordered][0])).astimezone(UTC)
        text = f"the bar of {when:%Y-%m-%dT%H:%M:%SZ} has not low <= open, close <= high"
        raise precondition("BARS_OUT_OF_ORDER", text)
    used = known & bars.usable(close)
    own, close, times = Bars(opened[used], high[used], low[used]), close[used], times[used]
    if not _GARCH_MIN < len(close) <= RETURNS_MAX:
        text = f"there are {len(close)} bars in the span; from {_GARCH_MIN + 1} to {RETURNS_MAX}"
        raise precondition("TOO_FEW_PERIODS", f"{text} are needed")
    given = request.base.range
    variance = np.maximum(session_variance(own, close, RangeEstimator(given.estimator)), 0.0)[1:]
    if not given.session_only:
        variance = variance + np.log(own.open[1:] / close[:-1]) ** 2
    return _Sample(variance, moment_of(int(times[0])), moment_of(int(times[-1])))


def fitted(request: pb.FitVolatilityModelRequest, history: Read) -> pb.FitVolatilityModelResponse:
    """The proposal. Raises `Refusal`: what is found is noise, or there is too little."""
    is_regimes = request.fit == pb.VOLATILITY_FIT_REGIMES
    if request.fit in _OF_BARS:
        sample = _bar_sample(request, history)
    else:
        sample = _sample(history, OBSERVATIONS_MIN if is_regimes else _GARCH_MIN)
    response = pb.FitVolatilityModelResponse(
        model=_bare(request.base), return_count=len(sample.returns)
    )
    response.first_time.CopyFrom(timestamp(sample.first.astimezone(UTC)))
    response.last_time.CopyFrom(timestamp(sample.last.astimezone(UTC)))
    try:
        if request.fit in _OF_BARS:
            _with_har(response, request, sample.returns)
        elif is_regimes:
            _with_regimes(response, request, sample.returns)
        else:
            _with_garch(response, request, sample.returns)
    except ValueError as error:
        raise precondition("FIT_IS_NOISE", str(error)) from error
    return response


def _with_garch(
    response: pb.FitVolatilityModelResponse, request: pb.FitVolatilityModelRequest, x: Floats
) -> None:
    asymmetric = request.fit == pb.VOLATILITY_FIT_GJR_GARCH

    def search(returns: Floats) -> GarchFit:
        return fit_garch(returns, asymmetric=asymmetric)

    found = search(x)
    model = response.model
    per_year = volatility_convert.model(model).periods_per_year
    model.ClearField("half_life")  # of exponential weights
    model.garch.alpha, model.garch.beta = found.alpha, found.beta
    if asymmetric:
        model.garch.gamma = found.gamma
    model.garch.long_run_volatility = sqrt(found.long_run_variance * per_year)
    response.log_likelihood, response.converged = found.log_likelihood, found.converged
    _hold_out(response, request, x, _GARCH_MIN, lambda part: garch_variances(x, search(part)))


def _with_har(
    response: pb.FitVolatilityModelResponse, request: pb.FitVolatilityModelRequest, x: Floats
) -> None:
    logarithmic = request.fit == pb.VOLATILITY_FIT_LOG_HAR

    def search(variance: Floats) -> HarFit:
        return fit_har(variance, logarithmic=logarithmic)

    found = search(x)
    own, model = found.model, response.model
    if not own.persistence < 1.0:
        text = f"the regression has a root of modulus {own.persistence:g}, and so no long run"
        raise precondition("FIT_IS_NOISE", text)
    model.ClearField("half_life")  # of exponential weights
    model.har.daily, model.har.weekly, model.har.monthly = own.daily, own.weekly, own.monthly
    model.har.constant = own.constant or 0.0
    model.har.logarithmic, model.har.residual_variance = own.logarithmic, own.residual_variance
    response.converged, response.r_squared = True, found.r_squared
    _hold_out(
        response,
        request,
        np.sqrt(x),
        _GARCH_MIN,
        lambda part: har_variances(x, search(part**2).model),
    )


def _with_regimes(
    response: pb.FitVolatilityModelResponse, request: pb.FitVolatilityModelRequest, x: Floats
) -> None:
    count = request.regime_count or 2
    found = fit_regimes(x, count)
    _check(found)
    own, model = found.regimes, response.model
    for name in _OF_ANOTHER:
        model.ClearField(name)  # type: ignore[arg-type]
    for mean, deviation in zip(own.mean, own.deviation, strict=True):
        model.regimes.regimes.add(mean=mean, deviation=deviation)
    model.regimes.transition.extend(value for row in own.transition for value in row)
    given = request.base.regimes
    model.regimes.condition_id = given.condition_id
    model.regimes.condition_instrument_id = given.condition_instrument_id
    response.occupancy.extend(found.occupancy)
    response.duration.extend(found.duration)
    response.log_likelihood, response.converged = found.log_likelihood, found.converged
    _hold_out(
        response,
        request,
        x,
        OBSERVATIONS_MIN,
        lambda part: regime_variances(x, fit_regimes(part, count).regimes),
    )


def _check(found: RegimeFit) -> None:
    """Raises `Refusal` for regimes that are none."""
    if found.is_noise:
        held = ", ".join(f"{value:.3g}" for value in found.occupancy)
        last = ", ".join(f"{value:.3g}" for value in found.duration)
        text = f"regimes hold {held} of the returns and last {last} periods; each needs 0.05 and 3"
        raise precondition("FIT_IS_NOISE", text)


def _hold_out(
    response: pb.FitVolatilityModelResponse,
    request: pb.FitVolatilityModelRequest,
    x: Floats,
    least: int,
    predicted: Callable[[Floats], Floats],
) -> None:
    """Fills in the losses over the last third, where enough is left to fit."""
    begin = len(x) - int(len(x) * _HELD_OUT)
    if begin < least:
        return
    half_life = volatility_convert.model(_bare(request.base)).half_life
    response.held_out_loss = qlike(x[begin:], predicted(x[:begin])[begin:])
    plain = exponential_variances(x, half_life)
    response.held_out_loss_exponential = qlike(x[begin:], plain[begin:])

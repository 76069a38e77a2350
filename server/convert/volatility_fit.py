"""FitVolatilityModel: from a checked request and a history to a model that nothing has stored."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import sqrt

import numpy as np
from positionsizing.v1 import volatility_service_pb2 as pb

from compute.adapt.fit_garch import GarchFit, fit_garch
from compute.adapt.fit_regimes import OBSERVATIONS_MIN, RegimeFit, fit_regimes
from compute.adapt.held_out import (
    exponential_variances,
    garch_variances,
    qlike,
    regime_variances,
)
from compute.market import Floats
from server.convert import volatility as volatility_convert
from server.convert.history import moment_of
from server.convert.names import id_violations, text_violations, timestamp
from server.convert.ranges import number_violations
from server.errors import FieldViolation, precondition
from server.histories import Read

RETURNS_MAX = 20_000
_GARCH_MIN = 100
_HELD_OUT = 1.0 / 3.0
_OF_ANOTHER = ("garch", "range", "half_life")


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
    if request.base.HasField("range"):
        text = "needs bars; coefficients are fitted to returns"
        yield FieldViolation("base.range", "NOT_APPLICABLE", text)


def _bare(base: pb.VolatilityModel) -> pb.VolatilityModel:
    """A model without what is to be fitted."""
    out = pb.VolatilityModel()
    out.CopyFrom(base)
    for name in ("garch", "regimes"):
        out.ClearField(name)
    return out


@dataclass(frozen=True)
class _Sample:
    """Returns, (T,), oldest first, with the times of the first and the last observation."""

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


def fitted(request: pb.FitVolatilityModelRequest, history: Read) -> pb.FitVolatilityModelResponse:
    """The proposal. Raises `Refusal`: what is found is noise, or there is too little."""
    is_regimes = request.fit == pb.VOLATILITY_FIT_REGIMES
    sample = _sample(history, OBSERVATIONS_MIN if is_regimes else _GARCH_MIN)
    response = pb.FitVolatilityModelResponse(
        model=_bare(request.base), return_count=len(sample.returns)
    )
    response.first_time.CopyFrom(timestamp(sample.first.astimezone(UTC)))
    response.last_time.CopyFrom(timestamp(sample.last.astimezone(UTC)))
    try:
        if is_regimes:
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

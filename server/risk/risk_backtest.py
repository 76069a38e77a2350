"""Backtests of risk forecasts: those recorded by a caller, and those of a book made again."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from positionsizing.v1 import risk_service_pb2 as pb

from compute.history import Gaps, HistoryGapError, sample
from compute.risk import backtest
from compute.risk.rolling import rolling_forecasts
from compute.risk.tail_method import TailMethod
from server.calls.errors import FieldViolation, precondition
from server.convert import risk as convert
from server.convert.columns import Floats, floats
from server.convert.names import id_violations
from server.risk.histories import Read

WINDOW_DEFAULT, WINDOW_MIN, WINDOW_MAX = 250, 50, 5000


def rolling_violations(rolling: pb.RollingForecasts) -> Iterator[FieldViolation]:
    """What is wrong with a request for rolling forecasts."""
    yield from id_violations(rolling.universe_id, "rolling.universe_id")
    yield from convert.book_violations(rolling.book, "rolling.book")
    if not rolling.method or rolling.method not in pb.TailMethod.values():
        yield FieldViolation("rolling.method", "MISSING", "must be given")
    if rolling.window and not WINDOW_MIN <= rolling.window <= WINDOW_MAX:
        text = f"is {rolling.window}; it must be from {WINDOW_MIN} to {WINDOW_MAX}"
        yield FieldViolation("rolling.window", "OUT_OF_RANGE", text)
    if rolling.gap_policy not in (0, Gaps.REFUSE, Gaps.COMPLETE, Gaps.CARRY_FORWARD):
        text = "must be REFUSE, COMPLETE or CARRY_FORWARD"
        yield FieldViolation("rolling.gap_policy", "NOT_APPLICABLE", text)


def of_recorded(request: pb.BacktestRiskRequest) -> pb.BacktestRiskResponse:
    """Tests forecasts that were made."""
    recorded = request.recorded
    es = floats(recorded.expected_shortfall) if len(recorded.expected_shortfall) else None
    losses, var = floats(recorded.losses), floats(recorded.value_at_risk)
    return _tested(request, losses, var, es)


def of_rolling(request: pb.BacktestRiskRequest, history: Read) -> pb.BacktestRiskResponse:
    """Tests forecasts of a book, each from the periods before it. Raises `Refusal`."""
    rolling = request.rolling
    gaps = Gaps(rolling.gap_policy or Gaps.REFUSE)
    try:
        returns, _ = sample(history.table, is_prices=history.is_prices, gaps=gaps)
    except HistoryGapError as error:
        raise precondition("HISTORY_GAPS", str(error)) from error
    losses = -(returns @ floats(rolling.book.weights))
    window = rolling.window or WINDOW_DEFAULT
    if len(losses) < window + 2:
        text = f"{len(losses)} periods of history; {window + 2} are needed for this window"
        raise precondition("TOO_FEW_PERIODS", text)
    method, level = TailMethod(rolling.method), _level(request)
    var, es, known = rolling_forecasts(losses, method, level, window)
    if known.sum() < 2:
        raise precondition("NO_FORECASTS", f"{method.name} has no forecast on this history")
    losses = losses[window:]
    usable = bool((es[known] > np.maximum(var[known], 0.0)).all())
    shortfall = es[known] if usable else None
    response = _tested(request, losses[known], var[known], shortfall)
    response.refused_count = int((~known).sum())
    places = np.flatnonzero(known)[np.array(response.exceedances, dtype=np.int64)]
    response.exceedances[:] = places.tolist()
    return response


def _level(request: pb.BacktestRiskRequest) -> float:
    return request.level if request.HasField("level") else convert.LEVEL_DEFAULT


def _degrees(request: pb.BacktestRiskRequest) -> float | None:
    return request.null_degrees if request.HasField("null_degrees") else None


def _tested(
    request: pb.BacktestRiskRequest, losses: Floats, var: Floats, es: Floats | None
) -> pb.BacktestRiskResponse:
    probability = 1.0 - _level(request)
    hits: NDArray[np.bool_] = losses > var
    count, exceeded = len(losses), int(hits.sum())
    zone, reached = backtest.traffic_light(count, exceeded, probability)
    response = pb.BacktestRiskResponse(
        period_count=count,
        exceedance_count=exceeded,
        exceedances_expected=count * probability,
        coverage=_result(backtest.kupiec(count, exceeded, probability)),
        independence=_result(backtest.independence(hits)),
        conditional_coverage=_result(backtest.conditional_coverage(hits, probability)),
        zone=zone,
        zone_probability=reached,
        exceedances=np.flatnonzero(hits).tolist(),
    )
    if es is not None:
        response.shortfall_z2 = backtest.shortfall_test(losses, var, es, probability)
        response.shortfall_p_value = backtest.shortfall_p_value(
            response.shortfall_z2, count, probability, _degrees(request)
        )
        size = backtest.shortfall_size_test(losses, var, es)
        if not np.isnan(size):
            response.shortfall_z1 = size
        fraction = convert.BETTING_DEFAULT
        if request.HasField("betting_fraction"):
            fraction = request.betting_fraction
        wealth = backtest.e_process(backtest.e_values(losses, var, es, probability), fraction)
        response.e_value, response.e_value_max = float(wealth[-1]), float(wealth.max())
    return response


def _result(found: backtest.LikelihoodRatio) -> pb.TestResult:
    return pb.TestResult(statistic=found.statistic, p_value=found.p_value)

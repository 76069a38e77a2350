"""Forecasts of a fixed book, each from the periods before it."""

import numpy as np
from numpy.typing import NDArray

from compute.history import Floats
from compute.optimize.time_limit import checkpoint
from compute.risk.conditional import filtered
from compute.risk.extremes import pareto_tail
from compute.risk.measures import (
    OutsideDomainError,
    Tail,
    cornish_fisher_tail,
    historical_tail,
    moments,
    normal_tail,
    student_degrees,
    student_tail,
)
from compute.risk.tail_method import TailMethod


def forecast(losses: Floats, method: TailMethod, level: float) -> Tail:
    """VaR and ES of the next period from past losses (T,).

    The parametric methods take the sample's deviation and a mean of zero. Raises
    `OutsideDomainError` where the method has no answer.
    """
    equal = np.full(len(losses), 1.0 / len(losses))
    if method is TailMethod.HISTORICAL:
        return historical_tail(losses, equal, level)
    if method is TailMethod.FILTERED_HISTORICAL:
        return historical_tail(filtered(losses), equal, level)
    if method is TailMethod.EXTREME_VALUE:
        return pareto_tail(losses).tail(level)
    _, deviation, skewness, kurtosis = moments(-losses, equal)
    if method is TailMethod.CORNISH_FISHER:
        return cornish_fisher_tail(level, skewness, kurtosis, deviation)
    if method is TailMethod.STUDENT:
        return student_tail(level, student_degrees(kurtosis), 0.0, deviation)
    return normal_tail(level, 0.0, deviation)


def rolling_forecasts(
    losses: Floats, method: TailMethod, level: float, window: int
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """VaR and ES for each period from `window` on, (T - window,), and where there is one.

    Forecast t sees losses t - window .. t - 1 and nothing else.
    """
    count = len(losses) - window
    var, es, known = np.zeros(count), np.zeros(count), np.ones(count, dtype=bool)
    for t in range(count):
        checkpoint()
        try:
            tail = forecast(losses[t : t + window], method, level)
        except OutsideDomainError:
            known[t] = False
            continue
        var[t], es[t] = tail.value_at_risk, tail.expected_shortfall
    return var, es, known

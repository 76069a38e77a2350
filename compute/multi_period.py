"""The method MULTI_PERIOD: the lines of a batch planned together over `plan_periods`.

Expected returns that fade as `edge_half_life_periods` says, the covariance that is named, and a
cost of each trade such that `trade_rate` is the part that a line by itself would trade without an
end (`kelly/multi_period.py`); risk aversion is 1 / the Kelly fraction chosen. What is held beside
the lines stays, and the lines hedge it. The target is the first step; limits, lots and the guard
follow, and later decisions plan anew.
"""

from typing import TYPE_CHECKING

import numpy as np

from compute.kelly.multi_period import cost_of_rate, planned_weights
from compute.market import Floats, Integers, MissingInputError
from compute.risk_parity import covariance_of
from compute.waterfall.layout import Family, is_of

if TYPE_CHECKING:
    from compute.inputs import Inputs

LINES_MAX = 1000


def multi_period_weights(inputs: "Inputs") -> Floats:
    """Signed weights of the lines after the first step, (n,), 0 of lines that are not active.

    A line is never sized against its side, beyond what is held there. Raises `MissingInputError`
    without `plan_periods` or a covariance, and for lines without an expected return.
    """
    weights, lines = np.zeros(len(inputs.index)), np.flatnonzero(inputs.active)
    periods = _periods(inputs)
    if len(lines) and inputs.parameters.fraction_chosen > 0.0:
        weights[lines] = _path(inputs, lines, periods)[0]
    return weights


def multi_period_path(inputs: "Inputs", held: Floats, first: int) -> Floats:
    """Weights of the periods from `first` on, counted from 0, before limits and lots, (H, n).

    held: at the start of that period, (n,); edges are those of the first period of `inputs`.
    """
    lines, periods = np.flatnonzero(inputs.active), _periods(inputs) - first
    path = np.tile(held, (periods, 1))
    if len(lines) and inputs.parameters.fraction_chosen > 0.0:
        path[:, lines] = _path(inputs, lines, periods, held[lines], first)
    return path


def _periods(inputs: "Inputs") -> int:
    if not inputs.parameters.plan_periods:
        text = "method MULTI_PERIOD plans the parameter plan_periods ahead, which is not set"
        raise MissingInputError("MISSING_PLAN_PERIODS", text)
    return inputs.parameters.plan_periods


def _path(
    inputs: "Inputs", lines: Integers, periods: int, held: Floats | None = None, first: int = 0
) -> Floats:
    # Imported late: both know parameters, which know the methods.
    from compute.joint.expected import expected_means
    from compute.waterfall.trade_plan import half_lives

    bounds, parameters = inputs.limit_bounds, inputs.parameters
    if len(lines) > LINES_MAX:
        text = f"method MULTI_PERIOD plans up to {LINES_MAX} lines together, not {len(lines)}"
        raise MissingInputError("TOO_MANY", text)
    _check_edges(inputs, lines)
    n, places = len(lines), inputs.index[lines]
    others = np.setdiff1d(bounds.positions.taken, places)
    covariance = covariance_of(inputs, np.concatenate([places, others]), "MULTI_PERIOD")
    side, aversion = inputs.signals.side[lines], 1.0 / parameters.fraction_chosen
    means = expected_means(inputs, lines) - side * parameters.risk_free_rate
    left = np.exp2(-1.0 / half_lives(inputs)[lines])
    shared = aversion * covariance[:n, n:] @ bounds.before[others]
    faded = means * left ** np.arange(first, first + periods)[:, None] - shared
    before = bounds.before[places] if held is None else held
    cost = cost_of_rate(parameters.trade_rate)
    try:
        path = planned_weights(before, faded, covariance[:n, :n], aversion, cost)
    except ValueError as error:
        raise MissingInputError("SINGULAR_COVARIANCE", f"method MULTI_PERIOD: {error}") from error
    opposite = np.minimum(side * before, 0.0)
    return np.asarray(side * np.maximum(side * path, opposite))


def _check_edges(inputs: "Inputs", lines: Integers) -> None:
    """Raises `MissingInputError` for a line whose edge is no expected return."""
    wrong = lines[~is_of(inputs.signals.source[lines], Family.MOMENTS)]
    if len(wrong):
        name = inputs.limit_bounds.market.instrument_ids[inputs.index[wrong[0]]]
        text = f"method MULTI_PERIOD needs the expected_return of each line; {name!r} has another"
        raise MissingInputError("MISSING_EXPECTED_RETURN", text)

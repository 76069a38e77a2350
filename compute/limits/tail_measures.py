"""What a tail limit measures of a book, or why its data can't support it.

The data are those of the request: its scenarios as they are stored, or its covariance, of which
only the normal tail is known.
"""

import numpy as np

from compute.limits.book_measures import Covariance, Measure, Measured, ScenarioReturns
from compute.limits.policy import TailLimit
from compute.market import Floats, MissingInputError
from compute.risk.extremes import EXCEEDANCES_MIN
from compute.risk.measures import OutsideDomainError
from compute.risk.tail_method import PARETO_FRACTION, TailKind, TailMethod
from compute.risk.tail_slopes import normal_multiple, sloped_tail

NOT_MEASURABLE = "TAIL_NOT_MEASURABLE"

CONVEX = ((TailKind.EXPECTED_SHORTFALL, TailMethod.HISTORICAL),)
"""Of what is measured on scenarios; the normal tail is a bound on the volatility."""


def limit_path(limit: TailLimit) -> str:
    """How errors name it."""
    return f"joint.tails ({limit.name})"


def tail_measure(limit: TailLimit, model: ScenarioReturns | Covariance) -> Measure:
    """The measure of a book of weights (n,) and its slope, (n,).

    Raises `MissingInputError` where the data don't support the method, here or when a book is
    measured whose losses don't.
    """
    if limit.method is TailMethod.NORMAL:
        return _normal(normal_multiple(limit.kind, limit.level), model)
    if isinstance(model, Covariance):
        text = f"the limit {limit_path(limit)} needs scenario_matrix_id: a covariance has no tail"
        raise MissingInputError("MISSING_MATRIX", text)
    _require_scenarios(limit, model.probability)

    def measure(weights: Floats) -> Measured:
        losses = -(model.returns @ weights)
        try:
            found = sloped_tail(limit.kind, limit.method, limit.level, losses, model.probability)
        except OutsideDomainError as error:
            raise _unmeasurable(limit, str(error)) from error
        return found.value, -(found.slope @ model.returns)

    return measure


def _normal(multiple: float, model: ScenarioReturns | Covariance) -> Measure:
    def measure(weights: Floats) -> Measured:
        value, slope = model.volatility(weights)
        return multiple * value, multiple * slope

    return measure


def _require_scenarios(limit: TailLimit, probability: Floats) -> None:
    """Refuses what no book could be measured with."""
    count = 1.0 / float(probability @ probability)  # of scenarios that are equally likely
    empirical = (TailMethod.HISTORICAL, TailMethod.FILTERED_HISTORICAL)
    if count * (1.0 - limit.level) < 1.0 - 1e-9 and limit.method in empirical:
        needed = int(np.ceil(1.0 / (1.0 - limit.level) - 1e-9))
        text = f"{count:.4g} scenarios are less than one in the tail: {needed} are needed"
        raise _unmeasurable(limit, text)
    least = int(EXCEEDANCES_MIN / PARETO_FRACTION)
    if limit.method is TailMethod.EXTREME_VALUE and len(probability) < least:
        text = f"{len(probability)} scenarios: {least} are needed for a tail of a tenth of them"
        raise _unmeasurable(limit, text)
    if len(probability) < 2:
        raise _unmeasurable(limit, "the matrix has one scenario; two or more are needed")


def _unmeasurable(limit: TailLimit, why: str) -> MissingInputError:
    text = f"the limit {limit_path(limit)} can't be measured: {why}"
    return MissingInputError(NOT_MEASURABLE, text)

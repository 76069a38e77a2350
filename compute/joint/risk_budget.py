"""Risk budgets of a batch: weights whose contributions to risk are as asked, whatever the edges.

    x_i (Sx)_i in proportion to b_i,    0 <= x_i <= cap_i,    sum x = gross

x are weights on the side of each signal, S the covariance with the signs of the sides. Where a cap
or a limit on a sum cuts in, the budgets can't all be met; then x is the book of Richard and
Roncalli (2019) inside them, which gives what is cut to the others. What is held outside the batch
is left as it is and counts in no share. Turnover, cash and limits on the risk of the whole book are
for the stages that follow.
"""

from dataclasses import astuple, dataclass, replace

import numpy as np

from compute.inputs import Inputs
from compute.joint.box import Side, line_box
from compute.joint.cuts import limit_of
from compute.joint.limits import book_limits, hard_rows
from compute.joint.returns import BookMatrix
from compute.limits.binding import Binding
from compute.limits.policy import LimitKind
from compute.market import Floats, Integers, MissingInputError
from compute.optimize import solve
from compute.optimize.execution import JUST_IN_TIME, Execution
from compute.optimize.problem import (
    Limits,
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
    Solution,
    Status,
)

EMPTY = 1e-12
"""A line that may hold no more has no part of the risk."""
AT_END = 1e-9
"""Of what a line may hold: what the solver leaves of it."""
INSIDE = 1e-12
"""Of the terms of a sum: what rounding may leave of it beyond a limit that is met."""


@dataclass(frozen=True)
class RiskBudgetBook:
    """Signed weights (n,), None where there are none and `status` says why; and what to know.

    binding: the limit that keeps each line at less than its part of the risk.
    """

    status: Status
    weights: Floats | None
    notes: tuple[str, ...] = ()
    binding: Binding | None = None


def solve_risk_budget(
    inputs: Inputs,
    scenarios: BookMatrix | None,
    covariance: BookMatrix | None,
    execution: Execution = JUST_IN_TIME,
) -> RiskBudgetBook:
    """The book of the batch's risk budgets. The covariance is used without scenarios only.

    Raises `MissingInputError` where there is neither, one lacks a line, or a line has no risk.
    """
    named = inputs.parameters.joint_objective
    assert named is not None, "an objective of kind RISK_BUDGET"
    lines = np.flatnonzero(inputs.active)
    side, box = inputs.signals.side[lines], line_box(inputs, lines)
    cap = np.where(side > 0.0, box.upper.weight, -box.lower.weight)
    usable = cap > EMPTY
    lines, side, cap = lines[usable], side[usable], cap[usable]
    weights = np.zeros(len(inputs.index))
    if not len(lines):
        return RiskBudgetBook(Status.OPTIMAL, weights, binding=_bound(inputs, weights))
    own = dict(named.shares)
    ids = inputs.limit_bounds.market.instrument_ids
    budgets = np.array([own.get(ids[place], 1.0) for place in inputs.index[lines]])
    problem = Problem(
        Objective(ObjectiveKind.RISK_BUDGET, budgets=budgets),
        covariance=_covariance(inputs, lines, scenarios, covariance) * np.outer(side, side),
        limits=Limits(lower=np.zeros(len(lines)), upper=cap, budget_max=named.gross_weight or 1.0),
    )
    try:
        solution = solve(problem, execution=execution)
    except ValueError as error:
        raise MissingInputError("NO_VARIANCE", f"risk budgets: {error}") from error
    if solution.status is not Status.OPTIMAL:
        return RiskBudgetBook(solution.status, None)
    rows, cutting = _rows(inputs, lines, side), None
    if rows is not None and _are_missed(rows, solution.weights):
        limits = replace(problem.limits, rows=rows)
        within = solve(replace(problem, limits=limits), execution=execution)
        # Out of reach of the lines, they are for the stages that follow to come near to.
        if within.status is Status.OPTIMAL:
            solution, cutting = within, rows
    weights[lines] = side * solution.weights
    notes, binding = _notes(solution.objective), _bound(inputs, weights)
    if cutting is not None:
        binding = _bound_by_rows(inputs, lines, binding, cutting, solution)
    return RiskBudgetBook(Status.OPTIMAL, weights, notes, binding)


def _rows(inputs: Inputs, lines: Integers, side: Floats) -> Rows | None:
    """The limits on sums over x, less what is held outside the batch; None where there are none."""
    limit_bounds = inputs.limit_bounds
    held = np.flatnonzero(limit_bounds.before)
    outside = np.setdiff1d(held, inputs.index[inputs.active])
    before, k = limit_bounds.before[outside], len(lines)
    everything = np.concatenate([inputs.index[lines], outside])
    sign = np.concatenate([side, np.sign(before)])
    found = hard_rows(book_limits(inputs, lines, everything, sign, None, frozenset(LimitKind)).rows)
    if found is None:
        return None
    fixed = found.matrix[:, k:] @ before
    return Rows(
        found.matrix[:, :k] * side, found.row_min - fixed, found.row_max - fixed, found.names
    )


def _are_missed(rows: Rows, x: Floats) -> bool:
    sums, slack = rows.matrix @ x, INSIDE * (np.abs(rows.matrix) @ x)
    return bool(((sums < rows.row_min - slack) | (sums > rows.row_max + slack)).any())


def _bound_by_rows(
    inputs: Inputs, lines: Integers, binding: Binding, rows: Rows, solution: Solution
) -> Binding:
    """`binding` with the narrowest limit on a sum that cuts, for lines not held by their own."""
    prices = solution.multipliers
    assert prices is not None, "it is solved"
    kind, group, bound = binding.kind.copy(), binding.group.copy(), binding.bound.copy()
    fewest = np.where(kind[lines] > 0, 0, len(lines) + 1)
    box, owner = line_box(inputs, lines), np.arange(len(lines))
    for price, end in ((prices.row_max, "max"), (prices.row_min, "min")):
        for row in np.flatnonzero(price > AT_END * max(float(price.max()), 1.0)):
            member = rows.matrix[row] != 0.0
            mine = lines[member & (int(member.sum()) < fewest)]
            limit = limit_of(f"{rows.names[row]} {end}", inputs, box, owner)
            kind[mine], group[mine], bound[mine] = int(limit.kind), limit.group, limit.bound
            fewest = np.where(member, np.minimum(fewest, member.sum()), fewest)
    return replace(binding, kind=kind, group=group, bound=bound)


def _bound(inputs: Inputs, weights: Floats) -> Binding:
    """The limits of lines at the end of what they may hold, at the optimum `weights` (n,)."""
    lines = np.flatnonzero(inputs.active)
    box, is_long = line_box(inputs, lines), inputs.signals.side[lines] > 0.0
    ends = [
        np.where(is_long, up, low)
        for up, low in zip(astuple(box.upper), astuple(box.lower), strict=True)
    ]
    end = Side(*ends)
    none = np.zeros(len(weights), dtype=np.int64)
    kind, group, bound = none.copy(), none - 1, np.zeros(len(weights))
    at_end = np.abs(weights[lines]) >= np.abs(end.weight) * (1.0 - AT_END) - EMPTY
    held = lines[at_end]
    kind[held], group[held], bound[held] = end.kind[at_end], end.group[at_end], end.own[at_end]
    return Binding(kind, group, bound, weights.copy())


def _notes(missed: float) -> tuple[str, ...]:
    if not missed > 1e-6:
        return ()
    text = f"limits keep a line {missed:.2g} of an equal share off its budget"
    return (text,)


def _covariance(
    inputs: Inputs, lines: Integers, scenarios: BookMatrix | None, covariance: BookMatrix | None
) -> Floats:
    """Covariance of the lines' instruments, (k, k)."""
    matrix = scenarios or covariance
    if matrix is None:
        text = "risk budgets need scenario_matrix_id or covariance_matrix_id"
        raise MissingInputError("MISSING_MATRIX", text)
    places = inputs.index[lines]
    columns = matrix.place[places]
    if (columns < 0).any():
        name = inputs.limit_bounds.market.instrument_ids[int(places[columns < 0][0])]
        raise MissingInputError("MISSING_MATRIX_ENTRY", f"{name!r} is sized, but not in the matrix")
    if scenarios is None:
        return matrix.values[np.ix_(columns, columns)]
    returns = matrix.values[:, columns]
    centred = returns - matrix.probability @ returns
    divisor = 1.0 - float(matrix.probability @ matrix.probability)
    if not divisor > 0.0:
        raise MissingInputError("MISSING_SCENARIOS", "risk budgets need two or more scenarios")
    out: Floats = (centred.T * matrix.probability) @ centred / divisor
    return out

"""Which limit set the size of each line in a joint optimum, and what the line would gain.

At an optimum the slope of the objective along each weight is carried by the limits:

    dU/dw_i = sum_j price_j dg_j/dw_i     (less the price of the line's own lower bound)

The narrowest limit with a term is the one that a line is bound by: its own, a group's, one on the
book; of limits alike, the one with the largest term. The slope itself, in the direction of the
line's side, is what it would gain.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from compute.inputs import Inputs
from compute.joint.box import Box
from compute.joint.tail_cuts import PREFIX, normal_cap
from compute.limits.binding import Binding
from compute.limits.bounds import LimitBounds
from compute.limits.policy import LimitKind
from compute.market import Floats, Integers
from compute.optimize.diversification import GROSS_ROW
from compute.optimize.limits import of_asset
from compute.optimize.problem import ObjectiveKind, Problem
from compute.optimize.proof.duality_gap import supporting
from compute.optimize.proof.evaluation import objective_value
from compute.optimize.proof.linearization import Tangent, tangent
from compute.optimize.proof.problem_numbers import ProblemData
from compute.optimize.sensitivity.shadow_prices import ShadowPrice
from compute.risk.tail_method import TailKind
from compute.waterfall.layout import Exposure

LINEAR = "linear "
RISK_BUDGET_ROW = "risk budget"
# A term below this share of the largest slope is rounding.
NOTHING = 1e-7

_NORMS = {
    "turnover_max": LimitKind.TURNOVER_MAX,
    "volatility_max": LimitKind.VOLATILITY_MAX,
    "var_max": LimitKind.VAR_MAX,
    "cvar_max": LimitKind.CVAR_MAX,
    "cdar_max": LimitKind.CDAR_MAX,
    "drawdown_risk": LimitKind.DRAWDOWN_RISK,
}
_OWN_NAMES = (
    *("group ", "portfolio ", "shared ", "cash", RISK_BUDGET_ROW, PREFIX, GROSS_ROW),
    *(f"{name} cut " for name in _NORMS),
)
"""What the rows of other limits begin with."""


@dataclass(frozen=True)
class Named:
    """A limit as the contract speaks of it: kind, group (-1: none) and bound in its own unit.

    weight: the bound as a fraction of equity where the problem has it in parts; None: as it is
    there.
    """

    kind: LimitKind
    group: int
    bound: float
    weight: float | None = None


NO_LIMIT_AT_ALL = Named(LimitKind.NONE, -1, 0.0)


@dataclass(frozen=True)
class JointCuts:
    """What cut the n lines of a batch, and the slope of the objective along each, (n,)."""

    binding: Binding
    marginal: Floats


def linear_name(name: str) -> str:
    """The row of a caller's linear limit, apart from the rows that other limits become."""
    return LINEAR + name if name.startswith((LINEAR, *_OWN_NAMES)) else name


def limit_of(name: str, inputs: Inputs, box: Box, owner: Integers) -> Named:
    """The limit behind a shadow price, by its name in the problem; owner: as in `joint_cuts`."""
    limit_bounds = inputs.limit_bounds
    if (own := of_asset(name)) is not None:
        return _of_line(own[0] == "lower", own[1], box, owner)
    limits = limit_bounds.limits
    joint = limits.joint
    cut, tail = name.removeprefix(PREFIX).rpartition(" cut ")[0], None
    if name == "volatility_max":
        tail = normal_cap(joint.volatility_max, joint.tails)[1]
    if cut in _NORMS:
        name = cut
    elif tail is not None or name.startswith(PREFIX):
        return _of_tail(tail.name if tail else name.removeprefix(PREFIX), limit_bounds)
    if name in _NORMS:
        stated = limits.turnover_max if name == "turnover_max" else None
        stated = getattr(limits.joint, name, stated)
        return Named(_NORMS[name], -1, float(stated or 0.0))
    row, _, end_name = name.rpartition(" ")
    if row == GROSS_ROW:
        return NO_LIMIT_AT_ALL
    if row == RISK_BUDGET_ROW:
        return Named(LimitKind.RISK_BUDGET, -1, float(inputs.parameters.risk_budget or 0.0))
    for position, linear in enumerate(limits.joint.linear):
        if row == linear_name(linear.name):
            bound = linear.lower if end_name == "min" else linear.upper
            group = len(limit_bounds.group_names) + position
            return Named(linear.kind, group, float(bound or 0.0))
    return _of_row(row, end_name == "min", limit_bounds)


def _of_line(is_lower: bool, place: int, box: Box, owner: Integers) -> Named:
    """Of one end of a variable: a line's own bound, unless it ends within the line.

    A line is in pieces where what it needs of the capital bends (`joint/margin.py`), as at what is
    held. That a weight stays there is the doing of the row of the capital, which has its own price.
    """
    end, line = (box.lower if is_lower else box.upper), int(owner[place])
    if line >= len(end.kind):
        return NO_LIMIT_AT_ALL  # not of the batch: it stays where it is
    pieces = np.flatnonzero(owner == line)
    if place != pieces[0 if is_lower else -1] or np.isinf(end.weight[line]):
        return NO_LIMIT_AT_ALL
    kind, bound = LimitKind(int(end.kind[line])), float(end.own[line])
    return Named(kind, int(end.group[line]), bound, float(end.weight[line]))


def _of_tail(name: str, limit_bounds: LimitBounds) -> Named:
    """Of a normal tail by its name, or of a cut of another."""
    joint, first = limit_bounds.limits.joint, len(limit_bounds.group_names)
    place, tail = next(
        (place, tail)
        for place, tail in enumerate(joint.tails)
        if name == tail.name or name.startswith(f"{tail.name} cut ")
    )
    is_var = tail.kind is TailKind.VALUE_AT_RISK
    kind = LimitKind.VAR_MAX if is_var else LimitKind.CVAR_MAX
    return Named(kind, first + len(joint.linear) + place, tail.bound)


def _of_row(row: str, is_least: bool, limit_bounds: LimitBounds) -> Named:
    limits = limit_bounds.limits
    if row == "portfolio gross":
        return Named(limit_bounds.gross_kind, -1, limit_bounds.gross_bound)
    if row == "portfolio net":
        bound = limits.net_weight_min if is_least else limits.net_weight_max
        kind = LimitKind.NET_MIN if is_least else LimitKind.NET_MAX
        return Named(kind, -1, float(bound or 0.0))
    if row.startswith("shared"):
        bound = float(limit_bounds.bounds[Exposure.GROSS_MAX, -1]) * limit_bounds.equity
        return Named(LimitKind.SHARED_GROSS_NOTIONAL_MAX, -1, bound)
    if row.startswith("group "):
        name, _, what = row.removeprefix("group ").rpartition(" ")
        group = limit_bounds.group_names.index(name)
        stated = limits.groups[group]
        if what == "gross":
            return Named(LimitKind.GROUP_GROSS_MAX, group, float(stated.gross_weight_max or 0.0))
        bound = stated.net_weight_min if is_least else stated.net_weight_max
        kind = LimitKind.GROUP_NET_MIN if is_least else LimitKind.GROUP_NET_MAX
        return Named(kind, group, float(bound or 0.0))
    free = max(limit_bounds.free, 0.0)
    return Named(LimitKind.CASH, -1, free * limit_bounds.scale, free)


def joint_cuts(
    inputs: Inputs,
    problem: Problem,
    weights: Floats,
    owner: Integers,
    lines: Integers,
    prices: Mapping[str, ShadowPrice],
    named: Mapping[str, Named],
) -> JointCuts:
    """What cut each line at the optimum `weights` (v,) of `problem`.

    owner: (v,), the line or holding each variable belongs to, lines first; lines: the active ones.
    """
    n, k = len(inputs.index), len(lines)
    sharpe = problem.objective.kind is ObjectiveKind.MAX_SHARPE
    program = tangent(problem, weights, objective_value(problem, weights) if sharpe else None)
    # The program of a Sharpe ratio is that times the volatility.
    unit = ProblemData(problem).volatility(weights) if sharpe else 1.0
    mine, side = owner < k, np.append(inputs.signals.side[lines], 0.0)
    slope = np.full(k, -np.inf)
    np.maximum.at(slope, owner[mine], (_slope(program) / unit * side[np.minimum(owner, k)])[mine])
    least = NOTHING * program.scale / unit
    largest, fewest = np.zeros(k), np.full(k, n + 1)
    kind, group = np.zeros(n, dtype=np.int64), np.full(n, -1, dtype=np.int64)
    bound, without = np.zeros(n), np.zeros(n)
    whole = np.bincount(owner, weights=weights, minlength=k)[:k]
    without[lines] = whole
    # A line at nothing with no slope in its direction wants nothing: no limit holds it there.
    wants = (whole != 0.0) | (slope > least)
    for name, price in prices.items():
        limit = named[name]
        if limit.kind is LimitKind.NONE:
            continue
        contribution, gradient = np.zeros(k), np.abs(_gradient(program, name))
        # A price may have no upper end, where the limits leave a single book.
        terms = np.multiply(price.high, gradient, out=np.zeros_like(gradient), where=gradient > 0.0)
        np.maximum.at(contribution, owner[mine], terms[mine])
        # A line at a limit of its own stays there, however much a wider one is worth.
        members = int(np.count_nonzero(contribution))
        narrower = (members < fewest) | ((members == fewest) & (contribution > largest))
        more = wants & (contribution > least) & narrower
        largest, fewest = np.where(more, contribution, largest), np.where(more, members, fewest)
        chosen = lines[more]
        kind[chosen], group[chosen], bound[chosen] = int(limit.kind), limit.group, limit.bound
    marginal = np.zeros(n)
    # Of a utility beyond doubles it is as large as a double that others are still added to.
    marginal[lines] = slope * float(np.exp(min(program.log_unit, 600.0)))
    return JointCuts(Binding(kind, group, bound, without), marginal)


def _slope(program: Tangent) -> Floats:
    """d objective / d weight (v,), larger is better; what costs alone hold has none."""
    slope = program.gradient.copy()
    for tail in program.tails:
        if tail.weight is not None:
            slope -= tail.weight * supporting(program, tail)
    moved = np.sign(program.weights - program.centre)
    held = np.sign(slope) * np.maximum(np.abs(slope) - program.linear_cost, 0.0)
    out: Floats = np.where(moved == 0.0, held, slope - moved * program.linear_cost)
    return out


def _gradient(program: Tangent, name: str) -> Floats:
    """d limit / d weight (v,) of the limit with this shadow price."""
    size = len(program.weights)
    if (own := of_asset(name)) is not None:
        return np.eye(1, size, own[1])[0]
    if name == "turnover_max":
        return np.ones(size)
    for tail in program.tails:
        if tail.name == name:
            return supporting(program, tail)
    row = name if name in program.names else name.rpartition(" ")[0]
    if row not in program.names:
        return np.zeros(size)
    return np.asarray(program.rows[program.names.index(row)])

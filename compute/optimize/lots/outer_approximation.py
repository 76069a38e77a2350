"""Whole lots, smallest trades and few names: the joint problem with integer variables.

Outer approximation (Duran and Grossmann 1986): the concave objective and the convex risk limits
are replaced by their tangents at the points visited, which makes a mixed-integer linear program
for HiGHS; its answer is visited next, until the program's bound meets the best portfolio found.
Linear limits, gross, turnover and linear costs are in the program exactly, so every point it
returns keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy import sparse

from compute.optimize.linear_program import Builder, LpSolution, LpStatus, maximise
from compute.optimize.problem import Limits, ObjectiveKind, Problem
from compute.optimize.proof.duality_gap import bounded
from compute.optimize.proof.evaluation import (
    largest_violation,
    objective_value,
    tail_limits,
    tail_measure,
)
from compute.optimize.proof.linearization import Tangent, tangent
from compute.optimize.proof.lp_relaxation import relaxation
from compute.optimize.proof.problem_numbers import ProblemData
from compute.optimize.time_limit import ENDLESS, TimeLimit

Vector = npt.NDArray[np.float64]
Kind = ObjectiveKind

# Integer points may miss a linear limit by this much (fractions of equity), HiGHS's own tolerance.
TOLERANCE = 1e-8


@dataclass(frozen=True)
class IntegerRules:
    """What must be whole; None is no rule.

    lot: f64[n] > 0, weight of one lot; a position is a whole number of them. odd: f64[n], part of a
    lot that every position has beside its whole lots (None: none). trade_min: f64[n],
    a name is left alone (an odd
    lot included), closed, or traded by at least this weight. position_min: f64[n], a name is not
    held or held with at least this |weight|. names_max: most names held. reach_lots: look only
    this many lots around the continuous weights (None: anywhere within the limits). stays: the
    holdings are such lots, so that no trade is known to be one answer where it keeps the limits.
    """

    lot: Vector | None = None
    trade_min: Vector | None = None
    position_min: Vector | None = None
    names_max: int | None = None
    reach_lots: int | None = None
    odd: Vector | None = None
    stays: bool = False


@dataclass(frozen=True)
class IntegerSolution:
    """The best portfolio found under the rules, None for `weights` and `lots` if there is none.

    shortfall: how much worse than the continuous optimum, relative to it; what the rules cost.
    gap: how much better another portfolio under the rules (within reach) could be at most, in
    the same unit. rounds: linear programs solved.
    """

    weights: Vector | None
    lots: npt.NDArray[np.int64] | None
    objective: float
    shortfall: float
    gap: float
    rounds: int


@dataclass(frozen=True)
class Effort:
    """When a search ends without having reached its tolerance: with the best point found so far.

    rounds_max: linear programs solved. nodes_max: branches of each; the same everywhere, so that
    a search can be repeated. time_limit_s: of each, in case a branch takes long.
    """

    rounds_max: int = 25
    nodes_max: int = 10_000_000
    time_limit_s: float = 20.0


PATIENT = Effort()


@dataclass
class _Cuts:
    """Tangents found so far: of the objective (theta <= value + slope'w) and of risk limits."""

    objective: list[tuple[Vector, float]] = field(default_factory=list)
    limits: list[tuple[Vector, float]] = field(default_factory=list)


def solve_integer(
    problem: Problem,
    weights: Vector,
    rules: IntegerRules,
    *,
    tolerance: float = 1e-6,
    effort: Effort = PATIENT,
    time_limit: TimeLimit = ENDLESS,
) -> IntegerSolution:
    """The best portfolio under `rules`, starting from the continuous optimum `weights` [n].

    Stops when the bound is within `tolerance` (relative to the objective) of the best found, or
    when `effort` is used up. A Sharpe ratio is replaced by mean'w - ratio volatility(w) at the
    continuous ratio, a risk budget by the distance from `weights`.
    """
    value = objective_value(problem, weights)
    base = _linear_part(problem, weights)
    size = max(abs(value), 1e-3 * base.scale)
    cuts, bound = _Cuts(), np.inf
    best = _no_trade(problem, rules)
    best_worth = -np.inf if best is None else _worth(problem, weights, best)
    _visit(problem, weights, weights, cuts)
    start = _worth(problem, weights, weights)
    seen: set[bytes] = set()
    rounds = 0
    while rounds < effort.rounds_max:
        rounds += 1
        left = replace(effort, time_limit_s=time_limit.least(effort.time_limit_s))
        found, point = _integer_program(base, rules, cuts, weights, left)
        time_limit.check()  # that there was no time is not that there are no lots
        if found.status is not LpStatus.OPTIMAL:
            # A program that was given up has a bound all the same, but no point.
            if found.status is LpStatus.FAILED and np.isfinite(found.bound):
                bound = min(bound, found.bound * base.scale)
            break
        bound = min(bound, found.bound * base.scale)
        worth = _worth(problem, weights, point)
        if worth > best_worth and largest_violation(problem, point) <= TOLERANCE:
            best, best_worth = point, worth
        if bound - best_worth <= tolerance * size or point.tobytes() in seen:
            break
        seen.add(point.tobytes())
        _visit(problem, weights, point, cuts)
    if best is None:
        return IntegerSolution(None, None, float("nan"), float("inf"), float("inf"), rounds)
    lots = None
    if rules.lot is not None:
        lots = np.rint((best - _odd(rules, len(best))) / rules.lot).astype(np.int64)
    objective, unit = objective_value(problem, best), size
    gap = max(bound - best_worth, 0.0) / unit
    return IntegerSolution(best, lots, objective, (start - best_worth) / unit, gap, rounds)


def _no_trade(problem: Problem, rules: IntegerRules) -> Vector | None:
    """The holdings, where they are known to be whole lots and keep all rules and limits."""
    held = problem.holdings
    if not rules.stays or held is None:
        return None
    names, least = np.flatnonzero(held), rules.position_min
    if rules.names_max is not None and len(names) > rules.names_max:
        return None
    if least is not None and (np.abs(held[names]) < least[names]).any():
        return None
    return held if largest_violation(problem, held) <= TOLERANCE else None


def _linear_part(problem: Problem, weights: Vector) -> Tangent:
    """The limits and linear costs of the problem, without its objective or tails."""
    smooth = problem
    if problem.objective.kind is Kind.RISK_BUDGET:
        smooth = replace(problem, objective=replace(problem.objective, kind=Kind.MIN_VARIANCE))
    program = tangent(smooth, weights, 0.0)
    return bounded(replace(program, gradient=np.zeros_like(weights), tails=()))


def _worth(problem: Problem, centre: Vector, weights: Vector) -> float:
    """What is maximised over integer portfolios, linear costs included, larger is better."""
    kind, data = problem.objective.kind, ProblemData(problem)
    if kind is Kind.RISK_BUDGET:
        return -float(np.abs(weights - centre).sum())
    if kind is Kind.MAX_SHARPE:
        ratio = objective_value(problem, centre)
        gain = data.excess @ weights - data.costs(weights)
        return float(gain) - ratio * data.volatility(weights)
    value = objective_value(problem, weights)
    return value if kind.maximised else -value


def _visit(problem: Problem, centre: Vector, weights: Vector, cuts: _Cuts) -> None:
    """Add the tangents at `weights` of the objective, net of linear costs, and of risk limits."""
    data, linear = ProblemData(problem), problem.costs.linear
    worth = _worth(problem, centre, weights)
    if linear is not None:
        worth += float(linear @ np.abs(weights - data.holdings))
    if problem.objective.kind is Kind.RISK_BUDGET:
        side = -np.sign(weights - centre)
        cuts.objective.append((side, -float(side @ centre)))
        return
    sharpe = problem.objective.kind is Kind.MAX_SHARPE
    ratio = objective_value(problem, centre) if sharpe else None
    program = tangent(problem, weights, ratio)
    slope = program.gradient.copy()
    for tail in program.tails:
        value, support = tail_measure(data, tail.kind, tail.level, weights)
        functional = -data.scenarios.T @ support
        if tail.weight is not None:
            slope -= tail.weight * functional
        elif value > 0.0:
            cuts.limits.append((functional, float(tail.bound or 0.0)))
    cuts.objective.append((slope, worth - float(slope @ weights)))
    known = {tail_name for tail_name, *_ in tail_limits(problem)}
    for row, high, name in zip(program.rows, program.row_max, program.names, strict=True):
        if name in _CURVED and name not in known:
            cuts.limits.append((row, float(high)))


_CURVED = frozenset({"volatility_max", "var_max", "drawdown_risk"})


def _integer_program(
    base: Tangent, rules: IntegerRules, cuts: _Cuts, centre: Vector, effort: Effort
) -> tuple[LpSolution, Vector]:
    """Solve the mixed-integer program of the cuts so far; returns it and the exact weights."""
    builder = relaxation(base)
    builder.columns("theta", 1, -np.inf, np.inf, 1.0 / base.scale)
    slopes = np.array([slope for slope, _ in cuts.objective])
    heights = np.array([height for _, height in cuts.objective])
    ones = np.ones((len(heights), 1)) / base.scale
    tangents = {"theta": ones, "weights": -slopes / base.scale}
    builder.rows("objective", tangents, -np.inf, heights / base.scale)
    if cuts.limits:
        rows = np.array([row for row, _ in cuts.limits])
        high = np.array([bound for _, bound in cuts.limits])
        builder.rows("risk", {"weights": rows}, -np.inf, high)
    _add_rules(builder, base, rules, centre)
    found = maximise(
        builder.build(),
        time_limit_s=effort.time_limit_s,
        nodes_max=effort.nodes_max,
        gap_relative=1e-7,
    )
    point = found.point[builder.column_slice("weights")]
    if rules.lot is not None and found.status is LpStatus.OPTIMAL:
        whole = rules.lot * np.rint(found.point[builder.column_slice("lots")])
        point = whole + _odd(rules, len(centre))
        if rules.trade_min is not None:
            stays = found.point[builder.column_slice("stay")] > 0.5
            point = np.where(stays, base.centre, point)
    return found, point


def _add_rules(builder: Builder, base: Tangent, rules: IntegerRules, centre: Vector) -> None:
    count, eye = len(centre), sparse.identity(len(centre), format="coo")
    if rules.trade_min is not None:
        builder.columns("stay", count, 0.0, 1.0, integer=True)
    if rules.lot is not None:
        _add_lots(builder, base, rules, rules.lot, centre)
    if rules.names_max is not None or rules.position_min is not None:
        least = np.zeros(count) if rules.position_min is None else rules.position_min
        _add_either(builder, "held", base, np.zeros(count), least)
        if rules.names_max is not None:
            both = {"held.up": np.ones((1, count)), "held.down": np.ones((1, count))}
            builder.rows("names", both, -np.inf, float(rules.names_max))
    if rules.trade_min is not None:
        _add_either(builder, "moved", base, base.centre, rules.trade_min)
        stay = {"moved.up": eye, "moved.down": eye, "moved.shut": eye, "stay": eye}
        builder.rows("stay", stay, 1.0, 1.0)


def _add_lots(
    builder: Builder, base: Tangent, rules: IntegerRules, lot: Vector, centre: Vector
) -> None:
    """w = odd + lot * lots, or, where trades have a smallest size, the holding left as it is."""
    count, eye = len(centre), sparse.identity(len(centre), format="coo")
    low, high = np.full(count, -np.inf), np.full(count, np.inf)
    beside = _odd(rules, count)
    if rules.reach_lots is not None:
        low = np.floor((centre - beside) / lot) - rules.reach_lots
        high = np.ceil((centre - beside) / lot) + rules.reach_lots
    builder.columns("lots", count, low, high, integer=True)
    whole = {"weights": eye, "lots": -sparse.diags_array(lot)}
    if rules.trade_min is not None:
        held = base.centre - beside
        whole["stay"] = -sparse.diags_array(held - lot * np.rint(held / lot))
    builder.rows("lots", whole, beside, beside)


def _odd(rules: IntegerRules, count: int) -> Vector:
    return np.zeros(count) if rules.odd is None else rules.odd


def _add_either(builder: Builder, key: str, base: Tangent, origin: Vector, least: Vector) -> None:
    """w = origin, `least` above (binary `key.up`) or below it (`key.down`), or 0 (`key.shut`)."""
    eye, count = sparse.identity(len(origin), format="coo"), len(origin)
    above, below = np.maximum(base.upper - origin, 0.0), np.maximum(origin - base.lower, 0.0)
    up, down, shut = f"{key}.up", f"{key}.down", f"{key}.shut"
    builder.columns(up, count, 0.0, (above >= least).astype(float), integer=True)
    builder.columns(down, count, 0.0, (below >= least).astype(float), integer=True)
    builder.columns(shut, count, 0.0, (origin != 0.0).astype(float), integer=True)
    builder.rows(f"{key}.one", {up: eye, down: eye, shut: eye}, -np.inf, 1.0)
    back = {"weights": eye, shut: sparse.diags_array(origin)}
    high = {up: -sparse.diags_array(above), down: sparse.diags_array(least)}
    builder.rows(f"{key}.high", back | high, -np.inf, origin)
    low = {up: -sparse.diags_array(least), down: sparse.diags_array(below)}
    builder.rows(f"{key}.low", back | low, origin, np.inf)


def with_room(limits: Limits, room: float) -> Limits:
    """Limits whose least investment is lowered by `room`, so whole lots can leave cash over."""
    if limits.budget_min is None:
        return limits
    return replace(limits, budget_min=limits.budget_min - room)

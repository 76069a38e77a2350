"""The proof that comes with every joint answer, made by code that shares nothing with the solver.

Any weights can be certified. What is proven is an upper bound on how much better any other
feasible portfolio could be (`duality_gap`), from the duals a solver reports in O(nT), and, when
`thorough`, from duals that HiGHS finds for itself. The smaller of the two counts: both are valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compute.optimize.problem import Multipliers, ObjectiveKind, Problem, Solution
from compute.optimize.proof import duality_gap, risk_parity_reference
from compute.optimize.proof.curvature_bound import curved_gap
from compute.optimize.proof.evaluation import largest_violation, objective_value, violations
from compute.optimize.proof.linearization import Tangent, tangent
from compute.optimize.proof.lp_relaxation import best_dual
from compute.optimize.proof.objectives import log_utility_size
from compute.optimize.proof.problem_numbers import ProblemData
from compute.optimize.proof.sharpe_bound import ratio_gap
from compute.optimize.time_limit import ENDLESS, TimeLimit

Vector = npt.NDArray[np.float64]

# Goal C3: residuals and gap within this, or the answer is not called optimal.
TOLERANCE = 1e-8
# Objectives up to this, in wealth, are none; wealth itself is exact to this.
NOTHING, ROUNDING = 1e-12, 1e-15
# A limit counts as active, and a weight as at its bound, within this (fractions of equity).
ACTIVE = 1e-8


@dataclass(frozen=True)
class Certificate:
    """How well a portfolio is proven to be the best one.

    objective: exact value at the weights, natural sense. primal_residual: largest violation of
    a hard limit, its own units. dual_residual: the part of the gradient that the limits cannot
    carry (`stationarity`). complementarity: largest price times slack,
    relative to the objective, of a ratio no more than gap_relative. gap: no feasible portfolio is
    better by more than this, objective units; gap_relative: the same over |objective|, as it is
    where that is 0. Of risk budgets gap is the objective, which is never below zero, and where
    limits cut them off gap_relative is that of the program of `risk_parity_reference`, over its
    lambda. active: names of the
    limits that bind. prices: `solver` or `linear program`, whose duals gave the gap, or `identity`
    where the value itself is the gap: risk budgets that are met, a variance that is none; and
    where the box leaves these weights alone.
    bounded: False where no limit bounds some weight, so that the gap holds for weights within
    1,000 times equity only. A utility beyond doubles is -inf; its gap is relative to its size,
    which the logarithm tells. is_optimal: the limits are kept within 1e-8 of what is held, and gap,
    residuals and complementarity are within 1e-8 of `size_of` the objective.
    """

    objective: float
    primal_residual: float
    dual_residual: float
    complementarity: float
    gap: float
    gap_relative: float
    active: tuple[str, ...]
    prices: str
    bounded: bool
    is_optimal: bool


def certify(
    problem: Problem,
    solution: Solution,
    *,
    thorough: bool = True,
    time_limit: TimeLimit = ENDLESS,
) -> Certificate:
    """The certificate of a solver's answer; a Solution without weights is never optimal."""
    return certify_weights(
        problem,
        solution.weights,
        solution.multipliers,
        thorough=thorough,
        time_limit=time_limit,
    )


def certify_weights(
    problem: Problem,
    weights: Vector,
    multipliers: Multipliers | None = None,
    *,
    thorough: bool = True,
    time_limit: TimeLimit = ENDLESS,
) -> Certificate:
    """The certificate of any weights [n]; with neither multipliers nor `thorough` it is empty."""
    if not np.all(np.isfinite(weights)):
        return _unproven(float("nan"), float("inf"), ())
    value, excess = objective_value(problem, weights), largest_violation(problem, weights)
    active = active_limits(problem, weights)
    shared = problem.objective.kind is ObjectiveKind.RISK_BUDGET
    if shared and max(value, excess) <= TOLERANCE:
        return _budget_certificate(value, excess, active)
    least = problem.objective.kind is ObjectiveKind.MIN_VARIANCE and excess <= TOLERANCE
    if least and value <= nothing_of_variance(ProblemData(problem), weights):
        return _variance_certificate(value, excess, active)
    beyond = value == -np.inf and log_utility_size(ProblemData(problem), problem.objective, weights)
    if not (np.isfinite(value) or beyond) or (shared and not np.all(weights > 0.0)):
        return _unproven(value, excess, active)
    sharpe = problem.objective.kind is ObjectiveKind.MAX_SHARPE
    program = tangent(problem, weights, value if sharpe else None)
    candidates: list[tuple[str, duality_gap.Dual | None]] = []
    if multipliers is not None and not program.log_unit:
        # A solver prices the Sharpe ratio itself; the program here is that times volatility.
        unit = ProblemData(problem).volatility(weights) if sharpe else 1.0
        candidates.append(("solver", duality_gap.multiplier_dual(program, multipliers, unit)))
    if np.all(program.lower >= program.upper):  # nothing else may be held, whatever it is worth
        candidates.append(("identity", duality_gap.no_prices(program)))
    elif thorough or program.log_unit:
        candidates.append(("linear program", best_dual(program, time_limit=time_limit)))
    proofs = [
        _proof(problem, program, name, dual, value, excess, active)
        for name, dual in candidates
        if dual is not None
    ]
    return min(
        proofs,
        key=lambda proof: (not proof.is_optimal, proof.gap),
        default=_unproven(value, excess, active),
    )


def _proof(
    problem: Problem,
    program: Tangent,
    prices: str,
    dual: duality_gap.Dual,
    value: float,
    excess: float,
    active: tuple[str, ...],
) -> Certificate:
    named, unit = duality_gap.gap_terms(program, dual), 1.0
    size = 1.0 if program.log_unit else size_of(problem.objective.kind, value)
    if named["box"] > TOLERANCE * size and not program.impact.any():
        named["box"] = min(named["box"], _curved(problem, program, dual))
    terms = np.array(list(named.values()))
    gap = float(terms.sum())
    shared = problem.objective.kind is ObjectiveKind.RISK_BUDGET
    if problem.objective.kind is ObjectiveKind.MAX_SHARPE:
        unit = ProblemData(problem).volatility(program.weights)
        gap, size = ratio_gap(problem, program, value, gap), max(abs(value), 1e-12)
    elif shared:
        size = risk_parity_reference.level(ProblemData(problem), problem.objective)
    worst = float(np.abs(terms).max(initial=0.0)) / (size * unit)
    if problem.objective.kind is ObjectiveKind.MAX_SHARPE:
        # The program's terms are of a book as large as the limits let one be, and a ratio is of
        # none: what one of them may add to it is no more than what all may.
        worst = min(worst, gap / size)
    # A slope is worth what the box, or curvature before it, lets it earn: no more than that term.
    residual = min(stationarity(program, dual, size * unit), named["box"] / (size * unit))
    # The largest of several numbers is not always NaN where one of them is.
    held = max(float(np.abs(program.weights).sum()), 1.0)
    bad = np.array([excess / held, residual, worst, gap / size])
    proven = np.all(bad <= TOLERANCE)
    return Certificate(
        objective=value,
        primal_residual=excess,
        dual_residual=residual,
        complementarity=worst,
        gap=value if shared else _natural(gap, program),
        gap_relative=gap / (size if shared or program.log_unit else abs(value) or 1.0),
        active=active,
        prices=prices,
        bounded=duality_gap.is_bounded(program),
        is_optimal=bool(proven),
    )


def _natural(gap: float, program: Tangent) -> float:
    """The gap in units of the objective; inf where it is beyond doubles too."""
    with np.errstate(over="ignore"):
        return float(gap * np.exp(program.log_unit)) if gap > 0.0 else gap


def _curved(problem: Problem, program: Tangent, dual: duality_gap.Dual) -> float:
    """The box's part of the gap where curvature, not the box, bounds what nothing else carries."""
    rest = uncarried(program, dual)
    data = ProblemData(problem, program.log_unit)
    curved = curved_gap(data, problem.objective, program.weights, rest)
    slope = duality_gap.reduced_gradient(program, dual) - rest
    return curved + float(duality_gap.box_terms(duality_gap.bounded(program), dual, slope).sum())


def size_of(kind: ObjectiveKind, value: float) -> float:
    """What 1e-8 of is little for an objective: its own value, never the size of the box.

    Where the value is nothing, 1e-12 of wealth is (of a variance its square), and no gap is told
    apart below the rounding of wealth.
    """
    if kind is ObjectiveKind.MIN_VARIANCE:
        return max(abs(value), NOTHING**2 / TOLERANCE)
    return max(abs(value), ROUNDING / TOLERANCE) if abs(value) > NOTHING else NOTHING / TOLERANCE


def nothing_of_variance(data: ProblemData, weights: Vector) -> float:
    """What rounding alone makes of a variance w'Sw that is zero: 2 n u |w|'|S||w|.

    u is half the distance of 1 to the next double (Higham 2002, Accuracy and Stability, 3.1). A
    book whose parts cancel has no risk as far as doubles tell, and less than none there isn't.
    """
    size = np.abs(weights)
    terms = float(size @ np.abs(data.covariance) @ size)
    return 2.0 * data.size * 0.5 * float(np.finfo(np.float64).eps) * terms


def _unproven(value: float, excess: float, active: tuple[str, ...]) -> Certificate:
    endless = float("inf")
    return Certificate(
        value, excess, endless, endless, endless, endless, active, "none", False, False
    )


def _budget_certificate(value: float, excess: float, active: tuple[str, ...]) -> Certificate:
    """Risk budgets that are met: the value is itself the distance from the best there is, zero."""
    return Certificate(value, excess, value, 0.0, value, value, active, "identity", True, True)


def _variance_certificate(value: float, excess: float, active: tuple[str, ...]) -> Certificate:
    """No risk but rounding: the value is itself the distance from the best there can be, zero."""
    gap = max(value, 0.0)
    return Certificate(value, excess, 0.0, 0.0, gap, gap, active, "identity", True, True)


def stationarity(program: Tangent, dual: duality_gap.Dual, size: float) -> float:
    """Largest slope that neither the kinks nor the box can carry, relative to `program.scale`.

    The box carries any slope outwards at a bound, a kink anything within its cost. Next to a
    bound the multiplier may be the whole slope or nothing: what remains is its complementarity
    relative to the objective's `size`, or the slope, whichever is smaller.
    """
    slope = duality_gap.reduced_gradient(program, dual)
    distance = np.abs(uncarried(program, dual)) / program.scale
    carried = duality_gap.box_terms(duality_gap.bounded(program), dual, slope) / size
    return float(np.minimum(distance, np.abs(carried)).max(initial=0.0))


def uncarried(program: Tangent, dual: duality_gap.Dual) -> Vector:
    """What neither kinks nor box carry of the slope along each weight [n]."""
    weights, slope = program.weights, duality_gap.reduced_gradient(program, dual)
    low, high = slope.copy(), slope.copy()
    for price, centre in (
        (program.linear_cost + dual.turnover, program.centre),
        (np.full_like(slope, dual.gross), np.zeros_like(slope)),
    ):
        side = np.sign(np.where(np.abs(weights - centre) <= ACTIVE, 0.0, weights - centre))
        low -= np.where(side < 0.0, -price, price)
        high -= np.where(side > 0.0, price, -price)
    # A slope upwards is carried by the upper bound, downwards by the lower one.
    low = np.where(weights >= program.upper - ACTIVE, np.minimum(low, 0.0), low)
    high = np.where(weights <= program.lower + ACTIVE, np.maximum(high, 0.0), high)
    return np.asarray(np.where(low > 0.0, low, np.minimum(high, 0.0)))


def active_limits(problem: Problem, weights: Vector) -> tuple[str, ...]:
    """Names of the hard limits that hold with equality; box limits as `upper[3]`."""
    limits = problem.limits
    sides: Sequence[tuple[str, Vector | None]] = (
        ("lower", limits.lower),
        ("upper", limits.upper),
    )
    found = [
        f"{name}[{index}]"
        for name, bound in sides
        if bound is not None
        for index in np.flatnonzero(np.abs(weights - bound) <= ACTIVE)
    ]
    rest = violations(problem, weights)
    found += [
        name for name, value in rest.items() if name not in ("lower", "upper") and value >= -ACTIVE
    ]
    return tuple(found)

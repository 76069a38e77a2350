"""Whether limits can be kept together, by SciPy's linear programs and cvxpy.

The independent check of `compute.optimize.infeasibility.conflict`: the same question put another
way, with nothing shared. Limits carry the names of `Explanation.conflict`.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import combinations

import cvxpy as cp
import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from compute.optimize.infeasibility.conflict import Explanation
from compute.optimize.problem import Array, Limits, ObjectiveKind, Problem
from compute.optimize.proof.evaluation import tail_limits, violations
from compute.optimize.proof.problem_numbers import ProblemData

# Least total violation above which limits conflict; between this and CLEAR nobody can say.
CONFLICT, CLEAR = 1e-9, 1e-8
# Conflicts are compared with all smaller sets only where there are no more of those than this.
SUBSETS_MAX = 60


@dataclass(frozen=True)
class _Rows:
    """matrix (weights, own columns) <= bound, the slack of each row in units of `scale`."""

    name: str
    weights: sparse.csr_array
    own: sparse.csr_array
    bound: Array
    scale: float


def exists(problem: Problem) -> bool | None:
    """Whether some portfolio keeps every hard limit; None if it is too close to say."""
    least = least_violation(problem, limit_names(problem))
    if CONFLICT < least <= CLEAR:
        return None
    return drawdown_risk_fits(problem) if least <= CONFLICT else False


def limit_names(problem: Problem) -> list[str]:
    """Every linear and tail limit that is set."""
    return list(dict.fromkeys(rows.name for rows in _rows(problem)))


def least_violation(problem: Problem, names: Collection[str], hard: Collection[str] = ()) -> float:
    """Least sum of slacks of the limits `names`, those in `hard` without any; inf if impossible."""
    rows = [row for row in _rows(problem) if row.name in names]
    size, wide = problem.size, [row.own.shape[1] for row in rows]
    slacks = [int(np.isfinite(row.bound).sum()) if row.name in _BOX else 1 for row in rows]
    width = size + sum(wide) + sum(slacks)
    blocks, bounds, at, slack_at = [], [], size, size + sum(wide)
    cost, upper = np.zeros(width), np.full(width, np.inf)
    for row, own, count in zip(rows, wide, slacks, strict=True):
        keep = np.isfinite(row.bound)
        if row.name in _BOX:
            give = sparse.identity(count)
        else:  # the last row of a limit is its bound, the others define its columns
            give = sparse.coo_array(([1.0], ([len(row.bound) - 1], [0])), (len(row.bound), 1))
            keep = np.ones(len(row.bound), bool)
        block = sparse.lil_array((int(keep.sum()), width))
        block[:, :size] = row.weights[keep]
        if own:
            block[:, at : at + own] = row.own[keep]
        block[:, slack_at : slack_at + count] = -row.scale * give
        cost[slack_at : slack_at + count] = 1.0
        if row.name in hard:
            upper[slack_at : slack_at + count] = 0.0
        blocks.append(block.tocsr())
        bounds.append(row.bound[keep])
        at, slack_at = at + own, slack_at + count
    if not blocks:
        return 0.0
    lower = np.full(width, -np.inf)
    lower[size + sum(wide) :] = 0.0
    found = linprog(
        cost,
        A_ub=sparse.vstack(blocks).tocsr(),
        b_ub=np.concatenate(bounds),
        bounds=np.c_[lower, upper],
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    return float(found.fun) if found.status == 0 else float("inf")


_BOX = ("lower", "upper")


def _rows(problem: Problem) -> Iterable[_Rows]:
    """The limits as rows; norms and drawdowns with columns of their own."""
    facts, limits, n = ProblemData(problem), problem.limits, problem.size
    eye, ones = sparse.identity(n, format="csr"), np.ones((1, n))

    def plain(name: str, matrix: Array, bound: Array | float, scale: float = 1.0) -> _Rows:
        weights = sparse.csr_array(matrix)
        own = sparse.csr_array((weights.shape[0], 0))
        return _Rows(name, weights, own, np.atleast_1d(np.asarray(bound, float)), scale)

    if limits.lower is not None and np.isfinite(limits.lower).any():
        yield plain("lower", -eye, -limits.lower)
    if limits.upper is not None and np.isfinite(limits.upper).any():
        yield plain("upper", eye, limits.upper)
    if limits.budget_min is not None:
        yield plain("budget_min", -ones, -limits.budget_min)
    if limits.budget_max is not None:
        yield plain("budget_max", ones, limits.budget_max)
    if limits.rows is not None:
        for k, name in enumerate(limits.rows.names):
            row = limits.rows.matrix[k : k + 1]
            scale = float(np.abs(row).max()) or 1.0
            if np.isfinite(limits.rows.row_min[k]):
                yield plain(f"{name} min", -row, -limits.rows.row_min[k], scale)
            if np.isfinite(limits.rows.row_max[k]):
                yield plain(f"{name} max", row, limits.rows.row_max[k], scale)
    for name, centre, most in (
        ("gross_max", np.zeros(n), limits.gross_max),
        ("turnover_max", facts.holdings, limits.turnover_max),
    ):
        if most is not None:
            above = sparse.vstack([eye, -eye, sparse.csr_array((1, n))]).tocsr()
            own = sparse.vstack([-eye, -eye, sparse.csr_array(ones)]).tocsr()
            yield _Rows(name, above, own, np.concatenate([centre, -centre, [most]]), 1.0)
    yield from _drawdowns(facts)


def _drawdowns(facts: ProblemData) -> Iterable[_Rows]:
    """CDaR caps: peaks and excesses of every period, the measure in the last row."""
    for name, kind, cap, level in tail_limits(facts.problem):
        assert kind is ObjectiveKind.MIN_CDAR
        periods, n = facts.scenarios.shape
        unit = float(np.abs(facts.scenarios).mean()) or 1.0
        path = sparse.csr_array(np.cumsum(facts.scenarios, axis=0) / unit)
        eye, zero = sparse.identity(periods), sparse.csr_array((periods, periods))
        back = sparse.diags_array([np.ones(periods - 1)], offsets=[-1], shape=(periods, periods))
        ones, none = np.ones((periods, 1)), np.zeros((periods, 1))
        share = facts.probability[None, :] / (1.0 - level)
        # Columns: peak [T], excess [T], threshold.
        own = sparse.block_array(
            [
                [-eye, None, none],
                [back - eye, None, none],
                [-eye, None, none],
                [eye, -eye, -ones],
                [zero, -eye, none],
                [None, share, np.ones((1, 1))],
            ]
        ).tocsr()
        blank = sparse.csr_array((periods, n))
        weights = sparse.vstack([path, blank, blank, -path, blank, sparse.csr_array((1, n))])
        bound = np.zeros(own.shape[0])
        bound[-1] = cap / unit
        yield _Rows(name, weights.tocsr(), own, bound, (abs(cap) or 0.01) / unit)


def drawdown_risk_fits(problem: Problem) -> bool | None:
    """Whether the drawdown-risk limit can be met inside the linear ones; None: too close to say."""
    risk, facts, limits = problem.limits.drawdown_risk, ProblemData(problem), problem.limits
    if risk is None:
        return True
    weights = cp.Variable(facts.size)
    growth = -risk.exponent * cp.log(1.0 + facts.scenarios @ weights)
    sides = _linear_sides(limits, facts, weights)
    weighted = growth + np.log(facts.probability)
    model = cp.Problem(cp.Minimize(cp.log_sum_exp(weighted)), sides)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.solve(solver=cp.CLARABEL)
        except cp.SolverError:
            return False
    if model.value is None or float(model.value) > CLEAR:
        return False
    return None if float(model.value) > CONFLICT else True


def _linear_sides(limits: Limits, facts: ProblemData, weights: cp.Variable) -> list[cp.Constraint]:
    low, high = np.isfinite(facts.lower), np.isfinite(facts.upper)
    sides = [weights[low] >= facts.lower[low]] if low.any() else []
    sides += [weights[high] <= facts.upper[high]] if high.any() else []
    total = cp.sum(weights)
    sides += [] if limits.budget_min is None else [total >= limits.budget_min]
    sides += [] if limits.budget_max is None else [total <= limits.budget_max]
    if limits.gross_max is not None:
        sides.append(cp.norm1(weights) <= limits.gross_max)
    if limits.turnover_max is not None:
        sides.append(cp.norm1(weights - facts.holdings) <= limits.turnover_max)
    if limits.rows is not None:
        value = limits.rows.matrix @ weights
        low, high = np.isfinite(limits.rows.row_min), np.isfinite(limits.rows.row_max)
        sides += [value[low] >= limits.rows.row_min[low]] if low.any() else []
        sides += [value[high] <= limits.rows.row_max[high]] if high.any() else []
    return sides


def objections(problem: Problem, found: Explanation) -> list[str]:
    """What is wrong with an explanation: its conflict, its size, or the price of its way out."""
    names, wrong = limit_names(problem), []
    if "drawdown_risk" in found.conflict:
        return []  # not a linear program
    if least_violation(problem, found.conflict, found.conflict) < float("inf"):
        gap = least_violation(problem, found.conflict)
        if gap <= CLEAR:
            wrong.append(f"{found.conflict} do not conflict ({gap:.1e})")
    for name in found.conflict:
        rest = [other for other in found.conflict if other != name]
        if least_violation(problem, rest) > CLEAR:
            wrong.append(f"{found.conflict} conflict without {name} too")
    if found.smallest:
        wrong += _smaller(problem, names, len(found.conflict))
    least = least_violation(problem, names)
    apart = abs(least - found.violation_min) > 1e-7 * max(1.0, least)
    if problem.limits.drawdown_risk is None and np.isfinite(least) and apart:
        wrong.append(f"a relaxation costs {least:.9e}, not {found.violation_min:.9e}")
    excess = {k: v for k, v in violations(problem, found.weights).items() if v > 0.0}
    for name, value in excess.items():
        given = [v for k, v in found.relaxation.items() if k.split("[")[0] == name]
        if value > max([0.0, *given]) + 1e-7 * max(1.0, value):
            wrong.append(f"{name} is exceeded by {value:.2e}, said {given}")
    return wrong


def _smaller(problem: Problem, names: list[str], size: int) -> list[str]:
    """Conflicts with fewer limits than `size`, looked for where that is quick."""
    fewer = [set(group) for count in range(1, size) for group in combinations(names, count)]
    if len(fewer) > SUBSETS_MAX:
        return []
    found = (group for group in fewer if least_violation(problem, group) > CLEAR)
    return [f"the smaller {sorted(group)} conflicts" for group in list(found)[:1]]

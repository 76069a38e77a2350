"""Limits that can give: every hard limit with a slack, as linear programs.

A limit may be exceeded by s >= 0 in units of its own scale; `relax` finds the least sum of slacks
with some limits kept hard. Boxes, rows, gross and turnover limits are exact, the normal risk limits
are within `norm_cone.accuracy`. Limits on scenarios (CVaR, CDaR, drawdown, drawdown risk) enter by
supporting hyperplanes at the points found, added until they are met: the program keeps the size of
the book, not of its history.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy import sparse

from compute.optimize.infeasibility.norm_cone import add_norm
from compute.optimize.linear_program import Builder, LpSolution, LpStatus, maximise
from compute.optimize.proof.evaluation import risk_excess, tail_limits, tail_measure
from compute.optimize.proof.linearization import risk_cuts
from compute.optimize.proof.problem_numbers import ProblemData
from compute.optimize.time_limit import ENDLESS, TimeLimit

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# How far the drawdown-risk limit may be missed, in units of its scale. Tail limits have finitely
# many hyperplanes, so they are met up to rounding.
TOLERANCE = 1e-8
TAIL_TOLERANCE = 1e-10
CUT_ROUNDS_MAX = 60
TAIL_ROUNDS_MAX = 500


@dataclass(frozen=True)
class Limit:
    """matrix @ w <= bound + scale * slack, one slack a row; risk limits grow by cuts."""

    name: str
    matrix: Matrix
    bound: Vector
    scale: float


@dataclass
class Elastic:
    """The limits of one problem: linear ones as rows, others by name with their scale.

    cuts: hyperplanes a'w <= b + scale * slack that support the limits on scenarios, by limit,
    shared by every program.
    """

    data: ProblemData
    limits: list[Limit]
    scales: dict[str, float] = field(default_factory=dict)
    cuts: dict[str, list[tuple[Vector, float]]] = field(default_factory=dict)
    time_limit: TimeLimit = ENDLESS

    @property
    def names(self) -> list[str]:
        """Every limit that is set, in the order of `Limits`."""
        return [limit.name for limit in self.limits] + list(self.scales)

    @property
    def on_scenarios(self) -> list[str]:
        """The limits that enter by cuts."""
        tails = {name for name, *_ in tail_limits(self.data.problem)}
        return [name for name in self.scales if name in tails | {"drawdown_risk"}]


def elastic_limits(data: ProblemData, time_limit: TimeLimit = ENDLESS) -> Elastic:
    """The hard limits of a problem; soft rows and infinite bounds take no part."""
    limits, eye, ones = data.problem.limits, np.eye(data.size), np.ones((1, data.size))
    found: list[Limit] = []

    def add(name: str, matrix: Matrix, bound: Vector | float | None, scale: float = 1.0) -> None:
        if bound is not None:
            values = np.broadcast_to(np.asarray(bound, float), (len(matrix),))
            if np.any(values < np.inf):
                found.append(Limit(name, matrix, values, scale))

    add("lower", -eye, None if limits.lower is None else -limits.lower)
    add("upper", eye, limits.upper)
    if limits.trade_max is not None:
        sides = (limits.trade_max + data.holdings, limits.trade_max - data.holdings)
        add("trade_max", np.vstack([eye, -eye]), np.concatenate(sides))
    add("budget_min", -ones, None if limits.budget_min is None else -limits.budget_min)
    add("budget_max", ones, limits.budget_max)
    rows = limits.rows
    for k, name in enumerate(() if rows is None else rows.names):
        assert rows is not None
        if rows.price is None or not np.isfinite(rows.price[k]):
            row = rows.matrix[k : k + 1]
            scale = float(np.abs(row).max()) or 1.0
            add(f"{name} min", -row, -rows.row_min[k], scale)
            add(f"{name} max", row, rows.row_max[k], scale)
    return Elastic(data, found, _risk_scales(data), time_limit=time_limit)


def _risk_scales(data: ProblemData) -> dict[str, float]:
    """Scale of each limit that is not rows: 1 for weights, else the bound itself."""
    limits = data.problem.limits
    risk = {"volatility_max": limits.volatility_max, "var_max": limits.var_max}
    risk |= {name: bound for name, _, bound, _ in tail_limits(data.problem)}
    scales = {name: abs(bound) or 0.01 for name, bound in risk.items() if bound is not None}
    present = {
        "gross_max": limits.gross_max is not None,
        "turnover_max": limits.turnover_max is not None,
        "drawdown_risk": limits.drawdown_risk is not None,
    }
    return scales | {name: 1.0 for name, there in present.items() if there}


def scale_of(elastic: Elastic, name: str) -> float:
    """One unit of slack of a limit, in its natural units."""
    if name in elastic.scales:
        return elastic.scales[name]
    return next(limit.scale for limit in elastic.limits if limit.name == name)


def relax(
    elastic: Elastic, hard: Collection[str], considered: Iterable[str]
) -> tuple[dict[str, Vector] | None, Vector]:
    """Least total slack of the limits `considered`, those in `hard` without any.

    Returns the slacks by limit and the weights; None where the hard limits can't be met.
    """
    considered, centre = list(considered), elastic.data.holdings
    for _ in range(TAIL_ROUNDS_MAX):
        builder, found = solve_relaxed(elastic, hard, considered)
        if found.status is not LpStatus.OPTIMAL:
            return None, np.full(elastic.data.size, np.nan)
        weights = found.point[builder.column_slice("weights")]
        slacks = {name: found.point[builder.column_slice(name)] for name in considered}
        missed = _missed(elastic, weights, slacks)
        if not missed:
            break
        # A second cut at a slowly moving centre keeps the corners from jumping about.
        centre = 0.7 * centre + 0.3 * weights
        for name in missed:
            known = elastic.cuts.setdefault(name, [])
            known += [_cut(elastic.data, name, point) for point in (weights, centre)]
    return slacks, weights


def _missed(elastic: Elastic, weights: Vector, slacks: dict[str, Vector]) -> list[str]:
    """The limits on scenarios that `weights` exceed by more than their slack and tolerance."""
    excess, missed = risk_excess(elastic.data, weights), []
    for name in elastic.on_scenarios:
        if name in slacks:
            curved = name == "drawdown_risk"
            if curved and len(elastic.cuts.get(name, ())) >= 2 * CUT_ROUNDS_MAX:
                continue
            room = float(slacks[name][0]) + (TOLERANCE if curved else TAIL_TOLERANCE)
            if not excess[name] <= room * elastic.scales[name]:
                missed.append(name)
    return missed


def solve_relaxed(
    elastic: Elastic, hard: Collection[str], considered: Collection[str]
) -> tuple[Builder, LpSolution]:
    """One elastic program with the cuts known so far; columns carry the names of the limits."""
    builder, data = Builder(), elastic.data
    builder.columns("weights", data.size, -np.inf, np.inf)
    for limit in elastic.limits:
        if limit.name in considered:
            _add_rows(builder, limit, limit.name in hard)
    for name, scale in elastic.scales.items():
        if name not in considered:
            continue
        builder.columns(name, 1, 0.0, 0.0 if name in hard else np.inf, -1.0)
        if name in ("gross_max", "turnover_max"):
            _add_size(builder, data, name)
        elif name in elastic.cuts:
            matrix = np.array([row for row, _ in elastic.cuts[name]]) / scale
            bound = np.array([bound for _, bound in elastic.cuts[name]]) / scale
            shared = np.full((len(bound), 1), -1.0)
            builder.rows(name, {"weights": matrix, name: shared}, -np.inf, bound)
    _add_normal_risk(builder, elastic, considered)
    return builder, maximise(builder.build(), time_limit=elastic.time_limit)


def _add_rows(builder: Builder, limit: Limit, hard: bool) -> None:
    count = len(limit.bound)
    builder.columns(limit.name, count, 0.0, 0.0 if hard else np.inf, -1.0)
    slack = -limit.scale * sparse.identity(count, format="coo")
    blocks = {"weights": sparse.coo_array(limit.matrix), limit.name: slack}
    builder.rows(limit.name, blocks, -np.inf, limit.bound)


def _add_size(builder: Builder, data: ProblemData, name: str) -> None:
    """sum |w - centre| <= bound + slack, with one column per asset for its absolute value."""
    limits, eye = data.problem.limits, sparse.identity(data.size, format="coo")
    gross = name == "gross_max"
    centre = np.zeros(data.size) if gross else data.holdings
    bound = limits.gross_max if gross else limits.turnover_max
    part = f"{name}.size"
    builder.columns(part, data.size, 0.0, np.inf)
    builder.rows(f"{name}.up", {"weights": eye, part: -eye}, -np.inf, centre)
    builder.rows(f"{name}.down", {"weights": -eye, part: -eye}, -np.inf, -centre)
    total = {part: np.ones((1, data.size)), name: -np.ones((1, 1))}
    builder.rows(name, total, -np.inf, np.inf if bound is None else bound)


def _add_normal_risk(builder: Builder, elastic: Elastic, considered: Collection[str]) -> None:
    """Volatility and normal VaR limits over one column that is >= the volatility."""
    data, limits = elastic.data, elastic.data.problem.limits
    wanted = [name for name in ("volatility_max", "var_max") if name in considered]
    wanted = [name for name in wanted if name in elastic.scales]
    if not wanted:
        return
    values, vectors = np.linalg.eigh(data.covariance)
    most = max(float(values[-1]), 0.0)
    kept = values >= most * 1e-15  # one at least, where nothing has any risk
    unit = math.sqrt(most) or 1.0
    sizes = np.sqrt(np.maximum(values[kept], 0.0))
    column = add_norm(builder, "risk", (vectors[:, kept] * sizes / unit).T)
    one = np.ones((1, 1))
    for name in wanted:
        slack = -elastic.scales[name] / unit * one
        if name == "volatility_max" and limits.volatility_max is not None:
            bound = limits.volatility_max / unit
            builder.rows(name, {column: one, name: slack}, -np.inf, bound)
        elif limits.var_max is not None:
            quantile = NormalDist().inv_cdf(limits.var_tail)
            gain = -data.mean[None, :] / unit
            blocks = {column: quantile * one, "weights": gain, name: slack}
            builder.rows(name, blocks, -np.inf, limits.var_max / unit)


def _cut(data: ProblemData, name: str, weights: Vector) -> tuple[Vector, float]:
    """A hyperplane a'v <= b that supports a limit on scenarios at `weights`."""
    for tail, kind, bound, level in tail_limits(data.problem):
        if tail == name:
            support = tail_measure(data, kind, level, weights)[1]
            return np.asarray(-support @ data.scenarios), bound
    for cut, row, bound in risk_cuts(data, weights):
        if cut == name:
            return row, bound
    # Outside the domain: wealth must stay positive in the worst scenario to begin with.
    wealth = data.floor_wealth(weights)
    worst = int(np.argmin(wealth))
    slope = data.scenarios[worst] - data.problem.financing_rates
    return -slope, float(wealth[worst] - slope @ weights) - 1e-6


def limit_named(elastic: Elastic, name: str) -> Limit:
    """The rows of one linear limit."""
    return next(limit for limit in elastic.limits if limit.name == name)


def keep_only(elastic: Elastic, name: str, rows: list[int]) -> Elastic:
    """The same limits with all but `rows` of one limit lifted."""
    old = limit_named(elastic, name)
    bound = np.full_like(old.bound, np.inf)
    bound[rows] = old.bound[rows]
    swapped = Limit(name, old.matrix, bound, old.scale)
    limits = [swapped if limit.name == name else limit for limit in elastic.limits]
    return replace(elastic, limits=limits)

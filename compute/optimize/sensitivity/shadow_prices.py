"""What one more unit of each limit is worth, as an interval where that is not unique.

At an optimum the prices of the limits are a solution of a dual program, and it may have many:
two limits that bind at the same place share one price in any proportion. The lowest and the
highest price of each limit over all of them are two linear programs. The low end is what
loosening the limit gains at once; the high end is what tightening it costs. Prices that all
solutions share, most of them as a rule, come from one least-squares system; where the solutions
are a segment, as of two limits on the same sum, its ends are all there is to know.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from compute.optimize.linear_program import Builder, LinearProgram, LpStatus, maximise
from compute.optimize.problem import ObjectiveKind, Problem
from compute.optimize.proof.duality_gap import bounded
from compute.optimize.proof.evaluation import objective_value
from compute.optimize.proof.linearization import Tangent, tangent
from compute.optimize.proof.lp_relaxation import relaxation, tail_unit
from compute.optimize.proof.problem_numbers import ProblemData
from compute.optimize.time_limit import ENDLESS, TimeLimit

Vector = npt.NDArray[np.float64]

# A limit whose slack is above this (fractions of equity, and of a bound above 1) has no price.
ACTIVE = 1e-8
# Gradients of limits are independent by singular values above this share of the largest; a price
# moves along a null vector if its entry there is larger than `SAME`. Looked at are at most so many
# limits besides the boxes.
INDEPENDENT, SAME, ROWS_MAX = 1e-6, 1e-12, 300
# A limit that is missed by more is not kept.
OFF = 1e-6
# Work on one linear program, and on all of them together, in entries of the program they look at:
# beyond that only limits on several names are priced, or none.
ITERATIONS_MAX, ENTRIES_MAX = 20_000, 20_000_000


@dataclass(frozen=True)
class ShadowPrice:
    """d best objective / d bound, per unit of loosening, >= 0; low == high where it is unique."""

    low: float
    high: float

    @property
    def unique(self) -> bool:
        """Whether the two ends agree to nine digits."""
        return self.high - self.low <= 1e-9 * max(abs(self.high), 1e-9)


def shadow_prices(
    problem: Problem,
    weights: Vector,
    *,
    only: Collection[str] | None = None,
    time_limit: TimeLimit = ENDLESS,
) -> dict[str, ShadowPrice]:
    """The price of every limit that binds at the optimal `weights` [n], by name.

    Names are those of `Limits` (`budget_max`, `turnover_max`, ...), rows as `NAME min` and
    `NAME max`, box limits as `lower[3]`, `upper[3]` and `trade_max[3]`. A limit that is not
    named has slack and the price zero. `only`: names to look at, for a book too large to ask for
    every asset. ValueError if no prices support `weights`, that is, if they are not optimal.
    """
    sharpe = problem.objective.kind is ObjectiveKind.MAX_SHARPE
    ratio = objective_value(problem, weights) if sharpe else None
    program = tangent(problem, weights, ratio)
    if program.log_unit:
        raise ValueError("the utility, and with it each price, is beyond doubles")
    unit = ProblemData(problem).volatility(weights) if sharpe else 1.0
    straight, give = _straight(bounded(program, room=True))
    builder = relaxation(straight)
    inner = builder.build()
    point = _complete(inner, builder, straight, time_limit)
    face = _dual_face(inner, point, give, time_limit)
    prices: dict[str, ShadowPrice] = {}
    asked = _named(problem, program, builder, inner)
    if only is None and face.entries(asked) > ENTRIES_MAX:
        asked = [each for each in asked if not each[0].endswith("]")]
        if face.entries(asked) > ENTRIES_MAX:
            raise ValueError("the prices take too long to find")
    for name, index, sign, factor in asked:
        if only is not None and name not in only:
            continue
        time_limit.check()
        low, high = face.range(index, sign)
        if high > 1e-12:
            scale = factor * program.scale / unit
            prices[name] = ShadowPrice(max(0.0, low) * scale, high * scale)
    return prices


def _straight(program: Tangent) -> tuple[Tangent, Vector]:
    """The program without the kinks of trading costs, and how much slope these carry [n].

    Away from its kink a cost is linear; at the kink it carries any slope up to itself. They stay in
    the program where a turnover limit binds, whose price adds to them.
    """
    moved = program.weights - program.centre
    if program.turnover_max - np.abs(moved).sum() <= ACTIVE:
        return program, np.zeros_like(moved)
    at_kink, cost = np.abs(moved) <= ACTIVE, program.linear_cost
    changed = replace(
        program,
        gradient=program.gradient - np.where(at_kink, 0.0, np.sign(moved) * cost),
        linear_cost=np.zeros_like(cost),
        turnover_max=np.inf,
    )
    return changed, np.where(at_kink, cost, 0.0) / program.scale


@dataclass(frozen=True)
class _Face:
    """All duals y [m] and reduced costs d [k] of a program that are complementary to a point.

    low, high: range of each entry of (y, d) over the face, what kinks carry of d included, NaN
    where only `program` knows it: the stationarity c - A'y - d = 0 within a tolerance, without NaN
    there is none. give: what kinks carry at most. least, most: range of an entry by its sign.
    """

    low: Vector
    high: Vector
    give: Vector
    least: Vector
    most: Vector
    program: LinearProgram | None = None
    time_limit: TimeLimit = ENDLESS

    def range(self, index: int, sign: float) -> tuple[float, float]:
        """Lowest and highest value of sign * (y, d)[index]."""
        if self.least[index] == self.most[index] == 0.0:
            return 0.0, 0.0
        low, high = float(self.low[index]), float(self.high[index])
        if np.isnan(low):
            low, high = self._optima(index)
        low = max(low - float(self.give[index]), float(self.least[index]))
        high = min(high + float(self.give[index]), float(self.most[index]))
        return (low, high) if sign > 0.0 else (-high, -low)

    def entries(self, asked: list[tuple[str, int, float, float]]) -> int:
        """Entries of all the programs that take part in finding these ranges."""
        if self.program is None:
            return 0
        open_ended = [i for _, i, _, _ in asked if np.isnan(self.low[i]) and self.most[i] != 0.0]
        return 2 * len(open_ended) * int(self.program.rows.nnz)

    def _optima(self, index: int) -> tuple[float, float]:
        """The same by two linear programs."""
        assert self.program is not None
        cost = np.zeros(len(self.low))
        cost[index] = 1.0
        programs = [replace(self.program, cost=sign * cost) for sign in (-1.0, 1.0)]
        ends = [
            maximise(program, iterations_max=ITERATIONS_MAX, time_limit=self.time_limit)
            for program in programs
        ]
        if any(end.status not in (LpStatus.OPTIMAL, LpStatus.UNBOUNDED) for end in ends):
            raise ValueError("the prices take too long to find")
        low, high = (np.inf if end.status is LpStatus.UNBOUNDED else end.value for end in ends)
        return -low, high


def _complete(
    inner: LinearProgram, builder: Builder, program: Tangent, time_limit: TimeLimit
) -> Vector:
    """The point of the program with the weights given and every other column as low as it goes."""
    tails = bool(program.tails)
    found = _lowest(inner, builder, program, time_limit) if tails else _kinked(builder, program)
    value = inner.rows @ found
    excess = np.maximum(value - inner.row_max, inner.row_min - value).max(initial=0.0)
    if excess > OFF:
        raise ValueError("the weights do not satisfy the limits")
    return found


def _kinked(builder: Builder, program: Tangent) -> Vector:
    """The same without tail measures: sizes, trades and violations of soft rows are known."""
    weights, value = program.weights, program.rows @ program.weights
    soft = np.isfinite(program.price)
    columns = {
        "weights": weights,
        "traded": np.abs(weights - program.centre),
        "size": np.abs(weights),
        "over": np.maximum(value - program.row_max, 0.0)[soft],
        "under": np.maximum(program.row_min - value, 0.0)[soft],
    }
    return np.concatenate([columns[name] for name in builder.column_names])


def _lowest(
    inner: LinearProgram, builder: Builder, program: Tangent, time_limit: TimeLimit
) -> Vector:
    """The same by a linear program.

    The limits themselves are lifted: weights off by rounding must not make them infeasible.
    """
    lower, upper, cost = inner.lower.copy(), inner.upper.copy(), np.zeros_like(inner.cost)
    lower[: len(program.weights)] = upper[: len(program.weights)] = program.weights
    low, high = inner.row_min.copy(), inner.row_max.copy()
    keys = [str(index) for index in range(len(program.tails))]
    if not np.isfinite(program.price).any():
        high[builder.row_slice("rows")], low[builder.row_slice("rows")] = np.inf, -np.inf
    for name in ("turnover", "gross", *(f"{key}.bound" for key in keys)):
        high[builder.row_slice(name)] = np.inf
    for name in ("traded", "size", "over", "under"):
        cost[builder.column_slice(name)] = -1.0
    for key, tail in zip(keys, program.tails, strict=True):
        cost[builder.column_slice(f"{key}.worst")] = -1.0
        if not tail.measure.is_maximum:
            cost[builder.column_slice(f"{key}.beyond")] = -program.probability / (1.0 - tail.level)
    changed = replace(inner, cost=cost, lower=lower, upper=upper, row_min=low, row_max=high)
    found = maximise(changed, iterations_max=ITERATIONS_MAX, time_limit=time_limit)
    if found.status is not LpStatus.OPTIMAL:
        raise ValueError("the weights do not satisfy the limits")
    return found.point


def _dual_face(inner: LinearProgram, point: Vector, give: Vector, time_limit: TimeLimit) -> _Face:
    """The duals complementary to `point`, with the least residual that any of them has.

    give: [n], what kinks carry of the reduced costs of weights.
    """
    value = inner.rows @ point
    row_low, row_high = _signs(value, inner.row_min, inner.row_max)
    column_low, column_high = _signs(point, inner.lower, inner.upper)
    columns, rows = len(point), len(value)
    least, most = np.concatenate([row_low, column_low]), np.concatenate([row_high, column_high])
    carried = np.zeros(len(least))
    carried[rows : rows + len(give)] = give
    low, high = least - carried, most + carried
    fixed = (low == 0.0) & (high == 0.0)
    ends = _segment(_some_duals(inner, fixed), low, high)
    if not np.isnan(ends[0]).any():
        return _Face(*ends, carried, least, most)
    eye = sparse.identity(columns, format="coo")
    builder = Builder()
    builder.columns("prices", rows + columns, low, high)
    builder.columns("residual", 1, 0.0, np.inf, -1.0)
    matrix = sparse.hstack([sparse.coo_array(inner.rows.T), eye])
    spread = np.ones((columns, 1))
    builder.rows("above", {"prices": matrix, "residual": spread}, inner.cost, np.inf)
    builder.rows("below", {"prices": matrix, "residual": -spread}, -np.inf, inner.cost)
    nearest = maximise(builder.build(), iterations_max=ITERATIONS_MAX, time_limit=time_limit)
    if nearest.status is not LpStatus.OPTIMAL or -nearest.value > 1e-5:
        raise ValueError("none support these weights to the digits that a price needs")
    room = max(-nearest.value, 0.0) * (1.0 + 1e-9) + 1e-12
    stationary = LinearProgram(
        np.zeros(rows + columns),
        sparse.csr_array(matrix),
        inner.cost - room,
        inner.cost + room,
        low,
        high,
    )
    return _Face(*ends, carried, least, most, stationary, time_limit)


class _Duals(NamedTuple):
    """Some (y, d) [k] with c = A'y + d, and the directions [k, r] in which all others lie.

    exact: False where a direction leaves a little of c; found: NaN where there is none.
    """

    found: Vector
    null: Vector
    exact: bool


def _some_duals(inner: LinearProgram, fixed: npt.NDArray[np.bool_]) -> _Duals:
    """Duals that are zero where `fixed`.

    A column at a bound has a reduced cost of its own, which takes up whatever is left there; so the
    y are determined by the columns between their bounds, up to the null space of their gradients.
    """
    n_rows = inner.rows.shape[0]
    binding, inside = np.flatnonzero(~fixed[:n_rows]), np.flatnonzero(fixed[n_rows:])
    nothing = _Duals(np.full(len(fixed), np.nan), np.zeros((len(fixed), 0)), False)
    if len(binding) > ROWS_MAX:
        return nothing
    matrix = sparse.csr_array(inner.rows)[binding].toarray()
    size = np.linalg.norm(matrix, axis=1)
    if not np.all(size > 0.0):
        return nothing
    gradients = (matrix / size[:, None]).T
    # All right vectors are wanted; of the left ones, as many as there are columns, only those used.
    wide = len(binding) > len(inside)
    left, values, right = np.linalg.svd(gradients[inside], full_matrices=wide)
    rank = int(np.sum(values > INDEPENDENT * np.max(values, initial=0.0)))
    share = right[:rank].T @ ((left[:, :rank].T @ inner.cost[inside]) / values[:rank])
    rest = inner.cost - gradients @ share
    if np.abs(rest[inside]).max(initial=0.0) > 1e-7:
        return nothing
    moves = right[rank:].T
    take = -gradients @ moves
    exact = bool(np.abs(take[inside]).max(initial=0.0) <= SAME)
    rest[inside], take[inside] = 0.0, 0.0
    found, null = np.zeros(len(fixed)), np.zeros((len(fixed), moves.shape[1]))
    found[binding], null[binding] = share / size, moves / size[:, None]
    found[n_rows:], null[n_rows:] = rest, take
    null[np.abs(null) <= SAME] = 0.0
    return _Duals(found, null, exact)


def _segment(duals: _Duals, low: Vector, high: Vector) -> tuple[Vector, Vector]:
    """Ends of each entry of found + null t over the t that keep all within [low, high].

    NaN where that takes a linear program: more than one direction has a part in an entry.
    """
    found, still = duals.found, ~duals.null.any(axis=1)
    unknown = np.where(still, found, np.nan)
    inside = (found >= low - ACTIVE) & (found <= high + ACTIVE)
    if not np.all(inside | ~still):
        unknown = np.full_like(found, np.nan)
        return unknown, unknown
    if duals.null.shape[1] != 1 or not duals.exact:
        return unknown, unknown
    at, line = found[~still], duals.null[~still, 0]
    ends = np.array([low[~still] - at, high[~still] - at]) / line
    first, last = ends.min(axis=0).max(initial=-np.inf), ends.max(axis=0).min(initial=np.inf)
    if not first <= last:
        return unknown, unknown
    lowest, highest = found.copy(), found.copy()
    points = np.array([at + line * first, at + line * last])
    lowest[~still], highest[~still] = points.min(axis=0), points.max(axis=0)
    return lowest, highest


def _signs(value: Vector, least: Vector, most: Vector) -> tuple[Vector, Vector]:
    """Admissible range of a price: negative where the lower side binds, positive the upper."""
    low = np.where(value - least <= _active(least), -np.inf, 0.0)
    high = np.where(most - value <= _active(most), np.inf, 0.0)
    return low, high


def _active(bound: Vector) -> Vector:
    """The slack below which a bound binds: what rounding hides of one that is large."""
    size = np.where(np.isfinite(bound), np.abs(bound), 1.0)
    return ACTIVE * np.maximum(size, 1.0)


def _named(
    problem: Problem, program: Tangent, builder: Builder, inner: LinearProgram
) -> list[tuple[str, int, float, float]]:
    """(name, index into the face, sign, factor to natural units) of every limit that may bind."""
    found: list[tuple[str, int, float, float]] = []
    start = builder.row_slice("rows").start
    for offset, name in enumerate(program.names):
        listed = problem.limits.rows is not None and name in problem.limits.rows.names
        low, high = (f"{name} min", f"{name} max") if listed else (f"{name}_min", f"{name}_max")
        if name not in ("budget",) and not listed:
            high = name
        found += [(high, start + offset, 1.0, 1.0), (low, start + offset, -1.0, 1.0)]
    for name, block in (("turnover_max", "turnover"), ("gross_max", "gross")):
        place = builder.row_slice(block)
        if place.stop > place.start:
            found.append((name, place.start, 1.0, 1.0))
    for index, tail in enumerate(program.tails):
        if tail.bound is not None:
            at = builder.row_slice(f"{index}.bound").start
            found.append((tail.name, at, 1.0, 1.0 / tail_unit(program.scenarios)))
    rows = len(inner.row_min)
    for asset, (low, high) in enumerate(_box_names(problem)):
        found += [(low, rows + asset, -1.0, 1.0), (high, rows + asset, 1.0, 1.0)]
    return found


def _box_names(problem: Problem) -> list[tuple[str, str]]:
    """Which limit a weight's lowest and highest value come from: the box or the trade cap."""
    data, limits, names = ProblemData(problem), problem.limits, []
    for asset in range(data.size):
        low = limits.lower is not None and limits.lower[asset] >= data.lower[asset]
        high = limits.upper is not None and limits.upper[asset] <= data.upper[asset]
        traded = f"trade_max[{asset}]"
        names.append((f"lower[{asset}]" if low else traded, f"upper[{asset}]" if high else traded))
    return names

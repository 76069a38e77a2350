"""From the prices of the program's rows to the shadow prices of the problem's limits, and the gap.

The prices of a measure's pairs (s, t), divided by their sum, say how much of the tail lies at t and
how much of it looks back to the peak s. That is a linear function below the measure everywhere and
equal to it at the optimum, so whoever holds it can bound every other portfolio without solving
anything: measure(v) >= sum_s peak_s level_s'v - sum_t tail_t level_t'v for all v.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from compute.optimize.limits import box
from compute.optimize.problem import Multipliers, Problem, Solution, Status
from compute.optimize.tail_lp.assemble import Assembly, Place, weights
from compute.optimize.tail_lp.interior_point import LinearAnswer
from compute.optimize.tail_lp.linear_model import Frame, finite, holdings
from compute.optimize.tail_lp.scenario_selection import ActiveScenarios, Measure

Vector = npt.NDArray[np.float64]

METHOD = "tail rows, interior point"
# A weight this close to a bound or a kink (in units of the book) is put on it.
_SNAP = 1e-12


@dataclass(frozen=True)
class TailFunctional:
    """A supporting function of one tail measure.

    name: cvar, cdar or drawdown; in_objective: False for that of a cap. tail: f64[T], sum 1,
    tail_t <= p_t / (1 - level); peak: f64[T + 1], sum 1, never later than the tail it serves
    (all on index 0, the start, for CVaR). price: of the measure, objective units.
    """

    name: str
    in_objective: bool
    tail: Vector
    peak: Vector
    price: float


@dataclass(frozen=True)
class TailMultipliers(Multipliers):
    """Shadow prices with the tail measures' supporting functions, objective's first, then caps'."""

    functionals: tuple[TailFunctional, ...] = ()


@dataclass(frozen=True)
class _Reading:
    """Everything read off one program: weights, functionals, gradient left to the box, gap."""

    weights: Vector
    functionals: tuple[TailFunctional, ...]
    multipliers: TailMultipliers
    value: float
    gap: float
    stationarity: float
    violation: float


def _functional(
    term: Measure,
    known: ActiveScenarios,
    place: Place,
    price: Vector,
    scale: float,
    cap_price: float,
) -> TailFunctional:
    """Tail and peak masses of one measure from the prices of its pairs and of its sure ones."""
    total = term.weight + cap_price
    periods = len(term.levels) - 1
    tail, peak = np.zeros(periods + 1), np.zeros(periods + 1)
    mass = np.maximum(-price[place.pairs], 0.0) * scale / term.scale
    if total > 0.0:
        mass = mass / total
        pairs, sure = known.pairs, known.sure
        if len(term.excess):
            share = term.excess[sure[:, 1] - 1]
            pairs, mass = np.concatenate([pairs, sure]), np.concatenate([mass, share])
        if len(term.excess) and mass.sum() > 0.0:
            mass = mass / mass.sum()
        np.add.at(peak, pairs[:, 0], mass)
        np.add.at(tail, pairs[:, 1], mass)
        if not len(term.excess):
            # A maximum that is zero: what no pair carries lies on one that never loses.
            rest = 1.0 - mass.sum()
            peak[1] += rest
            tail[1] += rest
    return TailFunctional(term.name, term.cap is None, tail[1:], peak, total)


def _snapped(frame: Frame, found: Vector, kinks: list[Vector]) -> Vector:
    """Weights within rounding of a bound or kink are put on it exactly."""
    for kink in kinks:
        near = np.isfinite(kink) & (np.abs(found - kink) <= _SNAP * frame.unit)
        found = np.where(near, kink, found)
    return found


def _row_prices(frame: Frame, price: Vector, scale: float, family: str, size: int) -> Vector:
    """Signed natural prices of the rows of a family: positive where the lower side binds."""
    natural = price[: len(frame.owners)] * frame.row_scale * scale
    found = np.zeros(size)
    for owner, value in zip(frame.owners, natural, strict=True):
        if owner.family == family:
            found[owner.index] += value
    return found


def _one_sided(price: Vector, low: Vector, high: Vector) -> Vector:
    """Signed prices without the rounding that lies on a side that has no bound."""
    price = np.where(np.isfinite(low), price, np.minimum(price, 0.0))
    return np.where(np.isfinite(high), price, np.maximum(price, 0.0))


def _budgets(problem: Problem) -> tuple[float | None, float | None]:
    return problem.limits.budget_min, problem.limits.budget_max


def _cap_prices(terms: tuple[Measure, ...], assembly: Assembly, price: Vector) -> dict[str, float]:
    scale = assembly.objective_scale
    return {
        term.name: max(-float(price[place.cap]), 0.0) * scale / term.scale
        for term, place in zip(terms, assembly.places, strict=True)
        if place.cap is not None
    }


def _slopes(
    reduced_cost: Vector,
    distances: tuple[Vector, Vector],
    carried: tuple[Vector, Vector],
    near: float,
) -> tuple[Vector, Vector, Vector]:
    """Subgradients of |w - holdings| and |w| times their prices, and the reduced cost left.

    Away from its kink each is a sign; those come off first, then the kinks balance what is left.
    """
    kinks = [np.abs(distance) <= near for distance in distances]
    slopes = [np.where(k, 0.0, np.sign(d)) for k, d in zip(kinks, distances, strict=True)]
    for slope, price in zip(slopes, carried, strict=True):
        reduced_cost = reduced_cost - price * slope
    for i, (kink, price) in enumerate(zip(kinks, carried, strict=True)):
        positive = kink & (price > 0.0)
        share = np.clip(reduced_cost / np.where(positive, price, 1.0), -1.0, 1.0)
        slopes[i] = np.where(positive, share, slopes[i])
        reduced_cost = np.where(positive, reduced_cost - price * share, reduced_cost)
    return slopes[0], slopes[1], reduced_cost


def read(
    problem: Problem,
    frame: Frame,
    gain: Vector,
    terms: tuple[Measure, ...],
    kept: tuple[ActiveScenarios, ...],
    assembly: Assembly,
    answer: LinearAnswer,
) -> _Reading:
    """Weights, prices and complementarity gap; `gain` is the linear part of the objective [n]."""
    limits, price, scale = problem.limits, answer.price, assembly.objective_scale
    held, (lower, upper) = holdings(problem), box(problem)
    kinks = [held, np.zeros(problem.size), lower, upper]
    found = _snapped(frame, weights(frame, answer), kinks)
    count = 0 if limits.rows is None else len(limits.rows.row_min)
    named = _row_prices(frame, price, scale, "row", count)
    if limits.rows is not None:
        named = _one_sided(named, limits.rows.row_min, limits.rows.row_max)
    sides = [np.array([np.nan if bound is None else bound]) for bound in _budgets(problem)]
    both = _row_prices(frame, price, scale, "budget", 1)
    budget = float(_one_sided(both, sides[0], sides[1])[0])
    turnover = -min(float(_row_prices(frame, price, scale, "turnover", 1)[0]), 0.0)
    gross = -min(float(_row_prices(frame, price, scale, "gross", 1)[0]), 0.0)
    caps = _cap_prices(terms, assembly, price)
    functionals = tuple(
        _functional(t, k, p, price, scale, caps[t.name] if t.cap is not None else 0.0)
        for t, k, p in zip(terms, kept, assembly.places, strict=True)
    )
    reduced_cost = gain + budget
    if limits.rows is not None:
        reduced_cost = reduced_cost + named @ limits.rows.matrix
    for term, line in zip(terms, functionals, strict=True):
        reduced_cost = reduced_cost - line.price * _slope_of(term, line)
    linear = np.zeros(problem.size) if problem.costs.linear is None else problem.costs.linear
    near = 1e-9 * frame.unit
    prices = (linear + turnover, np.full(problem.size, gross))
    trade, wide, reduced_cost = _slopes(reduced_cost, (found - held, found), prices, near)
    low, high, by_trade, left = _box_prices(problem, reduced_cost, found, lower, upper)
    multipliers = TailMultipliers(
        lower=low,
        upper=high,
        budget_min=max(budget, 0.0),
        budget_max=max(-budget, 0.0),
        row_min=np.maximum(named, 0.0),
        row_max=np.maximum(-named, 0.0),
        gross_max=gross,
        turnover_max=turnover,
        trade_max=by_trade,
        volatility_max=0.0,
        var_max=0.0,
        cvar_max=caps.get("cvar", 0.0),
        cdar_max=caps.get("cdar", 0.0),
        drawdown_max=caps.get("drawdown", 0.0),
        drawdown_risk=0.0,
        trade_slope=trade,
        gross_slope=wide,
        functionals=functionals,
    )
    values = [term.value(term.losses(found)[0]) for term in terms]
    soft, over = _row_costs(problem, found)
    cost = soft + float(linear @ np.abs(found - held)) - float(gain @ found)
    value = cost + sum(t.weight * v for t, v in zip(terms, values, strict=True))
    return _Reading(
        found,
        functionals,
        multipliers,
        value,
        _gap(problem, multipliers, terms, values, found, reduced_cost, trade, wide, linear),
        left,
        max([over, *(v - t.cap for t, v in zip(terms, values, strict=True) if t.cap is not None)]),
    )


def _slope_of(term: Measure, line: TailFunctional) -> Vector:
    """The functional as coefficients on the weights, f64[n]."""
    mass = line.peak.copy()
    mass[1:] -= line.tail
    return np.asarray(np.einsum("t,tj->j", mass, term.levels))


def _box_prices(
    problem: Problem, reduced_cost: Vector, found: Vector, lower: Vector, upper: Vector
) -> tuple[Vector, Vector, Vector, float]:
    """Split what is left of the gradient into prices of lower, upper and trade bounds.

    The last number is what no bound can carry, because there is none on that side.
    """
    none = np.full(problem.size, np.inf)
    limits, held = problem.limits, holdings(problem)
    cap = none if limits.trade_max is None else np.asarray(limits.trade_max)
    low, high = np.maximum(-reduced_cost, 0.0), np.maximum(reduced_cost, 0.0)
    by_low = np.isfinite(cap) & (held - cap >= lower)
    by_high = np.isfinite(cap) & (held + cap <= upper)
    by_trade = np.where(by_low, low, 0.0) + np.where(by_high, high, 0.0)
    free = np.where(np.isfinite(lower), 0.0, low) + np.where(np.isfinite(upper), 0.0, high)
    low = np.where(np.isfinite(lower), low, 0.0)
    high = np.where(np.isfinite(upper), high, 0.0)
    own_low, own_high = np.where(by_low, 0.0, low), np.where(by_high, 0.0, high)
    return own_low, own_high, by_trade, float(np.max(free, initial=0.0))


def _row_costs(problem: Problem, found: Vector) -> tuple[float, float]:
    """Price paid for soft rows, and the largest violation of every hard limit but the caps."""
    limits, over = problem.limits, [0.0]
    lower, upper = box(problem)
    over += [float(np.max(lower - found)), float(np.max(found - upper))]
    total, soft = float(found.sum()), 0.0
    if limits.rows is not None:
        value = limits.rows.matrix @ found
        excess = np.maximum(np.maximum(value - limits.rows.row_max, limits.rows.row_min - value), 0)
        price = limits.rows.price
        hard = np.ones(len(value), dtype=bool) if price is None else ~np.isfinite(price)
        over.append(float(np.max(excess[hard], initial=0.0)))
        if price is not None:
            soft = float(price[~hard] @ excess[~hard])
    held = holdings(problem)
    pairs = (
        (total, limits.budget_max),
        (-total, None if limits.budget_min is None else -limits.budget_min),
        (float(np.abs(found).sum()), limits.gross_max),
        (float(np.abs(found - held).sum()), limits.turnover_max),
    )
    over += [value - bound for value, bound in pairs if bound is not None]
    return soft, max(over)


def _gap(
    problem: Problem,
    m: TailMultipliers,
    terms: tuple[Measure, ...],
    values: list[float],
    found: Vector,
    reduced_cost: Vector,
    trade: Vector,
    wide: Vector,
    linear: Vector,
) -> float:
    """Value minus the Lagrangian's least value over all weights: price times slack, summed."""
    limits, held, (lower, upper) = problem.limits, holdings(problem), box(problem)
    distance = np.where(reduced_cost > 0.0, upper - found, found - lower)
    known = np.isfinite(distance)
    gap = float(np.abs(reduced_cost[known]) @ distance[known])
    total = float(found.sum())
    for price, value, bound in (
        (m.budget_max, total, limits.budget_max),
        (m.budget_min, -total, None if limits.budget_min is None else -limits.budget_min),
        (m.gross_max, float(wide @ found), limits.gross_max),
        (m.turnover_max, float(trade @ (found - held)), limits.turnover_max),
    ):
        if finite(bound) and bound is not None:
            gap += price * (bound - value)
    gap += float(linear @ (np.abs(found - held) - trade * (found - held)))
    if limits.rows is not None:
        gap += _row_gap(problem, m, found)
    for term, line, value in zip(terms, m.functionals, values, strict=True):
        bound = float(_slope_of(term, line) @ found)
        gap += term.weight * (value - bound)
        if term.cap is not None:
            gap += (line.price - term.weight) * (term.cap - bound)
    return gap


def _row_gap(problem: Problem, m: TailMultipliers, found: Vector) -> float:
    """Price times slack of the named rows; a soft one also pays what it breaks."""
    rows = problem.limits.rows
    assert rows is not None
    value = rows.matrix @ found
    room_high = np.where(m.row_max > 0.0, rows.row_max - value, 0.0)
    room_low = np.where(m.row_min > 0.0, value - rows.row_min, 0.0)
    gap = float(m.row_max @ room_high + m.row_min @ room_low)
    return gap + _row_costs(problem, found)[0]


def solution(
    problem: Problem,
    frame: Frame,
    gain: Vector,
    terms: tuple[Measure, ...],
    kept: tuple[ActiveScenarios, ...],
    assembly: Assembly,
    answer: LinearAnswer,
) -> Solution:
    """The optimum with its multipliers; `residual` is the largest of gap, violation, stationarity.

    The gap is relative to the objective or, where that is nearly zero, to a thousandth of the
    steepest slope times the unit of the book; stationarity is relative to the steepest slope.
    """
    found = read(problem, frame, gain, terms, kept, assembly, answer)
    slope = assembly.objective_scale
    size = max(abs(found.value), 1e-3 * slope * frame.unit)
    residual = max(abs(found.gap) / size, found.violation, found.stationarity / slope)
    value = -found.value if problem.objective.kind.maximised else found.value
    return Solution(
        Status.OPTIMAL, found.weights, value, found.multipliers, 0, float(residual), method=METHOD
    )


def violation(
    problem: Problem,
    frame: Frame,
    terms: tuple[Measure, ...],
    kept: tuple[ActiveScenarios, ...],
    assembly: Assembly,
    answer: LinearAnswer,
) -> Solution:
    """INFEASIBLE with the least total violation and its prices, from an elastic program."""
    bare = replace(problem, costs=replace(problem.costs, linear=None))
    none = np.zeros(problem.size)
    found = read(bare, frame, none, terms, kept, assembly, answer)
    least = float(assembly.program.loss @ answer.point) * assembly.objective_scale * frame.unit
    blank = failure(problem, Status.INFEASIBLE, 0)
    return replace(blank, multipliers=found.multipliers, violation_min=least, residual=answer.error)


def empty_box(problem: Problem, lower: Vector, upper: Vector) -> Solution:
    """INFEASIBLE because a lower bound (or trade cap) lies above an upper one."""
    blank = failure(problem, Status.INFEASIBLE, 0)
    return replace(blank, violation_min=float(np.maximum(lower - upper, 0.0).sum()))


def failure(problem: Problem, status: Status, iterations: int) -> Solution:
    """An answer without weights."""
    nothing = np.full(problem.size, np.nan)
    return Solution(status, nothing, float("nan"), None, iterations, float("inf"), method=METHOD)

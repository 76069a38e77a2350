"""Upper bounds on what any feasible portfolio can reach, valid for whatever duals are handed in.

For a tangent program at w (see `linearization`) and any row duals y, nonnegative prices of
turnover, gross and tail limits, and supporting functions a_j of the tail measures,

    f* - f(w) <=  sum_i max_{lower_i <= v_i <= upper_i} [phi_i(v_i) - phi_i(w_i)]
                + sum_r [support_r(y_r) - y_r rows_r'w] + turnover, gross and tail terms,

phi_i(v) = d_i v - cost_i |v - centre_i| - turnover price |v - centre_i| - gross price |v| and
d = gradient - rows'y - sum_j price_j a_j. Impact costs are in phi themselves, not by their tangent,
which is no good bound near the holdings: d lacks it, and phi has -impact_i |v - centre_i|^(3/2).
Good duals make it tight; poor ones only make it loose:
HiGHS or a solver may be wrong about them without the bound being wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from compute.optimize import measures
from compute.optimize.implied_bounds import Sums, implied_box, with_room
from compute.optimize.problem import Multipliers, ObjectiveKind
from compute.optimize.proof.linearization import Tail, Tangent, impact_slope

Vector = npt.NDArray[np.float64]
Kind = ObjectiveKind

# A weight that no limit bounds is taken to lie within this many times equity.
RADIUS = 1e3


@dataclass(frozen=True)
class Dual:
    """Prices of a tangent program: rows [m] signed (+ upper side, - lower side), others >= 0.

    tails: for each tail of the program its price and the supporting functional a[n] with
    tail(v) >= a'v for every v.
    """

    rows: Vector
    turnover: float
    gross: float
    tails: tuple[tuple[float, Vector], ...]


def admissible_tail(weights: Vector, probability: Vector, tail: Tail) -> Vector:
    """The weights [T] moved to 0 <= q <= p / (1 - level), sum q = 1 (no cap for a maximum)."""
    cap = np.ones_like(weights)
    if not tail.measure.is_maximum:
        cap = probability / (1.0 - tail.level)
    chosen = np.clip(weights, 0.0, cap)
    missing = 1.0 - chosen.sum()
    room = cap - chosen
    if missing > 0.0 and room.sum() > 0.0:
        return np.asarray(chosen + room * min(missing / room.sum(), 1.0))
    return np.asarray(chosen / chosen.sum())


def multiplier_dual(program: Tangent, given: Multipliers, unit: float = 1.0) -> Dual:
    """The duals a solver reports, in O(nT): its tails supported where the candidate's tail is.

    `unit` turns the solver's objective into the program's: sigma(w) for the Sharpe ratio.
    """
    signed = {"budget": given.budget_max - given.budget_min}
    named = {"volatility_max": given.volatility_max, "var_max": given.var_max}
    named["drawdown_risk"] = given.drawdown_risk
    listed = iter(given.row_max - given.row_min)
    rows = [
        signed[name] if name in signed else named[name] if name in named else float(next(listed))
        for name in program.names
    ]
    prices = {
        "cvar_max": given.cvar_max,
        "cdar_max": given.cdar_max,
        "drawdown_max": given.drawdown_max,
    }
    offered = list(getattr(given, "functionals", ()))
    tails = []
    for tail in program.tails:
        price = float(tail.weight) if tail.weight is not None else unit * prices[tail.name]
        tails.append((price, _offered_functional(program, tail, offered)))
    return Dual(
        unit * np.array(rows), unit * given.turnover_max, unit * given.gross_max, tuple(tails)
    )


def no_prices(program: Tangent) -> Dual:
    """Duals of nothing but the box: no row, sum or limit has a price; tails of the objective do."""
    tails = tuple((float(tail.weight or 0.0), supporting(program, tail)) for tail in program.tails)
    return Dual(np.zeros(len(program.names)), 0.0, 0.0, tails)


def _offered_functional(program: Tangent, tail: Tail, offered: list[Any]) -> Vector:
    """The solver's supporting function of a tail, made admissible; else one of the candidate.

    What a solver offers is read by attribute (name, in_objective, tail [T], peak [T + 1]) and
    nothing about it is trusted.
    """
    for index, entry in enumerate(offered):
        fits = entry.in_objective == (tail.weight is not None)
        if fits and entry.name == tail.measure.name and len(entry.tail):
            del offered[index]
            chosen = admissible_tail(np.asarray(entry.tail), program.probability, tail)
            if tail.measure.on_path:
                chosen = measures.drawdown_functional(chosen, np.asarray(entry.peak))
            return np.asarray(-program.scenarios.T @ chosen)
    return supporting(program, tail)


def supporting(program: Tangent, tail: Tail) -> Vector:
    """A supporting functional a[n] of the tail measure at the candidate itself."""
    returns = np.asarray(program.scenarios @ program.weights)
    support = measures.tail_support(tail.measure, returns, program.probability, tail.level)[1]
    return -program.scenarios.T @ support


def tail_value(program: Tangent, tail: Tail) -> float:
    """The measure itself at the candidate."""
    return float(supporting(program, tail) @ program.weights)


def reduced_gradient(program: Tangent, dual: Dual) -> Vector:
    """d = gradient - rows'y - sum_j price_j a_j [n]: what the box and the |.| terms must carry."""
    slope = program.gradient - program.rows.T @ dual.rows
    for price, functional in dual.tails:
        slope = slope - price * functional
    return np.asarray(slope)


def gap_terms(program: Tangent, dual: Dual) -> dict[str, float]:
    """The terms of the bound on f* - f(w), by limit; each is >= 0 where w keeps that limit.

    Their sum bounds how much better any feasible portfolio can be. Each is also the
    complementarity of its limit: price times slack.
    """
    program, dual = bounded(program), _allowed(program, dual)
    weights, terms = program.weights, {}
    slope = reduced_gradient(program, dual)
    terms["box"] = float(box_terms(program, dual, slope).sum())
    value = program.rows @ weights
    bound = np.where(dual.rows > 0.0, program.row_max, program.row_min)
    for row in np.flatnonzero(dual.rows):
        terms[program.names[row]] = float(dual.rows[row] * (bound[row] - value[row]))
    excess = np.maximum(np.maximum(value - program.row_max, program.row_min - value), 0.0)
    for row in np.flatnonzero(np.isfinite(program.price) & (excess > 0.0)):
        # What breaking a soft limit costs already: at its full price the two cancel.
        name = program.names[row]
        terms[name] = terms.get(name, 0.0) + float(program.price[row] * excess[row])
    if dual.turnover > 0.0:
        slack = program.turnover_max - float(np.abs(weights - program.centre).sum())
        terms["turnover_max"] = dual.turnover * slack
    if dual.gross > 0.0:
        terms["gross_max"] = dual.gross * (program.gross_max - float(np.abs(weights).sum()))
    for tail, (price, functional) in zip(program.tails, dual.tails, strict=True):
        reference = tail_value(program, tail) if tail.bound is None else tail.bound
        terms[tail.name] = price * (reference - float(functional @ weights))
    return terms


def box_terms(program: Tangent, dual: Dual, slope: Vector) -> Vector:
    """max over lower_i <= v <= upper_i of phi_i(v) - phi_i(w_i), exactly, per asset [n].

    slope: `reduced_gradient`. The largest phi is at a bound, at a kink, or where phi is flat
    between two of them.
    """
    cost, centre, impact = program.linear_cost + dual.turnover, program.centre, program.impact
    slope = slope + impact_slope(impact, program.weights - centre)

    def phi(point: Vector) -> Vector:
        trade = np.abs(point - centre)
        kinks = cost * trade + dual.gross * np.abs(point)
        return np.asarray(slope * point - kinks - impact * trade**1.5)

    points = [program.lower, program.upper, centre, np.zeros_like(centre)]
    if impact.any():
        # The square of a vanishing impact may be zero, and its flat point out of reach.
        for side, sign in product((-1.0, 1.0), repeat=2):
            left = np.maximum(side * (slope - sign * dual.gross) - cost, 0.0)
            with np.errstate(divide="ignore", over="ignore"):
                root = np.divide(left, 1.5 * impact, out=np.zeros_like(left), where=impact > 0.0)
                points.append(centre + side * root**2)
    inside = [phi(np.clip(point, program.lower, program.upper)) for point in points]
    return np.asarray(np.max(inside, axis=0) - phi(program.weights))


def _allowed(program: Tangent, dual: Dual) -> Dual:
    """Duals made admissible: nothing on infinite sides, soft rows within their price."""
    rows = np.clip(dual.rows, -program.price, program.price)
    rows = np.where((rows > 0.0) & np.isinf(program.row_max), 0.0, rows)
    rows = np.where((rows < 0.0) & np.isinf(program.row_min), 0.0, rows)
    turnover = dual.turnover if np.isfinite(program.turnover_max) else 0.0
    gross = dual.gross if np.isfinite(program.gross_max) else 0.0
    tails = tuple((max(price, 0.0), functional) for price, functional in dual.tails)
    return Dual(rows, max(turnover, 0.0), max(gross, 0.0), tails)


def is_bounded(program: Tangent) -> bool:
    """Whether the limits themselves bound every weight, so that `RADIUS` plays no part."""
    lower, upper = _implied(program)
    return bool(np.all(np.isfinite(lower)) and np.all(np.isfinite(upper)))


def _implied(program: Tangent) -> tuple[Vector, Vector]:
    """The box tightened by every hard row, gross and turnover."""
    hard = np.isinf(program.price)
    rows = program.rows[hard], program.row_min[hard], program.row_max[hard]
    sums = Sums(*rows, program.gross_max, program.turnover_max, program.centre)
    return implied_box(program.lower, program.upper, sums)


def bounded(program: Tangent, *, room: bool = False) -> Tangent:
    """The program with a finite box: what its limits imply, `RADIUS` where they imply nothing.

    room: implied bounds are left so much of it that none of them binds, and none has a price.
    A row that the weights miss by rounding may imply a bound that they miss by far more: they are
    inside all the same, as every larger box bounds the gap too.
    """
    lower, upper = _implied(program)
    lower = np.minimum(lower, np.maximum(program.lower, program.weights))
    upper = np.maximum(upper, np.minimum(program.upper, program.weights))
    if room:
        wide = with_room(lower, upper)
        lower, upper = np.maximum(program.lower, wide[0]), np.minimum(program.upper, wide[1])
    lower = np.where(np.isfinite(lower), lower, np.minimum(-RADIUS, upper - RADIUS))
    upper = np.where(np.isfinite(upper), upper, np.maximum(RADIUS, lower + RADIUS))
    return replace(program, lower=lower, upper=upper)

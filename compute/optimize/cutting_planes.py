"""Smooth objectives and limits beside CVaR, CDaR or drawdowns, by cutting planes.

A tail measure is the largest of many linear functions of the weights, so the one that is largest
at given weights is a linear function below it everywhere and equal to it there:

    slope_k'w <= cap       slope_k a subgradient of the measure at the k-th solution
    slope_k'w <= level     in the objective, where `level` counts with the measure's weight

The smooth solver gets these rows until its solution respects the caps, and its levels are the
measures. A cap's shadow price is the sum of its rows' prices, its supporting function their
average; the prices of the rows of a level sum to the measure's weight.

Kelley 1960, J. SIAM 8(4); the measures are polyhedral, so finitely many cuts suffice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from compute.optimize.execution import JUST_IN_TIME, Execution
from compute.optimize.expanding_box import bounded, solve_in_expanding_box
from compute.optimize.interior_point import solve as solve_smooth
from compute.optimize.interior_point.epigraph import Levels
from compute.optimize.interior_point.scaling import unit_of
from compute.optimize.limits import equal_weights, linear
from compute.optimize.objectives import Moments, blocks, evaluate
from compute.optimize.problem import (
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
    Solution,
    Status,
)
from compute.optimize.tail_lp.duals import TailFunctional, TailMultipliers
from compute.optimize.tail_lp.scenario_selection import Measure
from compute.optimize.tail_lp.solve import measures_of, terms_of

Vector = npt.NDArray[np.float64]

METHOD = "interior point with tail cuts"
ROUNDS_MAX = 200
# With more cuts than this those without a price are left out: they come back if they are needed.
KEPT = 60
# Measures in the objective are also looked at so far from the best weights met to the new ones,
# which saves half of the rounds (Ben-Ameur and Neto 2007, Networks 49(1)).
_SHARES = (0.5, 0.2)
# A cut has no price if its own is this share of the largest.
_IDLE = 1e-6
# A cap may be exceeded by this share of a typical loss of the solver's unit, a level as well.
_ALLOWED = 1e-11


@dataclass(frozen=True)
class _Cut:
    """One linear function below a measure: slope[n] = (peak - tail) of its levels."""

    term: int
    slope: Vector
    tail: Vector
    peak: Vector


def solve_cuts(problem: Problem, execution: Execution = JUST_IN_TIME) -> Solution:
    """The optimum of a smooth objective beside tail measures and limits, with its multipliers.

    INFEASIBLE where the limits and the cuts so far already conflict, which is proof enough.
    Raises UnsupportedError for a Sharpe ratio or risk budgets beside other parts, `StoppedError`
    at the time limit.
    """
    terms = measures_of(problem)
    limits = replace(problem.limits, cvar_max=None, cdar_max=None, drawdown_max=None)
    smooth = replace(problem, objective=without_tails(problem.objective), limits=limits)
    unit = float(unit_of(linear(smooth), np.inf))
    worth = _worth(problem, terms, unit)
    best = equal_weights(problem)
    cuts = [_cut(i, term, best) for i, term in enumerate(terms) if term.cap is None]
    iterations = 0
    for _ in range(ROUNDS_MAX):
        stated = _with_cuts(smooth, terms, cuts)
        found = solve_smooth(stated, _levels(terms, cuts), execution=execution)
        iterations += found.iterations
        if found.status is not Status.OPTIMAL:
            return _without_answer(problem, replace(found, iterations=iterations), execution)
        new = [
            _cut(i, term, found.weights)
            for i, term in enumerate(terms)
            if _exceeds(term, _allowed(i, term, cuts, found), found, unit)
        ]
        if not new:
            found = _read(problem, terms, cuts, found)
            if worth is not None:
                sense = 1.0 if problem.objective.kind.maximised else -1.0
                found = replace(found, objective=sense * worth(found.weights))
            return replace(found, iterations=iterations)
        if len(cuts) > KEPT:
            priced = _priced(problem, terms, cuts, found)
            least = _IDLE * max(price for price, _ in priced)
            cuts = [cut for price, cut in priced if price > least]
        cuts += new
        if worth is not None:
            between = [share * found.weights + (1.0 - share) * best for share in _SHARES]
            pairs = [(i, at) for i, term in enumerate(terms) if term.cap is None for at in between]
            cuts += [_cut(i, terms[i], at) for i, at in pairs]
            best = max([best, found.weights, *between], key=worth)
    return _bare(replace(found, status=Status.NOT_CONVERGED), problem.size)


def without_tails(objective: Objective) -> Objective:
    """The objective without its tail measures."""
    if objective.kind is not ObjectiveKind.COMBINATION and objective.kind.tail is None:
        return objective
    if not all(weight > 0.0 for weight, _ in terms_of(objective)):
        raise ValueError("the weights of a combination must be positive")
    parts = tuple((w, part) for w, part in terms_of(objective) if part.kind.tail is None)
    return Objective(ObjectiveKind.COMBINATION, terms=parts)


def _without_answer(problem: Problem, found: Solution, execution: Execution) -> Solution:
    """Why there is no answer; where weights have no bounds, the answer within ever wider ones.

    With few of its cuts a measure may not hold the weights that it holds in the end.
    """
    bare = _bare(found, problem.size)
    if found.status not in (Status.UNBOUNDED, Status.NOT_CONVERGED) or bounded(problem):
        return bare
    inner = solve_in_expanding_box(problem, 1.0, lambda boxed: solve_cuts(boxed, execution))
    if inner is None:
        return replace(bare, status=Status.NOT_CONVERGED)
    return inner if inner.status is Status.OPTIMAL else replace(bare, status=inner.status)


def _bare(found: Solution, size: int) -> Solution:
    """An answer without weights; its prices would be those of cuts, not of limits."""
    blank = np.full(size, np.nan)
    return replace(found, weights=blank, objective=float("nan"), multipliers=None, method=METHOD)


def _allowed(index: int, term: Measure, cuts: list[_Cut], found: Solution) -> float:
    """What a measure may be: its cap, or the level its cuts allow."""
    if term.cap is not None:
        return term.cap
    return max(float(cut.slope @ found.weights) for cut in cuts if cut.term == index)


def _exceeds(term: Measure, most: float, found: Solution, unit: float) -> bool:
    return term.value(term.losses(found.weights)[0]) > most + _ALLOWED * term.scale * unit


def _cut(index: int, term: Measure, weights: Vector) -> _Cut:
    """The supporting function of a measure at weights [n]."""
    losses, peaks = term.losses(weights)
    tail, peak = term.worst(losses), np.zeros(len(losses) + 1)
    np.add.at(peak, peaks, tail)
    mass = peak.copy()
    mass[1:] -= tail
    return _Cut(index, np.asarray(mass @ term.levels), tail, peak)


def _levels(terms: tuple[Measure, ...], cuts: list[_Cut]) -> Levels | None:
    """The cuts of measures in the objective; levels are counted in typical losses."""
    mine = [cut for cut in cuts if terms[cut.term].cap is None]
    if not mine:
        return None
    scale = np.array([term.scale for term in terms if term.cap is None])
    price = scale * [term.weight for term in terms if term.cap is None]
    above = np.zeros((len(mine), len(scale)))
    owner = [cut.term for cut in mine]  # measures in the objective come first
    above[np.arange(len(mine)), owner] = scale[owner]
    return Levels(price, np.array([cut.slope for cut in mine]), above)


def _with_cuts(problem: Problem, terms: tuple[Measure, ...], cuts: list[_Cut]) -> Problem:
    """The smooth problem with the cuts of its caps after its own rows."""
    mine = [cut for cut in cuts if terms[cut.term].cap is not None]
    if not mine:
        return problem
    caps = [terms[cut.term].cap for cut in mine]
    slopes = np.array([cut.slope for cut in mine])
    low, high = np.full(len(mine), -np.inf), np.array(caps, dtype=np.float64)
    names = tuple(f"{terms[cut.term].name} cut {k}" for k, cut in enumerate(mine))
    return replace(problem, limits=problem.limits.with_rows(Rows(slopes, low, high, names)))


def _read(
    problem: Problem, terms: tuple[Measure, ...], cuts: list[_Cut], found: Solution
) -> Solution:
    """The solution of the whole: the prices of the cuts gathered into those of the measures."""
    given = found.multipliers
    assert given is not None
    own = problem.limits.row_count
    priced = _priced(problem, terms, cuts, found)
    caps, functionals = dict[str, float](), []
    for i, term in enumerate(terms):
        mine = [(price, cut) for price, cut in priced if cut.term == i]
        total = sum(p for p, _ in mine)
        if term.cap is not None:
            caps[f"{term.name}_max"] = total
        if total > 0.0:
            tail = sum((p / total * cut.tail for p, cut in mine), np.zeros(len(term.levels) - 1))
            peak = sum((p / total * cut.peak for p, cut in mine), np.zeros(len(term.levels)))
            price = total if term.cap is not None else term.weight
            functionals.append(TailFunctional(term.name, term.cap is None, tail, peak, price))
    fields = {name: getattr(given, name) for name in given.__dataclass_fields__}
    fields |= {"row_min": given.row_min[:own], "row_max": given.row_max[:own], **caps}
    multipliers = TailMultipliers(**fields, functionals=tuple(functionals))
    return replace(found, multipliers=multipliers, method=METHOD)


def _worth(
    problem: Problem, terms: tuple[Measure, ...], unit: float
) -> Callable[[Vector], float] | None:
    """The exact objective of weights, larger is better; -inf in ruin and beyond a cap.

    None if no measure is in it: it is the smooth one then.
    """
    if all(term.cap is not None for term in terms):
        return None
    smooth = without_tails(problem.objective)
    stated, coefficients = replace(problem, objective=smooth), blocks(smooth, Moments(problem))

    def value(at: Vector) -> float:
        total = float(evaluate(stated, coefficients, at))
        for term in terms:
            measured = term.value(term.losses(at)[0])
            if term.cap is None:
                total -= term.weight * measured
            elif measured > term.cap + _ALLOWED * term.scale * unit:
                return -np.inf
        return total if np.isfinite(total) else -np.inf

    return value


def _priced(
    problem: Problem, terms: tuple[Measure, ...], cuts: list[_Cut], found: Solution
) -> list[tuple[float, _Cut]]:
    """Every cut with its price: those of caps first, then those of levels, as the rows are."""
    assert found.multipliers is not None
    ordered = sorted(cuts, key=lambda cut: terms[cut.term].cap is None)
    prices = found.multipliers.row_max[problem.limits.row_count :]
    return [(float(price), cut) for price, cut in zip(prices, ordered, strict=True)]

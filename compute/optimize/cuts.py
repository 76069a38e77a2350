"""Smooth objectives under CVaR, CDaR or drawdown limits, by cutting planes.

A tail measure is the largest of many linear functions of the weights, so at weights that break
its cap the function that is largest there is a linear limit which cuts off them alone:

    slope_k'w <= cap,   slope_k a subgradient of the measure at the k-th solution

The smooth solver gets these as named rows until its solution respects the caps. A cap's shadow
price is the sum of its rows' prices, its supporting function their average.

Kelley 1960, J. SIAM 8(4); the measures are polyhedral, so finitely many cuts suffice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from compute.optimize.objectives import UnsupportedError
from compute.optimize.problem import Limits, Problem, Rows, Solution, Status
from compute.optimize.solver import solve as solve_smooth
from compute.optimize.tail import frame
from compute.optimize.tail.duals import TailFunctional, TailMultipliers
from compute.optimize.tail.rows import Measure
from compute.optimize.tail.solve import TAIL_NAMES, measures_of, terms_of

Vector = npt.NDArray[np.float64]

METHOD = "interior point with tail cuts"
ROUNDS_MAX = 200
# A cap may be exceeded by this share of a typical loss.
_ALLOWED = 1e-11


@dataclass(frozen=True)
class _Cut:
    """One linear function below a measure: slope[n] = (peak - tail) of its levels."""

    term: int
    slope: Vector
    tail: Vector
    peak: Vector


def needed(problem: Problem) -> bool:
    """True if there is a tail limit, or a tail part of the objective."""
    limits = problem.limits
    caps = (limits.cvar_max, limits.cdar_max, limits.drawdown_max)
    parts = terms_of(problem.objective)
    return any(frame.finite(c) for c in caps) or any(part.kind in TAIL_NAMES for _, part in parts)


def solve_cuts(problem: Problem) -> Solution:
    """The optimum of a smooth objective under tail limits, with its multipliers.

    INFEASIBLE where the limits and the cuts so far already conflict, which is proof enough.
    Raises UnsupportedError for a tail measure in the objective beside curved parts or limits.
    """
    terms = measures_of(problem)
    if any(term.cap is None for term in terms):
        raise UnsupportedError("a tail measure beside a curved objective: state it as a limit")
    limits = replace(problem.limits, cvar_max=None, cdar_max=None, drawdown_max=None)
    smooth = replace(problem, limits=limits)
    cuts: list[_Cut] = []
    iterations = 0
    for _ in range(ROUNDS_MAX):
        found = solve_smooth(_with_cuts(smooth, terms, cuts))
        iterations += found.iterations
        if found.status is not Status.OPTIMAL:
            return replace(_bare(found, problem.size), iterations=iterations)
        new = [
            _cut(i, term, found.weights) for i, term in enumerate(terms) if _exceeds(term, found)
        ]
        if not new:
            return replace(_read(problem, terms, cuts, found), iterations=iterations)
        cuts += new
    return _bare(replace(found, status=Status.NOT_CONVERGED), problem.size)


def _bare(found: Solution, size: int) -> Solution:
    """An answer without weights; its prices would be those of cuts, not of limits."""
    blank = np.full(size, np.nan)
    return replace(found, weights=blank, objective=float("nan"), multipliers=None, method=METHOD)


def _exceeds(term: Measure, found: Solution) -> bool:
    assert term.cap is not None
    return term.value(term.losses(found.weights)[0]) > term.cap + _ALLOWED * term.scale


def _cut(index: int, term: Measure, weights: Vector) -> _Cut:
    """The supporting function of a measure at weights [n]."""
    losses, peaks = term.losses(weights)
    tail, peak = np.zeros(len(losses)), np.zeros(len(losses) + 1)
    order = np.argsort(-losses, kind="stable")
    if len(term.excess):
        before = np.concatenate([[0.0], np.cumsum(term.excess[order])[:-1]])
        tail[order] = np.clip(1.0 - before, 0.0, term.excess[order])
        tail /= tail.sum()
    else:
        tail[order[0]] = 1.0
    np.add.at(peak, peaks, tail)
    mass = peak.copy()
    mass[1:] -= tail
    return _Cut(index, np.asarray(mass @ term.levels), tail, peak)


def _with_cuts(problem: Problem, terms: tuple[Measure, ...], cuts: list[_Cut]) -> Problem:
    """The smooth problem with the cuts after its own rows."""
    if not cuts:
        return problem
    own, caps = problem.limits.rows, [terms[cut.term].cap for cut in cuts]
    slopes = np.array([cut.slope for cut in cuts])
    low, high = np.full(len(cuts), -np.inf), np.array(caps, dtype=np.float64)
    names = tuple(f"{terms[cut.term].name} cut {k}" for k, cut in enumerate(cuts))
    if own is None:
        rows = Rows(slopes, low, high, names)
    else:
        none = np.full(len(cuts), np.inf)
        rows = Rows(
            np.vstack([own.matrix, slopes]),
            np.concatenate([own.row_min, low]),
            np.concatenate([own.row_max, high]),
            own.names + names,
            None if own.price is None else np.concatenate([own.price, none]),
        )
    limits: Limits = replace(problem.limits, rows=rows)
    return replace(problem, limits=limits)


def _read(
    problem: Problem, terms: tuple[Measure, ...], cuts: list[_Cut], found: Solution
) -> Solution:
    """The solution with the prices of the cuts gathered into those of the caps."""
    given = found.multipliers
    assert given is not None
    own = 0 if problem.limits.rows is None else len(problem.limits.rows.names)
    price, caps, functionals = given.row_max[own:], {}, []
    for i, term in enumerate(terms):
        mine = [(float(p), cut) for p, cut in zip(price, cuts, strict=True) if cut.term == i]
        total = sum(p for p, _ in mine)
        caps[f"{term.name}_max"] = total
        if total > 0.0:
            tail = sum((p / total * cut.tail for p, cut in mine), np.zeros(len(term.levels) - 1))
            peak = sum((p / total * cut.peak for p, cut in mine), np.zeros(len(term.levels)))
            functionals.append(TailFunctional(term.name, False, tail, peak, total))
    fields = {name: getattr(given, name) for name in given.__dataclass_fields__}
    fields |= {"row_min": given.row_min[:own], "row_max": given.row_max[:own], **caps}
    multipliers = TailMultipliers(**fields, functionals=tuple(functionals))
    return replace(found, multipliers=multipliers, method=METHOD)

"""Tail limits in a joint problem: by linear cuts, as its solvers know only convex measures.

    slope_k'w <= bound     slope_k that of the measure at the k-th solution, which is beyond it

Every measure of a tail grows with the book, m(c w) = c m(w), so that slope_k'w_k is the measure and
the cut takes off what is beyond. Of a convex measure the cuts lie outside what is allowed, and the
optimum is that of the limit itself (Kelley 1960). Of the others they may take off more: the answer
keeps the limit and is the best inside its cuts, which is what its proof says. Where a curved
measure asks for ever more of them, they are set a little inside the bound. The normal tail is no
cut but a bound on the volatility.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from compute.limits.book_measures import Measured, ScenarioReturns
from compute.limits.policy import TailLimit
from compute.limits.tail_measures import CONVEX, tail_measure
from compute.market import Floats
from compute.optimize.problem import Problem, Rows, Solution, Status
from compute.risk.tail_method import TailMethod
from compute.risk.tail_slopes import normal_multiple

PREFIX = "tail "
ROUNDS_MAX = 100
TIGHTENED = 15
"""Round from which cuts of what is not convex take off as much more as is beyond the bound."""

KEPT = 40
"""Cuts; beyond, those without a price are left out."""

ALLOWED = 1e-9
"""Of a bound; what is left beyond is less than rounding to lots takes off."""

NOT_CONVEX = "{} is not convex in the weights: the proof is of the best book inside its linear cuts"
NOT_REACHED = "the cuts of {} did not end: the book is made smaller to keep it"


@dataclass(frozen=True)
class Bounded:
    """measure(weights) <= bound of a problem's variables: value and slope by each, (v,)."""

    limit: TailLimit
    measure: Callable[[Floats], Measured]

    @property
    def bound(self) -> float:
        """The limit's."""
        return self.limit.bound

    @property
    def is_convex(self) -> bool:
        """Whether the measure is convex in the weights."""
        return (self.limit.kind, self.limit.method) in CONVEX


@dataclass(frozen=True)
class Cut:
    """A solved problem with the cuts that its tails needed, and what to know about them.

    tails: the limit of each cut, by the name of its row. is_within: whether all are kept.
    """

    problem: Problem
    solution: Solution
    tails: Mapping[str, TailLimit] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_within: bool = True


def normal_cap(
    volatility_max: float | None, tails: Sequence[TailLimit]
) -> tuple[float | None, TailLimit | None]:
    """The least of `volatility_max` and what normal tails allow, and the tail that it is, if one.

    The normal tail is a multiple of the volatility.
    """
    least, owner = volatility_max, None
    for tail in tails:
        if tail.method is TailMethod.NORMAL:
            cap = tail.bound / max(normal_multiple(tail.kind, tail.level), 1e-300)
            if least is None or cap < least:
                least, owner = cap, tail
    return least, owner


def is_cut(tail: TailLimit) -> bool:
    """Whether a tail is kept by cuts."""
    return tail.method is not TailMethod.NORMAL


def bounded_tails(problem: Problem, tails: Sequence[TailLimit]) -> list[Bounded]:
    """The tails that are kept by cuts, measured on the problem's own scenarios.

    Raises `MissingInputError` where they don't support one.
    """
    out = []
    for tail in tails:
        if is_cut(tail):
            returns = problem.scenarios
            if returns is None:
                returns = np.zeros((0, problem.size))
            probability = problem.scenario_probability
            if probability is None:
                probability = np.full(len(returns), 1.0 / max(len(returns), 1))
            measure = tail_measure(tail, ScenarioReturns(returns, probability))
            out.append(Bounded(tail, measure))
    return out


def solve_within(
    problem: Problem, tails: Sequence[Bounded], solve: Callable[[Problem], Solution]
) -> Cut:
    """Solves with as many cuts of each tail as keep it. Raises what `solve` and measures raise."""
    found = kept = _Round(problem, solve(problem), [])
    part, beyond = 1.0, list[_Beyond]()
    for turn in range(ROUNDS_MAX if tails else 0):
        if not found.is_optimal:
            break
        kept, beyond = found, _beyond(tails, found.solution.weights)
        if not beyond:
            break
        if turn >= TIGHTENED:
            bent = [item.excess for item in beyond if not item.tail.is_convex]
            part = min(part, 1.0 / max(bent, default=1.0))
        cuts = found.cuts
        if len(cuts) + len(beyond) > KEPT:
            cuts = _priced(problem, found)
        cuts = [*cuts, *((item.tail, item.slope) for item in beyond)]
        stated = _with_cuts(problem, cuts, part)
        found = _Round(stated, solve(stated), cuts)
    bent_names = dict.fromkeys(tail.limit.name for tail, _ in found.cuts if not tail.is_convex)
    if bent_names and not found.is_optimal:
        # Cuts of what is not convex may leave nothing where a book is held already.
        found = kept
    if found is not kept:
        beyond = _beyond(tails, found.solution.weights) if found.is_optimal else []
    notes = [NOT_CONVEX.format(name) for name in bent_names]
    notes += [NOT_REACHED.format(item.tail.limit.name) for item in beyond]
    named = {_row_name(k, tail): tail.limit for k, (tail, _) in enumerate(found.cuts)}
    return Cut(found.problem, found.solution, named, tuple(notes), is_within=not beyond)


@dataclass(frozen=True)
class _Round:
    problem: Problem
    solution: Solution
    cuts: list[tuple[Bounded, Floats]]

    @property
    def is_optimal(self) -> bool:
        return self.solution.status is Status.OPTIMAL


@dataclass(frozen=True)
class _Beyond:
    """A tail beyond its bound, by which factor, and the slope of its measure."""

    tail: Bounded
    excess: float
    slope: Floats


def _beyond(tails: Sequence[Bounded], weights: Floats) -> list[_Beyond]:
    measured = [(tail, *tail.measure(weights)) for tail in tails]
    return [
        _Beyond(tail, value / tail.bound, slope)
        for tail, value, slope in measured
        if value > tail.bound * (1.0 + ALLOWED)
    ]


def _row_name(number: int, tail: Bounded) -> str:
    return f"{PREFIX}{tail.limit.name} cut {number}"


def _priced(problem: Problem, found: _Round) -> list[tuple[Bounded, Floats]]:
    """The cuts with a price; the others come back if they are needed."""
    given = found.solution.multipliers
    assert given is not None, "an optimum has them"
    prices = given.row_max[problem.limits.row_count :]
    least = 1e-6 * float(prices.max(initial=0.0))
    return [cut for cut, price in zip(found.cuts, prices, strict=True) if price > least]


def _with_cuts(problem: Problem, cuts: Sequence[tuple[Bounded, Floats]], part: float) -> Problem:
    """The problem with the cuts after its own rows, each at this part of its bound."""
    slopes = np.array([slope for _, slope in cuts])
    high = np.array([tail.bound * (1.0 if tail.is_convex else part) for tail, _ in cuts])
    names = tuple(_row_name(k, tail) for k, (tail, _) in enumerate(cuts))
    rows = Rows(slopes, np.full(len(cuts), -np.inf), high, names)
    return replace(problem, limits=problem.limits.with_rows(rows))

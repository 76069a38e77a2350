"""Limits of the book that a joint problem keeps by linear cuts, as it can't state them.

    m(w_k) + slope_k'(w - w_k) <= bound     at the k-th solution w_k, which is beyond it

These are tails whose measure its solvers don't know, and limits on other scenarios than those of
its objective. Of a convex measure the cuts lie outside what is allowed, and the optimum is that of
the limit itself (Kelley 1960). Measures of a tail grow with the book, m(c w) = c m(w), so that a
cut is slope_k'w <= bound; of those that are not convex it may take off more than the limit: the
answer keeps it and is the best inside its cuts, which is what its proof says. Where a curved
measure asks for ever more of them, they are set a little inside the bound. The normal tail is no
cut but a bound on the volatility.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import minimize_scalar

from compute.limits.book_measures import Measured, ScenarioReturns
from compute.limits.book_stage import SLACK
from compute.limits.policy import LimitKind, TailLimit
from compute.limits.tail_measures import CONVEX, tail_measure
from compute.market import Floats, MissingInputError
from compute.optimize.limits import box
from compute.optimize.problem import Problem, Rows, Solution, Status
from compute.optimize.proof.evaluation import largest_violation, objective_value
from compute.risk.tail_method import TailKind, TailMethod
from compute.risk.tail_slopes import normal_multiple

PREFIX = "tail "
ROUNDS_MAX = 100
TIGHTENED = 15
"""Round from which cuts of what is not convex take off as much more as is beyond the bound."""

KEPT = 40
"""Cuts; beyond, those without a price are left out."""

CLIMBS_MAX = 20
STEPS = (1e-3, 1e-2, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Steps along the bound of what is not convex, and parts of each that are tried."""

NEAR = 1e-4
"""Part of the way to an optimum beyond the bound, where the next cut touches."""

WORTH = 1e-8
"""Of an objective; a smaller gain is none."""

CLIMBED = 1e-11
"""The same of a step towards the best; small ones lead round the corners of a quantile, so that a
larger bound ends them far from it."""

ALLOWED = 1e-9
"""Of a bound; what is left beyond is less than rounding to lots takes off."""

ALLOWED_OF_NONE = SLACK
"""The same of a bound of 0, as what comes after the optimum has it: a measure may move a thousand
times less than the weights do."""

ROUNDING = float(np.finfo(np.float64).eps)
"""Of wealth near 1, whose digits tell a measure next to 0: no cut of a bound of 0 takes it off."""

NOT_CONVEX = "{} is not convex in the weights: the proof is of the best book inside its linear cuts"
NOT_REACHED = "the cuts of {} did not end: the book is made smaller to keep it"


@dataclass(frozen=True)
class Bounded:
    """measure(weights) <= bound of a problem's variables: value and slope by each, (v,).

    name, kind: as bindings say it.
    """

    name: str
    kind: LimitKind
    bound: float
    measure: Callable[[Floats], Measured]
    is_convex: bool = True

    @classmethod
    def of_tail(cls, limit: TailLimit, measure: Callable[[Floats], Measured]) -> "Bounded":
        """A tail limit; measure: of the problem's variables."""
        is_var = limit.kind is TailKind.VALUE_AT_RISK
        kind = LimitKind.VAR_MAX if is_var else LimitKind.CVAR_MAX
        convex = limit.method is TailMethod.NORMAL or (limit.kind, limit.method) in CONVEX
        return cls(limit.name, kind, limit.bound, measure, convex)


@dataclass(frozen=True)
class Cut:
    """A solved problem with the cuts that its tails needed, and what to know about them.

    limits: the one of each cut, by the name of its row. is_within: whether all are kept.
    """

    problem: Problem
    solution: Solution
    limits: Mapping[str, Bounded] = field(default_factory=dict)
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
            out.append(Bounded.of_tail(tail, measure))
    return out


def solve_within(
    problem: Problem, tails: Sequence[Bounded], solve: Callable[[Problem], Solution]
) -> Cut:
    """Solves with as many cuts of each tail as keep it. Raises what `solve` and measures raise.

    Cuts of what is not convex may take off the best books. Where one on the bound is worth more
    than what they left, it is the answer, inside cuts that touch the bound around it.
    """
    found, passed = _cut(problem, tails, solve, [])
    if not passed:
        return found
    starts = [*passed[:1], np.mean(passed, axis=0), *_even(problem, tails)]
    if found.is_within and found.solution.status is Status.OPTIMAL:
        starts.append(found.solution.weights)
    best = _best(problem, [_climbed(problem, tails, solve, start) for start in starts])
    if best is None or not _is_better(problem, best, found):
        return found
    return _around(problem, tails, solve, best) or found


def _worth(problem: Problem, weights: Floats) -> float:
    """The objective, larger is better."""
    value = objective_value(problem, weights)
    return value if problem.objective.kind.maximised else -value


def _is_better(problem: Problem, weights: Floats, found: Cut) -> bool:
    """Whether a book is worth more than an answer, by more than rounding."""
    if not (found.is_within and found.solution.status is Status.OPTIMAL):
        return True
    now, then = _worth(problem, found.solution.weights), _worth(problem, weights)
    return then - now > WORTH * max(abs(now), abs(then))


def _best(problem: Problem, books: Sequence[Floats | None]) -> Floats | None:
    """The best of some books, None where there are none."""
    given = [book for book in books if book is not None]
    return max(given, key=lambda book: _worth(problem, book), default=None)


def _even(problem: Problem, tails: Sequence[Bounded]) -> list[Floats]:
    """The book whose weights are each as large as the tails let them be alone, if they can be.

    Alone an instrument may be what a tail can't be measured of, of which the books here are not.
    """
    lower, upper = box(problem)
    side = np.where(upper > 0.0, 1.0, -1.0) * ((upper > 0.0) | (lower < 0.0))
    alone = np.zeros(problem.size)
    for place in np.flatnonzero(side):
        unit = np.eye(1, problem.size, int(place))[0] * side[place]
        try:
            most = max(tail.measure(unit)[0] / (tail.bound or 1.0) for tail in tails)
        except MissingInputError:
            return []
        alone[place] = side[place] / max(most, 1e-9)
    return [np.clip(alone, lower, upper)]


def _inside(problem: Problem, tails: Sequence[Bounded], weights: Floats) -> Floats | None:
    """A book made smaller until the tails hold; None where another limit doesn't then.

    Nor is one inside whose tail can't be measured. What is not convex is a tail, which a smaller
    book has so much less of: once is enough.
    """
    try:
        beyond = max(tail.measure(weights)[0] / (tail.bound or 1.0) for tail in tails)
    except MissingInputError:
        return None
    smaller: Floats = weights / max(beyond, 1.0)
    if largest_violation(problem, smaller) > ALLOWED:
        return None
    return None if _beyond([tail for tail in tails if tail.is_convex], smaller) else smaller


def _climbed(
    problem: Problem,
    tails: Sequence[Bounded],
    solve: Callable[[Problem], Solution],
    start: Floats,
) -> Floats | None:
    """The best book on the way from `start` along the bound, None where none is inside.

    In turn the optimum below the tangents at a book, and the best of the books towards it, made
    smaller until they are inside.
    """
    book = _inside(problem, tails, start)
    if book is None:
        return None
    for _ in range(CLIMBS_MAX):
        found = solve(_with_cuts(problem, _tangents(tails, book), 1.0))
        if found.status is not Status.OPTIMAL:
            break
        best = _best_step(problem, tails, book, found.weights - book)
        now, then = _worth(problem, book), -np.inf if best is None else _worth(problem, best)
        if best is None or not then - now > CLIMBED * abs(now):
            break
        book = best
    return book


def _best_step(
    problem: Problem, tails: Sequence[Bounded], book: Floats, way: Floats
) -> Floats | None:
    """The best book from `book` on the way along the bound, None where none is inside."""

    outside = 1.0 + abs(_worth(problem, book))

    def lost(part: float) -> float:
        there = _inside(problem, tails, book + part * way)
        return outside if there is None else -_worth(problem, there)

    place = int(np.argmin([lost(part) for part in STEPS]))
    ends = (0.0, *STEPS, 1.0)[place], (*STEPS, 1.0)[min(place + 1, len(STEPS))]
    finest = minimize_scalar(lost, bounds=ends, method="bounded", options={"xatol": 1e-10})
    part = min((STEPS[place], float(finest.x)), key=lost)
    return _inside(problem, tails, book + part * way)


def _tangents(tails: Sequence[Bounded], book: Floats) -> list["_CutRow"]:
    return [(tail, tail.measure(book)[1], 0.0) for tail in tails]


def _around(
    problem: Problem,
    tails: Sequence[Bounded],
    solve: Callable[[Problem], Solution],
    book: Floats,
) -> Cut | None:
    """`book` as the optimum within cuts that touch the bound at and near it; None: it is not."""
    cuts = _tangents(tails, book)
    for _ in range(CLIMBS_MAX):
        stated = _with_cuts(problem, cuts, 1.0)
        found = _Round(stated, solve(stated), cuts)
        if not found.is_optimal:
            return None
        gained = _worth(problem, found.solution.weights) - _worth(problem, book)
        is_inside = not _beyond(tails, found.solution.weights)
        if is_inside or gained <= WORTH * abs(_worth(problem, book)):
            named = {_row_name(k, tail): tail for k, (tail, *_) in enumerate(cuts)}
            solution = found.solution
            if not is_inside:
                value = objective_value(problem, book)
                solution = replace(solution, weights=book, objective=value)
            bent = dict.fromkeys(tail.name for tail in tails if not tail.is_convex)
            notes = tuple(NOT_CONVEX.format(name) for name in bent)
            return Cut(stated, solution, named, notes)
        near = book + NEAR * (found.solution.weights - book)
        for tail, slope, _ in _tangents(tails, near):
            cuts = [*cuts, (tail, slope, max(float(slope @ book) - tail.bound, 0.0))]
    return None


def _cut(
    problem: Problem,
    tails: Sequence[Bounded],
    solve: Callable[[Problem], Solution],
    first: list["_CutRow"],
) -> tuple[Cut, list[Floats]]:
    """The problem solved within cuts, beginning with some; and the books beyond bent ones."""
    stated = _with_cuts(problem, first, 1.0) if first else problem
    found = kept = _Round(stated, solve(stated), first)
    part, beyond, passed = 1.0, list[_Beyond](), list[Floats]()
    for turn in range(ROUNDS_MAX if tails else 0):
        if not found.is_optimal:
            break
        kept, beyond = found, _beyond(tails, found.solution.weights)
        if not beyond:
            break
        bent = [item.excess for item in beyond if not item.tail.is_convex]
        if bent:
            passed.append(found.solution.weights)
        if turn >= TIGHTENED:
            part = min(part, 1.0 / max(bent, default=1.0))
        cuts = found.cuts
        if len(cuts) + len(beyond) > KEPT:
            cuts = _priced(problem, found)
        cuts = [*cuts, *((item.tail, item.slope, item.offset) for item in beyond)]
        stated = _with_cuts(problem, cuts, part)
        found = _Round(stated, solve(stated), cuts)
    bent_names = dict.fromkeys(tail.name for tail, *_ in found.cuts if not tail.is_convex)
    if bent_names and not found.is_optimal:
        # Cuts of what is not convex may leave nothing where a book is held already.
        found = kept
    if found is not kept:
        beyond = _beyond(tails, found.solution.weights) if found.is_optimal else []
    notes = [NOT_CONVEX.format(name) for name in bent_names]
    notes += [NOT_REACHED.format(item.tail.name) for item in beyond]
    named = {_row_name(k, tail): tail for k, (tail, *_) in enumerate(found.cuts)}
    cut = Cut(found.problem, found.solution, named, tuple(notes), is_within=not beyond)
    return cut, passed


_CutRow = tuple[Bounded, Floats, float]
"""slope'w <= bound + offset."""


@dataclass(frozen=True)
class _Round:
    problem: Problem
    solution: Solution
    cuts: list[_CutRow]

    @property
    def is_optimal(self) -> bool:
        return self.solution.status is Status.OPTIMAL


@dataclass(frozen=True)
class _Beyond:
    """A measure beyond its bound, by which factor of it, its slope, and slope'w less its value."""

    tail: Bounded
    excess: float
    slope: Floats
    offset: float


def _beyond(tails: Sequence[Bounded], weights: Floats) -> list[_Beyond]:
    measured = [(tail, *tail.measure(weights)) for tail in tails]
    return [
        _Beyond(
            tail,
            value / (tail.bound or 1.0),
            slope,
            float(slope @ weights) - value + ROUNDING * (not tail.bound) if tail.is_convex else 0.0,
        )
        for tail, value, slope in measured
        if value > tail.bound + (ALLOWED * tail.bound or ALLOWED_OF_NONE)
    ]


def _row_name(number: int, tail: Bounded) -> str:
    return f"{PREFIX}{tail.name} cut {number}"


def _priced(problem: Problem, found: _Round) -> list[_CutRow]:
    """The cuts with a price, all where none are known; the others come back if they are needed."""
    given = found.solution.multipliers
    if given is None:
        return found.cuts
    prices = given.row_max[problem.limits.row_count :]
    least = 1e-6 * float(prices.max(initial=0.0))
    return [cut for cut, price in zip(found.cuts, prices, strict=True) if price > least]


def _with_cuts(problem: Problem, cuts: Sequence[_CutRow], part: float) -> Problem:
    """The problem with the cuts after its own rows, each at this part of its bound."""
    slopes = np.array([slope for _, slope, _ in cuts])
    high = np.array(
        [tail.bound * (1.0 if tail.is_convex else part) + offset for tail, _, offset in cuts]
    )
    names = tuple(_row_name(k, tail) for k, (tail, *_) in enumerate(cuts))
    rows = Rows(slopes, np.full(len(cuts), -np.inf), high, names)
    return replace(problem, limits=problem.limits.with_rows(rows))

"""Why no portfolio satisfies the limits: the smallest conflict, and the cheapest way out.

Every limit is made elastic (`elastic`); the cheapest relaxation minimises the sum of slacks. The
smallest conflict is found by hitting
sets (Ignatiev, Previti, Liffiton, Marques-Silva 2015): the limits relaxed by any feasible point
must meet every conflict, so the smallest set of limits that meets all such relaxations found so
far, once it can no longer be satisfied, is a conflict and no conflict has fewer limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compute.optimize.infeasibility.elastic import (
    Elastic,
    elastic_limits,
    keep_only,
    limit_named,
    relax,
    scale_of,
    solve_relaxed,
)
from compute.optimize.linear_program import Builder, maximise
from compute.optimize.problem import Problem
from compute.optimize.proof.evaluation import risk_excess
from compute.optimize.proof.problem_numbers import ProblemData
from compute.optimize.time_limit import ENDLESS, TimeLimit

Vector = npt.NDArray[np.float64]

# Slack, in units of a limit's scale, below which the limit counts as kept.
TOLERANCE = 2e-10
HITTING_ROUNDS_MAX = 200
# Box limits of more assets than this are not thinned out one by one.
THINNING_ASSETS_MAX = 64


@dataclass(frozen=True)
class Explanation:
    """Why the limits conflict and what it takes to reconcile them.

    conflict: names of the smallest set of limits that no portfolio satisfies together, empty
    if there is one that satisfies all. assets: for `lower`, `upper` and `trade_max` in it, the
    assets whose bounds take part. smallest: False where the search was cut off and the set is
    only irreducible (every limit in it is needed). relaxation: by how much each limit must give,
    natural units, in the cheapest relaxation; box limits as `upper[3]`. violation_min: its cost,
    the least sum of slacks in units of each limit's scale (1 for weights, a row's largest
    coefficient, the bound itself for risk limits). weights: a portfolio that attains it.
    """

    conflict: tuple[str, ...]
    assets: dict[str, tuple[int, ...]]
    smallest: bool
    relaxation: dict[str, float]
    violation_min: float
    weights: Vector

    @property
    def members(self) -> tuple[str, ...]:
        """The conflict with a name for each asset whose bound takes part, as `upper[3]`."""
        return tuple(
            member
            for name in self.conflict
            for member in (
                [f"{name}[{asset}]" for asset in self.assets[name]]
                if name in self.assets
                else [name]
            )
        )


class UnexplainedError(ArithmeticError):
    """Limits too ill-conditioned to say what is wrong with them."""


def explain(problem: Problem, time_limit: TimeLimit = ENDLESS) -> Explanation:
    """The smallest conflicting set of hard limits of `problem` and its cheapest relaxation.

    Soft limits take no part. For feasible limits the conflict is empty, `violation_min` zero and
    `weights` satisfy every limit. ValueError if a risk limit lacks its data, UnexplainedError if
    the linear programs cannot be solved.
    """
    elastic = elastic_limits(ProblemData(problem), time_limit)
    slacks, weights = relax(elastic, (), elastic.names)
    if slacks is None:
        raise UnexplainedError("the limits differ too much in size to be compared")
    relaxation = {
        key: value
        for name, values in slacks.items()
        for key, value in _named(elastic, name, values * scale_of(elastic, name))
        if value > TOLERANCE * scale_of(elastic, name)
    }
    cost = float(sum(values.sum() for values in slacks.values()))
    if not relaxation:
        return Explanation((), {}, True, {}, 0.0, weights)
    # Curved limits are met by hyperplanes up to a tolerance: said is what these weights take.
    excess = risk_excess(elastic.data, weights)
    given = {name: max(relaxation.get(name, 0.0), value) for name, value in excess.items()}
    relaxation |= {k: v for k, v in given.items() if v > TOLERANCE * scale_of(elastic, k)}
    names, smallest = _smallest_conflict(elastic, _violated(slacks))
    assets = _assets(elastic, names)
    return Explanation(names, assets, smallest, relaxation, cost, weights)


def _named(elastic: Elastic, name: str, slack: Vector) -> Iterator[tuple[str, float]]:
    """The slack of a limit by its name, of a box limit by asset: the larger of its two sides."""
    if name not in ("lower", "upper", "trade_max"):
        yield name, float(slack[0])
        return
    for asset, value in enumerate(slack.reshape(-1, elastic.data.size).max(axis=0)):
        yield f"{name}[{asset}]", float(value)


def _violated(slacks: dict[str, Vector]) -> frozenset[str]:
    return frozenset(name for name, values in slacks.items() if values.max() > TOLERANCE)


def _smallest_conflict(elastic: Elastic, first: frozenset[str]) -> tuple[tuple[str, ...], bool]:
    """The smallest conflict, or an irreducible one where the search takes too long."""
    corrections = [first]
    for _ in range(HITTING_ROUNDS_MAX):
        chosen = _hitting_set(elastic.names, corrections)
        slacks, _ = relax(elastic, chosen, elastic.names)
        if slacks is None:
            return tuple(name for name in elastic.names if name in chosen), True
        violated = _violated(slacks)
        if not violated:
            break
        corrections.append(violated)
    return _deletion_filter(elastic), False


def _hitting_set(names: list[str], sets: list[frozenset[str]]) -> frozenset[str]:
    """The fewest names that meet every set, by integer programming."""
    builder = Builder()
    builder.columns("chosen", len(names), 0.0, 1.0, -1.0, integer=True)
    member = np.array([[float(name in group) for name in names] for group in sets])
    builder.rows("sets", {"chosen": member}, 1.0, np.inf)
    point = maximise(builder.build()).point
    return frozenset(name for name, share in zip(names, point, strict=True) if share > 0.5)


def _deletion_filter(elastic: Elastic) -> tuple[str, ...]:
    """Drop each limit in turn and keep it out where the others still conflict."""
    kept = list(elastic.names)
    for name in list(kept):
        others = [other for other in kept if other != name]
        if relax(elastic, others, others)[0] is None:
            kept = others
    return tuple(kept)


def _assets(elastic: Elastic, names: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Per box limit in the conflict, assets whose bounds are needed to keep the conflict."""
    found: dict[str, tuple[int, ...]] = {}
    for name in ("lower", "upper", "trade_max"):
        if name in names:
            elastic, found[name] = _thin(elastic, names, name)
    return found


def _thin(elastic: Elastic, names: tuple[str, ...], name: str) -> tuple[Elastic, tuple[int, ...]]:
    """Keep the rows of one limit that carry the conflict, first by duals, then one by one."""
    builder, solved = solve_relaxed(elastic, (), names)
    prices = solved.row_dual[builder.row_slice(name)]
    kept = [int(row) for row in np.flatnonzero(prices > TOLERANCE)]
    candidate = keep_only(elastic, name, kept)
    if not kept or relax(candidate, names, names)[0] is not None:
        kept = [int(row) for row in np.flatnonzero(np.isfinite(limit_named(elastic, name).bound))]
        candidate = keep_only(elastic, name, kept)
    # With cuts to be found anew for every trial, what the duals leave is good enough.
    quick = len(kept) <= THINNING_ASSETS_MAX and not set(names) & set(elastic.on_scenarios)
    for row in list(kept) if quick else []:
        fewer = keep_only(elastic, name, [other for other in kept if other != row])
        if relax(fewer, names, names)[0] is None:
            candidate, kept = fewer, [other for other in kept if other != row]
    size = elastic.data.size
    return candidate, tuple(sorted({int(row) % size for row in kept}))

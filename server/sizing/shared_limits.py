"""What the portfolios of a call use of the limits they share, and each one's part of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from compute.limits.bounds import prepare
from compute.limits.shared import divided
from compute.market import Floats, Integers, Market, SharedUse
from server.portfolios.portfolio_state import PortfolioState
from server.portfolios.positions import others_use
from server.sizing.prepared_request import PreparedRequest
from server.sizing.sized_request import SizedRequest


def notional_before(problem: PreparedRequest) -> Floats:
    """Absolute notional per instrument at its worst, pending trades included, (m,)."""
    return problem.inputs.limit_bounds.guard.worst.copy()


def notional_after(solved: SizedRequest) -> Floats:
    """The same if the decision is filled too, (m,)."""
    problem, out = solved.problem, notional_before(solved.problem)
    index = problem.inputs.index[problem.inputs.active]
    quantity = solved.sizing.quantity[problem.inputs.active]
    value = problem.inputs.limit_bounds.market.price[index] * quantity
    out[index] = problem.inputs.limit_bounds.guard.worst_case(value, index)
    return out


class Axis:
    """The instruments of several markets, each once: those of the first, then all others.

    Portfolios of one call may be sized at markets of their own; what they share is divided over the
    instruments of all.
    """

    def __init__(self, markets: Sequence[Market], others: Sequence[str] = ()) -> None:
        self._first = markets[0]
        self._more: dict[str, int] = {}
        for names in (*(market.instrument_ids for market in markets), others):
            if names is not self._first.instrument_ids:
                for name in names:
                    if name not in self._first.index:
                        self._more.setdefault(name, len(self._first.price) + len(self._more))

    def __len__(self) -> int:
        return len(self._first.price) + len(self._more)

    def places(self, market: Market) -> Integers:
        """Of the instruments of a market."""
        if market.instrument_ids is self._first.instrument_ids:
            return np.arange(len(market.price))
        found = self._first.places(market.instrument_ids)
        for i in np.flatnonzero(found < 0):
            found[i] = self._more[market.instrument_ids[i]]
        return found

    def over(self, column: Floats, market: Market) -> Floats:
        """A column of a market, 0 for what it doesn't have."""
        out = np.zeros(len(self))
        out[self.places(market)] = column
        return out

    def with_named(self, column: Floats, named: Mapping[str, float]) -> Floats:
        """With what is known by name of instruments that the first market doesn't have."""
        out = column.copy()
        for name, value in named.items():
            out[self._more[name]] += value
        return out


def parts_of(members: Sequence[PortfolioState], solved: Sequence[SizedRequest]) -> list[SharedUse]:
    """The part of the shared limits of each of a group's portfolios in a call, at its market."""
    problems = [item.problem for item in solved]
    markets = [problem.inputs.limit_bounds.market for problem in problems]
    ids = {member.portfolio.portfolio_id for member in members}
    first = members[0]
    rest = replace(first, others={k: v for k, v in first.others.items() if k not in ids})
    outside, elsewhere = others_use(rest, markets[0])
    axis = Axis(markets, tuple(elsewhere))
    uses = []
    for problem, market in zip(problems, markets, strict=True):
        shared = problem.context.shared
        assert shared is not None, "only portfolios that share limits come here"
        laid = axis.over(shared.instrument_notional, market)
        uses.append(replace(shared, instrument_notional=laid))
    each = list(zip(solved, markets, strict=True))
    parts = divided(
        uses,
        np.stack([axis.over(notional_before(item.problem), market) for item, market in each]),
        np.stack([axis.over(notional_after(item), market) for item, market in each]),
        axis.with_named(axis.over(outside, markets[0]), elsewhere),
    )
    return [
        replace(part, instrument_notional=part.instrument_notional[axis.places(market)])
        for part, market in zip(parts, markets, strict=True)
    ]


def with_shared(problem: PreparedRequest, shared: SharedUse) -> PreparedRequest:
    """The same problem within a given part of the shared limits."""
    context = replace(problem.context, shared=shared)
    market, limits = problem.inputs.limit_bounds.market, problem.inputs.limit_bounds.limits
    limit_bounds = prepare(market, context.positions, limits, shared)
    inputs = replace(problem.inputs, limit_bounds=limit_bounds, lot_search=None)
    return replace(problem, context=context, inputs=inputs)

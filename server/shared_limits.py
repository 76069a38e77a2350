"""What the portfolios of a call use of the limits they share, and each one's part of them."""

from collections.abc import Sequence
from dataclasses import replace

from compute.limits.bounds import prepare
from compute.market import Floats, SharedUse
from server.portfolio_state import PortfolioState, shared_use
from server.prepared_request import PreparedRequest
from server.sized_request import SizedRequest


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


def outside_use(
    state: PortfolioState, members: Sequence[PortfolioState], solved: SizedRequest
) -> Floats:
    """Absolute notional per instrument of the group's portfolios that are not in the call."""
    ids = {member.portfolio.portfolio_id for member in members}
    rest = replace(state, others={k: v for k, v in state.others.items() if k not in ids})
    use = shared_use(rest, solved.problem.inputs.limit_bounds.market)
    assert use is not None, "only portfolios that share limits come here"
    return use.instrument_notional


def with_shared(problem: PreparedRequest, shared: SharedUse) -> PreparedRequest:
    """The same problem within a given part of the shared limits."""
    context = replace(problem.context, shared=shared)
    market, limits = problem.inputs.limit_bounds.market, problem.inputs.limit_bounds.limits
    limit_bounds = prepare(market, context.positions, limits, shared)
    inputs = replace(problem.inputs, limit_bounds=limit_bounds, lot_search=None)
    return replace(problem, context=context, inputs=inputs)

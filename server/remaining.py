"""Limits that an answer leaves exceeded: said in it, or refused where no book keeps them."""

import numpy as np
from positionsizing.v1 import sizing_pb2, types_pb2

from compute.limits.contradiction import contradiction
from compute.limits.remaining import exceeded
from compute.pipeline import Sizing
from server.errors import precondition
from server.prepared_request import PreparedRequest


def is_beyond(problem: PreparedRequest) -> bool:
    """Whether the book held and reserved, all of it filled, is beyond a limit already."""
    nothing = np.zeros(len(problem.inputs.index), dtype=np.int64)
    return bool(exceeded(problem.inputs, problem.guard, nothing))


def refuse_contradiction(problem: PreparedRequest) -> None:
    """Raises `Refusal` where the limits alone contradict each other, whatever is held."""
    limit_bounds = problem.inputs.limit_bounds
    conflict = contradiction(limit_bounds.market, limit_bounds.limits, limit_bounds.equity)
    if conflict:
        names = ", ".join(conflict)
        text = f"no book satisfies these limits together: {names}"
        raise precondition("INFEASIBLE_LIMITS", text, conflict=names)


def limits_exceeded(
    message: sizing_pb2.SizingDecision, problem: PreparedRequest, sizing: Sizing
) -> None:
    """Fills what the book is still beyond once the decision is filled.

    Raises `Refusal` where it is because limits contradict each other; what only reduces goes on.
    """
    found = exceeded(problem.inputs, problem.guard, sizing.trade_lots)
    if found and not problem.inputs.must_reduce:
        refuse_contradiction(problem)
    for item in found:
        message.limits_exceeded.add(
            kind=types_pb2.LimitKind.ValueType(int(item.kind)),
            name=item.name,
            bound=item.bound,
            value=item.value,
        )

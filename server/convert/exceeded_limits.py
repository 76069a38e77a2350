"""Limits that an answer leaves exceeded: said in it, or refused where no book keeps them."""

from positionsizing.v1 import sizing_pb2, types_pb2

from compute.limits.remaining import exceeded
from compute.target import refuse_contradiction
from compute.waterfall.pipeline import Sizing
from server.sizing.prepared_request import PreparedRequest


def limits_exceeded(
    message: sizing_pb2.SizingDecision, problem: PreparedRequest, sizing: Sizing
) -> None:
    """Fills what the book is still beyond once the decision is filled.

    Raises `InfeasibleLimitsError` where it is because limits contradict each other; what only
    reduces goes on.
    """
    found = exceeded(problem.inputs, sizing.trade_lots)
    if found and not problem.inputs.must_reduce:
        refuse_contradiction(problem.inputs)
    for item in found:
        message.limits_exceeded.add(
            kind=types_pb2.LimitKind.ValueType(int(item.kind)),
            name=item.name,
            bound=item.bound,
            value=item.value,
            is_lower_bound=item.is_lower_bound,
        )

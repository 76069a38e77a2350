"""A prepared request with its sizes, and the decision as it is answered."""

from dataclasses import dataclass, replace

from compute.shapes import KernelRegistry
from compute.waterfall.pipeline import Sizing
from server.convert.encoded_decision import EncodedDecision, encoded
from server.sizing.prepared_request import PreparedRequest


@dataclass(frozen=True)
class SizedRequest:
    """What was asked, and what came of it. problem: with the inputs as they were sized."""

    problem: PreparedRequest
    sizing: Sizing
    decision: EncodedDecision


def sized(problem: PreparedRequest, sizing: Sizing, kernels: KernelRegistry) -> SizedRequest:
    """The request with the decision encoded; runs in a compute thread."""
    inputs = sizing.inputs
    context = replace(problem.context, lot_search=inputs.lot_search)
    problem = replace(problem, inputs=inputs, context=context)
    return SizedRequest(problem, sizing, encoded(problem, sizing, kernels))

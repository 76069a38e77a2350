"""What was asked and answered for one portfolio, from the bytes that were stored of a call."""

import numpy as np
from positionsizing.v1 import sizing_pb2, types_pb2
from positionsizing.v1 import sizing_service_pb2 as pb

from server.convert.columns import Floats, floats
from server.convert.decision import STAGE_NUMBERS


def asked_of(method: str, request: bytes, portfolio_id: str) -> pb.SizePositionsRequest:
    """The request of one portfolio, out of a call for several where it was one."""
    if method == "SizePositions":
        return pb.SizePositionsRequest.FromString(request)
    whole = pb.SizePortfoliosRequest.FromString(request)
    return next(part for part in whole.requests if part.portfolio_id == portfolio_id)


def answer_of(method: str, response: bytes, decision_id: str) -> sizing_pb2.SizingDecision:
    """The decision as it was answered."""
    if method == "SizePositions":
        return pb.SizePositionsResponse.FromString(response).decision
    answered = pb.SizePortfoliosResponse.FromString(response).decisions
    return next(item for item in answered if item.decision_id == decision_id)


def stage_weights(answer: sizing_pb2.SizingDecision) -> Floats:
    """Weights after every stage, (stages, lines); stages that changed nothing are filled in."""
    told = {int(stage.stage): floats(stage.weight) for stage in answer.waterfall.stages}
    if (algorithm := told.pop(types_pb2.SIZING_STAGE_ALGORITHM, None)) is not None:
        told[types_pb2.SIZING_STAGE_JOINT_OPTIMUM] = algorithm  # the same place in the waterfall
    out, last = list[Floats](), np.zeros(len(answer.sizes.instrument_ids))
    for number in STAGE_NUMBERS:
        last = told.get(number, last)
        out.append(last)
    return np.stack(out)

"""What was asked and answered for one portfolio, from the bytes that were stored of a call."""

from positionsizing.v1 import sizing_pb2
from positionsizing.v1 import sizing_service_pb2 as pb


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

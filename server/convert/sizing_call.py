"""Calls of SizePositions and SizePortfolios: checked as a whole, then in the domain's words."""

from functools import partial

from google.protobuf.field_mask_pb2 import FieldMask
from positionsizing.v1 import sizing_service_pb2 as pb

from server.calls.errors import invalid, invalid_fields
from server.calls.reading import mask_violations, read_answer, without_mask
from server.convert.names import uuid
from server.convert.request import check, sizing_request
from server.sizing.request import SizingCall, SizingRequest

PORTFOLIOS_MAX = 256


def for_one(message: pb.SizePositionsRequest, lines_max: int) -> SizingCall:
    """A call for one portfolio. Raises `Refusal`."""
    check(message, lines_max)
    mask = _mask(message)
    message = without_mask(message)
    content = message.SerializeToString(deterministic=True)
    return _call("SizePositions", message, content, (sizing_request(message, content),), mask)


def for_several(message: pb.SizePortfoliosRequest, lines_max: int) -> SizingCall:
    """A call for several portfolios. Raises `Refusal`."""
    parts = _parts(message)
    for position, part in enumerate(parts):
        check(part, lines_max, f"requests[{position}].")
    mask = _mask(message)
    message = without_mask(message)
    content = message.SerializeToString(deterministic=True)
    return _call("SizePortfolios", message, content, tuple(map(sizing_request, parts)), mask)


def _call(
    method: str,
    message: pb.SizePositionsRequest | pb.SizePortfoliosRequest,
    content: bytes,
    parts: tuple[SizingRequest, ...],
    mask: FieldMask,
) -> SizingCall:
    request_id = None if message.validate_only else uuid(message.request_id, "request_id")
    return SizingCall(method, parts, content, request_id, partial(read_answer, mask=mask))


def _mask(request: pb.SizePositionsRequest | pb.SizePortfoliosRequest) -> FieldMask:
    if found := list(mask_violations(request.read_mask)):
        raise invalid_fields(found)
    return request.read_mask


def _parts(request: pb.SizePortfoliosRequest) -> list[pb.SizePositionsRequest]:
    """The parts of a call for several portfolios; raises `Refusal` where they can't go together."""
    parts = list(request.requests)
    if not 1 <= len(parts) <= PORTFOLIOS_MAX:
        text = f"has {len(parts)} entries; 1 to {PORTFOLIOS_MAX} are accepted"
        raise invalid("requests", "OUT_OF_RANGE", text)
    seen: set[str] = set()
    for position, part in enumerate(parts):
        path = f"requests[{position}]"
        if part.portfolio_id in seen:
            text = f"{part.portfolio_id!r} is given twice"
            raise invalid(f"{path}.portfolio_id", "DUPLICATE", text)
        seen.add(part.portfolio_id)
        for name in ("request_id", "validate_only"):
            if getattr(part, name):
                raise invalid(f"{path}.{name}", "NOT_APPLICABLE", "is set on the whole call only")
        if part.HasField("read_mask"):
            raise invalid(f"{path}.read_mask", "NOT_APPLICABLE", "is set on the whole call only")
    return parts

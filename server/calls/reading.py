"""How much of an answer its caller wants to have and can receive.

A gRPC client drops an answer above its receive limit, 4 MiB unless it was told otherwise, and all
it has is an error of its own. So the limit is asked for (metadata `sizing-max-response-bytes`),
assumed where nothing is said, and kept before anything is recorded. What of the answer is wanted is
said by a field mask.
"""

from collections.abc import Iterator, Mapping
from typing import TypeVar

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from positionsizing.v1 import sizing_pb2
from positionsizing.v1 import sizing_service_pb2 as pb

from server.calls.errors import FieldViolation, Refusal, invalid

T = TypeVar("T", pb.SizePositionsRequest, pb.SizePortfoliosRequest)

HEADER = "sizing-max-response-bytes"
BYTES_DEFAULT = 4 * 1024 * 1024
"""What gRPC's clients receive unless they are told otherwise."""
BYTES_MIN, BYTES_MAX = 4096, 2**31 - 1
_PATHS_MAX = 100
_ALWAYS = ("decision_id", "request_id", "portfolio_id", "status")
"""Without these nobody could settle a decision or tell what it is."""


def bytes_receivable(metadata: Mapping[str, object], sendable: int) -> int:
    """The most bytes that the caller receives and the server sends. Raises `Refusal`."""
    said = metadata.get(HEADER)
    if said is None:
        return min(BYTES_DEFAULT, sendable)
    try:
        number = int(str(said))
    except ValueError:
        number = 0
    if number == -1:  # as gRPC's own option has it: no limit
        return sendable
    if not BYTES_MIN <= number <= BYTES_MAX:
        text = f"is {str(said)[:40]!r}; it must be -1 or a number from {BYTES_MIN} to {BYTES_MAX}"
        raise invalid(HEADER, "OUT_OF_RANGE", text)
    return min(number, sendable)


def check_bytes(n_bytes: int, bytes_max: int, *, is_estimate: bool = False) -> None:
    """Raises `Refusal` where an answer is larger than its caller can receive."""
    if n_bytes > bytes_max:
        raise Refusal(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "RESPONSE_TOO_LARGE",
            f"the answer {'would take about' if is_estimate else 'takes'} {n_bytes:,} bytes and "
            f"you receive at most {bytes_max:,}; nothing new was recorded. Ask for less: fewer "
            "lines, variations or points, or a read_mask such as 'sizes' where there is one; or "
            "raise your client's grpc.max_receive_message_length and say so in the metadata "
            f"{HEADER}",
            metadata={"bytes": str(n_bytes), "bytes_max": str(bytes_max)},
        )


def mask_violations(mask: FieldMask, path: str = "read_mask") -> Iterator[FieldViolation]:
    """A violation for each path that names no field of `SizingDecision`."""
    if len(mask.paths) > _PATHS_MAX:
        yield FieldViolation(path, "OUT_OF_RANGE", f"has more than {_PATHS_MAX} paths")
        return
    for place, name in enumerate(mask.paths):
        if not FieldMask(paths=[name]).IsValidForDescriptor(sizing_pb2.SizingDecision.DESCRIPTOR):
            text = f"{name[:100]!r} is no field of SizingDecision, such as 'sizes' or 'sizes.lots'"
            yield FieldViolation(f"{path}.paths[{place}]", "UNKNOWN_FIELD", text)


def read_decision(
    decision: sizing_pb2.SizingDecision, mask: FieldMask
) -> sizing_pb2.SizingDecision:
    """The decision with the fields of a mask, and those always there; all if it is empty."""
    if not mask.paths:
        return decision
    wanted, answered = FieldMask(), sizing_pb2.SizingDecision()
    wanted.Union(mask, FieldMask(paths=_ALWAYS))
    wanted.MergeMessage(decision, answered)
    return answered


def read_answer(answer: bytes, mask: FieldMask) -> bytes:
    """The same of an encoded answer to SizePositions or SizePortfolios."""
    if not mask.paths:
        return answer
    # The same field holds the decision of the one and the decisions of the other.
    decisions = pb.SizePortfoliosResponse.FromString(answer).decisions
    return pb.SizePortfoliosResponse(
        decisions=[read_decision(decision, mask) for decision in decisions]
    ).SerializeToString()


def without_mask(request: T) -> T:
    """The request as it is decided on, recorded and compared: whatever of it is read."""
    if not request.HasField("read_mask"):
        return request
    copied = type(request)()
    copied.CopyFrom(request)
    copied.ClearField("read_mask")
    return copied

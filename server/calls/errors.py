"""Refusals: what a caller is told, as google.rpc.Status with ErrorInfo and field violations.

    Refusal                 a request that can't be answered as asked
    refusal_of(error)       the same for errors of storage and of what a sizing lacks

Every error has exactly one `ErrorInfo` with a reason for programs; wrong fields are listed in
`BadRequest` by their path; overload and lost connections carry `RetryInfo`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from compute.limits.contradiction import InfeasibleLimitsError
from compute.market import MissingInputError
from compute.optimize.time_limit import OutOfTimeError, StoppedError, TooLongError
from compute.shapes import NotReadyError
from storage import errors as storage_errors

DOMAIN = "positionsizing"

# Errors travel in HTTP/2 trailers, of which clients accept 8 KiB in all by default.
MESSAGE_LENGTH_MAX = 500
DETAILS_BYTES_MAX = 4000


@dataclass(frozen=True)
class FieldViolation:
    """A wrong field: its path (`signals.payoff[17]`), a reason, and what would be right."""

    field: str
    reason: str
    description: str


@dataclass(eq=False)  # not frozen: Python writes the traceback into it
class Refusal(Exception):
    """Why a request is refused. `retry_after_s` where the same request may succeed later."""

    code: grpc.StatusCode
    reason: str
    message: str
    fields: Sequence[FieldViolation] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.code, self.reason, self.message, self.fields, self.metadata)
        return Refusal, (*parts, self.retry_after_s)

    def within(self, path: str) -> "Refusal":
        """The same of a part of a request: its fields lie below `path`, such as `base.`."""
        if not self.fields:
            return self
        fields = tuple(replace(item, field=path + item.field) for item in self.fields)
        metadata = {**self.metadata, "field": fields[0].field}
        return replace(self, message=path + self.message, fields=fields, metadata=metadata)

    def status(self) -> status_pb2.Status:
        """The rich status that goes into the trailing metadata."""
        info = error_details_pb2.ErrorInfo(
            reason=self.reason, domain=DOMAIN, metadata=dict(self.metadata)
        )
        details = [info]
        if self.fields:
            details.append(_bad_request(self.fields))
        if self.retry_after_s is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(int(self.retry_after_s * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        packed = []
        for detail in details:
            wrapped = any_pb2.Any()
            wrapped.Pack(detail)
            packed.append(wrapped)
        message = self.message[:MESSAGE_LENGTH_MAX]
        return status_pb2.Status(code=self.code.value[0], message=message, details=packed)


def _bad_request(fields: Sequence[FieldViolation]) -> error_details_pb2.BadRequest:
    """As many of the wrong fields, in order, as an error has room for."""
    bad, room = error_details_pb2.BadRequest(), DETAILS_BYTES_MAX
    for item in fields:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=item.field,
            reason=item.reason,
            description=item.description[:MESSAGE_LENGTH_MAX],
        )
        room -= violation.ByteSize() + 8
        if room < 0 and bad.field_violations:
            break
        bad.field_violations.append(violation)
    return bad


def invalid(field_path: str, reason: str, description: str) -> Refusal:
    """INVALID_ARGUMENT for one field."""
    return invalid_fields([FieldViolation(field_path, reason, description)])


def invalid_fields(violations: Sequence[FieldViolation]) -> Refusal:
    """INVALID_ARGUMENT for one or more fields; the first is told in the message."""
    violations = list(dict.fromkeys(violations))  # a number may be looked at more than once
    first = violations[0]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    message = f"{first.field}: {first.description}{more}"
    code = grpc.StatusCode.INVALID_ARGUMENT
    return Refusal(code, first.reason, message, tuple(violations[:100]), {"field": first.field})


def precondition(reason: str, message: str, **metadata: str) -> Refusal:
    """FAILED_PRECONDITION: the state has to change before the request can succeed."""
    return Refusal(grpc.StatusCode.FAILED_PRECONDITION, reason, message, metadata=metadata)


def not_found(kind: str, id: str, text: str = "") -> Refusal:
    """NOT_FOUND, with the words that don't tell whether a thing of another tenant exists."""
    name = kind.replace(" ", "_")
    message = text or f"{kind} {id!r} does not exist"
    reason = f"{name.upper()}_NOT_FOUND"
    return Refusal(grpc.StatusCode.NOT_FOUND, reason, message, metadata={name: id})


def refusal_of(error: BaseException) -> Refusal | None:
    """What is told of an error that has a name; None for a bug."""
    match error:
        case Refusal():
            return error
        case storage_errors.StorageError():
            return of_storage(error)
        case NotReadyError():
            code = grpc.StatusCode.UNAVAILABLE
            return Refusal(code, "PREPARING", str(error), retry_after_s=2.0)
        case TooLongError():
            text = f"{error}: give the call more time, or ask for less"
            return precondition("TOO_LONG", text)
        case OutOfTimeError():
            return Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE", str(error))
        case StoppedError():
            return Refusal(grpc.StatusCode.CANCELLED, "CANCELLED", str(error))
        case InfeasibleLimitsError() if error.conflict:
            return precondition(error.reason, str(error), conflict=error.conflict)
        case MissingInputError():
            return precondition(error.reason, str(error))
        case asyncio.CancelledError():  # of what the call waited for, not of the call
            text = "what the call waited for has ended; nothing is known of its outcome"
            return Refusal(grpc.StatusCode.UNAVAILABLE, "INTERRUPTED", text, retry_after_s=0.2)
    return None


def of_storage(error: storage_errors.StorageError) -> Refusal:
    """The refusal for an error of storage."""
    code = grpc.StatusCode
    text = str(error)
    match error:
        case storage_errors.NotFound():
            return not_found(error.kind, error.id, text)
        case storage_errors.AlreadyExists():
            message = f"{text} with other content"
            return Refusal(code.ALREADY_EXISTS, error.reason, message, metadata={"id": error.id})
        case storage_errors.RequestIdReused():
            return Refusal(
                code.ABORTED,
                error.reason,
                text,
                metadata={"request_id": error.request_id},
            )
        case storage_errors.Archived():
            told = {error.kind: error.id, "archive": error.archive, "day": error.day}
            return precondition(error.reason, text, **told)
        case storage_errors.FailedPrecondition():
            return precondition(error.reason, text, id=error.id)
        case storage_errors.InvalidContent():
            return Refusal(code.INVALID_ARGUMENT, error.reason, text)
        case storage_errors.VersionConflict():
            versions = {"expected": str(error.expected), "actual": str(error.actual)}
            return Refusal(code.ABORTED, error.reason, text, metadata=versions)
        case storage_errors.DeadlineExceeded():
            return Refusal(code.UNAVAILABLE, error.reason, text, retry_after_s=0.1)
        case storage_errors.Unavailable():
            return Refusal(code.UNAVAILABLE, error.reason, text, retry_after_s=0.2)
    return Refusal(code.FAILED_PRECONDITION, error.reason, text)

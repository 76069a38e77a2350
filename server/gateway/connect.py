"""Errors and messages as the Connect protocol has them, and protobuf's JSON.

An error is an HTTP status with {"code", "message", "details"}; a detail is the encoded message in
base64 with its type, and the same in JSON under "debug" for people (connectrpc.com/docs/protocol).
"""

import base64
import json
import re
from dataclasses import dataclass
from typing import Any, cast

import grpc
from google.protobuf import any_pb2, duration_pb2, json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from server.gateway.spelled_twice import spelled_twice
from server.gateway.wrong_value import wrong_value

DOMAIN = "positionsizing"
END_FLAG = 0x02
TIMEOUT = "connect-timeout-ms"
_TYPES = "type.googleapis.com/"

HTTP_STATUS = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
_KNOWN_DETAILS: dict[str, type[Message]] = {
    message.DESCRIPTOR.full_name: message
    for message in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
    )
}
_PARSE_ERROR = re.compile(
    r'Message type "[^"]*" has no field named "(?P<name>[^"]*)" at "(?P<at>[^"]*)"', re.S
)


_NO_JSON = re.compile(r"^(Failed to load JSON: )+")
"""What protobuf says before what the parser of JSON says, twice of a name that is given twice."""


class WireError(Exception):
    """An answer that is an error: HTTP status, body, and when to come again."""

    def __init__(self, status: status_pb2.Status, http_status: int | None = None) -> None:
        super().__init__(status.message)
        name = _code_name(status.code)
        self.status = status
        self.http_status = http_status or HTTP_STATUS[name]
        self.retry_after_s = _retry_after(status)
        self.document = {
            # The one code that Connect spells otherwise than gRPC.
            "code": "canceled" if name == "CANCELLED" else name.lower(),
            "message": status.message,
            "details": [_detail(item) for item in status.details],
        }


@dataclass(frozen=True)
class Refused:
    """A refusal of the gateway's own: a gRPC code, a reason, words, and the wrong field."""

    code: grpc.StatusCode
    reason: str
    message: str
    field: str = ""
    http_status: int | None = None
    retry_after_s: int | None = None

    def error(self) -> WireError:
        """The same as it is answered."""
        details: list[Message] = [
            error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN),
        ]
        if self.field:
            violation = error_details_pb2.BadRequest.FieldViolation(
                field=self.field, reason=self.reason, description=self.message
            )
            details.append(error_details_pb2.BadRequest(field_violations=[violation]))
        if self.retry_after_s is not None:
            wait = duration_pb2.Duration(seconds=int(self.retry_after_s))
            details.append(error_details_pb2.RetryInfo(retry_delay=wait))
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in details:
            status.details.add().Pack(detail)
        return WireError(status, self.http_status)


def of_rpc(error: Any) -> WireError:
    """What the server told, as it is answered: `error` is a gRPC error with its trailers."""
    packed = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    if packed is not None:
        return WireError(status_pb2.Status.FromString(packed))
    code, text = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE:
        text = "the sizing service does not answer; the gateway does"
        return Refused(code, "SERVICE_AWAY", text, retry_after_s=1).error()
    return WireError(status_pb2.Status(code=code.value[0], message=text))


def timeout_s(text: str) -> float:
    """Seconds that `connect-timeout-ms` gives. WireError where it is no time."""
    if text.isascii() and text.isdecimal() and len(text) <= 10:
        return int(text) / 1000
    words = f"{TIMEOUT} must be a number of milliseconds"
    raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "BAD_FORMAT", words).error()


def end_of_stream(error: WireError | None) -> bytes:
    """What the last frame of a stream says."""
    return json.dumps({} if error is None else {"error": error.document}).encode()


_JSON_SPACE = " \t\r\n"


def parse(content: bytes, message: Message) -> Message:
    """The message out of its JSON; names in camel case or as in the contract.

    Raises `WireError`: no JSON, a field that doesn't exist or is given twice, another type's value.
    """
    code = grpc.StatusCode.INVALID_ARGUMENT
    try:
        text = content.decode("utf-8-sig") or "{}"  # some write a byte order mark
        if text.lstrip(_JSON_SPACE)[:1] != "{":
            raise Refused(code, "UNDECODABLE", "the body is not a JSON object").error()
        if twice := spelled_twice(_json_of(content), cast("Descriptor", message.DESCRIPTOR)):
            words = f"{twice}: is given twice, by its name and in camel case"
            raise Refused(code, "DUPLICATE", words, twice).error()
        return json_format.Parse(text, message)
    except UnicodeDecodeError as error:
        raise Refused(code, "UNDECODABLE", "the body is not UTF-8").error() from error
    except (json_format.ParseError, RecursionError) as error:
        if RecursionError in (type(error), type(error.__context__)):
            text = "the body's objects are inside each other too deeply"
            raise Refused(code, "UNDECODABLE", text).error() from error
        text = str(error).replace("\n", " ").rstrip(".")[:500]
        if found := _PARSE_ERROR.search(str(error)):
            _, _, path = found["at"].partition(".")
            path = f"{path}.{found['name']}" if path else found["name"]
            words = f"{path}: the contract has no such field"
            raise Refused(code, "UNKNOWN_FIELD", words, path).error() from error
        if wrong := wrong_value(_json_of(content), message):
            words = f"{wrong.path}: {wrong.text}"
            raise Refused(code, wrong.reason, words, wrong.path).error() from error
        raise Refused(
            code, "UNDECODABLE", _NO_JSON.sub("the body is no JSON: ", text)
        ).error() from error


def _json_of(content: bytes) -> Any:
    """The body as JSON; None where it is none. RecursionError where it is too deep."""
    try:
        return json.loads(content)
    except ValueError:
        return None


def render(answer: Message) -> bytes:
    """A message as JSON, fields in camel case as protobuf's mapping has them."""
    return json_format.MessageToJson(answer, indent=None).encode()


def _code_name(number: int) -> str:
    return next((c.name for c in grpc.StatusCode if c.value[0] == number), "UNKNOWN")


def _detail(packed: any_pb2.Any) -> dict[str, Any]:
    name = packed.type_url.removeprefix(_TYPES)
    value = base64.b64encode(packed.value).decode().rstrip("=")
    told: dict[str, Any] = {"type": name, "value": value}
    if kind := _KNOWN_DETAILS.get(name):
        told["debug"] = json_format.MessageToDict(kind.FromString(packed.value))
    return told


def _retry_after(status: status_pb2.Status) -> float | None:
    retry = error_details_pb2.RetryInfo()
    for item in status.details:
        if item.Unpack(retry):
            return retry.retry_delay.ToTimedelta().total_seconds()
    return None

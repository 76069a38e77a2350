"""How gRPC-Web says that a call has ended, and by when it must have.

Trailers are text lines in a frame of their own, since pages can't read those of HTTP
(PROTOCOL-WEB.md of gRPC); names and values are those of gRPC over HTTP/2 (PROTOCOL-HTTP2.md).
"""

import base64
import re
from urllib.parse import quote

import grpc

from server.gateway.connect import Refused, WireError

END_FLAG = 0x80
TIMEOUT = "grpc-timeout"
_PRINTABLE = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) != "%")
"""What `grpc-message` says as it is; all other bytes of UTF-8 are percent-encoded."""
_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")


def trailers(error: WireError | None) -> bytes:
    """The lines of the last frame."""
    if error is None:
        return b"grpc-status: 0\r\n"
    packed = base64.b64encode(error.status.SerializeToString()).rstrip(b"=").decode()
    return (
        f"grpc-status: {error.status.code}\r\n"
        f"grpc-message: {quote(error.status.message, safe=_PRINTABLE)}\r\n"
        f"grpc-status-details-bin: {packed}\r\n"
    ).encode()


def timeout_s(text: str) -> float:
    """Seconds that `grpc-timeout` gives. WireError where it is no time."""
    if found := _TIMEOUT.fullmatch(text):
        return int(found[1]) * _UNITS_S[found[2]]
    words = f"{TIMEOUT} must be digits and a unit, such as 30S or 500m"
    raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "BAD_FORMAT", words).error()

"""The wire forms a call may have over HTTP: what a body looks like, and how errors are told.

| content-type | for | messages |
|---|---|---|
| application/json, application/proto | calls with one answer, of Connect | as they are |
| application/connect+json, +proto | calls with a stream of answers, of Connect | framed |
| application/grpc-web, +proto | all calls, of gRPC-Web | framed |
| application/grpc-web-text, +proto | the same | framed, in base64 |

A framed message is a byte of flags, its length in four bytes, most significant first, and the
message; the last frame says how the call ended (connectrpc.com/docs/protocol, PROTOCOL-WEB.md of
gRPC).
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from server.gateway import connect, grpc_web
from server.gateway.connect import Refused, WireError

_HEADER_BYTES = 5
_COMPRESSED = 0x01


@dataclass(frozen=True)
class Form:
    """One wire form, named by its content-type."""

    media: str
    is_json: bool = False
    is_base64: bool = False
    end_flag: int = 0
    end: Callable[[WireError | None], bytes] | None = None
    """What the last frame says of an error, or of none; None: messages have no frames."""
    one_answer: bool = True
    """Whether calls with one answer may have it."""

    @property
    def is_framed(self) -> bool:
        """Whether messages are in frames, as streams of answers must be."""
        return self.end is not None

    def read(self, body: bytes) -> bytes:
        """The one message in a body. WireError where there is none, or more."""
        if not self.is_framed:
            return body
        if self.is_base64:
            try:
                body = base64.b64decode(body, validate=True)
            except binascii.Error as error:
                raise _unreadable("the body is not base64") from error
        if len(body) < _HEADER_BYTES:
            raise _unreadable("the body has no frame: a byte of flags and a length in four")
        flags, length = body[0], int.from_bytes(body[1:_HEADER_BYTES], "big")
        if flags & _COMPRESSED:
            raise _unreadable("the message is compressed")
        if flags or length != len(body) - _HEADER_BYTES:
            left = len(body) - _HEADER_BYTES
            raise _unreadable(f"the body must be one frame: its length is {length}, {left} follow")
        return body[_HEADER_BYTES:]

    def frame(self, message: bytes, flags: int = 0) -> bytes:
        """A message as it is written in an answer."""
        framed = bytes([flags]) + len(message).to_bytes(4, "big") + message
        return base64.b64encode(framed) if self.is_base64 else framed

    def last_frame(self, error: WireError | None) -> bytes:
        """How the call ended."""
        assert self.end is not None, "only framed forms end in a frame"
        return self.frame(self.end(error), self.end_flag)


def _unreadable(text: str) -> WireError:
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, "UNDECODABLE", text).error()


def _grpc_web(media: str, *, is_base64: bool = False) -> Form:
    return Form(media, is_base64=is_base64, end_flag=grpc_web.END_FLAG, end=grpc_web.trailers)


def _connect_stream(media: str, *, is_json: bool = False) -> Form:
    end = connect.end_of_stream
    return Form(media, is_json=is_json, end_flag=connect.END_FLAG, end=end, one_answer=False)


JSON = Form("application/json", is_json=True)
FORMS = {
    form.media: form
    for form in (
        JSON,
        Form("application/proto"),
        _connect_stream("application/connect+json", is_json=True),
        _connect_stream("application/connect+proto"),
        _grpc_web("application/grpc-web"),
        _grpc_web("application/grpc-web+proto"),
        _grpc_web("application/grpc-web-text", is_base64=True),
        _grpc_web("application/grpc-web-text+proto", is_base64=True),
    )
}


def form_of(media: str, *, is_stream: bool) -> Form:
    """The form of a call by its content-type. WireError with those that it may have."""
    form = FORMS.get(media)
    if form is not None and (form.is_framed if is_stream else form.one_answer):
        return form
    may = [f.media for f in FORMS.values() if (f.is_framed if is_stream else f.one_answer)]
    kind = "a stream of answers" if is_stream else "one answer"
    text = f"a call with {kind} has content-type {', '.join(may)}"
    code = grpc.StatusCode.INVALID_ARGUMENT
    raise Refused(code, "UNSUPPORTED_CONTENT", text, http_status=415).error()

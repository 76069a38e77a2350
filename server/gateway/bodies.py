"""The bodies of requests: how long each may take, and how much of all may be held at once.

Whoever sends one has shown no credential yet.
"""

import asyncio
import contextlib
from dataclasses import dataclass

import grpc
from starlette.requests import ClientDisconnect, Request

from server.gateway.connect import Refused

DRAIN_S, DRAIN_BYTES_MAX = 5.0, 64 << 20
"""How much is read of a body that was refused."""


@dataclass(frozen=True)
class BodyLimits:
    """Of one body, of all that are held at once, and how long one may take."""

    bytes_max: int = 16 << 20
    all_bytes_max: int = 256 << 20
    seconds_max: float = 30.0


class Bodies:
    """What is held of the bodies of all requests."""

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._held_bytes = 0

    def begin(self) -> "Body":
        """Of one request; release it at its end."""
        return Body(self, self._limits)

    def take(self, size: int) -> None:
        """Counts bytes, given back where negative. Raises `WireError` where there are too many."""
        self._held_bytes += size
        if size > 0 and self._held_bytes > self._limits.all_bytes_max:
            text = "too many large requests at once; nothing was done"
            code = grpc.StatusCode.UNAVAILABLE
            raise Refused(code, "OVERLOADED", text, retry_after_s=1).error()


class Body:
    """The body of one request."""

    def __init__(self, bodies: Bodies, limits: BodyLimits) -> None:
        self._bodies = bodies
        self._limits = limits
        self._size = 0

    async def read(self, request: Request) -> bytes:
        """All of it. Raises `WireError`, `ClientDisconnect`."""
        pieces = []
        try:
            async with asyncio.timeout(self._limits.seconds_max):
                async for piece in request.stream():
                    self._take(len(piece))
                    pieces.append(piece)
        except TimeoutError:
            text = f"the body was not there within {self._limits.seconds_max:g} s"
            code = grpc.StatusCode.DEADLINE_EXCEEDED
            raise Refused(code, "DEADLINE", text, http_status=408).error() from None
        return b"".join(pieces)

    def _take(self, size: int) -> None:
        self._size += size
        self._bodies.take(size)
        if self._size > self._limits.bytes_max:
            text = f"the body is larger than {self._limits.bytes_max} bytes"
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
            raise Refused(code, "TOO_LARGE", text, http_status=413).error()

    def release(self) -> None:
        """It is held no more."""
        self._bodies.take(-self._size)
        self._size = 0


async def drain(request: Request) -> None:
    """Reads on for a while and forgets: a connection closed on somebody who sends is reset, and the
    answer is lost with it.
    """
    left = DRAIN_BYTES_MAX
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):  # it has been read
        async with asyncio.timeout(DRAIN_S):
            async for piece in request.stream():
                left -= len(piece)
                if left < 0:
                    return

"""How long a connection may take to send the head of a request: a place is not held for nothing."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class LimitedProtocol(H11Protocol):
    """HTTP that closes a connection whose next request doesn't begin within `head_s`.

    Between requests that is uvicorn's own time for idle connections, until the first byte.
    """

    head_s = 10.0

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A connection is there; nothing has been sent."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Some bytes; the head is whole as soon as there is a cycle of request and response."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if not self._is_waiting():
            self._forget()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.head_s, self._end)

    def _is_waiting(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _end(self) -> None:
        self._timer = None
        if self._is_waiting() and not self.transport.is_closing():
            self.transport.close()

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

"""A TCP proxy that a test can cut, stall or slow down, on an event loop in a thread of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

Target = str | tuple[str, int]
"""Path of a unix socket, or host and port."""

_CHUNK = 64 * 1024


class Proxy:
    """Passes bytes on, until told otherwise. Start it before and stop it after its users."""

    def __init__(self, target: Target) -> None:
        self.port = 0
        self.delay_s = 0.0
        """Added to each piece of data, in both directions."""
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._refuses = False
        self._open_up = asyncio.Event()
        self._open_down = asyncio.Event()
        self._open_up.set()
        self._open_down.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._call(self._start()).result(10)

    def cut(self) -> None:
        """Close all connections and accept no new ones."""
        self._on_loop(self._cut)

    def stall(self) -> None:
        """Connections stay open and nothing passes: a network that drops packets."""
        self._on_loop(self._open_up.clear)
        self._on_loop(self._open_down.clear)

    def halve(self) -> None:
        """Requests arrive, answers don't come back."""
        self._on_loop(self._open_down.clear)

    def restore(self) -> None:
        """Everything passes again; what was stalled is cut, as by the users' own timeouts."""
        self._on_loop(self._restore)

    def stop(self) -> None:
        """Close everything and end the thread."""
        self._call(self._stop()).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, work: Any) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _on_loop(self, action: Callable[[], object]) -> None:
        async def act() -> None:
            action()

        self._call(act()).result(10)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self._cut()
        if self._connections:
            await asyncio.wait(self._connections, timeout=5)

    def _cut(self) -> None:
        self._refuses = True
        for connection in self._connections:
            connection.cancel()

    def _restore(self) -> None:
        if not (self._open_up.is_set() and self._open_down.is_set()):
            self._cut()
        self._refuses = False
        self._open_up.set()
        self._open_down.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        beyond: asyncio.StreamWriter | None = None
        try:
            if self._refuses:
                return
            back, beyond = await self._connect()
            up = self._pipe(reader, beyond, self._open_up)
            down = self._pipe(back, writer, self._open_down)
            await _first_of(up, down)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in (writer, beyond):
                if end is not None:
                    end.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, str):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(*self._target)

    async def _pipe(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_open: asyncio.Event
    ) -> None:
        while data := await source.read(_CHUNK):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await is_open.wait()
            sink.write(data)
            await sink.drain()


async def _first_of(*work: Awaitable[None]) -> None:
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.wait(tasks, return_when="FIRST_COMPLETED")
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(OSError):
            await asyncio.gather(*tasks, return_exceptions=True)

"""A TCP proxy in front of PostgreSQL that can cut connections or go silent."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from urllib.parse import parse_qsl


class Proxy:
    """Listens on a loopback port and forwards to a unix socket until told otherwise."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_open = asyncio.Event()
        self._is_open.set()
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Close every connection and refuse new ones."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    def silence(self) -> None:
        """Keep connections open, take new ones, and let no byte through."""
        self._is_open.clear()

    def speak(self) -> None:
        self._is_open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        await asyncio.gather(self._forward(reader, up_writer), self._forward(up_reader, writer))
        self._writers -= {writer, up_writer}

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._is_open.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@contextlib.asynccontextmanager
async def proxied(dsn: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy to the server of a DSN: postgresql://user@/database?host=folder&port=number."""
    location, _, query = dsn.partition("?")
    where = dict(parse_qsl(query))
    proxy = Proxy(f"{where['host']}/.s.PGSQL.{where['port']}")
    await proxy.start()
    through = location.replace("@/", f"@127.0.0.1:{proxy.port}/") + "?sslmode=disable"
    try:
        yield proxy, through
    finally:
        proxy.speak()
        await proxy.cut()


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Wait until the condition holds; fails after a time."""
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up
        await asyncio.sleep(0.01)

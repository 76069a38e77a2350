"""A server that webhooks post to, and a second reading of their signatures."""

import asyncio
import base64
import contextlib
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

BLOCK = 64
"""Bytes of a block of SHA-256."""
HANG = 0
"""Answers nothing and keeps the connection."""
CLOSE = -1
"""Closes the connection without an answer."""


@dataclass(frozen=True)
class Post:
    """What came in, and what it was answered with."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def event_id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """`answer` says the status for each post; `posts` are all that came, in order."""

    port: int = 0
    answer: Callable[["Receiver", Any], int] = lambda receiver, body: 200
    posts: list[Post] = field(default_factory=list)
    headers: tuple[str, ...] = ()

    def url(self, path: str = "/hook", scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def accepted(self, path: str) -> list[Post]:
        """Those of a path that were taken."""
        return [post for post in self.posts if post.path == path and 200 <= post.status < 300]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits, for long on a busy machine."""
        async with asyncio.timeout(120):
            while True:
                if condition():
                    return
                await asyncio.sleep(0.02)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = (await reader.readline()).decode().split()
            headers: dict[str, str] = {}
            while (line := (await reader.readline()).decode().strip()) != "":
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            body = await reader.readexactly(int(headers["content-length"]))
            status = self.answer(self, json.loads(body))
            self.posts.append(Post(first[1], headers, body, status))
            if status == HANG:
                await reader.read()
            if status > 0:
                lines = [
                    f"HTTP/1.1 {status} Whatever",
                    *self.headers,
                    "content-length: 2",
                    "",
                    "ok",
                ]
                writer.write("\r\n".join(lines).encode())
                await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, tls: ssl.SSLContext | None = None) -> AsyncIterator["Receiver"]:
        """A receiver on a port of its own."""
        receiver = cls()
        server = await asyncio.start_server(receiver._serve, "127.0.0.1", 0, ssl=tls)
        receiver.port = server.sockets[0].getsockname()[1]
        try:
            yield receiver
        finally:
            server.close()


def is_signed(post: Post, secret: str) -> bool:
    """Whether one of its signatures is of this secret: HMAC by its definition (RFC 2104)."""
    kind, _, encoded = secret.partition("_")
    assert kind == "whsec"
    key = base64.b64decode(encoded, validate=True).ljust(BLOCK, b"\0")
    names = ("webhook-id", "webhook-timestamp")
    content = ".".join([*(post.headers[name] for name in names), ""]).encode() + post.body
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + content).digest()
    wanted = hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).digest()
    for signature in post.headers["webhook-signature"].split(" "):
        version, _, told = signature.partition(",")
        if version == "v1" and base64.b64decode(told, validate=True) == wanted:
            return True
    return False

"""One post: to the address that was looked at, within its time, and only the status is read.

Redirects are not followed: their status is one like any other that is not 2xx.
"""

import asyncio
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from server.webhooks.address import Network, NotAllowedError, resolved

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r?\n")
_HEAD_BYTES_MAX = 16 * 1024
"""Of all that is read of an answer."""


class PostError(Exception):
    """There was no answer; the text says why."""


@dataclass(frozen=True)
class PostSettings:
    """networks: allowed beside public addresses. trust_file: further certificates to trust."""

    networks: Sequence[Network] = ()
    trust_file: Path | None = None
    timeout_s: float = 10.0


class Poster:
    """Posts bodies to URLs, each over a connection of its own."""

    def __init__(self, settings: PostSettings) -> None:
        self._settings = settings
        self._tls = ssl.create_default_context()
        if settings.trust_file is not None:
            self._tls.load_verify_locations(settings.trust_file)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer. Raises `PostError`, within the time."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await self._post(url, headers, body)
        except TimeoutError:
            raise PostError(f"timed out after {self._settings.timeout_s:g} s") from None
        except (NotAllowedError, OSError, EOFError, ValueError) as error:
            raise PostError(str(error) or type(error).__name__) from error

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        parts = urlsplit(url)
        host = parts.hostname or ""
        is_tls = parts.scheme == "https"
        port = parts.port or (443 if is_tls else 80)
        address = await resolved(host, port, self._settings.networks)
        reader, writer = await asyncio.open_connection(
            address,
            port,
            ssl=self._tls if is_tls else None,
            server_hostname=host if is_tls else None,
            limit=_HEAD_BYTES_MAX,
        )
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            lines = [f"POST {path} HTTP/1.1", f"host: {parts.netloc}", "connection: close"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
            writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            await writer.drain()
            return await _status(reader)
        finally:
            writer.transport.abort()


async def _status(reader: asyncio.StreamReader) -> int:
    """The final status; what comes before it (1xx) is passed over."""
    left = _HEAD_BYTES_MAX
    is_status_line = True
    while left > 0:
        line = await reader.readline()
        left -= len(line)
        if not line:
            raise PostError("the connection was closed without an answer")
        if is_status_line:
            found = _STATUS.fullmatch(line)
            if found is None:
                raise PostError("the answer is not HTTP")
            if (status := int(found[1])) >= 200:
                return status
        is_status_line = line in (b"\r\n", b"\n")  # the headers of a 1xx have ended
    raise PostError("the answer is too long")

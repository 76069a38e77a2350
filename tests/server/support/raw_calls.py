"""Calls over bare HTTP/2: bodies are offered as fast as a server takes them, and never made whole.

A gRPC client would hold each body, and what is to be seen is how much of them a server holds.
"""

import socket
import struct
from dataclasses import dataclass, field

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW_SIZE = 4
_FRAME = bytes(16_384)


def _text(value: bytes) -> bytes:
    assert len(value) < 127
    return bytes([len(value)]) + value


def _headers(path: str) -> bytes:
    """HPACK (RFC 7541) without Huffman codes or a table of our own."""
    post, http = b"\x83", b"\x86"
    te = b"\x00" + _text(b"te") + _text(b"trailers")
    kind = b"\x0f\x10" + _text(b"application/grpc")
    return post + http + b"\x04" + _text(path.encode()) + b"\x01" + _text(b"sizing") + kind + te


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


@dataclass
class Offered:
    """What has become of calls: streams that were answered, and bytes of bodies that were taken."""

    answered: int = 0
    taken: int = 0


@dataclass
class _Connection:
    peer: socket.socket
    body: int
    windows: dict[int, int] = field(default_factory=dict)
    window: int = 65_535
    initial: int = 65_535
    left: dict[int, int] = field(default_factory=dict)
    offered: Offered = field(default_factory=Offered)

    def begin(self, path: str, streams: int) -> None:
        self.peer.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b""))
        for number in range(streams):
            stream = 2 * number + 1
            self.windows[stream] = self.initial
            self.left[stream] = self.body + 5
            self.peer.sendall(_frame(_HEADERS, _END_HEADERS, stream, _headers(path)))

    def send(self) -> None:
        """As much of each body as the server has room for; its first bytes say how long it is."""
        for stream in list(self.left):
            while (size := min(self.window, self.windows[stream], self.left[stream], 16_384)) > 0:
                is_first = self.left[stream] == self.body + 5
                prefix = b"\x00" + struct.pack(">I", self.body) if is_first else b""
                data = prefix + _FRAME[: size - len(prefix)]
                self.peer.sendall(_frame(_DATA, 0, stream, data))
                self.window -= size
                self.windows[stream] -= size
                self.left[stream] -= size
                self.offered.taken += size

    def receive(self) -> None:
        """One frame."""
        head = self._exactly(9)
        size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream = int.from_bytes(head[5:], "big")
        payload = self._exactly(size)
        if kind == _SETTINGS and not flags & _ACK:
            self._settings(payload)
            self.peer.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self.peer.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW_UPDATE:
            more = int.from_bytes(payload, "big")
            if stream == 0:
                self.window += more
            elif stream in self.windows:
                self.windows[stream] += more
        elif (kind == _HEADERS and flags & _END_STREAM) or kind == _RST_STREAM:
            self.offered.answered += stream in self.left
            self.left.pop(stream, None)
        elif kind == _GOAWAY:
            raise ConnectionError(f"sent away: {payload!r}")

    def _settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            name, value = struct.unpack(">HI", payload[at : at + 6])
            if name == _INITIAL_WINDOW_SIZE:
                for stream in self.windows:
                    self.windows[stream] += value - self.initial
                self.initial = value

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            more = self.peer.recv(size - len(parts))
            if not more:
                raise ConnectionError("closed")
            parts += more
        return bytes(parts)


def offer(port: int, path: str, *, streams: int, body: int) -> Offered:
    """Calls a method on so many streams at once without a credential, each with such a body.

    Returns when each was answered. Raises `ConnectionError`, `TimeoutError`.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=60.0) as peer:
        connection = _Connection(peer, body)
        connection.begin(path, streams)
        while connection.left:
            connection.send()
            connection.receive()
        return connection.offered

"""Several byte strings as one, each behind its length: what goes to a worker and back."""

from collections.abc import Iterable


def packed(chunks: Iterable[bytes]) -> bytes:
    """All chunks, in order."""
    return b"".join(part for chunk in chunks for part in (len(chunk).to_bytes(8, "big"), chunk))


def unpacked(content: bytes) -> list[bytes]:
    """The chunks that `packed` was given."""
    chunks, place = [], 0
    while place < len(content):
        end = place + 8 + int.from_bytes(content[place : place + 8], "big")
        chunks.append(content[place + 8 : end])
        place = end
    return chunks

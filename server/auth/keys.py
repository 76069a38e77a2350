"""Keys for programs without an issuer of tokens: `psk_<id>_<secret>`."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

PREFIX = "psk_"
"""What scanners for leaked secrets look for."""
_FORM = re.compile(r"psk_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class NewKey:
    """A key as it is shown once; only `hash` is kept."""

    key_id: str
    text: str

    @property
    def hash(self) -> bytes:
        """SHA-256 of the whole key."""
        return hashed(self.text)


def new_key() -> NewKey:
    """A key with 256 random bits."""
    key_id = secrets.token_hex(4)
    return NewKey(key_id, f"{PREFIX}{key_id}_{secrets.token_urlsafe(32)}")


def key_id_of(text: str) -> str | None:
    """The id in a key, None where it has not the form of one."""
    match = _FORM.fullmatch(text)
    return match[1] if match else None


def hashed(text: str) -> bytes:
    """SHA-256 of the whole key."""
    return hashlib.sha256(text.encode()).digest()


def is_same(text: str, hash: bytes) -> bool:
    """Whether a key is the one with that hash, in a time that does not tell how nearly."""
    return hmac.compare_digest(hashed(text), hash)

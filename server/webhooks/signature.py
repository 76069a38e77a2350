"""Signatures of posts, as https://www.standardwebhooks.com has them (symmetric, `v1`).

v1,base64(HMAC-SHA256(secret, "<webhook-id>.<webhook-timestamp>.<body>"))
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
_BYTES = 32


def new_secret() -> bytes:
    """256 random bits."""
    return secrets.token_bytes(_BYTES)


def shown(secret: bytes) -> str:
    """A secret as it is shown once."""
    return PREFIX + base64.b64encode(secret).decode()


def signatures(keys: Sequence[bytes], event_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each secret, by spaces."""
    content = f"{event_id}.{timestamp}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        for key in keys
    )

"""The issuer's public keys, from a file or a URL, kept in memory and renewed in the background.

No call ever waits for them. An unknown key id asks for a renewal, at most once in `ASKED_MIN_S`.
"""

import asyncio
import json
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

_log = structlog.get_logger(__name__)

RENEW_S = 300.0
KEEP_S = 24 * 3600.0
"""So long old keys stay where they can't be renewed."""
ASKED_MIN_S = 10.0
FETCH_TIMEOUT_S = 10.0
BYTES_MAX = 1 << 20
RSA_BITS_MIN = 2048

ALGORITHMS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
"""The one algorithm of each type of key, whatever a token's header says."""


class KeySetError(Exception):
    """The key set can't be read, or has no key that may be used."""


@dataclass(frozen=True)
class VerificationKey:
    """A public key and the algorithm it is used with."""

    key: Any
    algorithm: str


def parse(text: bytes) -> dict[str, VerificationKey]:
    """The keys of a JSON Web Key Set (RFC 7517) that may verify, by id. Raises `KeySetError`.

    Symmetric keys, weak ones, those for encryption and those without an id are left out.
    """
    try:
        listed = json.loads(text)["keys"]
        found = {item["kid"]: _key(item) for item in listed if item.get("kid")}
    except (ValueError, TypeError, KeyError, AttributeError, PyJWTError) as error:
        raise KeySetError(f"is no JSON Web Key Set: {error}") from error
    keys = {name: key for name, key in found.items() if key is not None}
    if not keys:
        raise KeySetError("has no public key with a kid for RS256, ES256 or EdDSA")
    return keys


def _key(item: Mapping[str, Any]) -> VerificationKey | None:
    algorithm = ALGORITHMS.get((item.get("kty", ""), item.get("crv")))
    if algorithm is None or item.get("use", "sig") != "sig" or "d" in item:
        return None
    if item.get("alg", algorithm) != algorithm:
        return None
    key = PyJWK(dict(item), algorithm).key
    if isinstance(key, RSAPublicKey) and key.key_size < RSA_BITS_MIN:
        return None
    return VerificationKey(key, algorithm)


class KeySet:
    """`keys` by id; `await renew()` once, then `run()` as a task."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._asked = asyncio.Event()
        self._renewed_at = time.monotonic()
        self.keys: Mapping[str, VerificationKey] = {}
        self.fetches = 0

    def get(self, key_id: object) -> VerificationKey | None:
        """The key; an unknown one is asked for and may be there for a later call."""
        found = self.keys.get(key_id) if isinstance(key_id, str) else None
        if found is None:
            self._asked.set()
        return found

    async def renew(self) -> None:
        """Reads the keys. Raises `KeySetError` or `OSError`; the old ones stay."""
        self.fetches += 1
        text = await asyncio.to_thread(_read, self._source)
        keys = parse(text)
        if {name: key.key for name, key in keys.items()} != {
            name: key.key for name, key in self.keys.items()
        }:
            self.keys = keys  # a new object: whoever remembers tokens forgets them
        self._renewed_at = time.monotonic()

    async def run(self) -> None:
        """Renews for ever: at intervals, and soon after an unknown key was asked for."""
        while True:
            await asyncio.sleep(ASKED_MIN_S)
            try:
                async with asyncio.timeout(max(RENEW_S - ASKED_MIN_S, 0.0)):
                    await self._asked.wait()
            except TimeoutError:
                pass
            self._asked.clear()
            try:
                await self.renew()
            except (KeySetError, OSError) as error:
                _log.warning("the key set can't be renewed", source=self._source, error=str(error))
                if time.monotonic() - self._renewed_at > KEEP_S:
                    self.keys = {}


def _read(source: str) -> bytes:
    if "://" not in source:
        return Path(source).read_bytes()
    with urllib.request.urlopen(source, timeout=FETCH_TIMEOUT_S) as answer:
        text: bytes = answer.read(BYTES_MAX + 1)
    if len(text) > BYTES_MAX:
        raise KeySetError(f"has more than {BYTES_MAX} bytes")
    return text

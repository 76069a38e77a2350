"""Callers by their certificates: which SPIFFE id is whom, as a file of the operator says.

    [[identity]]
    spiffe = "spiffe://acme/ns/trading/sa/engine"
    tenant = "acme"
    roles = ["engine"]
    portfolios = ["tech-*"]

A SPIFFE id is the one URI among the names of a certificate
(https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md). It has to be in the file as a
whole: no pattern, and no other name of a certificate, counts. The file is read again when it has
changed; one that is wrong then is logged and leaves what was known.
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from server.auth.access import SCOPES
from server.auth.files import look_for_ever, stamp
from server.auth.identity import ALL, Identity
from server.auth.roles import ROLES

_log = structlog.get_logger(__name__)

SPIFFE = "spiffe://"
_PEER = "peer_spiffe_id"
"""gRPC's name for it: only there where a certificate has one URI and that is a SPIFFE id."""
_PEM = "x509_pem_cert"
_KNOWN = {"spiffe", "tenant", "roles", "scopes", "portfolios"}


class CertificateIdentities:
    """Identities by SPIFFE id, from a file. Errors: `OSError` where it is wrong at the start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = stamp([path])
        self._by_id = load(path)
        self.refused = 0

    def of(self, auth_context: Mapping[str, Iterable[bytes]]) -> Identity | None:
        """Who the peer of a connection is; None where its certificate says nothing known."""
        found = list(auth_context.get(_PEER) or ())
        if len(found) != 1:
            return None
        return self._by_id.get(found[0].decode("utf-8", "replace"))

    async def run(self) -> None:
        """Looks for a new file for ever."""
        await look_for_ever(self.look)

    def look(self) -> None:
        """Takes a new file if there is one and it is right; it counts for the next call."""
        try:
            seen = stamp([self._path])
            if seen == self._seen:
                return
            self._seen = seen
            self._by_id = load(self._path)
        except OSError as error:
            self.refused += 1
            _log.error("the new identities are not used", error=str(error))
            return
        _log.info("new identities of certificates", count=len(self._by_id))


def thumbprint(auth_context: Mapping[str, Iterable[bytes]]) -> bytes | None:
    """SHA-256 of the certificate that the peer of a connection showed; None: it showed none."""
    found = list(auth_context.get(_PEM) or ())
    if not found:
        return None
    certificate = x509.load_pem_x509_certificate(found[0])
    return certificate.fingerprint(hashes.SHA256())


def load(path: Path) -> dict[str, Identity]:
    """The identities of a file. Errors: `OSError`, which says what is wrong with it."""
    try:
        rows = tomllib.loads(path.read_text())
        if set(rows) - {"identity"}:
            raise ValueError(f"has {sorted(set(rows) - {'identity'})[0]!r}; it has [[identity]]")
        found: dict[str, Identity] = {}
        for row in rows.get("identity", []):
            identity = _identity(row)
            if identity.subject in found:
                raise ValueError(f"has {identity.subject} twice")
            found[identity.subject] = identity
    except ValueError as error:
        raise OSError(f"SIZING_IDENTITIES_FILE names {path}: {error}") from error
    return found


def _identity(row: Mapping[str, Any]) -> Identity:
    if wrong := sorted(set(row) - _KNOWN):
        raise ValueError(f"{wrong[0]!r} is not known; known are {', '.join(sorted(_KNOWN))}")
    spiffe, tenant = row.get("spiffe", ""), row.get("tenant", "")
    if not isinstance(spiffe, str) or not spiffe.startswith(SPIFFE) or len(spiffe) < 10:
        raise ValueError(f"spiffe is {spiffe!r}; it must be like spiffe://domain/path")
    for name in row.get("roles", []):
        if name not in ROLES:
            raise ValueError(f"{spiffe}: role {name!r} is not known; {', '.join(ROLES)}")
    for name in row.get("scopes", []):
        if name not in SCOPES.values():
            raise ValueError(f"{spiffe}: scope {name!r} is not known")
    scopes = frozenset(row.get("scopes", [])).union(*(ROLES[name] for name in row.get("roles", [])))
    try:
        return Identity(tenant, spiffe, scopes, tuple(row.get("portfolios", ALL)))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{spiffe}: {error} in the file") from error

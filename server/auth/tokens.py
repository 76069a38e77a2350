"""JSON Web Tokens (RFC 7519, RFC 9068), verified in this process.

One that is bound to a client certificate (RFC 8705, `cnf`) counts over connections with it alone.
"""

import base64
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from server.auth.access import SCOPES
from server.auth.denials import Denied
from server.auth.identity import ALL, Identity, Kind
from server.auth.keyset import KeySet, VerificationKey
from server.auth.roles import ROLES

LENGTH_MAX = 8192
LIFETIME_MAX_S = 3600
LEEWAY_S = 30
"""Clocks differ."""
REMEMBERED_MAX = 10_000
_REQUIRED = ["iss", "aud", "exp", "nbf", "iat", "sub"]
_CAUSES: tuple[tuple[type[Exception], str], ...] = (
    (jwt.ExpiredSignatureError, "expired"),
    (jwt.ImmatureSignatureError, "not_yet_valid"),
    (jwt.InvalidAudienceError, "wrong_audience"),
    (jwt.InvalidIssuerError, "wrong_issuer"),
    (jwt.MissingRequiredClaimError, "bad_claims"),
    (jwt.InvalidSignatureError, "bad_signature"),
    (jwt.InvalidAlgorithmError, "bad_signature"),
)


@dataclass(frozen=True)
class Rules:
    """What a token has to say."""

    issuer: str
    audience: str
    tenant_claim: str = "tenant"


class Tokens:
    """Verifies tokens; those that passed are remembered by their SHA-256 until they expire."""

    def __init__(self, keys: KeySet, rules: Rules) -> None:
        self._keys = keys
        self._rules = rules
        self._known: dict[bytes, Identity] = {}
        self._known_under: Mapping[str, VerificationKey] = keys.keys

    def identity(self, token: str) -> Identity:
        """Whose token it is. Raises `Denied`."""
        if len(token) > LENGTH_MAX:
            raise Denied("malformed")
        if self._known_under is not self._keys.keys:
            self._known, self._known_under = {}, self._keys.keys
        digest = hashlib.sha256(token.encode()).digest()
        found = self._known.get(digest)
        if found is None:
            found = identity_of(self._claims(token), self._rules)
            if len(self._known) >= REMEMBERED_MAX:
                del self._known[next(iter(self._known))]
            self._known[digest] = found
        if found.expire_time <= time.time():
            raise Denied("expired")
        return found

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise Denied("malformed") from error
        if str(header.get("typ", "")).lower() not in ("jwt", "at+jwt"):
            raise Denied("malformed")
        key = self._keys.get(header.get("kid"))
        if key is None:
            raise Denied("unknown_key")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                issuer=self._rules.issuer,
                audience=self._rules.audience,
                leeway=LEEWAY_S,
                options={"require": _REQUIRED},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            causes = (cause for kind, cause in _CAUSES if isinstance(error, kind))
            raise Denied(next(causes, "malformed")) from error
        return claims


def identity_of(claims: Mapping[str, Any], rules: Rules) -> Identity:
    """The caller that verified claims describe. Raises `Denied`.

    `scope` is a list in one string, `roles` names entries of `ROLES`, `portfolios` lists ids or
    prefixes ("tech-*"); without it all are granted. A token whose subject is its own client
    (RFC 9068, 2.2) is a service's, any other a person's.
    """
    subject, portfolios = claims["sub"], claims.get("portfolios", list(ALL))
    roles, scope = claims.get("roles", []), claims.get("scope", "")
    lists_ok = all(
        isinstance(value, list) and all(isinstance(item, str) for item in value)
        for value in (roles, portfolios)
    )
    if not lists_ok or not isinstance(scope, str):
        raise Denied("bad_claims")
    if not 0 < claims["exp"] - claims["iat"] <= LIFETIME_MAX_S:
        raise Denied("bad_claims")
    scopes = set(scope.split()) & set(SCOPES.values())
    for role in roles:
        scopes |= ROLES.get(role, frozenset())
    is_service = subject in (claims.get("client_id"), claims.get("azp"))
    kind = Kind.SERVICE if is_service else Kind.HUMAN
    try:
        return Identity(
            tenant_id=claims.get(rules.tenant_claim),  # type: ignore[arg-type]
            subject=f"{'service' if is_service else 'user'}:{subject}",
            scopes=frozenset(scopes),
            portfolios=tuple(portfolios),
            kind=kind,
            expire_time=float(claims["exp"]) + LEEWAY_S,
            certificate=_bound_to(claims.get("cnf")),
        )
    except (ValueError, TypeError) as error:
        raise Denied("bad_claims") from error


def _bound_to(confirmation: Any) -> bytes | None:
    """The SHA-256 that `cnf` names (RFC 8705, 3.1). Raises `ValueError`, `TypeError`.

    A token that is bound in another way can't be verified to be its holder's, so it is refused.
    """
    if confirmation is None:
        return None
    text = confirmation["x5t#S256"] if set(confirmation) == {"x5t#S256"} else ""
    found = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if len(found) != hashlib.sha256().digest_size:
        raise ValueError("cnf is no x5t#S256 of 32 bytes")
    return found

"""A gate that lets in whoever has a valid credential, and an interceptor that refuses unread.

gRPC takes a body in before it calls a unary handler. So whoever is denied gets a streaming handler
that answers without reading: 64 MiB from a stranger are never received.
"""

import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from grpc_status import rpc_status

from server.auth import access
from server.auth.access import READ, Access, denied
from server.auth.certificates import CertificateIdentities, thumbprint
from server.auth.denials import Denials, Denied, unauthenticated
from server.auth.directory import Directory
from server.auth.identity import Identity
from server.auth.keys import PREFIX
from server.auth.quota import Quotas
from server.auth.tokens import Tokens
from server.calls.contract import SERVICES
from server.calls.errors import Refusal

_log = structlog.get_logger(__name__)

HEADER = "authorization"
OPEN = frozenset({"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"})
"""What anybody may ask."""
_SCHEME = "bearer "


@dataclass(frozen=True)
class Peer:
    """The connection that a call comes over, as gRPC knows it, and what its method asks."""

    auth_context: Mapping[str, Iterable[bytes]]
    access: Access


class ClosedGate:
    """See `Gate`. tokens: None where there is no issuer, so that keys alone count."""

    def __init__(
        self,
        directory: Directory,
        tokens: Tokens | None,
        denials: Denials,
        quotas: Quotas,
        certificates: CertificateIdentities | None = None,
    ) -> None:
        self.access = access.load(SERVICES.values())
        self.interceptors: Sequence[Any] = (Interceptor(self),)
        self._directory = directory
        self._tokens = tokens
        self._denials = denials
        self._quotas = quotas
        self._certificates = certificates

    def identify(self, metadata: Any, peer: Peer | None = None) -> Identity:
        """The caller, by the one header `authorization`, or without one by its certificate.

        peer: the connection's, and what the method asks, which is looked at before the body is.
        Raises `Refusal`.
        """
        values = [value for key, value in metadata or () if key == HEADER]
        try:
            if peer is not None and self.is_by_certificate(metadata):
                identity = self._of_certificate(peer.auth_context)
            else:
                identity = self._identity(values)
            if peer is not None and identity.certificate is not None:
                _check_certificate(identity.certificate, peer)
            self._directory.check(identity)
        except Denied as error:
            self._denials.count(error.cause)
            _log.info("a call was not authenticated", cause=error.cause)
            raise unauthenticated() from None
        if peer is not None:
            self._check_scopes(peer.access.scopes, identity)
        return identity

    def is_by_certificate(self, metadata: Any) -> bool:
        """Whether a call without a header may be of a caller whose certificate says who it is."""
        return self._certificates is not None and all(key != HEADER for key, _ in metadata or ())

    def check(self, access: Access, identity: Identity, request: Any) -> None:
        """Raises `Refusal` for a scope or portfolio that the caller lacks, and above the quota."""
        try:
            access.check(identity, request)
        except Refusal as refusal:
            self._count(refusal, identity)
            raise
        self._quotas.charge(identity, request)

    def check_method(self, path: str, identity: Identity) -> None:
        """The same before the request is known: one of the scopes that it may need."""
        wanted = self.access.get(path)
        self._check_scopes(wanted.scopes if wanted is not None else frozenset({READ}), identity)

    def _check_scopes(self, scopes: frozenset[str], identity: Identity) -> None:
        if not scopes & identity.scopes:
            refusal = denied(" or ".join(sorted(scopes)))
            self._count(refusal, identity)
            raise refusal

    def _count(self, refusal: Refusal, identity: Identity) -> None:
        cause = "portfolio" if "field" in refusal.metadata else "scope"
        self._denials.count(cause)
        _log.info("a call was denied", cause=cause, subject=identity.subject, why=str(refusal))

    def _of_certificate(self, auth_context: Mapping[str, Iterable[bytes]]) -> Identity:
        assert self._certificates is not None
        identity = self._certificates.of(auth_context)
        if identity is None:
            raise Denied("no_credential")
        return identity

    def _identity(self, values: list[Any]) -> Identity:
        if not values:
            raise Denied("no_credential")
        if len(values) > 1:
            raise Denied("two_credentials")
        text = values[0]
        if not isinstance(text, str) or not text.isascii():
            raise Denied("malformed")
        if text[: len(_SCHEME)].lower() != _SCHEME:
            raise Denied("malformed")
        credential = text[len(_SCHEME) :]
        if credential.startswith(PREFIX):
            return self._directory.identity(credential)
        if self._tokens is None:
            raise Denied("unknown_key")
        return self._tokens.identity(credential)


class Interceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc,type-arg,unused-ignore]
    """Refuses by the metadata alone."""

    def __init__(self, gate: ClosedGate) -> None:
        self._gate = gate

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """The method's handler, or one that denies."""
        details = handler_call_details
        if details.method in OPEN:
            return await continuation(details)
        # The connection's certificate is not known yet: the method itself looks at it first.
        of_ours = details.method in self._gate.access
        if of_ours and self._gate.is_by_certificate(details.invocation_metadata):
            return await continuation(details)
        try:
            identity = self._gate.identify(details.invocation_metadata)
            if not of_ours and identity.certificate is not None:
                raise unauthenticated()  # nobody looks at the connection's certificate later
            self._gate.check_method(details.method, identity)
        except Refusal as refusal:
            return _denying(refusal)
        return await continuation(details)


def _check_certificate(wanted: bytes, peer: Peer) -> None:
    """A token that was stolen is of no use to whoever hasn't the key of its certificate."""
    shown = thumbprint(peer.auth_context)
    if shown is None or not hmac.compare_digest(shown, wanted):
        raise Denied("wrong_certificate")


def _denying(refusal: Refusal) -> Any:
    status = rpc_status.to_status(refusal.status())

    async def deny(requests: Any, context: Any) -> None:
        del requests  # never read
        await context.abort_with_status(status)

    return grpc.stream_unary_rpc_method_handler(deny)

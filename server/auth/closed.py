"""A gate that lets in whoever has a valid credential, and an interceptor that refuses unread.

gRPC takes a body in before it calls a unary handler. So whoever is denied gets a streaming handler
that answers without reading: 64 MiB from a stranger are never received.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import structlog
from grpc_status import rpc_status

from server.auth import access
from server.auth.access import READ, Access, denied
from server.auth.denials import Denials, Denied, unauthenticated
from server.auth.directory import Directory
from server.auth.identity import Identity
from server.auth.keys import PREFIX
from server.auth.quota import Quotas
from server.auth.tokens import Tokens
from server.contract import SERVICES
from server.errors import Refusal

_log = structlog.get_logger(__name__)

HEADER = "authorization"
OPEN = frozenset({"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"})
"""What anybody may ask."""
_SCHEME = "bearer "


class ClosedGate:
    """See `Gate`. tokens: None where there is no issuer, so that keys alone count."""

    def __init__(
        self, directory: Directory, tokens: Tokens | None, denials: Denials, quotas: Quotas
    ) -> None:
        self.access = access.load(SERVICES.values())
        self.interceptors: Sequence[Any] = (Interceptor(self),)
        self._directory = directory
        self._tokens = tokens
        self._denials = denials
        self._quotas = quotas

    def identify(self, metadata: Any) -> Identity:
        """The caller, by the one header `authorization`. Raises `Refusal`."""
        try:
            identity = self._identity([value for key, value in metadata or () if key == HEADER])
            self._directory.check(identity)
        except Denied as error:
            self._denials.count(error.cause)
            _log.info("a call was not authenticated", cause=error.cause)
            raise unauthenticated() from None
        return identity

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
        scopes = wanted.scopes if wanted is not None else frozenset({READ})
        if not scopes & identity.scopes:
            refusal = denied(" or ".join(sorted(scopes)))
            self._count(refusal, identity)
            raise refusal

    def _count(self, refusal: Refusal, identity: Identity) -> None:
        cause = "portfolio" if "field" in refusal.metadata else "scope"
        self._denials.count(cause)
        _log.info("a call was denied", cause=cause, subject=identity.subject, why=str(refusal))

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
        try:
            identity = self._gate.identify(details.invocation_metadata)
            self._gate.check_method(details.method, identity)
        except Refusal as refusal:
            return _denying(refusal)
        return await continuation(details)


def _denying(refusal: Refusal) -> Any:
    status = rpc_status.to_status(refusal.status())

    async def deny(requests: Any, context: Any) -> None:
        del requests  # never read
        await context.abort_with_status(status)

    return grpc.stream_unary_rpc_method_handler(deny)

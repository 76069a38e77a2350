"""Who is let in: each call's identity, from its metadata."""

from collections.abc import Mapping
from typing import Any, Protocol

from server.auth import access
from server.auth.access import SCOPES, Access
from server.auth.identity import Identity, Kind
from server.contract import SERVICES


class Gate(Protocol):
    """Knows who calls, and what each method asks of its caller."""

    access: Mapping[str, Access]
    """By path of the method."""

    def identify(self, metadata: Any) -> Identity:
        """The caller. Raises `Refusal`."""
        ...


class OpenGate:
    """No authentication: every caller is the one of this machine, and may do everything."""

    def __init__(self, tenant_id: str) -> None:
        self.access = access.load(SERVICES.values())
        self._local = local(tenant_id)

    def identify(self, metadata: Any) -> Identity:
        """The same for every call."""
        del metadata
        return self._local


def local(tenant_id: str) -> Identity:
    """The caller of a server without authentication: everything, for the tenant it serves."""
    return Identity(tenant_id, tenant_id, frozenset(SCOPES.values()), kind=Kind.LOCAL)

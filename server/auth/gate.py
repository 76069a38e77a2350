"""Who is let in: each call's identity from its metadata, and what it may do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

import structlog

from server.auth import access
from server.auth.access import SCOPES, Access
from server.auth.certificates import CertificateIdentities
from server.auth.closed import ClosedGate, Peer
from server.auth.denials import CAUSES, Denials
from server.auth.directory import Directory
from server.auth.identity import Identity, Kind
from server.auth.keyset import KeySet, KeySetError
from server.auth.quota import Quotas
from server.auth.shared_quota import SharedUse
from server.auth.tokens import Rules, Tokens
from server.calls.contract import SERVICES
from server.config import Config
from server.observability.telemetry import Telemetry
from storage.postgres.pool import Database

_log = structlog.get_logger(__name__)


class Gate(Protocol):
    """Knows who calls, and what each method asks of its caller."""

    access: Mapping[str, Access]
    """By path of the method."""
    interceptors: Sequence[Any]
    """What a server needs, so that bodies of those who are denied aren't read."""

    def identify(self, metadata: Any, peer: Peer | None = None) -> Identity:
        """The caller of a method, by its credential or certificate. Raises `Refusal`."""
        ...

    def check(self, access: Access, identity: Identity, request: Any) -> None:
        """Whether the caller may do so. Raises `Refusal`."""
        ...


class OpenGate:
    """No authentication: every caller is the one of this machine, and may do everything."""

    def __init__(self, tenant_id: str) -> None:
        self.access = access.load(SERVICES.values())
        self.interceptors: Sequence[Any] = ()
        self._local = local(tenant_id)

    def identify(self, metadata: Any, peer: Peer | None = None) -> Identity:
        """The same for every call."""
        del metadata, peer
        return self._local

    def check(self, access: Access, identity: Identity, request: Any) -> None:
        """As for any caller: the local one passes."""
        access.check(identity, request)


def local(tenant_id: str) -> Identity:
    """The caller of a server without authentication: everything, for the tenant it serves."""
    return Identity(tenant_id, tenant_id, frozenset(SCOPES.values()), kind=Kind.LOCAL)


@contextlib.asynccontextmanager
async def opened(config: Config, database: Database, telemetry: Telemetry) -> AsyncIterator[Gate]:
    """The gate that the configuration asks for, its keys and blocks renewed meanwhile.

    Errors: `OSError` where the key set, or the file of identities, can't be read.
    """
    if config.auth == "off":
        yield OpenGate(config.tenant_id)
        return
    denials, directory = Denials(), Directory(database)
    certificates = None
    if config.identities_file is not None:
        certificates = CertificateIdentities(config.identities_file)
    _count(denials, telemetry)
    quotas = Quotas(config.quota_lines_per_s)
    text = "Calls above their caller's quota."
    telemetry.count("sizing_quota_refused_total", text, lambda: quotas.refused)
    await directory.read()
    tasks = [asyncio.create_task(directory.run(), name="keys and blocks")]
    if certificates is not None:
        tasks.append(asyncio.create_task(certificates.run(), name="identities of certificates"))
    if config.quota_lines_per_s is not None:
        shared = SharedUse(database, quotas)
        tasks.append(asyncio.create_task(shared.run(), name="quotas of all servers"))
    tokens = None
    try:
        if config.jwks is not None:
            keys = KeySet(config.jwks)
            await _first(keys, config.jwks)
            tasks.append(asyncio.create_task(keys.run(), name="key set"))
            rules = Rules(
                config.jwt_issuer or "", config.jwt_audience or "", config.jwt_tenant_claim
            )
            tokens = Tokens(keys, rules)
        yield ClosedGate(directory, tokens, denials, quotas, certificates)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _first(keys: KeySet, source: str) -> None:
    """An issuer that is away at the start is asked again; a file that is wrong has to be mended."""
    try:
        await keys.renew()
    except (KeySetError, OSError) as error:
        if "://" not in source:
            raise OSError(f"SIZING_JWKS names {source}: {error}") from error
        _log.warning("no key set yet: tokens are denied", source=source, error=str(error))
        keys.get(None)


def _count(denials: Denials, telemetry: Telemetry) -> None:
    for cause in CAUSES:
        telemetry.count(
            "sizing_auth_denied_total",
            "Calls denied, by cause.",
            lambda cause=cause: denials.counts[cause],  # type: ignore[misc]
            reason=cause,
        )

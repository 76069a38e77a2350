"""The secrets of webhooks as they are stored: encrypted, each for its webhook."""

import structlog

from server.secret_keys import SecretKeys, SecretKeysError
from storage.postgres import webhook_secrets
from storage.postgres.pool import Database
from storage.postgres.tenancy import ALL_TENANTS

_log = structlog.get_logger(__name__)

PLAIN_BYTES = 32
"""Length of a secret as releases stored it that did not encrypt; a sealed one is longer."""
_DEADLINE_S = 30.0


def sealed(keys: SecretKeys, tenant_id: str, webhook_id: str, secret: bytes) -> bytes:
    """What is stored. Errors: `SecretKeysError`."""
    return keys.seal(secret, _place(tenant_id, webhook_id))


def opened(keys: SecretKeys, tenant_id: str, webhook_id: str, stored: bytes) -> bytes:
    """The secret that signs. Errors: `SecretKeysError`."""
    if len(stored) == PLAIN_BYTES:
        return stored
    return keys.open(stored, _place(tenant_id, webhook_id))


async def reseal(database: Database, keys: SecretKeys, *, only_plain: bool = False) -> int:
    """Encrypts the secrets of all webhooks, of all tenants, by the first key; of how many webhooks.

    only_plain: those that are not encrypted yet. Errors: `SecretKeysError`, at the first webhook
    whose secret can't be read; those before are done.
    """
    count = 0
    async with database.connection(ALL_TENANTS, deadline_s=_DEADLINE_S) as connection:
        tenant_ids = await webhook_secrets.tenants(connection)
    for tenant_id in tenant_ids:
        async with database.transaction(tenant_id, deadline_s=_DEADLINE_S) as connection:
            for row in await webhook_secrets.lock_all(connection, tenant_id):
                stored = [item for item in row.secrets if item is not None]
                if only_plain and all(len(item) != PLAIN_BYTES for item in stored):
                    continue
                now, before = (
                    None
                    if item is None
                    else sealed(
                        keys,
                        tenant_id,
                        row.webhook_id,
                        opened(keys, tenant_id, row.webhook_id, item),
                    )
                    for item in row.secrets
                )
                assert now is not None
                await webhook_secrets.put(connection, tenant_id, row.webhook_id, now, before)
                count += 1
    return count


async def seal_plain(database: Database, keys: SecretKeys) -> None:
    """Encrypts what an earlier release stored; where there is no key it says so and leaves it."""
    try:
        count = await reseal(database, keys, only_plain=True)
    except SecretKeysError as error:
        _log.warning("secrets of webhooks are in the database unencrypted", error=str(error))
    else:
        if count:
            _log.info("secrets of webhooks encrypted", webhooks=count)


def _place(tenant_id: str, webhook_id: str) -> str:
    return f"webhook/{tenant_id}/{webhook_id}"

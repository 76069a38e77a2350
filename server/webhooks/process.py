"""The server's side of webhooks: their process is there while a webhook is enabled.

In a process of its own, building JSON and waiting for strangers' servers takes nothing from sizing.
"""

import asyncio
import json
import sys

import structlog

from server.config import Config
from server.jobs.child import tell
from server.observability.telemetry import Telemetry
from server.secret_keys import SecretKeys
from storage.errors import StorageError
from storage.postgres import webhook_deliveries
from storage.postgres.pool import Database
from storage.postgres.tenancy import ALL_TENANTS

_log = structlog.get_logger(__name__)

LOOK_S = 1.0
"""How often it is looked whether there is anything to do, and whether the process is there."""
END_S = 3.0
_DEADLINE_S = 2.0


class WebhookProcess:
    """`start` once; `stop` before the database is closed."""

    def __init__(
        self, database: Database, config: Config, keys: SecretKeys, telemetry: Telemetry
    ) -> None:
        self._database = database
        self._settings = {
            "dsn": database.dsn,
            "networks": [str(network) for network in config.webhook_networks],
            "trust_file": str(config.webhook_trust_file or ""),
            "timeout_s": config.webhook_timeout_s,
            "retry_s": config.webhook_retry_s,
            "secret_keys_file": str(keys.path or ""),
        }
        self._child: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self.oldest_age_s = 0.0
        text = "How long the oldest event waits for an enabled webhook."
        telemetry.watch("sizing_webhook_oldest_age_seconds", text, lambda: self.oldest_age_s)

    def start(self) -> None:
        """Looks from now on whether the process is needed."""
        self._task = asyncio.create_task(self._run(), name="webhooks")

    async def stop(self) -> None:
        """Ends the process."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._end()

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except StorageError:
                pass  # whoever needs the database says so
            except Exception as error:  # a bug of ours must not end it for good
                _log.error("the process of webhooks can't be started", exc_info=error)
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        async with self._database.connection(ALL_TENANTS, deadline_s=_DEADLINE_S) as connection:
            n_enabled, self.oldest_age_s = await webhook_deliveries.summary(connection)
        if self._child is not None and self._child.returncode is not None:
            _log.warning("the process of webhooks ended", code=self._child.returncode)
            self._child = None
        if n_enabled and self._child is None:
            self._child = await self._started()

    async def _started(self) -> asyncio.subprocess.Process:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "server.webhooks",
            stdin=asyncio.subprocess.PIPE,
            stdout=2,  # the log
            start_new_session=True,  # Ctrl-C in a terminal is for the service
        )
        await tell(child, json.dumps(self._settings).encode() + b"\n")
        return child  # one that has ended already is seen by the next look, which says so

    async def _end(self) -> None:
        child, self._child = self._child, None
        if child is None or child.returncode is not None:
            return
        assert child.stdin is not None
        child.stdin.close()
        try:
            async with asyncio.timeout(END_S):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()

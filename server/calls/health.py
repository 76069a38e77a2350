"""What the process says of itself by gRPC's health protocol, service by service.

A service is SERVING while what it needs is there: PostgreSQL has answered lately, the programs of
its kernels are ready, and the process isn't stopping. The name "" stands for the closed form.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog
from grpc_health.v1 import health, health_pb2

_log = structlog.get_logger(__name__)

LOOK_S = 0.5
"""So often it is looked."""

ANSWER_MAX_S = 5.0
"""A database that has not answered for so long is away; one that refuses connections is at once."""

_STATUS = health_pb2.HealthCheckResponse


class Health:
    """Keeps the status of each service; `watch` updates it for as long as it runs."""

    def __init__(
        self,
        services: Mapping[str, Callable[[], bool]],
        database_answers: Callable[[float], Awaitable[bool]],
    ) -> None:
        """services: full name of each, and whether its programs are ready."""
        self.servicer = health.aio.HealthServicer()
        self._services = dict(services)
        self._answers = database_answers
        self._answered_at = time.monotonic()
        self._said: dict[str, bool] = {}
        self._stopping = False
        self.database_is_there = True

    async def watch(self) -> None:
        """Looks and says until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Looks once."""
        asked = time.monotonic()
        answered = await self._answers(ANSWER_MAX_S)
        now = time.monotonic()
        if answered:
            self._answered_at = now
        # A refusal comes quickly; a slow answer of a busy machine is none until its time is over.
        refused = not answered and now - asked < ANSWER_MAX_S / 2
        there = not refused and now - self._answered_at <= 2 * ANSWER_MAX_S
        if there != self.database_is_there:
            _log.warning("PostgreSQL answers again" if there else "PostgreSQL does not answer")
        self.database_is_there = there
        await self.say()

    async def stopping(self) -> None:
        """From now on nothing is served."""
        self._stopping = True
        await self.say()

    async def say(self) -> None:
        """Tells what has changed."""
        for name, is_ready in self._services.items():
            serving = self.database_is_there and not self._stopping and is_ready()
            if self._said.get(name) != serving:
                self._said[name] = serving
                await self.servicer.set(name, _STATUS.SERVING if serving else _STATUS.NOT_SERVING)

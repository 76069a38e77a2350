"""The one door to PostgreSQL: a pool of connections behind a deadline.

    database = await Database.open(dsn)
    async with database.transaction(tenant_id, deadline_s=0.5) as connection:
        await portfolios.get(connection, tenant_id, portfolio_id)

A block says whose rows it is about, and its statements see no others (`tenancy.py`).

No block lasts longer than its deadline, even if the server or the network hangs, and what goes
wrong comes out as an error of `storage.errors`. While the database is known to be away calls fail
at once; a probe finds out when it is back.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Self

import asyncpg

from storage.errors import DeadlineExceeded, Unavailable, is_foreign_cancellation
from storage.postgres.failures import GONE, is_gone, translated
from storage.postgres.tenancy import (
    TENANT_ROLE,
    Rows,
    Session,
    has_wall,
    session_sql,
)

_log = logging.getLogger(__name__)

_PROBE_INTERVAL_S = 0.25
_PROBE_TIMEOUT_S = 0.5
_RELEASE_TIMEOUT_S = 1.0


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """Bounds on everything that could otherwise wait or grow for ever.

    Usage: `PoolOptions(n_connections=16)`. The timeouts named `statement`, `lock` and
    `idle_in_transaction` are kept by the server, so they hold when this process is gone.
    """

    n_connections: int = 8
    n_waiting_max: int = 1024
    connect_timeout_s: float = 2.0
    statement_timeout_s: float = 10.0
    lock_timeout_s: float = 1.0
    idle_in_transaction_timeout_s: float = 10.0
    application_name: str = "position-sizing"

    def __post_init__(self) -> None:
        for name in ("n_connections", "n_waiting_max"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("connect_timeout_s", "statement_timeout_s", "lock_timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0")

    def server_settings(self) -> dict[str, str]:
        """What each session is told when it opens."""
        return {
            "application_name": self.application_name,
            "statement_timeout": _milliseconds(self.statement_timeout_s),
            "lock_timeout": _milliseconds(self.lock_timeout_s),
            "idle_in_transaction_session_timeout": _milliseconds(
                self.idle_in_transaction_timeout_s
            ),
            "synchronous_commit": "on",
            "timezone": "UTC",
            "jit": "off",  # compiling a plan takes longer than any statement of ours
        }


DEFAULT_POOL_OPTIONS = PoolOptions()


async def connect(dsn: str, options: PoolOptions = DEFAULT_POOL_OPTIONS) -> asyncpg.Connection:
    """A connection outside the pool, for whatever keeps one for long (listener, relay).

    It has the rights of the DSN's user. Errors: `Unavailable`.
    """
    try:
        return await asyncpg.connect(
            dsn, timeout=options.connect_timeout_s, server_settings=options.server_settings()
        )
    except (TimeoutError, asyncpg.PostgresError, *GONE) as error:
        raise Unavailable(f"cannot connect to PostgreSQL: {error}") from error


def masked(dsn: str) -> str:
    """The DSN as it may be logged: passwords replaced by stars."""
    dsn = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", dsn)
    return re.sub(r"(?i)\b((?:ssl)?password=)[^&\s]*", r"\1***", dsn)


class Database:
    """A pool of `n_connections`, first come first served; see the module for its use.

    One more connection is reserved for calls that must not wait behind the others.
    """

    def __init__(
        self, dsn: str, options: PoolOptions, pool: asyncpg.Pool, *, has_wall: bool
    ) -> None:
        self._dsn = dsn
        self._options = options
        self._pool = pool
        self.has_wall = has_wall
        """Whether sessions are kept from rows of other tenants."""
        self._slots = asyncio.Semaphore(options.n_connections)
        self._reserved = asyncio.Semaphore(1)
        self._n_waiting = 0
        self._away: str | None = None  # why calls fail at once, None while the server answers
        self._probe: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, dsn: str, options: PoolOptions = DEFAULT_POOL_OPTIONS) -> Self:
        """Connect, every connection now so that no request has to. Errors: `Unavailable`."""
        is_walled = await _asked(dsn, options)
        role = {"role": TENANT_ROLE} if is_walled else {}
        pool = asyncpg.create_pool(
            dsn,
            min_size=0,  # above 0 asyncpg reconnects by itself; here the probe decides when
            max_size=options.n_connections + 1,
            max_inactive_connection_lifetime=0,
            timeout=options.connect_timeout_s,
            server_settings=options.server_settings() | role,
            connection_class=Session,
            init=_learn_types,
            reset=_keep_session,
        )
        await pool
        self = cls(dsn, options, pool, has_wall=is_walled)
        try:
            async with contextlib.AsyncExitStack() as leases:
                deadline_s = options.connect_timeout_s
                for _ in range(options.n_connections):
                    await leases.enter_async_context(self._lease(None, deadline_s))
                await leases.enter_async_context(
                    self._lease(None, deadline_s, "BEGIN", self._reserved)
                )
        except BaseException:
            await self._stop_probe()
            pool.terminate()
            raise
        return self

    @property
    def dsn(self) -> str:
        """The connection string, password included: never log it."""
        return self._dsn

    @property
    def options(self) -> PoolOptions:
        """What it was opened with."""
        return self._options

    @property
    def is_available(self) -> bool:
        """Whether the server answered when it was last asked."""
        return self._away is None

    @property
    def n_busy(self) -> int:
        """Connections in use now."""
        return int(self._pool.get_size() - self._pool.get_idle_size())

    def __repr__(self) -> str:
        state = "available" if self.is_available else f"away: {self._away}"
        return f"Database({masked(self._dsn)!r}, {state}, {self.n_busy} busy)"

    def connection(
        self, rows: Rows, *, deadline_s: float
    ) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """A connection for the block, which is cut off `deadline_s` seconds from now.

        `rows`: of the tenant, or `ALL_TENANTS`. Errors: `DeadlineExceeded`, `Unavailable`; other
        errors of the block pass through.
        """
        return self._lease(rows, deadline_s)

    def transaction(
        self, rows: Rows, *, deadline_s: float, first_sql: str = "", is_reserved: bool = False
    ) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """The same with a READ COMMITTED transaction: committed if the block ends well.

        `first_sql` is sent with the BEGIN, so it costs no round trip. `is_reserved`: on the
        connection kept apart, whatever the others do.
        """
        begin = f"BEGIN; {first_sql}" if first_sql else "BEGIN"
        return self._lease(rows, deadline_s, begin, self._reserved if is_reserved else None)

    @contextlib.asynccontextmanager
    async def _lease(
        self,
        rows: Rows | None,
        deadline_s: float,
        begin: str = "",
        reserved: asyncio.Semaphore | None = None,
    ) -> AsyncIterator[asyncpg.Connection]:
        if self._away is not None and reserved is None:  # the kill switch tries all the same
            raise Unavailable(self._away)
        connection: asyncpg.Connection | None = None
        try:
            async with (
                asyncio.timeout(deadline_s) as deadline,
                self._slot() if reserved is None else reserved,
            ):
                connection = await self._pool.acquire()
                try:
                    if first := self._set(connection, rows) + begin:
                        await connection.execute(first)
                    yield connection
                    if begin:
                        await _commit(connection)
                    connection.seen.rows = rows
                except BaseException as error:
                    if deadline.expired() or is_gone(error, connection):
                        _cut(connection)  # it may hang: don't wait for it to be tidy
                    elif begin:
                        await _roll_back(connection)
                    raise
                finally:
                    await self._release(connection)
        except TimeoutError as error:
            self._suspect()
            raise DeadlineExceeded(f"PostgreSQL took longer than {deadline_s:.3f} s") from error
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not is_foreign_cancellation(error):
                raise
            known = translated(error, connection)
            if known is None or known is error:
                raise
            if type(known) is Unavailable:
                self._suspect()
            raise known from error

    def _set(self, connection: asyncpg.Connection, rows: Rows | None) -> str:
        """What sets a session to these rows; "" for one that is, so that it costs nothing.

        Sent with the BEGIN it is undone by a rollback. So until a block has ended well nothing is
        known of its session.
        """
        if rows is None or connection.seen.rows == rows:
            sql = ""
        else:
            sql = session_sql(rows, has_wall=self.has_wall) + "; "
        connection.seen.rows = None
        return sql

    async def _release(self, connection: asyncpg.Connection) -> None:
        try:
            await self._pool.release(connection, timeout=_RELEASE_TIMEOUT_S)
        except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, *GONE) as error:
            _log.info("a connection could not be kept: %s", error)  # asyncpg has closed it

    async def aclose(self) -> None:
        """Wait for open blocks (each has a deadline), then close every connection."""
        await self._stop_probe()
        await self._pool.close()

    async def _stop_probe(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """A turn: asyncpg's own queue is last in first out, which starves whoever waits longest."""
        if self._n_waiting >= self._options.n_waiting_max:
            raise Unavailable(f"{self._n_waiting} calls wait for a connection already")
        self._n_waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._n_waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    def _suspect(self) -> None:
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._probe_until_well(), name="postgres-probe")

    async def _probe_until_well(self) -> None:
        while (failure := await self._failure()) is not None:
            if self._away is None:
                _log.warning("%s", failure)
            self._away = failure
            await asyncio.sleep(_PROBE_INTERVAL_S)
        if self._away is not None:
            _log.info("PostgreSQL answers again")
            await self._pool.expire_connections()  # some may be half open
            self._away = None

    async def _failure(self) -> str | None:
        """Why the server does not answer on a new connection, None if it does."""
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                connection = await asyncpg.connect(self._dsn, timeout=_PROBE_TIMEOUT_S)
            connection.terminate()
        except asyncpg.TooManyConnectionsError:
            return None  # full, but there: our own connections may well work
        except (TimeoutError, asyncpg.PostgresError, *GONE) as error:
            return f"PostgreSQL is away: {str(error) or 'no answer'}"
        return None


async def _asked(dsn: str, options: PoolOptions) -> bool:
    """Whether sessions of this DSN can be walled."""
    connection = await connect(dsn, options)
    try:
        found = await has_wall(connection)
    finally:
        connection.terminate()
    if not found:
        _log.warning(
            "no wall between tenants: the database has no roles for it that this user may take; "
            "`sizing migrate` as a user that may make roles, see docs/security.md"
        )
    return found


async def _learn_types(connection: asyncpg.Connection) -> None:
    """Have the driver look up the array types now: it takes a slow query on every connection."""
    await connection.fetchrow(
        """SELECT NULL::text[], NULL::uuid[], NULL::bytea[], NULL::int2[], NULL::int4[],
            NULL::int8[], NULL::float8[]"""
    )


async def _keep_session(connection: asyncpg.Connection) -> None:
    """No reset between uses: sessions hold no state of their own, and a reset is a round trip."""


async def _commit(connection: asyncpg.Connection) -> None:
    status = await connection.execute("COMMIT")
    if status != "COMMIT":  # a block that hides an error of a statement: nothing is committed
        raise RuntimeError(f"the transaction was aborted by a statement: {status}")


async def _roll_back(connection: asyncpg.Connection) -> None:
    try:
        async with asyncio.timeout(_RELEASE_TIMEOUT_S):
            await connection.execute("ROLLBACK")
    except BaseException as error:
        _cut(connection)  # which rolls back as well
        if not isinstance(error, Exception):
            raise


def _cut(connection: asyncpg.Connection) -> None:
    with contextlib.suppress(asyncpg.InterfaceError):  # given back already
        connection.terminate()


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))

"""What the driver raises, as errors of `storage.errors`: the one place that knows its exceptions.

A connection can be lost in any phase, and the driver has many words for it. Whatever they are, the
caller is told to wait and send the same request id again.
"""

import asyncpg

from storage.errors import (
    Contended,
    DeadlineExceeded,
    InvalidContent,
    StorageError,
    Unavailable,
    is_foreign_cancellation,
)

GONE = (
    OSError,
    EOFError,
    asyncpg.InternalClientError,  # the protocol's state when a session ends between two messages
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutdown, crash, idle too long, database dropped
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.InsufficientResourcesError,  # connections, memory, disk
    asyncpg.PostgresSystemError,
    asyncpg.InvalidAuthorizationSpecificationError,  # a password being replaced
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, in the middle of a failover
    asyncpg.InvalidCachedStatementError,  # planned before a migration; the driver has dropped it
)
"""After these the connection is of no use, or what it is connected to."""

_CONTENDED = (
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,  # deadlock, serialization failure
)
_CONTENT = (asyncpg.DataError, asyncpg.ProgramLimitExceededError)


def is_gone(error: BaseException, connection: asyncpg.Connection | None) -> bool:
    """Whether an error means that this connection is of no use any more."""
    if isinstance(error, asyncpg.QueryCanceledError):  # by our own timeout: the session goes on
        return False
    if isinstance(error, asyncpg.InterfaceError):  # also raised for wrong arguments
        try:
            return connection is None or bool(connection.is_closed())
        except asyncpg.InterfaceError:
            return True  # given back already, as asyncpg does when it notices the loss
    return isinstance(error, GONE) or is_foreign_cancellation(error)


def translated(
    error: BaseException, connection: asyncpg.Connection | None = None
) -> StorageError | None:
    """The same failure by our name; None for what is no failure of storage: a bug, a cancellation.

    `TimeoutError` is left to the caller, who knows which deadline it was.
    """
    if isinstance(error, StorageError):
        return error
    if isinstance(error, asyncpg.QueryCanceledError):
        return DeadlineExceeded(f"PostgreSQL gave up: {error}")
    if isinstance(error, _CONTENT):
        return InvalidContent(str(error))
    if isinstance(error, _CONTENDED):
        return Contended(f"another transaction is in the way: {error}")
    if is_gone(error, connection):
        return Unavailable(f"the connection to PostgreSQL is lost: {error or type(error).__name__}")
    return None

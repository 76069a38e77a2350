"""Whether PostgreSQL answers."""

from storage.errors import StorageError
from storage.postgres.pool import Database
from storage.postgres.tenancy import NO_ROWS


async def answers(database: Database, deadline_s: float) -> bool:
    """Whether a statement that does nothing was answered within `deadline_s`."""
    try:
        async with database.connection(NO_ROWS, deadline_s=deadline_s) as connection:
            await connection.execute("SELECT 1")
    except (StorageError, TimeoutError):
        return False
    return True

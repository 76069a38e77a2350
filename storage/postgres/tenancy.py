"""Whose rows a session sees: a wall in the database behind the WHERE of every statement.

    sizing_tenant        the rows of the tenant that the session is set to, in every table
    sizing_all_tenants   what is done for all tenants at once, in a few tables: publishing, expiry,
                         forgetting, keys

Sessions of the service have one of these two roles, whatever user they log in as, so they can
neither change the schema nor, with a WHERE forgotten, touch rows of another tenant. The wall stands
against mistakes: whoever can send any SQL can also set another tenant. `access.sql` makes the roles
and says what each may do; where an administrator has not allowed that, there is no wall.
"""

from enum import Enum

import asyncpg

TENANT_ROLE = "sizing_tenant"
ALL_TENANTS_ROLE = "sizing_all_tenants"


class AllTenants(Enum):
    """The one value of this type says that a session works for all tenants at once."""

    ALL_TENANTS = "all tenants"


ALL_TENANTS = AllTenants.ALL_TENANTS
Rows = str | AllTenants
"""The tenant whose rows are seen, or what may be seen of all."""
NO_ROWS: Rows = ""
"""For what asks about no rows."""

_HAS_WALL = """
    SELECT count(*) = 2 AND bool_and(pg_has_role(oid, 'MEMBER')
        AND has_table_privilege(oid, to_regclass('outbox'), 'SELECT'))
    FROM pg_roles WHERE rolname = ANY ($1)"""


async def has_wall(connection: asyncpg.Connection) -> bool:
    """Whether the roles are there, granted what they need, and open to the session's user."""
    roles = [TENANT_ROLE, ALL_TENANTS_ROLE]
    return bool(await connection.fetchval(_HAS_WALL, roles))


def session_sql(rows: Rows, *, has_wall: bool) -> str:
    """The statements after which a session sees these rows and, behind the wall, no others."""
    if isinstance(rows, AllTenants):
        return f"SET ROLE {ALL_TENANTS_ROLE}" if has_wall else "SET sizing.tenant_id = ''"
    literal = rows.replace("'", "''")  # standard_conforming_strings: a backslash means itself
    tenant = f"SET sizing.tenant_id = '{literal}'"
    return f"SET ROLE {TENANT_ROLE}; {tenant}" if has_wall else tenant


class Session(asyncpg.Connection):  # type: ignore[misc,unused-ignore]
    """A connection that knows whose rows it sees, so that it is told only where that changes."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.seen = Seen()


class Seen:
    """Whose rows a session was last set to; None: not known."""

    rows: Rows | None = None

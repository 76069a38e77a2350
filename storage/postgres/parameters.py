"""Sizing parameters: versioned, each from its effective time on, the most specific scope first."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.errors import NotFound, VersionConflict
from storage.postgres import closing
from storage.postgres.rows import Document, from_json, missing_reference, to_json

_COLUMNS = """portfolio_id, strategy_id, version, effective_time, document, author, reason,
    create_time, approver"""

Versions = tuple[int | None, ...]
"""Versions in force by scope: portfolio and strategy, portfolio, strategy, all; None for none."""

VERSIONS_SQL = """ARRAY(
    SELECT (
        SELECT s.version FROM parameter_set AS s
        WHERE s.tenant_id = k.tenant_id AND s.portfolio_id = scope.portfolio_id
            AND s.strategy_id = scope.strategy_id AND s.effective_time <= {time}
        ORDER BY s.effective_time DESC, s.version DESC LIMIT 1
    )
    FROM (VALUES (1, k.portfolio_id, k.strategy_id), (2, k.portfolio_id, ''),
        (3, '', k.strategy_id), (4, '', '')) AS scope (number, portfolio_id, strategy_id)
    ORDER BY scope.number
)"""
"""`Versions` of the portfolio and the strategy in a row `k`."""


@dataclass(frozen=True, slots=True)
class ParameterSet:
    """Parameters of a portfolio ('' for all) and a strategy ('' for all), versions from 1."""

    portfolio_id: str
    strategy_id: str
    version: int
    effective_time: datetime
    document: Document
    author: str
    reason: str
    create_time: datetime
    approver: str = ""


async def put(
    connection: asyncpg.Connection,
    tenant_id: str,
    document: Document,
    *,
    portfolio_id: str = "",
    strategy_id: str = "",
    effective_time: datetime,
    author: str,
    reason: str,
    expected_version: int | None = None,
    approver: str = "",
) -> ParameterSet:
    """Add a version, in force from `effective_time`. Call it in a transaction.

    `expected_version` is the newest version known, 0 for none; None adds after whatever is there.

    Errors: `NotFound` (tenant or portfolio), `VersionConflict`.
    """
    scope = (tenant_id, portfolio_id, strategy_id)
    newest = await lock(connection, *scope)
    await _check_portfolio(connection, tenant_id, portfolio_id)
    if expected_version is not None and expected_version != newest:
        id = f"{portfolio_id}/{strategy_id}"
        raise VersionConflict("parameters", id, expected_version, newest)
    with missing_reference(tenant=tenant_id):
        row = await connection.fetchrow(
            f"""INSERT INTO parameter_set (tenant_id, portfolio_id, strategy_id, version,
                effective_time, document, author, reason, approver)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING {_COLUMNS}""",
            *scope,
            newest + 1,
            effective_time,
            to_json(document),
            author,
            reason,
            approver,
        )
    return _parameter_set(row)


async def lock(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, strategy_id: str
) -> int:
    """Nobody else adds a version to a scope until the transaction ends; its newest, 0 for none."""
    scope = (tenant_id, portfolio_id, strategy_id)
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", "parameters/" + "/".join(scope)
    )
    newest: int = await connection.fetchval(
        """SELECT coalesce(max(version), 0) FROM parameter_set
        WHERE tenant_id = $1 AND portfolio_id = $2 AND strategy_id = $3""",
        *scope,
    )
    return newest


async def strategies(connection: asyncpg.Connection, tenant_id: str) -> list[str]:
    """Strategies that have parameters of their own on all portfolios."""
    rows = await connection.fetch(
        """SELECT DISTINCT strategy_id FROM parameter_set
        WHERE tenant_id = $1 AND portfolio_id = '' AND strategy_id <> '' ORDER BY strategy_id""",
        tenant_id,
    )
    return [row["strategy_id"] for row in rows]


async def layers(
    connection: asyncpg.Connection,
    tenant_id: str,
    *,
    portfolio_id: str,
    strategy_id: str,
    time: datetime,
) -> list[ParameterSet]:
    """What is in force at `time`, most specific first.

    In this order, as far as they exist: this portfolio and strategy, this portfolio, this
    strategy, the tenant's default. Within a scope the latest effective time wins, then the version.
    """
    # An unset id makes some of them the same.
    scopes = list(dict.fromkeys(_scopes(portfolio_id, strategy_id)))
    rows = await connection.fetch(
        f"""SELECT p.* FROM unnest($2::text[], $3::text[]) WITH ORDINALITY
            AS scope (portfolio_id, strategy_id, number)
        CROSS JOIN LATERAL (
            SELECT {_COLUMNS} FROM parameter_set AS p
            WHERE p.tenant_id = $1 AND p.portfolio_id = scope.portfolio_id
                AND p.strategy_id = scope.strategy_id AND p.effective_time <= $4
            ORDER BY p.effective_time DESC, p.version DESC LIMIT 1
        ) AS p
        ORDER BY scope.number""",
        tenant_id,
        [portfolio for portfolio, _ in scopes],
        [strategy for _, strategy in scopes],
        time,
    )
    return [_parameter_set(row) for row in rows]


async def change_times(
    connection: asyncpg.Connection,
    tenant_id: str,
    *,
    portfolio_id: str,
    strategy_id: str,
    after: datetime,
) -> list[datetime]:
    """Times after `after` at which another version of any of its scopes begins, rising."""
    rows = await connection.fetch(
        """SELECT DISTINCT effective_time FROM parameter_set
        WHERE tenant_id = $1 AND portfolio_id IN ($2, '') AND strategy_id IN ($3, '')
            AND effective_time > $4 ORDER BY effective_time""",
        tenant_id,
        portfolio_id,
        strategy_id,
        after,
    )
    return [row["effective_time"] for row in rows]


def versions_of(layers: Iterable[ParameterSet], portfolio_id: str, strategy_id: str) -> Versions:
    """The versions of `layers`, which are those of this portfolio and strategy."""
    found = {(layer.portfolio_id, layer.strategy_id): layer.version for layer in layers}
    return tuple(found.get(scope) for scope in _scopes(portfolio_id, strategy_id))


def _scopes(portfolio_id: str, strategy_id: str) -> tuple[tuple[str, str], ...]:
    return (portfolio_id, strategy_id), (portfolio_id, ""), ("", strategy_id), ("", "")


async def history(
    connection: asyncpg.Connection,
    tenant_id: str,
    *,
    portfolio_id: str = "",
    strategy_id: str = "",
    before_version: int | None = None,
    limit: int = 100,
) -> list[ParameterSet]:
    """All versions of exactly this scope, newest first, at most `limit`."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM parameter_set
        WHERE tenant_id = $1 AND portfolio_id = $2 AND strategy_id = $3
            AND ($4::int8 IS NULL OR version < $4)
        ORDER BY version DESC LIMIT $5""",
        tenant_id,
        portfolio_id,
        strategy_id,
        before_version,
        limit,
    )
    return [_parameter_set(row) for row in rows]


async def _check_portfolio(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str
) -> None:
    found = portfolio_id == "" or await connection.fetchval(
        "SELECT true FROM portfolio WHERE tenant_id = $1 AND portfolio_id = $2",
        tenant_id,
        portfolio_id,
    )
    if not found:
        raise NotFound("portfolio", portfolio_id)
    await closing.check_open(connection, tenant_id, portfolio_id)


def _parameter_set(row: asyncpg.Record) -> ParameterSet:
    return ParameterSet(**{**row, "document": from_json(row["document"])})

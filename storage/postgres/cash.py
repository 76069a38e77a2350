"""Cash of a portfolio that is locked: of its base currency and of its accounts in others."""

from collections.abc import Mapping

import asyncpg

from storage.postgres.rows import from_json, to_json


async def set_to(
    connection: asyncpg.Connection,
    tenant_id: str,
    portfolio_id: str,
    amount: float,
    balances: Mapping[str, float],
) -> None:
    """Set the cash in the base currency and all accounts in others; the version stays."""
    await connection.execute(
        """UPDATE portfolio SET cash = $3, cash_balances = $4
        WHERE tenant_id = $1 AND portfolio_id = $2""",
        tenant_id,
        portfolio_id,
        amount,
        to_json(dict(balances)),
    )


async def add(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, changes: Mapping[str, float]
) -> None:
    """Add amounts by currency, "" for the base; an account that isn't there is opened.

    The version of the portfolio stays: whoever changes it raises that.
    """
    others = {code: amount for code, amount in changes.items() if code}
    key = (tenant_id, portfolio_id)
    if not others:
        await connection.execute(
            "UPDATE portfolio SET cash = cash + $3 WHERE tenant_id = $1 AND portfolio_id = $2",
            *key,
            changes.get("", 0.0),
        )
        return
    stored = await connection.fetchval(
        "SELECT cash_balances FROM portfolio WHERE tenant_id = $1 AND portfolio_id = $2", *key
    )
    balances: dict[str, float] = from_json(stored)
    for code, amount in others.items():
        balances[code] = balances.get(code, 0.0) + amount
    await connection.execute(
        """UPDATE portfolio SET cash = cash + $3, cash_balances = $4
        WHERE tenant_id = $1 AND portfolio_id = $2""",
        *key,
        changes.get("", 0.0),
        to_json(balances),
    )

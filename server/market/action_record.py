"""A corporate action in what all portfolios share: its record, volatility models and prices."""

from collections.abc import Sequence
from datetime import UTC
from uuid import UUID

import asyncpg

from server.convert.bars import has_bars
from server.market import price_jumps, volatility
from server.market.action_plans import Plan, accept_shown
from storage.postgres import corporate_actions as storage
from storage.postgres import market
from storage.postgres import price_jumps as jump_storage


async def record(
    connection: asyncpg.Connection,
    tenant_id: str,
    plans: Sequence[Plan],
    request_id: UUID,
    *,
    author: str,
    reason: str,
) -> list[str]:
    """Records an action with its plans; the ids of the snapshots that show it now.

    The caller has taken `storage.postgres.volatility.share`. Errors: `AlreadyExists`.
    """
    plan = plans[0]
    stored = await storage.put(
        connection,
        tenant_id,
        request_id,
        instrument_id=plan.instrument_id,
        kind=plan.kind,
        effective_time=plan.time,
        price_factor=plan.change.price_factor,
        payment=plan.change.payment,
        payload=plan.action.SerializeToString(),
        author=author,
        reason=reason,
    )
    shown = {item.universe_id for item in plans if item.is_shown}
    await volatility.reprice(connection, tenant_id, stored, shown)
    for item in plans:
        if item.is_shown:
            await accept_shown(connection, tenant_id, item)
    return [await _set_market(connection, tenant_id, p) for p in plans if not p.is_shown]


async def _set_market(connection: asyncpg.Connection, tenant_id: str, plan: Plan) -> str:
    """Stores the successor of the newest snapshot of a universe; its id."""
    found = await jump_storage.of_snapshot(connection, tenant_id, plan.newest.snapshot_id)
    after = plan.after
    await market.put_snapshot(
        connection,
        tenant_id,
        after.snapshot_id,
        as_of_time=after.as_of_time.ToDatetime(tzinfo=UTC),
        instrument_id=tuple(after.instrument_ids),
        payload=after.SerializeToString(deterministic=True),
        has_bars=has_bars(after),
        universe_id=plan.universe_id,
    )
    # What had jumped for another reason has jumped still.
    moved = price_jumps.moved(found, plan.instrument_id, plan.change, plan.time)
    await jump_storage.put(connection, tenant_id, after.snapshot_id, moved)
    return after.snapshot_id

"""Corporate actions that a restored database doesn't have.

The tenant's stream tells that one was recorded, that of each portfolio what it did there. Recorded
again, it is in prices and models; in a portfolio it is applied at its place among decisions and
fills, so that trades reserved before it are in new units and those reserved after it stay as told.
"""

from decimal import Decimal
from uuid import UUID

import asyncpg

from compute.money.corporate_actions import Change
from server.convert.told_action import ToldAction, ToldEffect, action_of
from server.market.action_plans import planned
from server.market.action_record import record
from server.market.trade_changes import changed_trade
from storage.postgres import cash, recovery
from storage.postgres import corporate_actions as storage
from storage.postgres import volatility as volatility_storage
from storage.postgres.requests import Request

APPLIED = "CorporateActionApplied"


class LostActions:
    """The actions of a tenant, its own stream first."""

    def __init__(self, connection: asyncpg.Connection, tenant_id: str) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._changes: dict[UUID, Change] = {}

    async def enter(self, payload: bytes) -> str:
        """Enters an event of the tenant's stream or a portfolio's; why it isn't all, or ''.

        Errors: `Refusal` where prices don't have the instrument, `AlreadyExists`.
        """
        told = action_of(payload)
        if told.effect is None:
            return await self._record(told)
        change = self._changes.get(told.request_id)
        if change is None:
            return "the action itself was not entered: set holdings, and look at reservations"
        return await self._apply(told.action.instrument_id, change, told.effect)

    async def _record(self, told: ToldAction) -> str:
        where = (self._connection, self._tenant_id)
        await volatility_storage.share(*where)
        plans = await planned(*where, told.action, told.effective_time, told.request_id)
        named = {"author": told.author, "reason": told.reason}
        await record(*where, plans, told.request_id, **named)
        name = f"ApplyCorporateAction{recovery.PARTLY_LOST}"
        await recovery.put_request(*where, Request(told.request_id, name, bytes(32), b"", b""))
        self._changes[told.request_id] = plans[0].change
        return ""

    async def _apply(self, name: str, change: Change, told: ToldEffect) -> str:
        """What it did to a portfolio, as it was told; open trades of now are those of then."""
        connection, key = self._connection, (self._tenant_id, told.portfolio_id)
        for trade in await storage.open_trades(connection, self._tenant_id, name):
            made = changed_trade(trade, change) if trade.portfolio_id == told.portfolio_id else None
            if made is not None:
                await storage.set_trade(connection, self._tenant_id, made.trade)
        await recovery.raise_version(connection, *key)
        concerned = await storage.concerned(connection, self._tenant_id, name)
        item = next((one for one in concerned if one.portfolio_id == told.portfolio_id), None)
        held = Decimal(0) if item is None else item.quantity
        if item is None or float(held) != float(told.quantity_before):
            return (
                f"it held {told.quantity_before.normalize():f} units of {name} before the action, "
                f"{held.normalize():f} here: set holdings and cash"
            )
        if told.cash_change:
            account = "" if told.cash_currency == item.base_currency else told.cash_currency
            await cash.add(connection, *key, {account: told.cash_change})
        if held and change.changes_units:
            average = item.average_price * change.price_factor
            await storage.set_holding(connection, *key, name, told.quantity_after, average)
        return ""

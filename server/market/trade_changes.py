"""Holdings, cash and open trades of every portfolio after a corporate action."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

import asyncpg
from positionsizing.v1 import corporate_action_pb2 as pb
from positionsizing.v1 import market_service_pb2

from compute.money.corporate_actions import Change, changed_lots, changed_quantity, whole_unit
from compute.money.currency import major_of
from server.calls.errors import precondition
from server.convert.corporate_action import of_instrument
from server.convert.market import Snapshot
from server.portfolios.state import States
from storage.postgres import cash
from storage.postgres import corporate_actions as storage
from storage.postgres.corporate_actions import Holding, OpenTrade
from storage.postgres.rows import from_json


class Planned(Protocol):
    """What of a plan is needed here; after: the market that shows the action."""

    @property
    def action(self) -> pb.CorporateAction:
        """The action."""

    @property
    def change(self) -> Change:
        """What it does."""

    @property
    def after(self) -> market_service_pb2.MarketSnapshot:
        """The market that shows it."""

    @property
    def place(self) -> int:
        """Of the instrument there."""


@dataclass(frozen=True, slots=True)
class ChangedTrade:
    """An open line after an action. released: units that fit no whole lot any more, new ones."""

    trade: OpenTrade
    released: float


def changed_trade(trade: OpenTrade, change: Change) -> ChangedTrade | None:
    """An open line in new lots; None where the action leaves it as it is."""
    if not change.changes_units and change.lot_size is None:
        return None
    lots, size, left = changed_lots(trade.lots, trade.lot_size, change)
    before = trade.lots * trade.lot_size * float(change.units)
    price = trade.price * change.price_factor * change.point_factor
    cash_open = trade.cash * (lots * size / before)
    return ChangedTrade(replace(trade, lots=lots, lot_size=size, price=price, cash=cash_open), left)


class Books:
    """The books that an action concerns, in its transaction."""

    def __init__(
        self,
        states: States,
        tenant_id: str,
        plan: Planned,
        held: Sequence[Holding],
        trades: Sequence[OpenTrade],
    ) -> None:
        self._states = states
        self._tenant_id = tenant_id
        self._plan = plan
        self._held = held
        self._trades = trades

    async def changed(self, connection: asyncpg.Connection) -> list[pb.CorporateActionEffect]:
        """Writes what changes. Raises `Refusal`, `MissingInputError` for a missing rate."""
        effects = []
        for item in self._held:
            effect = pb.CorporateActionEffect(portfolio_id=item.portfolio_id)
            await self._position(connection, item, effect)
            for trade in self._trades:
                if trade.portfolio_id == item.portfolio_id:
                    await self._trade(connection, trade, effect)
            effects.append(effect)
        return effects

    async def _position(
        self, connection: asyncpg.Connection, item: Holding, effect: pb.CorporateActionEffect
    ) -> None:
        change, name = self._plan.change, self._plan.action.instrument_id
        after = changed_quantity(item.quantity, change, self._unit)
        total, paid = after.total, Decimal(0)
        if change.changes_units and after.fraction:
            policy = self._details.fraction_policy
            if not policy:
                raise precondition(
                    "FRACTIONS_NOT_DECLARED",
                    f"{item.quantity.normalize():f} units of {name!r} in portfolio "
                    f"{item.portfolio_id!r} leave {after.fraction.normalize():f} of one: set "
                    "fraction_policy to KEEP or PAY_CASH",
                )
            effect.fraction = float(after.fraction)
            if policy == pb.FRACTION_POLICY_PAY_CASH:
                total, paid = after.whole, after.fraction
        effect.quantity_before, effect.quantity_after = float(item.quantity), float(total)
        amount = (
            float(paid) * self._unit_price + float(item.quantity) * self._point * change.payment
        )
        if amount:
            await self._pay(connection, item, amount, effect)
        if item.quantity and change.changes_units:
            average = item.average_price * change.price_factor
            key = (self._tenant_id, item.portfolio_id, name)
            await storage.set_holding(connection, *key, total, average)

    async def _pay(
        self,
        connection: asyncpg.Connection,
        item: Holding,
        amount: float,
        effect: pb.CorporateActionEffect,
    ) -> None:
        """Books an amount in the instrument's currency where there is an account, else the base."""
        after, place = self._plan.after, self._plan.place
        code = after.currency[place] if len(after.currency) else item.base_currency
        major, part = major_of(code)
        if major in from_json(item.accounts):
            account, amount = major, amount * part
        else:
            market = self._states.market(self._tenant_id, Snapshot(after), item.base_currency)
            rates = market.exchange_rate
            account, amount = "", amount * (1.0 if rates is None else float(rates[place]))
        await cash.add(connection, self._tenant_id, item.portfolio_id, {account: amount})
        effect.cash_change = amount
        effect.cash_currency = account or item.base_currency

    async def _trade(
        self, connection: asyncpg.Connection, trade: OpenTrade, effect: pb.CorporateActionEffect
    ) -> None:
        """An open line in new lots; what fits none is released with its cash."""
        made = changed_trade(trade, self._plan.change)
        if made is None:
            return
        await storage.set_trade(connection, self._tenant_id, made.trade)
        effect.decision_ids.append(str(trade.decision_id))
        effect.released_quantity.append(made.released)

    @property
    def _details(self) -> pb.Split | pb.MultiplierChange:
        name = self._plan.action.WhichOneof("action")
        found: pb.Split | pb.MultiplierChange = getattr(self._plan.action, str(name))
        return found

    @property
    def _unit(self) -> float:
        return whole_unit(of_instrument(self._plan.after, "lot_size", self._plan.place, 1.0))

    @property
    def _point(self) -> float:
        """Money in the instrument's currency for a point of a unit, after the action."""
        return of_instrument(self._plan.after, "multiplier", self._plan.place, 1.0)

    @property
    def _unit_price(self) -> float:
        """What is paid for one new unit, in the instrument's currency."""
        price = float(self._plan.after.price[self._plan.place])
        if self._plan.change.changes_units and self._details.HasField("cash_price"):
            price = self._details.cash_price
        return price * self._point

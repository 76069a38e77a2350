"""Prices and exchange rates that jump: not sized on until somebody confirms them.

Looked at when a snapshot is stored, against the last accepted value of each: one that stays where
it jumped to is no more accepted than the first time.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg
from positionsizing.v1 import market_service_pb2 as pb

from compute.currency import major_of
from compute.market import Market, Positions
from server.convert import parameters as parameters_convert
from server.convert.corporate_action import shown_until
from server.convert.names import timestamp
from server.errors import precondition
from server.refreshing_cache import RefreshingCache
from storage.postgres import corporate_actions, parameters
from storage.postgres import price_jumps as storage
from storage.postgres.corporate_actions import StoredAction
from storage.postgres.pool import Database
from storage.postgres.price_jumps import JumpKind, PriceJump

SNAPSHOTS_BACK = 8
"""So many snapshots are looked through for what the last one doesn't have."""
_ROUNDING = 1.0 + 1e-12

Key = tuple[JumpKind, str]


@dataclass(frozen=True)
class Quote:
    """A price as quoted, or a rate, and when it was true."""

    value: float
    time: datetime


async def found(
    connection: asyncpg.Connection, tenant_id: str, snapshot: pb.MarketSnapshot, time: datetime
) -> list[PriceJump]:
    """What is not accepted of a new snapshot. Call it before it is stored."""
    accepted: dict[Key, Quote] = {}
    missing = {key for key, _ in quotes(snapshot)}
    for back in range(SNAPSHOTS_BACK):
        before = await storage.snapshot_before(connection, tenant_id, time, back)
        if before is None:
            break
        jumped = await storage.of_snapshot(connection, tenant_id, before.snapshot_id)
        earlier = {(j.kind, j.name): Quote(j.accepted, j.accepted_time) for j in jumped}
        message = pb.MarketSnapshot.FromString(before.payload)
        shown = shown_until(message)
        for key, value in quotes(message):
            if key in missing:
                then = max(before.as_of_time, shown.get(key[1], before.as_of_time))
                accepted[key] = earlier.get(key, Quote(value, then))
        missing -= accepted.keys()
        if not missing:
            break
    if not accepted:
        return []
    oldest = min(quote.time for quote in accepted.values())
    actions = await corporate_actions.after(connection, tenant_id, oldest)
    accepted = after_actions(accepted, actions, snapshot, time)
    return list(jumps(accepted, snapshot, await jump_max(connection, tenant_id)))


async def jump_max(connection: asyncpg.Connection, tenant_id: str) -> float:
    """The bound of the firm."""
    layers = await parameters.layers(
        connection, tenant_id, portfolio_id="", strategy_id="", time=datetime.now(UTC)
    )
    return parameters_convert.effective(layer.document for layer in layers).price_jump_max


def after_actions(
    accepted: Mapping[Key, Quote],
    actions: Iterable[StoredAction],
    snapshot: pb.MarketSnapshot,
    time: datetime,
) -> dict[Key, Quote]:
    """The accepted quotes as corporate actions since have left them, as far as a snapshot shows."""
    shown, out = shown_until(snapshot), dict(accepted)
    for action in actions:
        key = (JumpKind.PRICE, action.instrument_id)
        last = out.get(key)
        until = max(time, shown.get(action.instrument_id, time))
        if last is not None and last.time < action.effective_time <= until:
            price = last.value * action.price_factor - action.payment
            out[key] = Quote(price, action.effective_time)
    return out


def jumps(
    accepted: Mapping[Key, Quote], snapshot: pb.MarketSnapshot, bound: float
) -> Iterator[PriceJump]:
    """What of a snapshot is further than `bound` from the accepted quotes, as a fraction of them.

    From 0 and below there is no relative change, and so no jump.
    """
    for (kind, name), value in quotes(snapshot):
        last = accepted.get((kind, name))
        if last is None or not last.value > 0.0:
            continue
        if abs(value - last.value) > bound * last.value * _ROUNDING:
            yield PriceJump(kind, name, last.value, last.time)


def quotes(snapshot: pb.MarketSnapshot) -> Iterator[tuple[Key, float]]:
    """The prices as quoted and the rates of a snapshot, each pair in the order of its codes."""
    for name, price in zip(snapshot.instrument_ids, snapshot.price, strict=True):
        yield (JumpKind.PRICE, name), price
    for item in snapshot.exchange_rates:
        first, second = item.from_currency, item.to_currency
        if first <= second:
            yield (JumpKind.RATE, f"{first}/{second}"), item.rate
        else:
            yield (JumpKind.RATE, f"{second}/{first}"), 1.0 / item.rate


def refuse_held(prices: Market, positions: Positions, jumped: frozenset[str]) -> None:
    """Raises `Refusal` where what is held or being bought jumped: nobody knows the equity then."""
    names = sorted({prices.instrument_ids[place] for place in positions.taken} & jumped)
    if names:
        text = (
            f"the price of {names[0]!r}, which is held or reserved, is further from the last "
            "accepted one than price_jump_max allows, and so nobody knows what the portfolio is "
            "worth: store one that is right, or confirm it (`sizing market confirm`)"
        )
        raise precondition("PRICE_JUMP", text, instrument_ids=", ".join(names[:20]))


def messages(snapshot: pb.MarketSnapshot, jumped: Iterable[PriceJump]) -> Iterator[pb.PriceJump]:
    """Jumps of a snapshot as messages."""
    value = dict(quotes(snapshot))
    for item in jumped:
        is_price = item.kind is JumpKind.PRICE
        yield pb.PriceJump(
            instrument_id=item.name if is_price else "",
            currency_pair="" if is_price else item.name,
            price=value[item.kind, item.name],
            accepted_price=item.accepted,
            accepted_time=timestamp(item.accepted_time),
        )


class PriceJumps:
    """What is not accepted of stored snapshots, kept as long as the tenant's version stays."""

    def __init__(self, database: Database, deadline_s: float) -> None:
        self._database = database
        self._deadline_s = deadline_s
        self._cache: RefreshingCache[tuple[PriceJump, ...]] = RefreshingCache(float("inf"))

    async def instruments(
        self, tenant_id: str, tenant_version: int, snapshot: pb.MarketSnapshot, base_currency: str
    ) -> frozenset[str]:
        """The instruments whose price in the base is not accepted. Errors: `Unavailable`."""

        async def read() -> tuple[PriceJump, ...]:
            async with self._database.connection(deadline_s=self._deadline_s) as connection:
                jumped = await storage.of_snapshot(connection, tenant_id, snapshot.snapshot_id)
                return tuple(jumped)

        key = (tenant_id, snapshot.snapshot_id, tenant_version)
        jumped = await self._cache.get(key, read)
        return not_accepted(jumped, snapshot, base_currency) if jumped else frozenset()


def not_accepted(
    jumped: Iterable[PriceJump], snapshot: pb.MarketSnapshot, base_currency: str
) -> frozenset[str]:
    """The instruments whose price jumped, or a rate of whose currency or of the base did."""
    names = {item.name for item in jumped if item.kind is JumpKind.PRICE}
    codes = {code for j in jumped if j.kind is JumpKind.RATE for code in j.name.split("/")}
    if codes and len(snapshot.currency):
        base, _ = major_of(base_currency)
        for name, own in zip(snapshot.instrument_ids, snapshot.currency, strict=True):
            major, _ = major_of(own)
            if major != base and not codes.isdisjoint({own, major, base}):
                names.add(name)
    return frozenset(names)

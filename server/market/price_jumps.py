"""Prices, those of underlyings, and exchange rates that jump: not sized on until confirmed.

Looked at when a snapshot is stored, against the last accepted value of each: one that stays where
it jumped to is no more accepted than the first time.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import asyncpg

from compute.market import Market, Positions
from compute.money.corporate_actions import Change
from compute.money.currency import major_of, to_base
from server.calls.errors import precondition
from server.convert import parameters as parameters_convert
from server.convert.corporate_action import of_instrument, shown_to, shown_until
from server.convert.market import Snapshot, rates_of
from server.convert.price_jump import Key, quotes
from server.portfolios.portfolio_state import PortfolioState
from server.refreshing_cache import RefreshingCache
from storage.postgres import corporate_actions, parameters
from storage.postgres import price_jumps as storage
from storage.postgres.corporate_actions import StoredAction
from storage.postgres.pool import Database
from storage.postgres.price_jumps import JumpKind, PriceJump

SNAPSHOTS_BACK = 8
"""So many snapshots of a universe are looked through for what the last one doesn't have."""
OF_INSTRUMENTS = (JumpKind.PRICE, JumpKind.UNDERLYING)
_ROUNDING = 1.0 + 1e-12


@dataclass(frozen=True)
class Quote:
    """A price as quoted, or a rate, and when it was true.

    Of a price also the currency it is quoted in, empty for the base, and the multiplier.
    """

    value: float
    time: datetime
    currency: str = ""
    multiplier: float = 1.0


async def found(
    connection: asyncpg.Connection, tenant_id: str, snapshot: Snapshot, time: datetime
) -> list[PriceJump]:
    """What is not accepted of a new snapshot, against earlier ones of its universe.

    Call it before it is stored.
    """
    accepted: dict[Key, Quote] = {}
    missing = {key for key, _ in quotes(snapshot)}
    for back in range(SNAPSHOTS_BACK):
        before = await storage.snapshot_before(
            connection, tenant_id, snapshot.universe_id, time, back
        )
        if before is None:
            break
        jumped = await storage.of_snapshot(connection, tenant_id, before.snapshot_id)
        earlier = {(j.kind, j.name): (j.accepted, j.accepted_time) for j in jumped}
        earlier_one = Snapshot.of(before.payload)
        shown = shown_until(earlier_one.message)
        places = {name: place for place, name in enumerate(earlier_one.message.instrument_ids)}
        for key, value in quotes(earlier_one):
            if key in missing:
                kind, name = key
                then = shown_to(shown, name, before.as_of_time)
                is_rate = kind is JumpKind.RATE
                unit = ("", 1.0) if is_rate else _unit(earlier_one, places[name])
                accepted[key] = Quote(*earlier.get(key, (value, then)), *unit)
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
    snapshot: Snapshot,
    time: datetime,
) -> dict[Key, Quote]:
    """The accepted quotes as corporate actions since have left them, as far as a snapshot shows.

    Those of prices are in its units: pence where that were pounds, points of its multiplier.
    """
    shown, out = shown_until(snapshot.message), dict(accepted)
    changed = set[Key]()
    for action in actions:
        until = shown_to(shown, action.instrument_id, time)
        for kind in OF_INSTRUMENTS:
            key = (kind, action.instrument_id)
            last = out.get(key)
            if last is None or not last.time < action.effective_time <= until:
                continue
            payment = action.payment if kind is JumpKind.PRICE else 0.0
            price = last.value * action.price_factor - payment
            out[key] = replace(last, value=price, time=action.effective_time)
            if action.kind == "MULTIPLIER_CHANGE":  # the price of a point stays
                changed.add(key)
    for place, name in enumerate(snapshot.message.instrument_ids):
        for kind in OF_INSTRUMENTS:
            key = (kind, name)
            if (last := out.get(key)) is not None:
                factor = _factor(last, snapshot, place, has_new_multiplier=key in changed)
                out[key] = replace(last, value=last.value * factor)
    return out


def moved(
    jumped: Iterable[PriceJump], instrument_id: str, change: Change, time: datetime
) -> list[PriceJump]:
    """What jumped before a corporate action, against what was accepted as the action leaves it."""
    out = []
    for jump in jumped:
        if jump.name == instrument_id and jump.kind in OF_INSTRUMENTS:
            is_price = jump.kind is JumpKind.PRICE
            by_factor = jump.accepted * change.price_factor
            value = change.price(jump.accepted) if is_price else by_factor
            jump = replace(jump, accepted=value, accepted_time=time)
        out.append(jump)
    return out


def _factor(accepted: Quote, snapshot: Snapshot, place: int, *, has_new_multiplier: bool) -> float:
    """What turns an accepted price into one of the units in which a snapshot quotes it.

    Another currency counts at the snapshot's rate, and as the same where it has none.
    """
    currency, multiplier = _unit(snapshot, place)
    factor = 1.0 if has_new_multiplier else accepted.multiplier / multiplier
    if currency == accepted.currency or not (currency and accepted.currency):
        return factor
    return factor * to_base(rates_of(snapshot.message), currency).get(accepted.currency, 1.0)


def _unit(snapshot: Snapshot, place: int) -> tuple[str, float]:
    """Currency and multiplier of an instrument."""
    message = snapshot.message
    currency = message.currency[place] if len(message.currency) else ""
    return currency, of_instrument(message, "multiplier", place, 1.0)


def jumps(accepted: Mapping[Key, Quote], snapshot: Snapshot, bound: float) -> Iterator[PriceJump]:
    """What of a snapshot is further than `bound` from the accepted quotes, as a fraction of them.

    From 0 and below there is no relative change, and so no jump.
    """
    for (kind, name), value in quotes(snapshot):
        last = accepted.get((kind, name))
        if last is None or not last.value > 0.0:
            continue
        if abs(value - last.value) > bound * last.value * _ROUNDING:
            yield PriceJump(kind, name, last.value, last.time)


def jumped_of(prices: Market, positions: Positions, jumped: frozenset[str]) -> list[str]:
    """What of a book, held or reserved, jumped, by name."""
    if not jumped:
        return []
    return sorted({prices.instrument_ids[place] for place in positions.taken} & jumped)


def refuse_held(prices: Market, positions: Positions, jumped: frozenset[str]) -> None:
    """Raises `Refusal` where what is held or being bought jumped: nobody knows the equity then."""
    if names := jumped_of(prices, positions, jumped):
        text = (
            f"the price of {names[0]!r}, which is held or reserved, is further from the last "
            "accepted one than price_jump_max allows, and so nobody knows what the portfolio is "
            "worth: store one that is right, or confirm it (`sizing market confirm`)"
        )
        raise precondition("PRICE_JUMP", text, instrument_ids=", ".join(names[:20]))


def refuse_shared(state: PortfolioState, prices: Market, jumped: frozenset[str]) -> None:
    """Raises `Refusal` where what other members of a group that shares limits have jumped.

    Nobody knows what they use then. jumped: of the market; those of other universes come with the
    state.
    """
    for portfolio_id, book in state.others.items():
        names = set(book.instrument_ids)
        found = names & jumped
        if book.elsewhere is not None:
            found |= {name for name in names & book.elsewhere.jumped if name not in prices.index}
        for name in sorted(found):
            text = (
                f"the price of {name!r}, which is held or reserved by {portfolio_id!r}, is further "
                "from the last accepted one than price_jump_max allows, and so nobody knows what "
                "it uses of the limits that the group shares: store one that is right, or confirm "
                "it (`sizing market confirm`)"
            )
            raise precondition("PRICE_JUMP", text, instrument_ids=name)


class PriceJumps:
    """What is not accepted of stored snapshots, kept as long as the tenant's version stays."""

    def __init__(self, database: Database, deadline_s: float) -> None:
        self._database = database
        self._deadline_s = deadline_s
        self._cache: RefreshingCache[tuple[PriceJump, ...]] = RefreshingCache(float("inf"))

    async def instruments(
        self, tenant_id: str, tenant_version: int, snapshot: Snapshot, base_currency: str
    ) -> frozenset[str]:
        """The instruments whose price in the base is not accepted. Errors: `Unavailable`."""

        async def read() -> tuple[PriceJump, ...]:
            async with self._database.connection(
                tenant_id, deadline_s=self._deadline_s
            ) as connection:
                jumped = await storage.of_snapshot(connection, tenant_id, snapshot.snapshot_id)
                return tuple(jumped)

        key = (tenant_id, snapshot.snapshot_id, tenant_version)
        jumped = await self._cache.get(key, read)
        return not_accepted(jumped, snapshot, base_currency) if jumped else frozenset()


def not_accepted(
    jumped: Iterable[PriceJump], snapshot: Snapshot, base_currency: str
) -> frozenset[str]:
    """The instruments of which a price jumped, or a rate of whose currency or of the base did."""
    names = {item.name for item in jumped if item.kind in OF_INSTRUMENTS}
    codes = {code for j in jumped if j.kind is JumpKind.RATE for code in j.name.split("/")}
    if codes and len(snapshot.message.currency):
        base, _ = major_of(base_currency)
        for name, own in zip(
            snapshot.message.instrument_ids, snapshot.message.currency, strict=True
        ):
            major, _ = major_of(own)
            if major != base and not codes.isdisjoint({own, major, base}):
                names.add(name)
    return frozenset(names)

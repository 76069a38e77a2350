"""States of volatility models: moved by snapshots, computed anew from the log, laid over a market.

Sizing reads the newest state and never moves it. What a decision takes from it is part of its
record (`record.Volatility`), so that a replay comes nowhere near here.
"""

import asyncio
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property

import asyncpg
import numpy as np

from compute.adapt.volatility import is_listed, repriced, step
from compute.adapt.volatility_model import VolatilityModel, VolatilityState
from compute.cache import Cache
from compute.market import Floats, Integers, Market
from server.convert import volatility as convert
from server.convert.market import Snapshot
from server.market.regime_conditions import tell
from server.refreshing_cache import RefreshingCache
from server.sizing import decision_inputs
from storage.errors import NotFound
from storage.postgres import corporate_actions
from storage.postgres import market as market_storage
from storage.postgres import volatility as storage
from storage.postgres.corporate_actions import StoredAction
from storage.postgres.market import MarketSnapshot
from storage.postgres.pool import Database
from storage.postgres.volatility import StoredState

PERIODS_DEFAULT = 500
"""Before the newest snapshot, from which on a state is computed where nothing else is said."""
_PAGE = 32
_MARKETS_MAX = 64


@dataclass(frozen=True)
class Estimates:
    """Annual volatilities in use of one model, 0 where it has none, (m,)."""

    model_id: str
    version: int
    as_of_time: datetime | None
    instrument_ids: tuple[str, ...]
    volatility: Floats

    @cached_property
    def place(self) -> dict[str, int]:
        """The place of each instrument."""
        return {name: i for i, name in enumerate(self.instrument_ids)}

    def over(self, prices: Market) -> Market:
        """The market with the larger of its own volatility and the model's."""
        places = np.array([self.place.get(name, -1) for name in prices.instrument_ids])
        own = np.append(self.volatility, 0.0)[places]
        given = np.zeros(len(own)) if prices.volatility is None else prices.volatility
        return replace(prices, volatility=np.maximum(own, given))

    def recorded(self, prices: Market, places: Integers) -> decision_inputs.Volatility:
        """What a decision on the instruments at `places` takes; `prices`: as `over` gave them."""
        column = np.zeros(len(prices.price))
        if prices.volatility is not None:
            column[places] = prices.volatility[places]
        return decision_inputs.Volatility(
            self.model_id,
            self.version,
            self.as_of_time.isoformat() if self.as_of_time else "",
            column,
        )


class Volatilities:
    """The newest state of each model, kept for a moment, and markets with it laid over them."""

    def __init__(self, database: Database, age_max_s: float, deadline_s: float) -> None:
        self._database = database
        self._deadline_s = deadline_s
        self._estimates: RefreshingCache[Estimates] = RefreshingCache(age_max_s)
        self._markets: Cache[tuple[str, ...], Market] = Cache(_MARKETS_MAX)

    def drop(self, tenant_id: str) -> None:
        """Forgets the states of a tenant, which a snapshot or a change has moved."""
        self._estimates.drop(lambda key: key[0] == tenant_id)

    async def newest(self, tenant_id: str, model_id: str) -> Estimates:
        """What a model says now. Errors: `NotFound`."""

        async def load() -> Estimates:
            async with self._database.connection(
                tenant_id, deadline_s=self._deadline_s
            ) as connection:
                return estimates_of(await storage.entry(connection, tenant_id, model_id))

        return await self._estimates.get((tenant_id, model_id), load)

    def market(
        self, tenant_id: str, snapshot_id: str, currency: str, prices: Market, estimates: Estimates
    ) -> Market:
        """The market of a snapshot with the larger of both volatilities."""
        key = (tenant_id, snapshot_id, currency, estimates.model_id, str(estimates.version))
        return self._markets.get(key, lambda: estimates.over(prices))


def estimates_of(entry: storage.Entry) -> Estimates:
    """What the state of a model says."""
    stored = entry.state
    found = convert.state(stored).in_use
    return Estimates(
        stored.model_id, stored.version, stored.as_of_time, stored.instrument_id, found
    )


async def observe(
    connection: asyncpg.Connection,
    tenant_id: str,
    snapshot: MarketSnapshot,
    announced: frozenset[str] = frozenset(),
) -> None:
    """Moves the states of the models of its universe by a snapshot stored in this transaction.

    The caller has taken `storage.share` before it stored the snapshot. announced: as `announce`
    gave them; a condition of a model that was put since is left to the next snapshot.
    """
    entries = await storage.entries(connection, tenant_id, for_update=True)
    if not entries:
        return
    seen = Snapshot.of(snapshot.payload)
    for entry in entries:
        message = convert.parse(entry.document)
        known = convert.model(message)
        if message.universe_id != snapshot.universe_id or not convert.is_seen(seen, known):
            continue
        before = convert.state(entry.state)
        after = step(before, convert.prices(seen, known), known)
        told = convert.told(message)
        if told is not None and told.condition_id in announced:
            is_new = after.bucket > before.bucket or not is_listed(before, told.instrument_id)
            if is_new and is_listed(after, told.instrument_id):
                await tell(connection, tenant_id, known, told, after, snapshot.as_of_time)
        await storage.put_state(connection, tenant_id, _after(entry.state, after, snapshot))


async def reprice(
    connection: asyncpg.Connection,
    tenant_id: str,
    action: StoredAction,
    shown: AbstractSet[str],
) -> None:
    """Moves the states of all models over a corporate action that no snapshot showed them.

    shown: the universes whose newest snapshots did. The caller has taken `storage.share` before.
    """
    for entry in await storage.entries(connection, tenant_id, for_update=True):
        if convert.parse(entry.document).universe_id in shown:
            continue
        before = convert.state(entry.state)
        after = repriced(before, action.instrument_id, action.price_factor, action.payment)
        if after is not before:
            await storage.put_state(connection, tenant_id, _moved(entry.state, after))


@dataclass(frozen=True)
class Anew:
    """A state computed from the log, with the snapshots it was made of, in their order."""

    state: VolatilityState = field(default_factory=VolatilityState)
    snapshot_ids: tuple[str, ...] = ()
    first: datetime | None = None
    newest: MarketSnapshot | None = None


async def computed(
    connection: asyncpg.Connection,
    tenant_id: str,
    universe_id: str,
    known: VolatilityModel,
    start: datetime | None,
    earlier: Anew | None = None,
) -> Anew:
    """The state of a model from the stored snapshots of a universe, in the order of their times.

    start: None for `PERIODS_DEFAULT` periods. earlier: as computed a moment ago, to go on from: so
    what is computed while the models are held (`storage.hold`) takes no time.
    """
    try:
        newest = await market_storage.latest_snapshot(connection, tenant_id, universe_id)
    except NotFound:
        return Anew()
    if start is None:
        start = newest.as_of_time - timedelta(seconds=PERIODS_DEFAULT * known.sampling_period_s)
    ids = await market_storage.sampled_ids(
        connection,
        tenant_id,
        universe_id,
        start,
        known.sampling_period_s,
        with_bars=known.range is not None,
    )
    found = Anew()
    if earlier is not None and tuple(ids[: len(earlier.snapshot_ids)]) == earlier.snapshot_ids:
        found = earlier
    actions = await corporate_actions.after(connection, tenant_id, start)
    for begin in range(len(found.snapshot_ids), len(ids), _PAGE):
        page = await market_storage.snapshots_of(connection, tenant_id, ids[begin : begin + _PAGE])
        found = await asyncio.to_thread(_through, found, page, known, actions)
    return found


def _through(
    found: Anew,
    page: list[MarketSnapshot],
    known: VolatilityModel,
    actions: Sequence[StoredAction],
) -> Anew:
    walk = Walk(found.state, None if found.newest is None else found.newest.as_of_time)
    for item in page:
        walk = walked(walk, item, known, actions)
    ids = (*found.snapshot_ids, *(item.snapshot_id for item in page))
    return Anew(walk.state, ids, found.first or page[0].as_of_time, page[-1])


@dataclass(frozen=True)
class Walk:
    """A state on its way through the stored snapshots; before: the time of the last one."""

    state: VolatilityState = field(default_factory=VolatilityState)
    before: datetime | None = None


def walked(
    walk: Walk, item: MarketSnapshot, known: VolatilityModel, actions: Sequence[StoredAction]
) -> Walk:
    """One snapshot further, over the corporate actions since the one before."""
    state, before = walk.state, walk.before
    for action in actions:
        if before is not None and before < action.effective_time <= item.as_of_time:
            changed = (action.instrument_id, action.price_factor, action.payment)
            state = repriced(state, *changed)
    seen = Snapshot.of(item.payload)
    return Walk(step(state, convert.prices(seen, known), known), item.as_of_time)


def stored_anew(before: StoredState, found: Anew, model_version: int) -> StoredState:
    """A state that takes the place of `before`."""
    newest = found.newest
    return replace(
        _moved(before, found.state),
        model_version=model_version,
        start_time=found.first,
        as_of_time=None if newest is None else newest.as_of_time,
        snapshot_id="" if newest is None else newest.snapshot_id,
    )


def nothing_yet(model_id: str) -> StoredState:
    """Before the first version of a state."""
    return StoredState(model_id, 0, 0, None, None, "", -1, 0, 0, (), b"")


def _after(before: StoredState, state: VolatilityState, snapshot: MarketSnapshot) -> StoredState:
    """With one more snapshot; a late one doesn't become the newest."""
    moved = _moved(before, state)
    if moved.start_time is None:
        moved = replace(moved, start_time=snapshot.as_of_time)
    if before.as_of_time is not None and snapshot.as_of_time < before.as_of_time:
        return moved
    return replace(moved, as_of_time=snapshot.as_of_time, snapshot_id=snapshot.snapshot_id)


def _moved(before: StoredState, state: VolatilityState) -> StoredState:
    return replace(
        before,
        version=before.version + 1,
        bucket=state.bucket,
        periods=state.periods,
        late=state.late,
        instrument_id=state.instrument_ids,
        payload=convert.payload(state),
    )

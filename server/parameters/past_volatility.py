"""Volatilities of instruments as they were known at past times, from the stored snapshots."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
import numpy as np

from compute.market import Floats
from server.calls.errors import invalid
from server.convert import volatility as convert
from server.convert.columns import floats
from server.convert.market import Snapshot
from server.market.volatility import PERIODS_DEFAULT, Walk, walked
from storage.postgres import corporate_actions
from storage.postgres import market as market_storage
from storage.postgres import volatility as storage

SNAPSHOTS_MAX = 20_000
_PAGE = 32


@dataclass(frozen=True)
class Readings:
    """Annual volatilities, (times, instruments); 0: not known."""

    volatility: Floats


async def volatilities(
    connection: asyncpg.Connection,
    tenant_id: str,
    model_id: str | None,
    universe_id: str,
    instrument_ids: Sequence[str],
    times: Sequence[datetime],
    *,
    as_told: bool,
) -> Readings:
    """What a model, or the newest snapshot of a universe (None), said at each of `times`, rising.

    A model's state begins `PERIODS_DEFAULT` periods before the first. as_told: a snapshot counts
    from when it was stored. Errors: `NotFound` (the model).
    """
    if model_id is None:
        of = (tenant_id, universe_id, instrument_ids, times)
        return await _of_snapshots(connection, *of, as_told=as_told)
    entry = await storage.entry(connection, tenant_id, model_id)
    message = convert.parse(entry.document)
    known = convert.model(message)
    start = times[0] - timedelta(seconds=PERIODS_DEFAULT * known.sampling_period_s)
    ids = await market_storage.sampled_ids(
        connection,
        tenant_id,
        message.universe_id,
        start,
        known.sampling_period_s,
        with_bars=known.range is not None,
        end=times[-1],
    )
    if len(ids) > SNAPSHOTS_MAX:
        text = f"{len(ids)} snapshots move {model_id!r} until then; at most {SNAPSHOTS_MAX}"
        raise invalid("end_time", "TOO_MANY", f"{text} are accepted")
    actions = await corporate_actions.after(connection, tenant_id, start)
    counts, said = list[datetime](), [np.zeros(len(instrument_ids))]
    walk = Walk()
    for begin in range(0, len(ids), _PAGE):
        page = await market_storage.snapshots_of(connection, tenant_id, ids[begin : begin + _PAGE])
        for item in page:
            walk = walked(walk, item, known, actions)
            place = {name: i for i, name in enumerate(walk.state.instrument_ids)}
            in_use = np.append(walk.state.in_use, 0.0)
            said.append(in_use[[place.get(name, -1) for name in instrument_ids]])
            # What stands on a snapshot told late is known no sooner than that.
            time = max(item.as_of_time, item.create_time) if as_told else item.as_of_time
            counts.append(max(time, counts[-1]) if counts else time)
    return Readings(np.stack([said[bisect_right(counts, time)] for time in times]))


async def _of_snapshots(
    connection: asyncpg.Connection,
    tenant_id: str,
    universe_id: str,
    instrument_ids: Sequence[str],
    times: Sequence[datetime],
    *,
    as_told: bool,
) -> Readings:
    ids = await market_storage.latest_ids(
        connection, tenant_id, universe_id, times, as_told=as_told
    )
    distinct = sorted({name for name in ids if name is not None})
    said: dict[str | None, Floats] = {None: np.zeros(len(instrument_ids))}
    for begin in range(0, len(distinct), _PAGE):
        page = distinct[begin : begin + _PAGE]
        for item in await market_storage.snapshots_of(connection, tenant_id, page):
            said[item.snapshot_id] = _given(Snapshot.of(item.payload), instrument_ids)
    return Readings(np.stack([said[name] for name in ids]))


def _given(snapshot: Snapshot, instrument_ids: Sequence[str]) -> Floats:
    """Volatilities of a snapshot, (k,); 0: not given."""
    message = snapshot.message
    if not len(message.volatility):
        return np.zeros(len(instrument_ids))
    place = {name: i for i, name in enumerate(message.instrument_ids)}
    column = np.append(np.nan_to_num(floats(message.volatility)), 0.0)
    return column[[place.get(name, -1) for name in instrument_ids]]

"""Conditions that models with regimes observe: what they predict of the next period."""

from contextlib import suppress
from datetime import datetime

import asyncpg

from compute.adapt.volatility import bucket_of, is_listed, regime_probabilities
from compute.adapt.volatility_model import VolatilityModel, VolatilityState
from server.convert import volatility as convert
from server.convert.market import Snapshot
from storage.errors import FailedPrecondition
from storage.postgres import changes, conditions
from storage.postgres import volatility as storage


async def announce(
    connection: asyncpg.Connection, tenant_id: str, snapshot: Snapshot
) -> frozenset[str]:
    """The conditions that a snapshot will observe, whose change is noted in this transaction.

    It waits for the tenant's lock, so it comes before `storage.share`: who changes a model takes
    the two in this order.
    """
    listed, found = set(snapshot.message.instrument_ids), set()
    for document, newest in await storage.heads(connection, tenant_id):
        message = convert.parse(document)
        told, known = convert.told(message), convert.model(message)
        bucket = bucket_of(snapshot.as_of_time.timestamp(), known)
        is_of = message.universe_id == snapshot.universe_id
        if told is None or not is_of or told.instrument_id not in listed or bucket < newest:
            continue
        if bucket == newest:  # another feed began the period
            entry = await storage.entry(connection, tenant_id, message.model_id)
            if is_listed(convert.state(entry.state), told.instrument_id):
                continue
        found.add(told.condition_id)
    for condition_id in sorted(found):
        subject = conditions.subject_of((condition_id, "", ""))
        await changes.change(connection, tenant_id, subject)
    return frozenset(found)


async def tell(
    connection: asyncpg.Connection,
    tenant_id: str,
    known: VolatilityModel,
    told: convert.Told,
    state: VolatilityState,
    time: datetime,
) -> None:
    """Adds the observation of a model's condition, where there is a probability to tell.

    One that came from elsewhere and is not older stays: a snapshot isn't refused for it.
    """
    if known.regimes is None or told.instrument_id not in state.instrument_ids:
        return
    place = state.instrument_ids.index(told.instrument_id)
    value = float(regime_probabilities(state, known.regimes)[-1, place])
    if value > 0.0:
        seen = conditions.StoredCondition(told.condition_id, time, value, "")
        with suppress(FailedPrecondition):
            await conditions.put(connection, tenant_id, seen)

"""Stored features of the bets that schedules make of closes, each as it was known before its bet.

By the rule of `compute.learn.asof`, as for bets and lines that a caller sends. What a schedule asks
for is read once for a training or a scoring, and goes to the worker with the closes.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import asyncpg
import numpy as np
import orjson
from positionsizing.v1 import learning_service_pb2 as pb

from compute.learn.asof import NOWHERE, KnownTimes, as_of_join
from compute.learn.features import FEATURES
from compute.learn.rows import Rows
from server.calls.errors import FieldViolation, invalid_fields, precondition
from server.convert.training_request import age_limit_of
from server.convert.training_rows import CELLS_MAX, NANOSECONDS
from server.learning.stored_features import youngest
from storage.postgres import features


async def wanted(
    connection: asyncpg.Connection, tenant_id: str, training: pb.TrainModelRequest, path: str
) -> tuple[str, ...]:
    """Names of the stored features that a schedule trains on; none without a set. Raises `Refusal`;
    errors: `NotFound`."""
    if not training.feature_set_id:
        return ()
    stored = await features.get_set(connection, tenant_id, training.feature_set_id)
    asked, wrong = list(training.stored_features), list[FieldViolation]()
    for entry, name in enumerate(asked):
        where = f"{path}.stored_features[{entry}]"
        if name in FEATURES or name in asked[:entry]:
            wrong.append(FieldViolation(where, "DUPLICATE", f"{name[:40]!r} is given twice"))
        elif name not in stored.features:
            text = f"is {name[:40]!r}, which set {training.feature_set_id!r} doesn't have"
            wrong.append(FieldViolation(where, "UNKNOWN_FEATURE", text))
    if wrong:
        raise invalid_fields(wrong)
    return tuple(asked or (name for name in stored.features if name not in FEATURES))


async def read(
    connection: asyncpg.Connection,
    tenant_id: str,
    training: pb.TrainModelRequest,
    instrument_ids: Sequence[str],
    moment: datetime,
) -> bytes:
    """What was known of the instruments before a moment, as `with_stored` reads it; empty without a
    set. Raises `Refusal`; errors: `NotFound`."""
    names = await wanted(connection, tenant_id, training, "training")
    if not names:
        return b""
    key = (connection, tenant_id, training.feature_set_id)
    stored = await features.get_set(*key)
    most = CELLS_MAX // len(stored.features) + 1
    table = await features.all_before(*key, instrument_ids, moment, limit=most)
    if len(table.as_of) >= most:
        text = f"set {training.feature_set_id!r} has more than {CELLS_MAX} values of the universe"
        raise precondition("TOO_MANY_FEATURES", text)
    places = [stored.features.index(name) for name in names]
    document = {
        "names": names,
        "age_max_s": youngest(stored.age_max_s, age_limit_of(training)),
        "instrument_ids": table.instrument_ids,
        "as_of": table.as_of,
        "known": table.known,
        "values": np.ascontiguousarray(table.values.reshape(-1, len(stored.features))[:, places]),
    }
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def names_of(stored: bytes) -> tuple[str, ...]:
    """The features that `read` has read."""
    return tuple(orjson.loads(stored)["names"]) if stored else ()


def with_stored(rows: Rows, instrument_ids: Sequence[str], stored: bytes) -> Rows:
    """The bets of which something young enough was known before they were taken, with it.

    instrument_ids: of the groups of rows, by number. Others are left out: a bet from before the
    first value is no fault of anybody.
    """
    if not stored:
        return rows
    found = orjson.loads(stored)
    group = {name: place for place, name in enumerate(instrument_ids)}
    owner = np.array([group[name] for name in found["instrument_ids"]], dtype=np.int64)
    as_of, known = (np.array(found[name], dtype=np.int64) for name in ("as_of", "known"))
    age_s = found["age_max_s"]
    age = None if age_s is None else round(age_s * NANOSECONDS)
    at, _ = as_of_join(KnownTimes(owner, as_of, known), rows.group, rows.start, age)
    kept = np.flatnonzero(at != NOWHERE)
    own, names = rows.take(kept), tuple(found["names"])
    values = np.array(found["values"], dtype=np.float64).reshape(-1, len(names))[at[kept]]
    joined = np.concatenate([own.features, values], axis=1)
    return replace(own, names=(*own.names, *names), features=joined)

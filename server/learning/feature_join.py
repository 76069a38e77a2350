"""Stored features joined to past bets: each as it was known before the bet was taken.

By the rule of `compute.learn.asof`, as for lines of a request (`stored_features.py`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg
import numpy as np
from positionsizing.v1 import learning_service_pb2 as pb

from compute.learn.asof import NOWHERE, KnownTimes, as_of_join
from compute.market import Integers
from server.calls.errors import FieldViolation, invalid, invalid_fields
from server.convert.training_rows import CELLS_MAX, NANOSECONDS, nanoseconds
from server.learning.models import ReadModel
from server.learning.stored_features import youngest
from storage.postgres import features

TOLD_MAX = 10
"""Bets without a value that are told."""


async def join(
    connection: asyncpg.Connection,
    tenant_id: str,
    rows: pb.TrainingRows,
    feature_set_id: str,
    names: Sequence[str],
    age_max_s: float | None,
) -> None:
    """Adds features of a set to past bets, as each was known before its start.

    names: those wanted; empty for all of the set that the rows lack. Raises `Refusal` where the set
    lacks one, or a bet has no value young enough; errors: `NotFound`.
    """
    stored = await features.get_set(connection, tenant_id, feature_set_id)
    given = {column.name for column in rows.features}
    wanted = list(names) or [name for name in stored.features if name not in given]
    for entry, name in enumerate(wanted):
        if name not in stored.features:
            text = f"is {name[:40]!r}, which set {feature_set_id!r} doesn't have"
            raise invalid(f"stored_features[{entry}]", "UNKNOWN_FEATURE", text)
    start = nanoseconds(rows.start_times)
    last = datetime.fromtimestamp(int(start.max()) // NANOSECONDS + 1, UTC)
    instruments, group = np.unique(np.array(rows.instrument_ids[:]), return_inverse=True)
    table = await features.all_before(
        connection,
        tenant_id,
        feature_set_id,
        instruments.tolist(),
        last,
        limit=CELLS_MAX // len(stored.features) + 1,
    )
    if len(table.as_of) * len(stored.features) > CELLS_MAX:
        text = f"has more than {CELLS_MAX} values for these instruments until then"
        raise invalid("feature_set_id", "TOO_MANY", text)
    owner = np.searchsorted(instruments, np.array(table.instrument_ids, dtype=instruments.dtype))
    limit_s = youngest(stored.age_max_s, age_max_s)
    age_max = None if limit_s is None else round(limit_s * NANOSECONDS)
    place, seen = as_of_join(KnownTimes(owner, table.as_of, table.known), group, start, age_max)
    _refuse_missing(rows, wanted, place, seen)
    for name in wanted:
        column = table.values[place, stored.features.index(name)]
        rows.features.add(name=name, values=column)


async def join_lacking(
    connection: asyncpg.Connection, tenant_id: str, rows: pb.TrainingRows, known: ReadModel
) -> None:
    """Adds what a model reads and past bets lack, where the model has a set that has it."""
    given = {column.name for column in rows.features}
    lacking = [name for name in known.model.features if name not in given]
    details = known.details
    if not lacking or not details.feature_set_id:
        return
    if not len(rows.instrument_ids):
        text = "must be given: features are stored by instrument"
        raise invalid("rows.instrument_ids", "MISSING", text)
    key = (connection, tenant_id, rows, details.feature_set_id)
    await join(*key, lacking, details.feature_age_max_s)


def _refuse_missing(
    rows: pb.TrainingRows, wanted: Sequence[str], place: Integers, seen: Integers
) -> None:
    missing = np.flatnonzero(place == NOWHERE)
    wrong = []
    for row in missing[:TOLD_MAX]:
        is_stale, name = seen[row] != NOWHERE, rows.instrument_ids[row]
        which = ", ".join(wanted)
        text = f"no {which} of {name!r} was known before"
        if is_stale:
            text = f"the {which} of {name!r} that was known before was too old"
        text += f"; {len(missing)} of {len(place)} bets lack a value"
        reason = "STALE_FEATURES" if is_stale else "MISSING_FEATURE"
        wrong.append(FieldViolation(f"rows.start_times[{row}]", reason, text))
    if wrong:
        raise invalid_fields(wrong)

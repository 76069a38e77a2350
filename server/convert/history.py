"""Parts of histories: checked on arrival, turned into tables when they are used."""

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
from positionsizing.v1 import history_service_pb2 as pb

from compute.history import Table
from server.calls.errors import FieldViolation
from server.convert.columns import Floats, Integers, floats, integers, set_floats
from server.convert.market import instrument_violations
from server.convert.names import CLOCKS_DIFFER, id_violations, timestamp
from server.convert.ranges import number_violations

INSTRUMENTS_MAX = 2000
OBSERVATIONS_MAX = 100_000
NUMBERS_MAX = 5_000_000
"""In one part; a universe may have any number of parts."""
_PRICE_RANGE = (1e-12, 1e12)
_RETURN_RANGE = (-1.0, 1e9)


def violations(history: pb.History, path: str) -> Iterator[FieldViolation]:
    """What is wrong with a part, by field path below `path`."""
    yield from id_violations(history.universe_id, f"{path}.universe_id")
    if history.kind not in pb.HistoryKind.values() or not history.kind:
        yield FieldViolation(f"{path}.kind", "MISSING", "must be given")
        return
    n, count = len(history.instrument_ids), len(history.observation_times)
    wrong = list(instrument_violations(history.instrument_ids, f"{path}.instrument_ids"))
    wrong += _too_many(n, INSTRUMENTS_MAX, f"{path}.instrument_ids", "instruments")
    wrong += _too_many(count, OBSERVATIONS_MAX, f"{path}.observation_times", "observations")
    wrong += _too_many(n * count, NUMBERS_MAX, f"{path}.values", "numbers")
    wrong = wrong or list(number_violations(history, path))
    wrong = wrong or list(_time_violations(history, path))
    yield from wrong
    if not wrong:
        yield from _value_violations(history, path)


def _too_many(count: int, most: int, path: str, what: str) -> Iterator[FieldViolation]:
    if count > most:
        text = f"has {count} {what}; at most {most} are accepted in one part"
        yield FieldViolation(path, "TOO_MANY", text)


def _time_violations(history: pb.History, path: str) -> Iterator[FieldViolation]:
    if not history.observation_times:
        yield FieldViolation(f"{path}.observation_times", "EMPTY", "needs at least one observation")
        return
    last = history.observation_times[-1].ToDatetime(tzinfo=UTC)
    known = history.known_time.ToDatetime(tzinfo=UTC) if history.HasField("known_time") else None
    nanoseconds = _nanoseconds(history)
    if len(nanoseconds) > 1 and (falling := np.flatnonzero(np.diff(nanoseconds) <= 0)).size:
        text = "is not after the observation before it"
        where = f"{path}.observation_times[{int(falling[0]) + 1}]"
        yield FieldViolation(where, "NOT_RISING", text)
        return
    latest = datetime.now(UTC) + CLOCKS_DIFFER
    for moment, name in (
        (last, f"observation_times[{len(nanoseconds) - 1}]"),
        (known, "known_time"),
    ):
        if moment is not None and moment > latest:
            text = f"is {moment:%Y-%m-%dT%H:%M:%SZ}; it must not be in the future"
            yield FieldViolation(f"{path}.{name}", "OUT_OF_RANGE", text)
    if known is not None and known < last:
        text = "nothing is known before it is observed: must not be before the last observation"
        yield FieldViolation(f"{path}.known_time", "OUT_OF_RANGE", text)


def _value_violations(history: pb.History, path: str) -> Iterator[FieldViolation]:
    n, count = len(history.instrument_ids), len(history.observation_times)
    values, missing = floats(history.values), integers(history.missing)
    if len(values) != n * count:
        text = (
            f"has {len(values)} entries; {count} observations of {n} instruments need {n * count}"
        )
        yield FieldViolation(f"{path}.values", "LENGTH_MISMATCH", text)
        return
    if missing.size and not (
        missing[0] >= 0 and missing[-1] < len(values) and (np.diff(missing) > 0).all()
    ):
        text = f"must be rising places from 0 to {len(values) - 1}"
        yield FieldViolation(f"{path}.missing", "OUT_OF_RANGE", text)
        return
    given = np.ones(len(values), dtype=bool)
    given[missing] = False
    if not given.any():
        yield FieldViolation(f"{path}.missing", "EMPTY", "every number is missing")
    prices = history.kind == pb.HISTORY_KIND_PRICES
    low, high = _PRICE_RANGE if prices else _RETURN_RANGE
    text = "a price is from 1e-12 to 1e12" if prices else "a return is from -1 to 1e9"
    right = np.isfinite(values) & (values >= low) & (values <= high)
    for place in np.flatnonzero(~right & given)[:10]:
        yield FieldViolation(
            f"{path}.values[{place}]",
            "OUT_OF_RANGE" if np.isfinite(values[place]) else "NOT_FINITE",
            f"is {values[place]:g}; {text}; name the place in `missing` where there is none",
        )
    for place in np.flatnonzero((values != 0.0) & ~given)[:10]:
        text = f"is {values[place]:g}, and named in `missing`; it must be 0 then"
        yield FieldViolation(f"{path}.values[{place}]", "AMBIGUOUS", text)


def _nanoseconds(history: pb.History) -> Integers:
    """Nanoseconds since 1970 of the observations, (T,)."""
    pairs = [(item.seconds, item.nanos) for item in history.observation_times]
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    seconds: Integers = columns[:, 0] * 1_000_000_000 + columns[:, 1]
    return seconds


def stored_table(payload: bytes) -> Table:
    """A part from its stored form."""
    return table(pb.History.FromString(payload))


def table(history: pb.History) -> Table:
    """A part as a table, NaN where missing."""
    values = floats(history.values)
    values[integers(history.missing)] = np.nan
    n = len(history.instrument_ids)
    return Table(tuple(history.instrument_ids), _nanoseconds(history), values.reshape(-1, n))


def moment_of(nanoseconds: int) -> datetime:
    """A time of a table as a datetime in UTC, to the microsecond."""
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).replace(
        microsecond=nanoseconds % 1_000_000_000 // 1000
    )


def message_of(universe_id: str, kind: str, known: datetime, stored: Table) -> pb.History:
    """A table as a message."""
    message = pb.History(
        universe_id=universe_id,
        kind=pb.HistoryKind.Value(f"HISTORY_KIND_{kind}"),
        instrument_ids=stored.instrument_ids,
        known_time=timestamp(known),
    )
    for nanoseconds in stored.times.tolist():
        message.observation_times.add().FromNanoseconds(nanoseconds)
    flat: Floats = stored.values.ravel()
    missing = np.flatnonzero(np.isnan(flat))
    message.missing.extend(missing.tolist())
    set_floats(message, "values", np.nan_to_num(flat, nan=0.0))
    return message

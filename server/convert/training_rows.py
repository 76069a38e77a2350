"""Past bets between the contract, the domain and what is stored of those that were scored."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from positionsizing.v1 import learning_service_pb2 as pb

from compute.learn.rows import Rows
from compute.market import Floats, Integers
from server.calls.errors import FieldViolation
from server.convert.columns import floats
from server.convert.market import instrument_violations
from server.convert.names import CLOCKS_DIFFER, timestamp
from server.convert.request import feature_name_violations

FEATURES_MAX = 200
CELLS_MAX = 4_000_000
"""Rows times features."""
NANOSECONDS, SECONDS_MAX = 1_000_000_000, 9_000_000_000


def rows_violations(
    rows: pb.TrainingRows, path: str, features_min: int = 1
) -> Iterator[FieldViolation]:
    """What is wrong with past bets but their numbers."""
    n, k = len(rows.start_times), len(rows.features)
    if not n:
        yield FieldViolation(f"{path}.start_times", "MISSING", "there are no rows")
        return
    if not features_min <= k <= FEATURES_MAX or n * k > CELLS_MAX:
        text = (
            f"has {k} features of {n} rows; from {features_min} to {FEATURES_MAX} are accepted, "
            f"and {CELLS_MAX} values"
        )
        yield FieldViolation(f"{path}.features", "OUT_OF_RANGE", text)
        return
    columns = [("end_times", rows.end_times, True), ("won", rows.won, True)]
    columns += [
        (name, getattr(rows, name), False)
        for name in ("payoff", "loss_fraction", "instrument_ids", "win_probability")
    ]
    columns += [
        (f"features[{place}].values", column.values, True)
        for place, column in enumerate(rows.features)
    ]
    wrong = [
        FieldViolation(f"{path}.{name}", "LENGTH_MISMATCH", f"has {len(column)} entries of {n}")
        for name, column, needed in columns
        if len(column) != n and (needed or len(column))
    ]
    yield from wrong
    yield from feature_name_violations([item.name for item in rows.features], f"{path}.features")
    names = sorted(set(rows.instrument_ids))
    if names:
        yield from instrument_violations(names, f"{path}.instrument_ids")
    if not wrong:
        yield from _time_violations(rows, path)


def _time_violations(rows: pb.TrainingRows, path: str) -> Iterator[FieldViolation]:
    start, end = nanoseconds(rows.start_times), nanoseconds(rows.end_times)
    latest = int((datetime.now(UTC) + CLOCKS_DIFFER).timestamp()) * NANOSECONDS
    for wrong, text in (
        (end <= start, "must be later than the start of the bet"),
        (end > latest, "must not be in the future: the outcome isn't known yet"),
    ):
        if wrong.any():
            where = f"{path}.end_times[{int(np.argmax(wrong))}]"
            yield FieldViolation(where, "OUT_OF_RANGE", text)


def nanoseconds(times: Any) -> Integers:
    """Timestamps as nanoseconds since 1970; those that 64 bits can't hold at their end."""
    seconds_of = (min(max(t.seconds, -SECONDS_MAX), SECONDS_MAX) for t in times)
    whole = np.fromiter(seconds_of, dtype=np.int64, count=len(times)) * NANOSECONDS
    return whole + np.fromiter((t.nanos for t in times), dtype=np.int64, count=len(times))


def time_of(value: int) -> Any:
    """Nanoseconds since 1970 as a timestamp."""
    return timestamp(datetime.fromtimestamp(value / NANOSECONDS, UTC))


def rows_of(message: pb.TrainingRows) -> Rows:
    """Past bets as the domain has them; the message has been checked."""
    n = len(message.start_times)
    one = np.ones(n)
    groups = np.zeros(n, dtype=np.int64)
    if len(message.instrument_ids):
        groups = np.unique(np.array(message.instrument_ids[:]), return_inverse=True)[1]
    return Rows(
        names=tuple(column.name for column in message.features),
        features=np.stack([floats(column.values) for column in message.features], axis=1),
        start=nanoseconds(message.start_times),
        end=nanoseconds(message.end_times),
        won=np.array(message.won, dtype=np.float64),
        payoff=floats(message.payoff) if len(message.payoff) else one,
        loss=floats(message.loss_fraction) if len(message.loss_fraction) else one,
        group=groups,
        claimed=floats(message.win_probability) if len(message.win_probability) else None,
    )


_SCORED = ("start", "end", "won", "payoff", "loss", "probability", "error")


def scored_bytes(rows: Rows, probability: Floats, error: Floats) -> bytes:
    """Bets with what a model said of them, as they are stored."""
    columns = {name: getattr(rows, name) for name in _SCORED[:-2]}
    said = {"probability": probability, "error": error}
    return orjson.dumps({**columns, **said}, option=orjson.OPT_SERIALIZE_NUMPY)


def scored_rows(stored: Sequence[bytes]) -> tuple[Rows, Floats, Floats]:
    """All stored bets, by time, with the probabilities and standard errors that were said of them.

    Earlier releases stored no errors: these bets have 0.
    """
    parts = [orjson.loads(item) for item in stored]
    for part in parts:
        part.setdefault("error", [0.0] * len(part["start"]))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in _SCORED}
    n = len(columns["start"])
    rows = Rows(
        names=("probability", "error"),
        features=np.stack([columns["probability"], columns["error"]], axis=1),
        start=columns["start"].astype(np.int64),
        end=columns["end"].astype(np.int64),
        won=columns["won"],
        payoff=columns["payoff"],
        loss=columns["loss"],
        group=np.zeros(n, dtype=np.int64),
    ).by_time()
    return rows, rows.features[:, 0], rows.features[:, 1]

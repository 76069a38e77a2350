"""Stored features between the contract and storage."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from positionsizing.v1 import feature_service_pb2 as pb

from server.calls.errors import FieldViolation
from server.convert.columns import floats
from server.convert.market import instrument_violations
from server.convert.model_records import schema_hash
from server.convert.names import CLOCKS_DIFFER, id_violations, text_violations, timestamp
from server.convert.parameters import duration_violations, seconds
from server.convert.ranges import number_violations
from server.convert.request import feature_name_violations
from server.convert.training_request import AGE_MAX_S
from server.convert.training_rows import FEATURES_MAX, nanoseconds
from storage.postgres.features import FeatureRow, FeatureSet

ROWS_MAX = 10_000


def set_violations(given: pb.FeatureSet, path: str) -> Iterator[FieldViolation]:
    """What is wrong with a set that is declared."""
    yield from id_violations(given.feature_set_id, f"{path}.feature_set_id")
    yield from text_violations(given.feature_version, f"{path}.feature_version")
    if not 1 <= len(given.features) <= FEATURES_MAX:
        text = f"has {len(given.features)} names; from 1 to {FEATURES_MAX} are accepted"
        yield FieldViolation(f"{path}.features", "OUT_OF_RANGE", text)
    for found in feature_name_violations(given.features, f"{path}.features"):
        yield FieldViolation(found.field.removesuffix(".name"), found.reason, found.description)
    if given.HasField("age_max"):
        yield from duration_violations(given.age_max, f"{path}.age_max", AGE_MAX_S)


def set_message(stored: FeatureSet) -> pb.FeatureSet:
    """A set as it is told."""
    message = pb.FeatureSet(
        feature_set_id=stored.feature_set_id,
        features=stored.features,
        feature_version=stored.feature_version,
        schema_hash=stored.schema_hash,
        author=stored.author,
        create_time=timestamp(stored.create_time),
    )
    if stored.age_max_s is not None:
        message.age_max.FromTimedelta(timedelta(seconds=stored.age_max_s))
    return message


def hash_of(given: pb.FeatureSet) -> str:
    """SHA-256 over names and version, as of a model that reads all of them."""
    return schema_hash(given.features, given.feature_version)


def age_of(given: pb.FeatureSet) -> float | None:
    """The age limit in seconds, None for none."""
    return seconds(given.age_max) if given.HasField("age_max") else None


def row_violations(request: pb.PutFeaturesRequest) -> Iterator[FieldViolation]:
    """What is wrong with rows but what only their set can say."""
    yield from number_violations(request)
    n = len(request.instrument_ids)
    if not 1 <= n <= ROWS_MAX:
        text = f"has {n} rows; from 1 to {ROWS_MAX} are accepted"
        yield FieldViolation("instrument_ids", "OUT_OF_RANGE", text)
        return
    yield from instrument_violations(sorted(set(request.instrument_ids)), "instrument_ids")
    columns: list[tuple[str, Any, bool]] = [
        ("as_of_times", request.as_of_times, True),
        ("known_times", request.known_times, False),
    ]
    columns += [
        (f"features[{place}].values", item.values, True)
        for place, item in enumerate(request.features)
    ]
    wrong = [
        FieldViolation(name, "LENGTH_MISMATCH", f"has {len(column)} entries of {n}")
        for name, column, needed in columns
        if len(column) != n and (needed or len(column))
    ]
    yield from wrong
    yield from feature_name_violations([item.name for item in request.features], "features")
    if not wrong:
        yield from _time_violations(request)


def _time_violations(request: pb.PutFeaturesRequest) -> Iterator[FieldViolation]:
    latest = nanoseconds([timestamp(datetime.now(UTC) + CLOCKS_DIFFER)])[0]
    as_of = nanoseconds(request.as_of_times)
    known = nanoseconds(request.known_times) if len(request.known_times) else as_of
    for place in range(len(as_of)):
        for name, time in (("as_of_times", as_of[place]), ("known_times", known[place])):
            if time > latest:
                yield FieldViolation(
                    f"{name}[{place}]", "OUT_OF_RANGE", "must not be in the future"
                )
                return
        if known[place] < as_of[place]:
            text = "is before as_of_time: nothing is known before it is so"
            yield FieldViolation(f"known_times[{place}]", "OUT_OF_RANGE", text)
            return


def schema_violations(
    request: pb.PutFeaturesRequest, stored: FeatureSet
) -> Iterator[FieldViolation]:
    """Where rows are not of the set."""
    if request.schema_hash and request.schema_hash != stored.schema_hash:
        text = f"is not that of set {stored.feature_set_id!r}, {stored.schema_hash}"
        yield FieldViolation("schema_hash", "WRONG_SCHEMA", text)
    names = [item.name for item in request.features]
    for place, name in enumerate(names):
        if name not in stored.features:
            text = f"is {name[:40]!r}, which set {stored.feature_set_id!r} doesn't have"
            yield FieldViolation(f"features[{place}].name", "UNKNOWN_FEATURE", text)
    for name in stored.features:
        if name not in names:
            yield FieldViolation("features", "MISSING_FEATURE", f"lacks {name!r} of the set")


def rows_of(request: pb.PutFeaturesRequest, stored: FeatureSet, now: datetime) -> list[FeatureRow]:
    """The rows in the order of the set; the request has been checked."""
    columns = {item.name: floats(item.values).tolist() for item in request.features}
    as_of = [time.ToDatetime(tzinfo=UTC) for time in request.as_of_times]
    known = [time.ToDatetime(tzinfo=UTC) for time in request.known_times]
    if not known:
        known = [max(now, time) for time in as_of]  # clocks differ
    values = zip(*(columns[name] for name in stored.features), strict=True)
    return [
        FeatureRow(*row) for row in zip(request.instrument_ids, as_of, known, values, strict=True)
    ]

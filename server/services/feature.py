"""FeatureService: features of instruments, with when they were true and when they became known."""

from datetime import UTC, datetime

from positionsizing.v1 import feature_service_pb2 as pb

from server.calls.errors import invalid_fields, precondition
from server.calls.request_context import Call, first_delivery
from server.convert import feature as convert
from server.convert.market import instrument_violations
from server.convert.names import checked_id, past_moment, timestamp
from server.convert.ranges import number_violations
from storage.postgres import features
from storage.postgres.features import FeatureRow, FeatureSet
from storage.postgres.pool import Database

LISTED_MAX = 1000


class FeatureService:
    """See `protos/positionsizing/v1/feature_service.proto`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put_feature_set(
        self, call: Call, request: pb.PutFeatureSetRequest
    ) -> pb.PutFeatureSetResponse:
        """Declares a set."""
        given = request.feature_set
        if found := [*number_violations(request), *convert.set_violations(given, "feature_set")]:
            raise invalid_fields(found)
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            stored = await features.put_set(
                connection,
                call.tenant_id,
                given.feature_set_id,
                features=given.features,
                feature_version=given.feature_version,
                age_max_s=convert.age_of(given),
                schema_hash=convert.hash_of(given),
                author=call.author,
            )
        return pb.PutFeatureSetResponse(feature_set=convert.set_message(stored))

    async def list_feature_sets(
        self, call: Call, request: pb.ListFeatureSetsRequest
    ) -> pb.ListFeatureSetsResponse:
        """Sets by id."""
        del request
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            found = await features.sets(connection, call.tenant_id, LISTED_MAX)
        return pb.ListFeatureSetsResponse(feature_sets=map(convert.set_message, found))

    async def put_features(
        self, call: Call, request: pb.PutFeaturesRequest
    ) -> pb.PutFeaturesResponse:
        """Adds rows, all or none."""
        set_id = checked_id(request.feature_set_id, "feature_set_id")
        if found := list(convert.row_violations(request)):
            raise invalid_fields(found)
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            await first_delivery(connection, call)
            stored = await features.get_set(connection, call.tenant_id, set_id)
            if found := list(convert.schema_violations(request, stored)):
                raise invalid_fields(found)
            rows = convert.rows_of(request, stored, datetime.now(UTC))
            added, other = await features.add(connection, call.tenant_id, set_id, rows)
            if other is not None:
                row = rows[other]
                text = (
                    f"row {other} has other values than are stored of {row.instrument_id!r} as of "
                    f"{row.as_of_time.isoformat()}, known {row.known_time.isoformat()}: give a "
                    "correction the time at which it became known"
                )
                raise precondition("FEATURES_DIFFER", text, row=str(other))
        return pb.PutFeaturesResponse(added_rows=added)

    async def get_features(
        self, call: Call, request: pb.GetFeaturesRequest
    ) -> pb.GetFeaturesResponse:
        """What was known before a moment."""
        set_id = checked_id(request.feature_set_id, "feature_set_id")
        names = list(request.instrument_ids)
        if found := [*number_violations(request), *instrument_violations(names, "instrument_ids")]:
            raise invalid_fields(found)
        moment = datetime.now(UTC)
        if request.HasField("moment"):
            moment = past_moment(request.moment, "moment")
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            stored = await features.get_set(connection, call.tenant_id, set_id)
            key = (call.tenant_id, set_id)
            rows = await features.known_before(connection, *key, names, moment)
        return pb.GetFeaturesResponse(
            feature_set=convert.set_message(stored),
            known=[
                _known(stored, name, row, moment) for name, row in zip(names, rows, strict=True)
            ],
        )


def _known(
    stored: FeatureSet, name: str, row: FeatureRow | None, moment: datetime
) -> pb.KnownFeatures:
    if row is None:
        return pb.KnownFeatures(instrument_id=name)
    age_s = (moment - row.as_of_time).total_seconds()
    return pb.KnownFeatures(
        instrument_id=name,
        as_of_time=timestamp(row.as_of_time),
        known_time=timestamp(row.known_time),
        values=row.values,
        is_stale=stored.age_max_s is not None and age_s > stored.age_max_s,
    )

"""ConditionService: what the market is like, as other services see it."""

from datetime import UTC, datetime

from positionsizing.v1 import condition_service_pb2 as pb

from server.calls.errors import FieldViolation, invalid_fields
from server.calls.request_context import Call, first_delivery
from server.convert.condition import category_violations
from server.convert.names import id_violations, past_moment, text_violations, timestamp
from server.convert.ranges import number_violations
from server.portfolios.state import States
from storage.postgres import changes, conditions, portfolios
from storage.postgres.conditions import StoredCondition, subject_of
from storage.postgres.pool import Database

LISTED_MAX = 1000


class ConditionService:
    """See `protos/positionsizing/v1/condition_service.proto`."""

    def __init__(self, database: Database, states: States) -> None:
        self._database = database
        self._states = states

    async def put_condition(
        self, call: Call, request: pb.PutConditionRequest
    ) -> pb.PutConditionResponse:
        """Stores an observation; decisions computed before it can't be committed any more."""
        given = request.condition
        found = list(number_violations(request))
        found += id_violations(given.condition_id, "condition.condition_id")
        if given.category:
            found += category_violations(given.category, "condition.category")
        if given.HasField("value") == bool(given.category):
            text = "give either value or category"
            reason = "AMBIGUOUS" if given.category else "MISSING"
            found.append(FieldViolation("condition.value", reason, text))
        scopes = [
            (name, getattr(given, f"{name.lower()}_id"))
            for name in ("PORTFOLIO", "STRATEGY", "INSTRUMENT")
            if getattr(given, f"{name.lower()}_id")
        ]
        if len(scopes) > 1:
            text = "is of one portfolio, strategy or instrument, or of the firm"
            path = f"condition.{scopes[1][0].lower()}_id"
            found.append(FieldViolation(path, "AMBIGUOUS", text))
        for name, value in scopes:
            check = text_violations if name == "INSTRUMENT" else id_violations
            found += check(value, f"condition.{name.lower()}_id")
        if found:
            raise invalid_fields(found)
        time = datetime.now(UTC)
        if given.HasField("as_of_time"):
            time = past_moment(given.as_of_time, "condition.as_of_time")
        number = given.value if given.HasField("value") else None
        kind, owner = scopes[0] if scopes else ("", "")
        seen = StoredCondition(given.condition_id, time, number, given.category, kind, owner)
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            await first_delivery(connection, call)
            if kind == "PORTFOLIO":
                await portfolios.get(connection, call.tenant_id, owner)
            if await conditions.put(connection, call.tenant_id, seen):
                await changes.change(connection, call.tenant_id, subject_of(seen.key))
        self._states.changed(call.tenant_id)
        return pb.PutConditionResponse(condition=_message(seen))

    async def list_conditions(
        self, call: Call, request: pb.ListConditionsRequest
    ) -> pb.ListConditionsResponse:
        """The newest of each."""
        del request
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            rows = await conditions.newest(connection, call.tenant_id, LISTED_MAX)
        return pb.ListConditionsResponse(conditions=map(_message, rows))


def _message(seen: StoredCondition) -> pb.Condition:
    message = pb.Condition(
        condition_id=seen.condition_id,
        value=seen.value,
        category=seen.category,
        as_of_time=timestamp(seen.as_of_time),
    )
    if seen.scope_kind:
        setattr(message, f"{seen.scope_kind.lower()}_id", seen.scope_id)
    return message

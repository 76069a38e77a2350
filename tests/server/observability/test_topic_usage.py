"""Usage of what comes by topic: each event once, under the topic and the method it stands for."""

from uuid import uuid4

import pytest
from positionsizing.v1 import events_pb2

from server.calls.contract import SERVICES
from server.messaging.ingest import _METHODS, Intake
from server.observability.usage import Usage, flush
from server.portfolios.state import States
from server.services.condition import ConditionService
from storage.events.consumer import Refused
from storage.events.ports import InMessage
from storage.postgres.pool import Database
from tests.server.support.intakes import intake_of
from tests.server.support.service_client import new_id

TENANT = "acme"


def message(condition_id: str, value: float | None) -> InMessage:
    event = events_pb2.ConditionUpdated()
    event.request.condition.condition_id = condition_id
    if value is not None:
        event.request.condition.value = value
    properties = {
        "event_id": str(uuid4()),
        "event_type": "ConditionUpdated",
        "tenant_id": TENANT,
    }
    return InMessage("conditions", condition_id, event.SerializeToString(), properties, "1")


@pytest.fixture
def usage() -> Usage:
    return Usage()


@pytest.fixture
def intake(database: Database, usage: Usage) -> Intake:
    conditions = ConditionService(database, States(database, 5.0))
    return intake_of(database, TENANT, conditions, usage=usage)


async def test_events_are_counted_once_and_refusals_as_such(
    intake: Intake, usage: Usage, database: Database
) -> None:
    handle, name = intake.handlers["conditions"], new_id("condition")
    first = message(name, 1.0)
    await handle(first)
    await handle(first)  # delivered again
    await handle(message(name, 2.0))
    with pytest.raises(Refused):
        await handle(message(name, None))
    await flush(database, usage)
    async with database.connection(TENANT, deadline_s=5.0) as connection:
        row = await connection.fetchrow(
            "SELECT * FROM usage_hour WHERE subject = 'topic:conditions'"
        )
    found = {key: row[key] for key in ("method", "call_count", "refused_count", "line_count")}
    assert found == {
        "method": "PutCondition",
        "call_count": 3,
        "refused_count": 1,
        "line_count": 2,
    }


def test_every_topic_has_a_method_of_the_contract(intake: Intake) -> None:
    known = {method.name for service in SERVICES.values() for method in service.methods}
    assert _METHODS.keys() == intake.handlers.keys()
    assert set(_METHODS.values()) <= known

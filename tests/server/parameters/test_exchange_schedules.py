"""Schedules about the sessions of an exchange, through the RPC."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import parameter_service_pb2 as pb
from positionsizing.v1 import sizing_pb2, sizing_service_pb2

from tests.server.support.service_client import Client, refusal, sizing_request

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
exchange_calendars = pytest.importorskip("exchange_calendars")
EDGE = {"win_probability": [0.6], "payoff": [1.0]}


async def put(client: Client, portfolio_id: str, *rows: dict[str, Any]) -> None:
    schedule = pb.Schedule(rows=[pb.ScheduleRow(**{"name": "row", **row}) for row in rows])
    await client.parameter.SetParameters(
        pb.SetParametersRequest(
            portfolio_id=portfolio_id, parameters=pb.SizingParameters(schedule=schedule)
        )
    )


def is_open(exchange: str) -> bool:
    now = np.datetime64(datetime.now(UTC).replace(tzinfo=None))
    calendar = exchange_calendars.get_calendar(exchange)
    opens, closes = (
        column.dt.tz_localize(None).to_numpy() for column in (calendar.opens, calendar.closes)
    )
    return bool(((opens <= now) & (now < closes)).any())


@pytest.mark.parametrize("exchange", ["XNYS", "XTKS", "XLON", "24/7"])
async def test_one_row_is_in_force_while_it_is_open_and_one_while_it_is_not(
    client: Client, exchange: str
) -> None:
    portfolio_id = await client.ready(weight_max=1.0)
    session = {"name": "session", "exchange": exchange, "multiplier": 0.5}
    closed = {
        "name": "closed",
        "exchange": exchange,
        "multiplier": 0.25,
        "from_time": "close",
        "to_time": "open",
    }
    await put(client, portfolio_id, session, closed)
    possible = {is_open(exchange)}
    decision = await client.size(sizing_request(portfolio_id, ["I0"], EDGE))
    possible.add(is_open(exchange))  # in case it opened or closed meanwhile
    (item,) = decision.adjustments
    assert item.source == sizing_pb2.ADJUSTMENT_SOURCE_SCHEDULE
    assert (item.name == "session") in possible
    assert item.multiplier == (0.5 if item.name == "session" else 0.25)
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal
    assert list(replay.replayed.adjustments) == list(decision.adjustments)


async def test_rows_come_back_as_they_were_set(client: Client) -> None:
    portfolio_id = await client.ready()
    row = {"exchange": "XNYS", "from_time": "close-00:30", "to_time": "close+01:00"}
    await put(client, portfolio_id, {**row, "multiplier": 0.5})
    got = await client.parameter.GetParameters(pb.GetParametersRequest(portfolio_id=portfolio_id))
    (told,) = got.parameters.schedule.rows
    assert {name: getattr(told, name) for name in row} == row


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({"exchange": "NOWHERE"}, "exchange", "UNKNOWN_VALUE"),
        ({"exchange": "XNYS", "time_zone": "UTC"}, "time_zone", "NOT_APPLICABLE"),
        ({"exchange": "XNYS", "weekdays": [1]}, "weekdays", "NOT_APPLICABLE"),
        ({"exchange": "XNYS", "dates": ["2026-01-02"]}, "dates", "NOT_APPLICABLE"),
        ({"exchange": "XNYS", "from_time": "15:30"}, "from_time", "BAD_FORMAT"),
        ({"exchange": "XNYS", "to_time": "close+25:00"}, "to_time", "BAD_FORMAT"),
        ({"exchange": "XNYS", "to_time": "open"}, "to_time", "CONTRADICTION"),
        ({"time_zone": "UTC", "from_time": "open"}, "from_time", "BAD_FORMAT"),
    ],
)
async def test_what_is_wrong_is_told_by_its_path(
    client: Client, row: dict[str, Any], field: str, reason: str
) -> None:
    refused = await refusal(put(client, "", row))
    assert refused.fields == {f"parameters.schedule.rows[0].{field}": reason}

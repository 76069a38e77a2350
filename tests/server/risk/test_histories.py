"""Histories through the service: point in time, stored once, gaps kept as gaps."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import numpy as np
import pytest
from positionsizing.v1 import history_service_pb2 as pb

from tests.server.support.service_client import Client, new_id, refusal

START = datetime(2020, 1, 1, 21, tzinfo=UTC)


def part(universe: str, rows: list[list[float]], *, day: int = 0, **given: Any) -> pb.History:
    """A part of a universe; NaN in `rows` is missing."""
    values = np.array(rows, dtype=float)
    names = given.pop("instrument_ids", [f"H{i}" for i in range(values.shape[1])])
    known = given.pop("known_time", None)
    message = pb.History(
        universe_id=universe,
        kind=given.pop("kind", pb.HISTORY_KIND_PRICES),
        instrument_ids=names,
        values=np.nan_to_num(values).ravel(),
        missing=np.flatnonzero(np.isnan(values)),
    )
    for row in range(len(values)):
        message.observation_times.add().FromDatetime(START + timedelta(days=day + row))
    if known is not None:
        message.known_time.FromDatetime(known)
    return message


async def put(client: Client, history: pb.History) -> pb.PutHistoryResponse:
    return await client.history.PutHistory(pb.PutHistoryRequest(history=history))


def values_of(history: pb.History) -> np.ndarray:
    out = np.array(history.values)
    out[np.array(history.missing, dtype=int)] = np.nan
    return out.reshape(len(history.observation_times), -1)


async def test_what_was_known_at_a_time_is_read_again_later(client: Client) -> None:
    universe = new_id("universe")
    early = START + timedelta(days=3)
    late = START + timedelta(days=30)
    first = await put(client, part(universe, [[10, 5], [11, np.nan], [12, 6]], known_time=early))
    assert (first.instrument_count, first.observation_count, first.missing_count) == (2, 3, 1)
    # Three weeks later a close is corrected, the gap filled, and a third instrument added.
    fixed = [[11.5, 5.5, 7.0], [12.0, 6.0, 8.0]]
    second = await put(client, part(universe, fixed, day=1, known_time=late))
    assert second.part_sequence > first.part_sequence

    now = await client.history.GetHistory(pb.GetHistoryRequest(universe_id=universe))
    assert now.part_count == 2
    assert list(now.history.instrument_ids) == ["H0", "H1", "H2"]
    expected = [[10, 5, np.nan], [11.5, 5.5, 7], [12, 6, 8]]
    np.testing.assert_array_equal(values_of(now.history), expected)

    then = pb.GetHistoryRequest(universe_id=universe, instrument_ids=["H1", "H0"])
    then.known_time.FromDatetime(late - timedelta(seconds=1))
    answer = await client.history.GetHistory(then)
    np.testing.assert_array_equal(
        values_of(answer.history), [[5, 10], [np.nan, 11], [6, 12]], "as it was known then"
    )
    assert answer.history.known_time.ToDatetime(tzinfo=UTC) == early

    until = pb.GetHistoryRequest(universe_id=universe)
    until.as_of_time.FromDatetime(START + timedelta(days=1))
    until.start_time.FromDatetime(START + timedelta(days=1))
    answer = await client.history.GetHistory(until)
    np.testing.assert_array_equal(values_of(answer.history), [[11.5, 5.5, 7]])
    before = pb.GetHistoryRequest(universe_id=universe)
    before.known_time.FromDatetime(START)
    assert (await refusal(client.history.GetHistory(before))).reason == "HISTORY_NOT_FOUND"


async def test_the_same_part_is_stored_once(client: Client) -> None:
    universe = new_id("universe")
    once = await put(client, part(universe, [[1.0], [2.0]]))
    again = await put(client, part(universe, [[1.0], [2.0]]))
    assert again == once
    returns = part(universe, [[0.1], [-0.2]], kind=pb.HISTORY_KIND_RETURNS)
    assert (await refusal(put(client, returns))).reason == "OTHER_HISTORY_KIND"
    listed = await client.history.ListHistories(pb.ListHistoriesRequest(page_size=1000))
    (mine,) = [item for item in listed.histories if item.universe_id == universe]
    assert (mine.part_count, mine.instrument_count) == (1, 1)
    assert mine.last_observation_time.ToDatetime(tzinfo=UTC) == START + timedelta(days=1)


async def test_universes_are_listed_page_by_page(client: Client) -> None:
    names = sorted(new_id("paged") for _ in range(3))
    for name in names:
        await put(client, part(name, [[1.0], [2.0]]))
    seen, token = [], ""
    while True:
        request = pb.ListHistoriesRequest(page_size=2, page_token=token)
        page = await client.history.ListHistories(request)
        seen += [item.universe_id for item in page.histories]
        if not (token := page.next_page_token):
            break
    assert [name for name in seen if name in names] == names
    assert len(seen) == len(set(seen))


WRONG: dict[str, tuple[dict[str, Any], list[list[float]], str, str]] = {
    "no kind": ({"kind": 0}, [[1.0]], "kind", "MISSING"),
    "zero price": ({}, [[1.0, 0.0]], "values[1]", "OUT_OF_RANGE"),
    "return below -1": (
        {"kind": pb.HISTORY_KIND_RETURNS},
        [[0.1], [-1.5]],
        "values[1]",
        "OUT_OF_RANGE",
    ),
    "infinite": ({}, [[np.inf, 1.0]], "values[0]", "NOT_FINITE"),
    "twice": ({"instrument_ids": ["A", "A"]}, [[1.0, 1.0]], "instrument_ids[1]", "DUPLICATE"),
    "too short": ({"instrument_ids": ["A"]}, [[1.0, 1.0]], "values", "LENGTH_MISMATCH"),
    "known too early": (
        {"known_time": START - timedelta(1)},
        [[1.0]],
        "known_time",
        "OUT_OF_RANGE",
    ),
    "all missing": ({}, [[np.nan]], "missing", "EMPTY"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_wrong_is_named(client: Client, case: str) -> None:
    given, rows, field, reason = WRONG[case]
    with np.errstate(all="ignore"):
        message = part(new_id("universe"), rows, **given)
    if case == "infinite":
        message.values[0] = np.inf
    refused = await refusal(put(client, message))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields[f"history.{field}"] == reason


async def test_times_rise_and_are_not_in_the_future(client: Client) -> None:
    message = part(new_id("universe"), [[1.0], [2.0]])
    message.observation_times[1].CopyFrom(message.observation_times[0])
    refused = await refusal(put(client, message))
    assert refused.fields == {"history.observation_times[1]": "NOT_RISING"}
    message.observation_times[1].FromDatetime(datetime.now(UTC) + timedelta(days=2))
    refused = await refusal(put(client, message))
    assert refused.fields == {"history.observation_times[1]": "OUT_OF_RANGE"}


async def test_an_unknown_instrument_is_named(client: Client) -> None:
    universe = new_id("universe")
    await put(client, part(universe, [[1.0], [2.0]]))
    request = pb.GetHistoryRequest(universe_id=universe, instrument_ids=["H0", "ZZ"])
    refused = await refusal(client.history.GetHistory(request))
    assert refused.fields == {"instrument_ids[1]": "UNKNOWN_INSTRUMENT"}

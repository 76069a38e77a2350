"""Profiles come to callers who ask, within what trailers may hold."""

import threading
import time

import grpc
import orjson
from positionsizing.v1 import sizing_service_pb2_grpc

from server.app import App
from server.observability.profile import ANSWER, ASK, BYTES_MAX, begun, handed_over, span
from tests.server.support.service_client import Client, sizing_request


def test_without_a_wish_nothing_is_kept() -> None:
    with begun({}) as profile, span("work"):
        assert profile is None


def test_spans_of_another_thread_are_told_with_the_wait() -> None:
    with begun({ASK: "1"}) as profile:
        assert profile is not None
        with span("outer"):
            work = handed_over(lambda: time.sleep(0.0), "thread")
            thread = threading.Thread(target=work, name="other")
            thread.start()
            thread.join()
    told = {name: (start, duration, thread) for name, start, duration, thread in
            orjson.loads(profile.encoded())}  # fmt: skip
    assert set(told) == {"outer", "wait for thread", "thread"}
    assert told["thread"][2] == "other"
    assert told["outer"][1] >= told["thread"][1]


def test_more_spans_than_fit_are_cut_to_the_longest() -> None:
    with begun({ASK: "1"}) as profile:
        assert profile is not None
        for number in range(1000):
            profile.add(f"span {number}", 0.0, float(number))
    told = orjson.loads(profile.encoded())
    assert len(profile.encoded()) <= BYTES_MAX
    assert told[0][0] == "span 999"


async def test_a_call_without_the_wish_has_no_profile(app: App, client: Client) -> None:
    portfolio_id = await client.ready()
    request = sizing_request(portfolio_id, validate_only=True)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
        stub = sizing_service_pb2_grpc.SizingServiceStub(channel)
        plain, asked = stub.SizePositions(request), stub.SizePositions(
            request, metadata=((ASK, "1"),)
        )  # fmt: skip
        await plain
        await asked
        assert ANSWER not in dict(await plain.trailing_metadata() or ())
        packed = dict(await asked.trailing_metadata() or ())[ANSWER]
    assert {"answer", "gather: arrays"} <= {name for name, *_ in orjson.loads(packed)}

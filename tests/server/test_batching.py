"""Short work takes turns on the event loop, and leaves it free in between."""

import asyncio
from itertools import pairwise

import grpc
import pytest

from server.batching import ComputeLoop
from server.errors import Refusal


async def test_alone_it_runs_at_once():
    running = ComputeLoop().run(lambda: 7, deadline_s=1.0)
    with pytest.raises(StopIteration) as done:
        running.send(None)  # to its end without waiting for anything
    assert done.value.value == 7


async def test_the_loop_goes_round_between_two_pieces():
    lane, seen = ComputeLoop(), []

    async def ask(number: int) -> None:
        await lane.run(lambda: seen.append(number), deadline_s=1.0)

    async def others() -> None:
        for _ in range(12):
            seen.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(*(ask(number) for number in range(4)), others())
    assert [item for item in seen if item != "other"] == [0, 1, 2, 3]
    places = [seen.index(number) for number in range(4)]
    assert all("other" in seen[a:b] for a, b in pairwise(places))


async def test_what_nobody_waits_for_any_more_is_dropped():
    lane, seen = ComputeLoop(), []
    first, gone, last = (
        asyncio.ensure_future(lane.run(lambda n=n: seen.append(n), deadline_s=1.0))
        for n in range(3)
    )
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(first, last)
    assert (seen, lane.dropped, lane.waiting) == ([0, 2], 1, 0)


async def test_a_turn_after_the_deadline_is_refused():
    lane = ComputeLoop()
    first = asyncio.ensure_future(lane.run(lambda: 1, deadline_s=1.0))
    late = asyncio.ensure_future(lane.run(lambda: 2, deadline_s=-1.0))
    assert await first == 1
    with pytest.raises(Refusal) as refused:
        await late
    assert refused.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await lane.run(lambda: 3, deadline_s=1.0) == 3


async def test_too_many_are_refused():
    lane = ComputeLoop(waiting_max=1)
    asked = [asyncio.ensure_future(lane.run(lambda: 0, deadline_s=1.0)) for _ in range(3)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers[:2] == [0, 0]
    assert isinstance(answers[2], Refusal)
    assert answers[2].code is grpc.StatusCode.UNAVAILABLE

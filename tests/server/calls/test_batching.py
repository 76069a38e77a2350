"""Work takes turns, callers take turns, and what can't be done in time is refused at once."""

import asyncio
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import grpc
import pytest

from compute.optimize.time_limit import (
    AbandonedError,
    OutOfTimeError,
    StoppedError,
    TimeLimit,
)
from server.calls.batching import ComputeLoop, ComputeThread
from server.calls.errors import Refusal, refusal_of


async def test_alone_it_runs_at_once():
    running = ComputeLoop().run(lambda: 7, deadline_s=1.0)
    with pytest.raises(StopIteration) as done:
        running.send(None)  # to its end without waiting for anything
    assert done.value.value == 7


async def test_the_loop_goes_round_between_two_pieces():
    lane, seen = ComputeLoop(), []

    def piece(number: int) -> None:
        time.sleep(0.01)
        seen.append(number)

    async def ask(number: int) -> None:
        await lane.run(lambda: piece(number), deadline_s=10.0)

    async def others() -> None:
        while 3 not in seen:
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


async def test_a_caller_with_little_waiting_goes_before_one_with_much():
    lane, seen = ComputeLoop(), []

    async def ask(caller: str, number: int) -> None:
        await lane.run(lambda: seen.append((caller, number)), deadline_s=60.0, caller=caller)

    many = [asyncio.ensure_future(ask("many", number)) for number in range(10)]
    await asyncio.sleep(0)
    one = asyncio.ensure_future(ask("one", 0))
    await asyncio.gather(one, *many)
    assert seen.index(("one", 0)) <= 3
    assert [number for caller, number in seen if caller == "many"] == list(range(10))


async def test_a_full_queue_is_not_held_by_one_caller():
    lane = ComputeLoop(waiting_max=4)
    greedy = [
        asyncio.ensure_future(lane.run(lambda: 0, deadline_s=60.0, caller="greedy"))
        for _ in range(5)
    ]
    other = asyncio.ensure_future(lane.run(lambda: 1, deadline_s=60.0, caller="other"))
    assert await other == 1
    answers = await asyncio.gather(*greedy, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert [item.reason for item in refused] == ["CALLER_QUEUE_FULL"]
    assert refused[0].retry_after_s is not None


async def test_work_in_the_thread_ends_with_its_deadline_and_with_its_caller():
    thread = ComputeThread()

    def endless(seen: list[object], begun: threading.Event) -> Callable[[TimeLimit], None]:
        def work(time_limit: TimeLimit) -> None:
            begun.set()
            try:
                while True:
                    time_limit.check()
                    time.sleep(0.01)
            except StoppedError as error:
                seen.append(type(error))
                raise

        return work

    for deadline_s in (0.1, 1.0, 10.0, 100.0):  # until it has begun in time, on a busy machine
        late, begun = [], threading.Event()
        # Whichever sees first that the time is over: the work, or who waits for it.
        with pytest.raises((Refusal, OutOfTimeError)) as ended:
            await thread.run(endless(late, begun), n_lines=1, deadline_s=deadline_s)
        refused = refusal_of(ended.value)
        assert refused is not None
        assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
        if begun.is_set():
            break
    left, begun = [], threading.Event()
    asked = asyncio.ensure_future(thread.run(endless(left, begun), n_lines=1, deadline_s=600.0))
    assert await asyncio.to_thread(begun.wait, 600.0)
    asked.cancel()
    assert await thread.run(lambda _: 7, n_lines=1, deadline_s=600.0) == 7
    assert late == [OutOfTimeError]
    assert left == [AbandonedError]
    thread.stop()


async def test_work_that_goes_on_for_longer_than_usual_is_waited_for_only_in_time():
    """The usual is a second; one that has taken ten and may take twenty more is at hand."""
    now, begun, go_on = [0.0], threading.Event(), threading.Event()
    thread = ComputeThread(clock=lambda: now[0])

    def quick(_: TimeLimit) -> None:
        now[0] += 1.0

    def slow(_: TimeLimit) -> int:
        begun.set()
        go_on.wait()
        return 1

    await thread.run(quick, n_lines=1, deadline_s=600.0)
    first = asyncio.ensure_future(thread.run(slow, n_lines=1, deadline_s=30.0))
    assert await asyncio.to_thread(begun.wait, 600.0)
    now[0] += 10.0
    with pytest.raises(Refusal) as refused:
        await thread.run(lambda _: 2, n_lines=1, deadline_s=9.0)
    assert refused.value.reason == "OVERLOADED"
    assert refused.value.retry_after_s == pytest.approx(1.05)
    longer = asyncio.ensure_future(thread.run(lambda _: 3, n_lines=1, deadline_s=600.0))
    await asyncio.sleep(0)
    # The two before it are expected to take eleven: it asks for less.
    with pytest.raises(Refusal):
        await thread.run(lambda _: 4, n_lines=1, deadline_s=10.5)
    now[0] += 18.0  # the deadline of the first comes in two: no longer than that
    soon = asyncio.ensure_future(thread.run(lambda _: 5, n_lines=1, deadline_s=100.0, caller="b"))
    await asyncio.sleep(0)
    go_on.set()
    assert await asyncio.gather(first, longer, soon) == [1, 3, 5]
    thread.stop()


async def test_what_cannot_begin_in_time_is_refused_at_once():
    thread, go_on = ComputeThread(), threading.Event()
    await thread.run(lambda _: time.sleep(0.3), n_lines=1, deadline_s=600.0)
    first = asyncio.ensure_future(thread.run(lambda _: go_on.wait(), n_lines=1, deadline_s=600.0))
    waiting = [
        asyncio.ensure_future(thread.run(lambda _: 0, n_lines=1, deadline_s=600.0))
        for _ in range(8)
    ]
    await asyncio.sleep(0.1)
    with pytest.raises(Refusal) as refused:
        await thread.run(lambda _: 0, n_lines=1, deadline_s=0.5)
    assert refused.value.reason == "OVERLOADED"
    assert refused.value.retry_after_s is not None
    go_on.set()
    await asyncio.gather(first, *waiting)
    thread.stop()


async def test_a_thread_that_stops_tells_those_who_wait():
    thread, go_on = ComputeThread(), threading.Event()
    first = asyncio.ensure_future(thread.run(lambda _: go_on.wait(), n_lines=1, deadline_s=600.0))
    await asyncio.sleep(0.05)
    second = asyncio.ensure_future(thread.run(lambda _: 0, n_lines=1, deadline_s=600.0))
    await asyncio.sleep(0.05)
    stopping = asyncio.ensure_future(asyncio.to_thread(thread.stop))
    with pytest.raises(Refusal) as refused:
        await second
    assert refused.value.reason == "DRAINING"
    go_on.set()
    await asyncio.gather(first, stopping)

"""Shares in a queue: of tenants, then of their callers, against a plain model of it."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.calls.errors import Refusal
from server.calls.fair_queue import FairQueue, tenant_of

A, B = [f"a {i}" for i in range(6)], ["b 0"]
CALLERS = st.sampled_from(["a 0", "a 1", "a 2", "b 0", "b 1", "c 0"])
TIMES = st.floats(0.001, 1.0)


def served(queue: FairQueue[str], took_s: float = 1.0) -> str:
    """The next item, worked on."""
    caller, item = queue.pop()
    queue.charge(caller, took_s)
    return item


def test_a_tenant_with_many_callers_gets_every_second_turn() -> None:
    queue: FairQueue[str] = FairQueue(100)
    for _ in range(5):
        for caller in A + B:
            assert queue.push(caller, caller) is None
    order = [served(queue) for _ in range(10)]
    assert order == ["a 0", "b 0", "a 1", "b 0", "a 2", "b 0", "a 3", "b 0", "a 4", "b 0"]
    assert [served(queue) for _ in range(3)] == ["a 5", "a 0", "a 1"]


def test_whose_items_take_ten_times_as_long_gets_a_tenth_of_the_turns() -> None:
    queue: FairQueue[str] = FairQueue(1000)
    for _ in range(100):
        for caller in ("bulk 0", "small 0", "small 1"):
            queue.push(caller, caller)
    took: Counter[str] = Counter()
    turns: Counter[str] = Counter()
    for _ in range(110):
        cost = 10.0 if queue.first().startswith("bulk") else 1.0
        caller = served(queue, cost)
        took[tenant_of(caller)] += int(cost)
        turns[caller] += 1
    assert abs(took["bulk"] - took["small"]) <= 10
    assert turns["small 0"] == turns["small 1"] == 50


def waits(*, bulk: int) -> list[int]:
    """How many turns of others the small calls of two tenants wait, beside a bulk's 500-fold ones.

    Counted, not measured: a turn of the bulk is one turn, however long; 20,000 turns, one seed.
    """
    queue: FairQueue[tuple[str, int]] = FairQueue(1000)
    random, turn, found = Random(13), 0, list[int]()
    while turn < 20_000:
        for _ in range(bulk - queue.of("bulk 0")):
            queue.push("bulk 0", ("bulk 0", turn))
        for caller in ("b 0", "c 0"):
            if random.random() < 0.2:
                queue.push(caller, (caller, turn))
        if len(queue):
            caller, (_, since) = queue.pop()
            queue.charge(caller, 500.0 if caller == "bulk 0" else 1.0)
            if caller != "bulk 0":
                found.append(turn - since)
        turn += 1
    return sorted(found)


def test_the_slowest_hundredth_of_others_waits_a_turn_more_beside_a_bulk() -> None:
    alone, beside = waits(bulk=0), waits(bulk=64)
    assert len(beside) > 0.95 * len(alone)

    def p99(turns: list[int]) -> int:
        return turns[int(0.99 * len(turns))]

    assert p99(beside) <= p99(alone) + 1
    assert beside[-1] <= alone[-1] + 2, "the slowest of all"


def test_one_thing_at_a_time_is_no_way_to_more() -> None:
    """A caller that asks anew when it was answered, beside one that always waits."""
    queue: FairQueue[str] = FairQueue(1000)
    took = Counter({"steady": 0, "big": 0})
    for _ in range(300):
        queue.push("steady 0", "steady")
    for _ in range(200):
        if not queue.of("big 0"):
            queue.push("big 0", "big")
        cost = 50 if queue.first() == "big" else 1
        took[served(queue, cost)] += cost
    assert abs(took["steady"] - took["big"]) <= 50


def test_nobody_pays_for_what_it_took_while_nobody_else_wanted_it() -> None:
    queue: FairQueue[str] = FairQueue(1000)
    for n in range(500):
        if n % 2:
            queue.push("a 0", "a")
            served(queue)
        else:
            queue.begin("a 0")
            queue.charge("a 0", 1.0)
    for _ in range(10):
        queue.push("a 0", "a")
        queue.push("b 0", "b")
    order = [served(queue) for _ in range(20)]
    assert order[:3] in (["b", "a", "b"], ["a", "b", "a"], ["b", "b", "a"])
    assert Counter(order[:10])["a"] >= 4


@given(st.lists(st.tuples(CALLERS, TIMES), min_size=20, max_size=120))
def test_who_always_waits_gets_as_much_time_as_anybody(items: list[tuple[str, float]]) -> None:
    """While two tenants both wait, what they get never differs by more than an item of each."""
    queue: FairQueue[float] = FairQueue(1000)
    for caller, took in items:
        queue.push(caller, took)
    longest = max(took for _, took in items)
    had = dict.fromkeys((tenant_of(caller) for caller, _ in items), 0.0)
    left = Counter(tenant_of(caller) for caller, _ in items)
    while min(left.values()) > 0:
        caller, took = queue.pop()
        queue.charge(caller, took)
        had[tenant_of(caller)] += took
        left[tenant_of(caller)] -= 1
        assert max(had.values()) - min(had.values()) <= longest + 1e-9


def test_a_full_queue_gives_place_to_the_tenant_that_has_less() -> None:
    queue: FairQueue[str] = FairQueue(6)
    for caller in A:
        queue.push(caller, caller)
    assert queue.push("b 0", "b 0") in A, "each of its callers had only one"
    assert queue.push("b 1", "b 1") in A
    assert queue.push("b 0", "b 0") is None or len(queue) == 6
    with pytest.raises(Refusal, match="wait to be computed"):
        queue.push("b 0", "b 0")
    popped = Counter(queue.pop()[1][0] for _ in range(6))
    assert popped == {"a": 3, "b": 3}
    assert len(queue) == 0


@given(st.lists(CALLERS | st.none(), max_size=60))
def test_first_in_first_out_for_each_caller_and_nothing_lost(steps: list[str | None]) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(8)
    waiting: dict[str, list[int]] = {}
    for number, caller in enumerate(steps):
        if caller is None:
            if len(queue):
                seen = queue.first()
                assert queue.pop() == (seen[0], seen)
                assert waiting[seen[0]].pop(0) == seen[1]
            continue
        try:
            displaced = queue.push(caller, (caller, number))
        except Refusal:
            assert len(queue) == 8
            continue
        if displaced is not None:
            assert waiting[displaced[0]].pop() == displaced[1], "the latest gives way"
        waiting.setdefault(caller, []).append(number)
        assert len(queue) == sum(map(len, waiting.values())) <= 8
        assert 0.0 <= queue.wait_s(caller, 1.0) <= len(queue)
    while len(queue):
        _, (caller, number) = queue.pop()
        assert waiting[caller].pop(0) == number
    assert not any(waiting.values())


@given(st.lists(CALLERS, max_size=30), CALLERS)
def test_what_is_ahead_is_what_comes_before(steps: list[str], caller: str) -> None:
    """By the tenants' turns it is at most that: the next item may come sooner by a turn."""
    queue: FairQueue[str] = FairQueue(100)
    for step in steps:
        queue.push(step, step)
    said = queue.wait_s(caller, 1.0)
    queue.push(caller, "mine")
    order = [served(queue) for _ in range(len(queue))]
    assert order.index("mine") <= said

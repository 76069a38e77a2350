"""As many calls come in as are answered in time; the rest is refused at once, with advice."""

import pytest

from server.calls import admission
from server.calls.admission import LIMIT_MIN, Admission, Ticket
from server.calls.errors import Refusal


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(admission, "time", made)
    return made


def answered(door: Admission, clock: Clock, tickets: list[Ticket], seconds: float) -> None:
    clock.now += seconds
    for ticket in tickets:
        door.leave(ticket)


def test_slow_answers_let_fewer_in_and_fast_ones_more_again(clock: Clock) -> None:
    door = Admission(64, latency_max_s=0.1)
    for _ in range(20):
        answered(door, clock, [door.enter() for _ in range(door.limit)], 0.5)
    assert door.limit == LIMIT_MIN
    with pytest.raises(Refusal) as refused:
        [door.enter() for _ in range(LIMIT_MIN + 1)]
    assert refused.value.reason == "OVERLOADED"
    assert refused.value.retry_after_s is not None
    door = Admission(64, latency_max_s=0.1)
    answered(door, clock, [door.enter() for _ in range(64)], 0.5)
    fewer = door.limit
    assert fewer < 64
    for _ in range(200):
        answered(door, clock, [door.enter() for _ in range(door.limit)], 0.01)
    assert door.limit > fewer + 10


def test_calls_that_wait_for_each_other_count_as_slow_once(clock: Clock) -> None:
    door = Admission(64, latency_max_s=0.1)
    answered(door, clock, [door.enter() for _ in range(50)], 0.5)
    assert door.limit == 40


def test_a_call_with_less_time_than_answers_take_is_refused_at_once(clock: Clock) -> None:
    door = Admission(64)
    inside = [door.enter() for _ in range(40)]
    answered(door, clock, inside, 2.0)
    inside = [door.enter() for _ in range(LIMIT_MIN)]
    with pytest.raises(Refusal):
        door.enter(left_s=0.2)
    assert door.enter(left_s=10.0)


def test_long_work_is_no_reason_to_refuse_short_calls(clock: Clock) -> None:
    door = Admission(64, latency_max_s=0.1)
    tickets = [door.enter() for _ in range(32)]
    for ticket in tickets:
        ticket.takes_long()
    assert door.short_in_flight == 0
    answered(door, clock, tickets, 20.0)
    assert (door.limit, door.in_flight, door.short_in_flight) == (64, 0, 0)


def test_an_urgent_call_always_comes_in(clock: Clock) -> None:
    door = Admission(2)
    for _ in range(2):
        door.enter()
    with pytest.raises(Refusal):
        door.enter()
    assert door.enter(is_urgent=True)

"""SizingAnalyzed: each decision once, when its outcome is known, as AnalyzeDecisions has it."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from server.analytics import sizing_analytics
from server.analytics.decision_analysis import DecisionAnalysis
from storage.errors import NotFound
from storage.events.topics import OUTGOING
from tests.server.support.outcomes import CLAIMS, Book, Desk


def e_values(won: list[list[int]]) -> tuple[float, float]:
    """That the edge is gone and that there is one, by hand: wealth split over X and Y."""
    x, p = np.array(won), np.array(CLAIMS)
    ratio = np.where(x > 0, p / 0.5, (1.0 - p) / 0.5)
    return float((1.0 / ratio).mean(axis=1).prod()), float(ratio.mean(axis=1).prod())


async def test_each_decision_is_told_once_when_its_outcome_is_known(desk: Desk) -> None:
    book = await Book(desk.client).open()
    await book.days([[1, -1], [-1, 1], [1, -1]])
    await book.decide()  # on the last prices: it shows what came of the third
    assert await desk.look() == 1
    assert await desk.look() == 0
    await book.decide()  # on the same snapshot: nothing came of any yet
    assert await desk.look() == 0
    (event,) = await desk.told(book.id)
    asked = event.request
    assert (asked.portfolio_id, asked.strategy_id, asked.without_strategy) == (book.id, "", True)
    assert asked.end_market_snapshot_id == book.snapshots[3]
    assert event.analysis == await desk.client.analytics.AnalyzeDecisions(asked)
    assert (event.analysis.decisions, event.analysis.bet_forecast.bets) == (3, 6)
    assert event.analysis.HasField("growth_forecast")
    so_far = event.evidence
    assert so_far.create_time_from == asked.create_time_from
    assert (so_far.decisions, so_far.bets) == (3, 6)
    gone, edge = e_values([[1, 0], [0, 1], [1, 0]])
    assert (so_far.e_value_gone, so_far.e_value_edge) == pytest.approx((gone, edge))
    assert event.analyze_time.ToDatetime(tzinfo=UTC) <= datetime.now(UTC)
    # Of the two on one snapshot the first is superseded, and the second is told with the next.
    await book.market([-1, -1])
    await book.decide()
    assert await desk.look() == 1
    event = (await desk.told(book.id))[1]
    assert event.portfolio_sequence > 0
    assert event.request.create_time_from == asked.create_time_to
    assert event.analysis == await desk.client.analytics.AnalyzeDecisions(event.request)
    assert event.analysis.decisions == 1
    assert [(item.name, item.count) for item in event.analysis.left_out] == [("SUPERSEDED", 1)]
    gone, edge = e_values([[1, 0], [0, 1], [1, 0], [0, 0]])
    so_far = event.evidence
    assert (so_far.decisions, so_far.bets) == (4, 8)
    assert (so_far.e_value_gone, so_far.e_value_edge) == pytest.approx((gone, edge))
    assert so_far.create_time_from == asked.create_time_from


async def test_strategies_are_told_apart(desk: Desk) -> None:
    book = await Book(desk.client).open()
    for moves in ([1, 1], [1, -1], [-1, -1]):
        await book.decide("up")
        await book.decide()
        await book.market(moves)
    await book.decide("up")
    assert await desk.look() == 2
    told = {event.request.strategy_id: event for event in await desk.told(book.id)}
    assert told["up"].evidence.decisions == 3
    assert told[""].evidence.decisions == 2  # of its third the outcome is not known yet
    for event in told.values():
        assert event.analysis == await desk.client.analytics.AnalyzeDecisions(event.request)
    assert told["up"].evidence.e_value_gone == pytest.approx(e_values([[1, 1], [1, 0], [0, 0]])[0])


async def test_many_are_several_events_and_none_is_left_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizing_analytics, "DECISIONS_MAX", 2)
    book = await Book(desk.client).open()
    moves = [[1, 1], [1, -1], [-1, -1], [1, 1], [-1, 1]]
    await book.days(moves)
    for _ in range(4):  # more than a period on one snapshot
        await book.decide()
    await book.market([1, 1])
    await book.decide()
    await desk.look()
    events = await desk.told(book.id)
    assert len(events) > 3
    for event, later in itertools.pairwise(events):
        assert event.request.create_time_to == later.request.create_time_from
    counted = sum(
        event.analysis.decisions + sum(item.count for item in event.analysis.left_out)
        for event in events
    )
    assert counted == 9
    wins = [[int(move > 0) for move in each] for each in [*moves, [1, 1]]]
    assert events[-1].evidence.decisions == 6
    assert events[-1].evidence.e_value_gone == pytest.approx(e_values(wins)[0])


async def test_several_servers_tell_a_decision_once(desk: Desk) -> None:
    book = await Book(desk.client).open()
    await book.days([[1, 1], [1, -1]])
    await book.decide()
    assert await desk.look(timedelta(days=1)) == 0  # another has looked within a day
    assert sum(await asyncio.gather(*(desk.look() for _ in range(3)))) == 1
    (event,) = await desk.told(book.id)
    assert event.evidence.decisions == 2


async def test_what_cannot_be_analyzed_is_left_out_and_holds_up_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: Any) -> None:
        raise NotFound("market snapshot", "s")

    book = await Book(desk.client).open()
    await book.days([[1, 1], [1, -1]])
    await book.decide()
    with monkeypatch.context() as patch:
        patch.setattr(DecisionAnalysis, "analyzed", gone)
        assert await desk.look() == 0
    await book.market([-1, -1])
    await book.decide()
    assert await desk.look() == 1
    (event,) = await desk.told(book.id)
    assert event.evidence.decisions == 1
    assert event.evidence.e_value_gone == pytest.approx(e_values([[0, 0]])[0])


async def test_a_bug_in_one_holds_up_no_other_and_is_tried_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = [await Book(desk.client).open() for _ in range(2)]
    for book in books:
        await book.days([[1, 1]])
        await book.decide()
    analyzed = DecisionAnalysis.analyzed

    async def sometimes(
        self: DecisionAnalysis, call: Any, currency: str, rows: Any, end: str
    ) -> Any:
        if rows[0].portfolio_id == books[0].id:
            raise ZeroDivisionError
        return await analyzed(self, call, currency, rows, end)

    with monkeypatch.context() as patch:
        patch.setattr(DecisionAnalysis, "analyzed", sometimes)
        with pytest.raises(ExceptionGroup, match="decisions of 1 were not analyzed"):
            await desk.look()
    assert [len(await desk.told(book.id)) for book in books] == [0, 1]
    assert await desk.look() == 1
    assert [len(await desk.told(book.id)) for book in books] == [1, 1]


def test_the_topic_keeps_its_messages_for_three_readers() -> None:
    (topic,) = [item for item in OUTGOING if item.name == "sizing-analytics"]
    assert topic.subscriptions == (
        "reporting",
        "performance-attribution",
        "strategy-optimisation",
    )

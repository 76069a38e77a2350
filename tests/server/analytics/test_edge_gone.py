"""Bets that lose against what they claim: an alert, and where the parameters say so, REDUCING."""

import pytest
from positionsizing.v1 import analytics_service_pb2, events_pb2, parameter_service_pb2, types_pb2
from positionsizing.v1 import portfolio_service_pb2 as pb

from server.analytics import edge_gone
from tests.server.support.outcomes import Book, Desk, new_id
from tests.server.support.service_client import refusal

ALERT = parameter_service_pb2.EDGE_GONE_ACTION_ALERT
REDUCE_PORTFOLIO = parameter_service_pb2.EDGE_GONE_ACTION_REDUCE_PORTFOLIO
REDUCE_STRATEGY = parameter_service_pb2.EDGE_GONE_ACTION_REDUCE_STRATEGY
ACTIVE, REDUCING = types_pb2.TRADING_STATE_ACTIVE, types_pb2.TRADING_STATE_REDUCING
LOSSES = [[-1, -1]] * 5
"""Each doubles the wealth of a bet against claims of 0.75 at even odds: 32 after five."""


async def gambler(desk: Desk, action: int = 0, claim: float = 0.75) -> Book:
    book = await Book(desk.client, claims=[claim, claim]).open()
    given = parameter_service_pb2.SizingParameters(
        kelly_fraction=0.1,
        edge_gone_action=action,  # type: ignore[arg-type]
    )
    request = parameter_service_pb2.SetParametersRequest(portfolio_id=book.id, parameters=given)
    await desk.client.parameter.SetParameters(request)
    return book


async def state_of(desk: Desk, **scope: str) -> pb.GetTradingStateResponse:
    request = pb.GetTradingStateRequest(scope=pb.Scope(**scope))
    return await desk.client.portfolio.GetTradingState(request)


async def resume(desk: Desk, **scope: str) -> None:
    request = pb.SetTradingStateRequest(
        scope=pb.Scope(**scope), trading_state=ACTIVE, reason="claims are lower now"
    )
    await desk.client.portfolio.SetTradingState(request)


async def alerts(desk: Desk, book: Book) -> list[events_pb2.Alert]:
    found = [events_pb2.Alert.FromString(item) for item in await desk.payloads("alerts")]
    mine = [item for item in found if item.subject == f"portfolio:{book.id}"]
    assert {item.reason for item in mine} <= {"EDGE_GONE"}
    return mine


async def test_bets_that_lose_reduce_trading_until_somebody_resumes_it(desk: Desk) -> None:
    async def watched() -> list[analytics_service_pb2.WatchedEdge]:
        asked = analytics_service_pb2.AnalyzeDecisionsRequest(
            portfolio_id=book.id, include_watched_edges=True
        )
        return list((await desk.client.analytics.AnalyzeDecisions(asked)).watched_edges)

    book = await gambler(desk, REDUCE_PORTFOLIO)
    await book.days(LOSSES)
    assert await desk.look() == 1  # the fifth has no outcome yet: 16
    (before,) = await watched()
    assert (before.strategy_id, before.decisions, before.bets) == ("", 4, 8)
    assert before.e_value_gone == pytest.approx(16.0)
    assert before.e_value_edge == pytest.approx(
        (await desk.told(book.id))[-1].evidence.e_value_edge
    )
    assert before.HasField("create_time_from")
    assert not before.is_reduced
    assert (await state_of(desk, portfolio_id=book.id)).trading_state == ACTIVE
    assert await alerts(desk, book) == []
    await book.decide()
    assert await desk.look() == 1
    event = (await desk.told(book.id))[-1]
    assert event.evidence.e_value_gone == pytest.approx(32.0)
    (told,) = await alerts(desk, book)
    assert told.severity == events_pb2.ALERT_SEVERITY_WARNING
    assert "of 10 bets in 5 decisions" in told.message
    assert "is 32; 20 is where an edge is taken for gone" in told.message
    state = await state_of(desk, portfolio_id=book.id)
    assert (state.trading_state, state.change.author) == (REDUCING, edge_gone.AUTHOR)
    assert told.message.startswith(state.change.reason)
    (after,) = await watched()
    assert (after.is_reduced, after.bets, after.e_value_gone) == (True, 0, 1.0)
    (changed,) = await desk.payloads("trading-state-changed", book.id)
    change = events_pb2.TradingStateChanged.FromString(changed)
    assert (change.trading_state, change.change) == (REDUCING, state.change)
    # The next decision may not increase, whatever it claims.
    book.claims = [0.95, 0.95]
    decision = await book.decide()
    assert list(decision.sizes.trade_lots) == [0, 0]
    assert set(decision.sizes.binding) == {types_pb2.LIMIT_KIND_REDUCING_ONLY}
    # Meanwhile nothing counts, and nothing is told again.
    await book.days([*LOSSES, *LOSSES])
    assert await desk.look() == 1
    assert not (await desk.told(book.id))[-1].HasField("evidence")
    assert len(await alerts(desk, book)) == 1
    # A person resumes it. What came of decisions before that is no evidence.
    await resume(desk, portfolio_id=book.id)
    book.claims = [0.75, 0.75]
    await book.days(LOSSES[:4])
    await book.decide()
    assert await desk.look() == 2  # before and after
    before, after = (await desk.told(book.id))[-2:]
    assert not before.HasField("evidence")
    assert after.evidence.create_time_from == after.request.create_time_from
    assert (after.evidence.decisions, after.evidence.e_value_gone) == (4, pytest.approx(16.0))
    assert (await state_of(desk, portfolio_id=book.id)).trading_state == ACTIVE
    await book.market([-1, -1])
    await book.decide()
    assert await desk.look() == 1
    assert (await state_of(desk, portfolio_id=book.id)).trading_state == REDUCING
    assert len(await alerts(desk, book)) == 2


async def test_without_a_policy_there_is_an_alert_alone_and_evidence_begins_anew(
    desk: Desk,
) -> None:
    book = await gambler(desk)
    await book.days([*LOSSES, [-1, -1]])
    await book.decide()
    await desk.look()
    assert len(await alerts(desk, book)) == 1
    assert (await state_of(desk, portfolio_id=book.id)).trading_state == ACTIVE
    book.claims = [0.9, 0.9]
    assert (await book.decide(validate_only=True)).sizes.trade_lots[0] > 0
    book.claims = [0.75, 0.75]
    await book.market([-1, -1])
    await book.decide()
    await desk.look()
    assert len(await alerts(desk, book)) == 1
    assert (await desk.told(book.id))[-1].evidence.decisions == 1


async def test_a_strategy_is_reduced_in_all_portfolios_and_no_other(desk: Desk) -> None:
    book, strategy = await gambler(desk, REDUCE_STRATEGY), new_id("strategy")
    await book.days(LOSSES, strategy)
    await book.decide(strategy)
    await desk.look()
    state = await state_of(desk, strategy_id=strategy)
    assert (state.trading_state, state.change.author) == (REDUCING, edge_gone.AUTHOR)
    assert f"the edge of strategy {strategy} in portfolio {book.id}" in state.change.reason
    assert (await state_of(desk, portfolio_id=book.id)).trading_state == ACTIVE
    other = await gambler(desk)
    assert list((await other.decide(strategy)).sizes.trade_lots) == [0, 0]
    assert (await other.decide()).sizes.trade_lots[0] > 0


async def test_a_halt_stays_a_halt(desk: Desk) -> None:
    book = await gambler(desk, REDUCE_PORTFOLIO)
    await book.days(LOSSES)
    await book.decide()
    request = pb.SetTradingStateRequest(
        scope=pb.Scope(portfolio_id=book.id),
        trading_state=types_pb2.TRADING_STATE_HALTED,
        reason="fire",
    )
    await desk.client.portfolio.SetTradingState(request)
    await desk.look()
    state = await state_of(desk, portfolio_id=book.id)
    assert (state.trading_state, state.change.reason) == (types_pb2.TRADING_STATE_HALTED, "fire")
    found = [events_pb2.Alert.FromString(item) for item in await desk.payloads("alerts")]
    (told,) = [item for item in found if item.reason == "EDGE_GONE" and book.id in item.message]
    assert "is reduced" not in told.message


async def test_an_edge_that_is_there_and_few_outcomes_are_nothing(desk: Desk) -> None:
    held = await gambler(desk, REDUCE_PORTFOLIO)
    await held.days([[1, 1], [1, -1], [1, 1], [-1, 1], [1, 1], [1, 1]] * 2)
    await held.decide()
    few = await gambler(desk, REDUCE_PORTFOLIO)
    await few.days(LOSSES[:4])
    await few.decide()
    await desk.look()
    for book in (held, few):
        assert await alerts(desk, book) == []
        assert (await state_of(desk, portfolio_id=book.id)).trading_state == ACTIVE
        book.claims = [0.95, 0.95]
        assert min((await book.decide(validate_only=True)).sizes.trade_lots) > 0
    assert (await desk.told(held.id))[-1].evidence.e_value_edge > 20.0
    assert (await desk.told(few.id))[-1].evidence.e_value_gone == pytest.approx(16.0)


async def test_an_unknown_action_is_named(desk: Desk) -> None:
    refused = await refusal(gambler(desk, 9))
    assert refused.fields == {"parameters.edge_gone_action": "UNKNOWN_VALUE"}

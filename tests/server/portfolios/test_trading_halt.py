"""The kill switch through the RPCs: one number for all, refusals that say why, no waiting."""

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from positionsizing.v1 import portfolio_service_pb2 as pb
from positionsizing.v1 import types_pb2

from server.app import App
from server.calls.errors import Refusal
from tests.server.support.service_client import Client, new_id, sizing_request

HALTED, ACTIVE = types_pb2.TRADING_STATE_HALTED, types_pb2.TRADING_STATE_ACTIVE


async def switch(client: Client, scope: pb.Scope, state: Any, reason: str = "") -> Any:
    """Sets a trading state."""
    request = pb.SetTradingStateRequest(scope=scope, trading_state=state, reason=reason)
    return await client.portfolio.SetTradingState(request)


def scopes(portfolio_id: str, strategy_id: str) -> list[pb.Scope]:
    """Every kind of scope that a request of that portfolio and strategy falls under."""
    return [
        pb.Scope(),
        pb.Scope(strategy_id=strategy_id),
        pb.Scope(group_id=f"group-of-{portfolio_id}"),
        pb.Scope(portfolio_id=portfolio_id),
    ]


async def in_group(client: Client) -> str:
    """A portfolio in a group of its own, ready to be sized."""
    await client.put_market()
    portfolio_id = new_id("halted")
    await client.put_portfolio(portfolio_id=portfolio_id, group_id=f"group-of-{portfolio_id}")
    here = pb.Scope(portfolio_id=portfolio_id)
    await client.set_limits(here, weight_max=0.01, leverage_max=1.0)
    return portfolio_id


@pytest.mark.parametrize("place", range(4))
async def test_sizes_before_a_halt_have_a_lower_number_and_sizes_after_it_none_lower(
    client: Client, place: int
) -> None:
    portfolio_id = await in_group(client)
    strategy_id = new_id("strategy")
    scope = scopes(portfolio_id, strategy_id)[place]

    async def size() -> int:
        request = sizing_request(portfolio_id, strategy_id=strategy_id)
        return (await client.size(request)).versions.trading_state_version

    before = await size()
    halt = await switch(client, scope, HALTED, "a drill")
    read = await client.portfolio.GetTradingState(pb.GetTradingStateRequest(scope=scope))
    resumed = await switch(client, scope, ACTIVE)
    after = await size()
    assert before < halt.trading_state_version < resumed.trading_state_version <= after
    assert read.trading_state_version == halt.trading_state_version
    assert (read.change.reason, read.change.author) == ("a drill", halt.change.author)
    assert read.change.author
    assert resumed.change.version == halt.change.version + 1  # of the scope alone


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("validate_only", [False, True])
async def test_a_refusal_says_what_was_halted_and_why(
    client: Client, place: int, validate_only: bool
) -> None:
    portfolio_id = await in_group(client)
    strategy_id = new_id("strategy")
    scope = scopes(portfolio_id, strategy_id)[place]
    name = (scope.strategy_id, scope.group_id, scope.portfolio_id)
    halt = await switch(client, scope, HALTED, "the feed is [wrong]")
    try:
        request = sizing_request(portfolio_id, strategy_id=strategy_id, validate_only=validate_only)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.size(request)
    finally:
        await switch(client, scope, ACTIVE)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    text = caught.value.details() or ""
    assert "the feed is [wrong]" in text
    assert all(part in text for part in name)
    info = error_details_pb2.ErrorInfo()
    packed = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    assert status_pb2.Status.FromString(packed).details[0].Unpack(info)
    assert info.reason == "TRADING_HALTED"
    assert info.metadata["halt_reason"] == "the feed is [wrong]"
    assert info.metadata["trading_state_version"] == str(halt.trading_state_version)
    kinds = ["firm", "strategy", "group", "portfolio"]
    assert info.metadata["scope"].split(":", 1)[0] == kinds[place]


async def test_a_state_never_set_is_active_without_a_change(client: Client) -> None:
    scope = pb.Scope(strategy_id=new_id("never"))
    read = await client.portfolio.GetTradingState(pb.GetTradingStateRequest(scope=scope))
    assert read == pb.GetTradingStateResponse(trading_state=ACTIVE)


async def test_a_server_that_admits_nobody_else_can_still_halt(app: App, client: Client) -> None:
    admission = app._admission
    scope = pb.Scope(strategy_id=new_id("strategy"))
    tickets = []
    try:
        while True:
            tickets.append(admission.enter())
    except Refusal as refusal:
        assert refusal.reason == "OVERLOADED"
    try:
        await switch(client, scope, HALTED)
        read = await client.portfolio.GetTradingState(pb.GetTradingStateRequest(scope=scope))
    finally:
        for ticket in tickets:
            admission.leave(ticket)
    assert read.trading_state == HALTED


async def test_a_halt_by_another_process_is_heard(app: App, client: Client) -> None:
    """And what was kept is dropped; polling would find it too, so the listener is looked at."""
    portfolio_id = await in_group(client)
    heard: list[Any] = []
    listening = [task for task in asyncio.all_tasks() if task.get_name() == "listen for changes"]
    assert len(listening) >= 1
    states = app._states
    real = states._heard
    states._heard = lambda change: (heard.append(change), real(change))[1]  # type: ignore[method-assign]
    try:
        for _ in range(60):  # a connection that was just lost has missed one
            await switch(client, pb.Scope(portfolio_id=portfolio_id), HALTED)
            await asyncio.sleep(0.5)
            if any(change.id == f"PORTFOLIO/{portfolio_id}" for change in heard):
                break
    finally:
        del states._heard
    assert any(change.kind == "trading_state" for change in heard)

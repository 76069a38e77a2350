"""Joint sizing that took too long twice is refused before it begins, and not for ever."""

from typing import Any

import grpc
import pytest

from compute.optimize.time_limit import OutOfTimeError
from server.app import App
from server.joint import foreseen
from tests.server.joint.test_joint_bets import bets, kelly
from tests.server.support.service_client import Client, refusal


async def test_sizing_that_took_too_long_twice_is_refused_at_once(
    joint_app: App, joint_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock says how long it takes; five bets are sized by no other test."""
    portfolio_id = await kelly(joint_client)
    clock, calls = [0.0], [0]
    monkeypatch.setattr(foreseen, "monotonic", lambda: clock[0])
    joint = joint_app._joint
    assert joint is not None

    def slow(work: Any, *arguments: Any, time_limit: Any) -> Any:
        calls[0] += 1
        clock[0] += 1e6
        raise OutOfTimeError("the time was over before the answer")

    with monkeypatch.context() as patched:
        patched.setattr(joint, "run", slow)
        request = bets(portfolio_id, [0.51, 0.52, 0.53, 0.54, 0.55])
        for _ in range(2):
            found = await refusal(joint_client.size(request))
            assert found.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert calls == [2]
    reasons = [(await refusal(joint_client.size(request))).reason for _ in range(3)]
    assert set(reasons) == {"TOO_LONG"}
    assert await joint_client.size(bets(portfolio_id, [0.51, 0.52]))
    for _ in range(200):
        if not await _is_refused(joint_client, request):
            break
    assert await joint_client.size(request)


async def _is_refused(client: Client, request: Any) -> bool:
    try:
        await client.size(request)
    except grpc.aio.AioRpcError:
        return True
    return False

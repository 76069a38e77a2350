"""Any recorded decision, computed again later, gives the same lots and the same weights.

Random requests of every kind on books whose limits, parameters, prices and reservations go on
changing; replayed at the end, when nothing is as it was.
"""

import os

import numpy as np
from positionsizing.v1 import portfolio_service_pb2, sizing_service_pb2

from tests.server.support.random_world import World
from tests.server.support.service_client import Client, new_id

DECISIONS = int(os.environ.get("REPLAYS", "120"))


async def test_random_decisions_replay_alike_whatever_has_changed_since(client: Client) -> None:
    world = World(client, np.random.default_rng(20260901))
    await world.new_market()
    await world.new_scenarios()
    group = new_id("group")
    shared = portfolio_service_pb2.SharedLimits(gross_notional_max=3e6)
    await client.set_limits(portfolio_service_pb2.Scope(group_id=group), shared=shared)
    for number in range(6):
        await world.new_portfolio(group if number % 2 else "")
    decided = []
    for _ in range(DECISIONS):
        await world.change_something()
        decided.append(await world.decide())
    assert world.traded > DECISIONS // 2
    for decision_id in decided:
        replay = await client.sizing.ReplayDecision(
            sizing_service_pb2.ReplayDecisionRequest(decision_id=decision_id)
        )
        assert replay.lots_equal, decision_id
        assert not replay.version_differences
        assert replay.weight_difference_max <= 1e-12

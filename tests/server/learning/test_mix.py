"""Strategies mixed over gRPC: reference numbers, bounds, and bad input by path."""

from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import learning_service_pb2 as pb

from tests.server.support.service_client import Client, refusal

SIZERS = [
    [0.01, -0.01, 0.02, -0.02, 0.03],
    [0.02, -0.03, 0.03, -0.04, 0.05],
    [0.0] * 5,
]


def request_of(columns: Any, **given: Any) -> pb.MixStrategiesRequest:
    strategies = [
        pb.StrategyReturns(name=f"s{i}", returns=returns) for i, returns in enumerate(columns)
    ]
    return pb.MixStrategiesRequest(strategies=strategies, **given)


async def test_wealth_mixes_sizers_and_says_its_regret(client: Client) -> None:
    answer = await client.learning.MixStrategies(request_of(SIZERS, cost_rate=0.01))
    assert np.exp(answer.log_wealth[-1]) == pytest.approx(1.0189065657, abs=5e-11)
    assert answer.regret == pytest.approx(0.0103286593, abs=5e-11)
    assert answer.regret_max == pytest.approx(np.log(3.0), abs=1e-15)
    made = np.exp(np.array(answer.strategy_log_wealth))
    assert list(answer.next_weights) == pytest.approx(made / made.sum(), abs=1e-14)
    assert answer.log_wealth_net == pytest.approx(answer.log_wealth[-1], abs=1e-14)
    shared = await client.learning.MixStrategies(
        request_of(SIZERS, kind=pb.MIX_KIND_FIXED_SHARE, share=0.1, cost_rate=0.01)
    )
    assert shared.log_wealth_net < shared.log_wealth[-1]
    assert max(shared.next_weights) < max(answer.next_weights)


async def test_sizes_of_one_strategy_are_mixed_universally(client: Client) -> None:
    """A stock that doubles and halves: half in cash would have been best."""
    stock = [[1.0, -0.5] * 10]
    universal = {"kind": pb.MIX_KIND_UNIVERSAL}
    half = await client.learning.MixStrategies(request_of(stock, **universal))
    even = await client.learning.MixStrategies(request_of(stock, even_prior=True, **universal))
    assert list(half.names) == ["s0", "cash"]
    assert np.exp(half.log_wealth[-1]) == pytest.approx(1.9780188823, rel=1e-9)
    assert np.exp(even.log_wealth[-1]) == pytest.approx(2.3394426330, rel=1e-9)
    assert np.exp(half.best_log_wealth) == pytest.approx(3.2473210255, rel=1e-9)
    assert half.best_share == pytest.approx(0.5, abs=1e-12)
    for answer in (half, even):
        assert 0.0 < answer.regret <= answer.regret_max
    paid = await client.learning.MixStrategies(request_of(stock, cost_rate=0.05, **universal))
    assert paid.log_wealth_net < paid.log_wealth[-1] == half.log_wealth[-1]


async def test_several_strategies_are_mixed_universally(client: Client) -> None:
    answer = await client.learning.MixStrategies(request_of(SIZERS, kind=pb.MIX_KIND_UNIVERSAL))
    relatives = 1.0 + np.array(SIZERS).T
    best = float(np.log(relatives @ np.array(answer.best_weights)).sum())
    assert answer.best_log_wealth == pytest.approx(best, abs=1e-12)
    assert best >= max(answer.strategy_log_wealth) - 1e-12
    assert sum(answer.best_weights) == pytest.approx(1.0)
    assert answer.best_share == answer.best_weights[0]
    assert sum(answer.next_weights) == pytest.approx(1.0)
    assert 0.0 < answer.regret <= answer.regret_max == pytest.approx(np.log(6.0) + np.log(2.0))


async def test_what_can_not_be_mixed_is_told_by_path(client: Client) -> None:
    async def wrong(columns: Any, **given: Any) -> dict[str, str]:
        return (await refusal(client.learning.MixStrategies(request_of(columns, **given)))).fields

    assert await wrong(SIZERS[:1]) == {"strategies": "OUT_OF_RANGE"}
    universal = {"kind": pb.MIX_KIND_UNIVERSAL}
    assert await wrong([[0.1]] * 6, **universal) == {"strategies": "OUT_OF_RANGE"}
    assert await wrong([[0.1] * 200] * 4, **universal) == {"strategies": "TOO_MANY"}
    assert await wrong([[0.1], [0.1, 0.2]]) == {"strategies[1].returns": "LENGTH_MISMATCH"}
    assert await wrong([[], []]) == {
        "strategies[0].returns": "OUT_OF_RANGE",
        "strategies[1].returns": "OUT_OF_RANGE",
    }
    assert await wrong([[-1.0], [0.1]]) == {"strategies[0].returns[0]": "OUT_OF_RANGE"}
    assert await wrong(SIZERS, share=0.1) == {"share": "NOT_APPLICABLE"}
    assert await wrong(SIZERS, even_prior=True) == {"even_prior": "NOT_APPLICABLE"}
    assert await wrong(SIZERS, cost_rate=0.5) == {"cost_rate": "OUT_OF_RANGE"}

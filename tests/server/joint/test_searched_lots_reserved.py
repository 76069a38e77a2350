"""Whole lots searched on a book with open reservations, against all lots near it, one by one."""

from itertools import product

import numpy as np
import pytest
from positionsizing.v1 import parameter_service_pb2, types_pb2

from tests.server.support.kelly_books import VARIANCE, KellyBook
from tests.server.support.service_client import Client

SHORTS = {"allow_short": True, "allow_flip": True}
LOT = np.array([0.01, 0.01, 0.02, 0.01])
"""Of equity."""
SEARCHED = parameter_service_pb2.LOT_CHOICE_SEARCHED


@pytest.mark.parametrize("seed", range(6))
async def test_searched_lots_are_the_best_that_reservations_leave(
    joint_client: Client, seed: int
) -> None:
    """Long and short lines are reserved under a net of 2 %, which at worst they pass; then the
    stakes move. The net may go neither way, so that lots may only be swapped."""
    rng = np.random.default_rng(seed)
    book = KellyBook(joint_client, "joint", 4)
    await book.opened(100_000.0, [], lot_size=list(1e3 * LOT))
    await book.limited(
        weight_max=0.3, leverage_max=1.0, net_weight_max=0.02, net_weight_min=-0.02, **SHORTS
    )
    side = np.array([1.0, -1.0, 1.0, -1.0])
    first = await book.size(*(side * rng.uniform(0.05, 0.25, 4)))
    before = np.array(first.sizes.weight)
    assert np.abs(before).sum() > 0.1
    await book.parametrised(lot_choice=SEARCHED)
    stakes = side * np.clip(np.abs(before) + rng.uniform(-0.05, 0.05, 4), 0.01, 0.3)
    decision = await book.size(*stakes, validate_only=True)
    assert decision.HasField("lot_search"), decision.fallback_chain
    assert decision.lot_search.note == ""
    assert not decision.limits_exceeded

    def worth(weights: np.ndarray) -> float:
        return VARIANCE * float(stakes @ weights - 0.5 * weights @ weights)

    def is_kept(weights: np.ndarray) -> bool:
        bought, sold = np.maximum(before, 0.0).sum(), np.maximum(-before, 0.0).sum()
        net, was = weights.sum(), before.sum()
        ends = (net + sold, was + sold), (-(net - bought), -(was - bought))
        worst = np.maximum(np.abs(weights), np.abs(weights - before))
        return (
            all(end <= max(0.02, now) + 1e-12 for end, now in ends)
            and bool((weights * side >= -1e-12).all())
            and bool((worst <= 0.3 + 1e-12).all())
            and float(worst.sum()) <= 1.0
        )

    near = [before + LOT * lots for lots in product(range(-2, 3), repeat=4)]
    best = max(worth(weights) for weights in near if is_kept(weights))
    found = np.array(decision.sizes.weight)
    assert is_kept(found)
    assert worth(found) >= best - 1e-12, (found, before)
    assert decision.lot_search.objective == pytest.approx(worth(found), abs=1e-12)


async def test_lots_of_a_size_of_their_own_stay_where_no_swap_keeps_the_net(
    joint_client: Client,
) -> None:
    """16 lots that add up to nothing else: the search says no trade, not that there are none."""
    rng = np.random.default_rng(1)
    price = list(rng.uniform(20.0, 5000.0, 16).round(2))
    book = KellyBook(joint_client, "joint", 16)
    multiplier = [float(max(1, int(2e5 / p))) for p in price]
    await book.opened(1e7, [], price=price, lot_size=multiplier)
    limits = {"net_weight_max": 0.2, "net_weight_min": -0.2, "leverage_max": 4.0, **SHORTS}
    await book.limited(weight_max=0.5, short_margin_rate=0.0, **limits)
    stakes = rng.uniform(0.05, 0.8, 16) * np.where(rng.random(16) < 0.5, 1.0, -1.0)
    first = await book.size(*stakes)
    assert any(first.sizes.trade_lots)
    await book.parametrised(lot_choice=SEARCHED)
    again = await book.size(*stakes, validate_only=True)
    assert again.lot_search.note == ""
    assert again.lot_search.is_used
    assert again.lot_search.objective >= again.lot_search.objective_rounded
    assert again.status == types_pb2.SIZING_STATUS_CAPPED

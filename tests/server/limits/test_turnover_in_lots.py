"""A book beyond a limit comes inside by whole lots as far as turnover lets, of whatever size."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import limits_pb2

from tests.server.support.kelly_books import METHODS, KellyBook
from tests.server.support.service_client import Client

EQUITY = 1_000_000.0


async def book(
    client: Client, method: str, held: Sequence[float], limits: dict[str, Any], **market: Any
) -> KellyBook:
    """Lots of 100 and 1,000 at 100 unless it says otherwise: 0.01 and 0.1 of equity."""
    market = {"lot_size": [100.0, 1000.0], **market}
    value = np.dot(held, market.get("price", [100.0] * len(held)))
    found = await KellyBook(client, method, len(held)).opened(EQUITY - value, list(held), **market)
    return await found.limited(**limits)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("held", "turnover_max", "trades"),
    [
        # 0.09 of 0.1 is needed; the other position, which has no edge, would take a lot of 0.1.
        ((3400.0, 1000.0), 0.1, [-9, 0]),
        ((2600.0, 1000.0), 0.1, [-1, 0]),
        ((2600.0, 1000.0), 0.05, [-1, 0]),
        ((2600.0, 1000.0), 0.01, [-1, 0]),
        ((2600.0, 1000.0), 0.009, [0, 0]),
        ((2600.0, 1000.0), 0.12, [-1, -1]),
    ],
)
async def test_a_part_of_a_lot_is_not_what_keeps_a_book_outside(
    joint_client: Client,
    method: str,
    held: tuple[float, float],
    turnover_max: float,
    trades: list[int],
) -> None:
    limits = {"weight_max": 0.25001, "turnover_max": turnover_max}
    found = await book(joint_client, method, held, limits)
    decision = await found.size(4.0, 0.0, validate_only=True)
    assert list(decision.sizes.trade_lots) == trades
    assert bool(decision.limits_exceeded) == (abs(decision.sizes.weight[0]) > 0.25001)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("most", ["quantity_max", "adv_trade_max"])
async def test_what_one_order_can_be_is_sent_again_and_again(
    joint_client: Client, method: str, most: str
) -> None:
    own = limits_pb2.InstrumentLimit
    market: dict[str, Any] = {"quantity_max": [100.0, 0.0]}
    limits: dict[str, Any] = {"turnover_max": 0.1}
    if most == "adv_trade_max":
        market = {"average_daily_volume": [1000.0, 1e9]}
        limits["adv_trade_max"] = 0.1
    found = await book(joint_client, method, (9000.0, 1000.0), {}, **market)
    limits["instruments"] = [own(instrument_id=found.names[0], weight_max=0.25)]
    await found.limited(**limits)
    decision = await found.size(4.0, 0.0, validate_only=True)
    assert list(decision.sizes.trade_lots) == [-1, 0]


@pytest.mark.parametrize("method", METHODS)
async def test_three_names_in_lots_of_a_hundred(joint_client: Client, method: str) -> None:
    """0.1311 where 0.1 may be: two lots of 0.0187 do, of the turnover of 0.05."""
    market = {"price": [187.31, 92.17, 410.55], "lot_size": [100.0] * 3}
    held = (700.0, 600.0, 300.0)
    limits = {"weight_max": 0.125, "turnover_max": 0.05}
    found = await book(joint_client, method, held, limits, **market)
    decision = await found.size(0.8, 0.0, 0.0, validate_only=True)
    assert decision.sizes.trade_lots[0] == -1
    await found.limited(weight_max=0.1, turnover_max=0.05)
    decision = await found.size(0.8, 0.0, 0.0, validate_only=True)
    assert decision.sizes.trade_lots[0] == -2
    assert [e.value for e in decision.limits_exceeded if e.name == found.names[0]] == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(12))
async def test_no_lot_more_would_fit(joint_client: Client, method: str, seed: int) -> None:
    """Random positions beyond their own limits: what is left of turnover brings none nearer."""
    rng = np.random.default_rng(seed)
    n = 4
    price, lot = rng.uniform(20.0, 300.0, n), rng.choice([1.0, 10.0, 100.0, 300.0], n)
    unit = price * lot / EQUITY
    held = np.floor(rng.uniform(0.0, 0.3, n) / unit) * lot
    turnover_max, cap = float(rng.uniform(0.02, 0.2)), 0.1
    market = {"price": price.tolist(), "lot_size": lot.tolist()}
    limits = {"weight_max": cap, "turnover_max": turnover_max}
    found = await book(joint_client, method, held.tolist(), limits, **market)
    decision = await found.size(*rng.uniform(0.0, 0.3, n), validate_only=True)
    trades = np.array(decision.sizes.trade_lots)
    used = float(np.abs(trades) @ unit)
    assert used <= turnover_max * (1.0 + 1e-9)
    before = held * price / EQUITY
    after = before + trades * unit
    forced = np.where(before > cap, np.ceil((before - cap) / unit - 1e-9), 0.0) * unit
    other = used - float(np.minimum(np.abs(trades) * unit, forced).sum())
    for line in np.flatnonzero(after > cap * (1.0 + 1e-9)):
        assert turnover_max - used + other < unit[line] * (1.0 + 1e-9)

"""The least trade holds for what limits make of a trade, and never stops what a limit asks for."""

from typing import Any

import pytest
from positionsizing.v1 import types_pb2

from tests.server.support.kelly_books import METHODS, KellyBook
from tests.server.support.service_client import Client

LEAST: dict[str, dict[str, Any]] = {
    "notional": {"trade_notional_min": 20_000.0},
    "weight": {"trade_weight_min": 0.02},
}
# Each leaves 60 or 66 units at 34 of a trade: 2,040 or 2,244.
CUTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "largest order": ({}, {"quantity_max": [60.0]}),
    "volume": ({"adv_trade_max": 0.06}, {"average_daily_volume": [1000.0]}),
    "largest trade": ({"trade_notional_max": 2_050.0}, {}),
    "turnover": ({"turnover_max": 0.00206}, {}),
}


async def opened(
    client: Client, method: str, limits: dict[str, Any], market: dict[str, Any]
) -> KellyBook:
    found = await KellyBook(client, method, 1).opened(
        1e6 - 34.0 * 4000.0, [4000.0], price=[34.0], lot_size=[1.0], **market
    )
    return await found.limited(**limits)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("least", LEAST)
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("stake", [0.0, 0.02])
async def test_a_reduction_cut_below_the_least_trade_is_dropped(
    joint_client: Client, method: str, least: str, cut: str, stake: float
) -> None:
    limits, market = CUTS[cut]
    found = await opened(joint_client, method, {**limits, **LEAST[least]}, market)
    decision = await found.size(stake, validate_only=True)
    assert list(decision.sizes.trade_lots) == [0]
    kind = f"LIMIT_KIND_TRADE_{least.upper()}_MIN"
    assert decision.sizes.binding[0] == types_pb2.LimitKind.Value(kind)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("least", LEAST)
@pytest.mark.parametrize("cut", CUTS)
async def test_a_reduction_that_a_limit_asks_for_is_made_however_small(
    joint_client: Client, method: str, least: str, cut: str
) -> None:
    limits, market = CUTS[cut]
    limits = {**limits, **LEAST[least], "weight_max": 0.05}
    found = await opened(joint_client, method, limits, market)
    decision = await found.size(0.0, validate_only=True)
    assert list(decision.sizes.trade_lots) == [-60]


@pytest.mark.parametrize("method", METHODS)
async def test_what_closes_a_position_is_never_too_small(joint_client: Client, method: str) -> None:
    found = await KellyBook(joint_client, method, 1).opened(1e6, [400.0], price=[34.0])
    await found.limited(trade_notional_min=20_000.0)
    decision = await found.size(0.0, validate_only=True)
    assert list(decision.sizes.lots) == [0]

"""A book beyond a limit: turnover goes first to what brings it inside, then to new purchases."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import limits_pb2, types_pb2

from tests.server.support.kelly_books import METHODS, KellyBook
from tests.server.support.service_client import Client

Limit = Callable[[Sequence[str], float], dict[str, Any]]


def _group(**bounds: Any) -> dict[str, Any]:
    return {"groups": [limits_pb2.GroupLimit(name="g", **bounds)]}


def _linear(name: str, bound: float) -> dict[str, Any]:
    row = limits_pb2.LinearLimit(name="l", instrument_ids=[name], coefficients=[1.0], upper=bound)
    return {"joint": limits_pb2.JointLimits(linear=[row])}


def _own(name: str, bound: float) -> dict[str, Any]:
    own = limits_pb2.InstrumentLimit(instrument_id=name, weight_max=bound)
    return {"instruments": [own]}


# Each bounds the first instrument, or the book, at a weight.
BOUNDS: dict[str, Limit] = {
    "weight": lambda names, bound: {"weight_max": bound},
    "notional": lambda names, bound: {"notional_max": bound * 1e5},
    "instrument": lambda names, bound: _own(names[0], bound),
    "share of volume": lambda names, bound: {"adv_position_max": bound},
    "group": lambda names, bound: _group(instrument_ids=names[:1], gross_weight_max=bound),
    "group net": lambda names, bound: _group(instrument_ids=names[:1], net_weight_max=bound),
    "linear": lambda names, bound: _linear(names[0], bound),
    "volatility": lambda names, bound: {
        "joint": limits_pb2.JointLimits(volatility_max=0.05 * bound)
    },
    "leverage": lambda names, bound: {"leverage_max": bound},
    "net": lambda names, bound: {"net_weight_max": bound},
}
OF_THE_BOOK = ("leverage", "net", "volatility")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("limit", BOUNDS)
async def test_what_brings_a_book_inside_goes_before_purchases(
    joint_client: Client, method: str, limit: str
) -> None:
    """30 % where 20 % may be, turnover of 5 %, and another signal that would use it up."""
    book = await KellyBook(joint_client, method, 2).opened(
        70_000.0, [300.0], average_daily_volume=[1000.0] * 2
    )
    await book.limited(turnover_max=0.05, **BOUNDS[limit](book.names, 0.2))
    decision = await book.size(0.4, 0.2, validate_only=True)
    assert list(decision.sizes.trade_lots) == [-50, 0]
    (only,) = decision.limits_exceeded
    assert only.value / (0.05 if limit == "volatility" else 1.0) in (
        pytest.approx(0.25),
        pytest.approx(25_000.0),
    )
    if limit in OF_THE_BOOK:
        return
    # 2 % are needed, and 3 % are left to buy with.
    await book.limited(turnover_max=0.05, **BOUNDS[limit](book.names, 0.28))
    decision = await book.size(0.4, 0.2, validate_only=True)
    assert not decision.limits_exceeded
    assert np.allclose(decision.sizes.trade_lots, [-20, 30], atol=1)
    assert sum(map(abs, decision.sizes.trade_lots)) <= 50


@pytest.mark.parametrize("method", METHODS)
async def test_what_may_not_be_held_goes_first(joint_client: Client, method: str) -> None:
    book = await KellyBook(joint_client, method, 3).opened(60_000.0, [300.0, 100.0])
    await book.limited(turnover_max=0.05, restricted_instrument_ids=[book.names[0]])
    decision = await book.size(0.4, 0.2, 0.2, validate_only=True)
    assert list(decision.sizes.trade_lots) == [-50, 0, 0]
    assert [e.kind for e in decision.limits_exceeded] == [types_pb2.LIMIT_KIND_RESTRICTED]


@pytest.mark.parametrize("method", METHODS)
async def test_a_hedge_that_a_net_limit_needs_goes_first(joint_client: Client, method: str) -> None:
    """30 % long where 20 % net may be: the short is what turnover is for, not the longer long."""
    book = await KellyBook(joint_client, method, 2).opened(70_000.0, [300.0])
    await book.limited(turnover_max=0.05, net_weight_max=0.2, allow_short=True)
    decision = await book.size(0.4, -0.2, validate_only=True)
    assert sum(decision.sizes.trade_lots) == -50
    assert max(decision.sizes.trade_lots) <= 0


@pytest.mark.parametrize("method", METHODS)
async def test_two_limits_share_what_turnover_there_is(joint_client: Client, method: str) -> None:
    """Two names 10 % beyond their own limits get a half each of 10 %, a third signal nothing."""
    book = await KellyBook(joint_client, method, 3).opened(40_000.0, [300.0, 300.0])
    await book.limited(turnover_max=0.1, weight_max=0.2)
    decision = await book.size(0.4, 0.4, 0.2, validate_only=True)
    assert list(decision.sizes.trade_lots) == [-50, -50, 0]

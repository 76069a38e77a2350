"""What a decision leaves the book beyond is named in it: each kind that GetBreaches knows."""

from typing import Any

import grpc
import numpy as np
import pytest
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    types_pb2,
)

from tests.server.support.kelly_books import METHODS, KellyBook
from tests.server.support.service_client import Client, new_id, refusal

EXCEEDED, CASH = types_pb2.SIZING_STATUS_LIMIT_EXCEEDED, types_pb2.LIMIT_KIND_CASH


def left(decision: sizing_pb2.SizingDecision) -> list[tuple[int, str, float, float]]:
    """What a decision names; its status says the same."""
    assert (decision.status == EXCEEDED) == bool(decision.limits_exceeded), decision.status
    return sorted((e.kind, e.name, e.bound, e.value) for e in decision.limits_exceeded)


def same(found: list[Any], expected: list[Any]) -> bool:
    keys, numbers = zip(*((row[:2], row[2:]) for row in found), strict=True)
    others, wanted = zip(*((row[:2], row[2:]) for row in expected), strict=True)
    return keys == others and np.allclose(numbers, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
async def test_a_margin_deficit_is_named_until_it_is_gone(
    joint_client: Client, method: str
) -> None:
    """Equity of 10,000 under 1,000 futures that bind 30 each, on a signal for 900, then for 300."""
    book = KellyBook(joint_client, method, 1)
    contract = {"contract_kind": [market_service_pb2.CONTRACT_KIND_FUTURE]}
    margin = {"initial_margin_long": [30.0], "initial_margin_short": [30.0]}
    await book.opened(10_000.0, [1000.0], **contract, **margin)
    await book.limited()
    assert await book.breaches() == [(CASH, "portfolio", 0.0, -20_000.0)]
    decision = await book.size(9.0)
    # The edge asks for 900; the deficit alone forces no sale, and is said.
    assert list(decision.sizes.trade_lots) == [-100]
    assert left(decision) == [(CASH, "portfolio", 0.0, pytest.approx(-17_000.0))]
    await book.fill(decision)
    assert same(left(decision), await book.breaches())
    more = await book.size(12.0, validate_only=True)
    assert not any(more.sizes.trade_lots)
    assert same(left(more), await book.breaches())
    last = await book.size(3.0)
    assert not left(last)
    await book.fill(last)
    assert await book.breaches() == []


@pytest.mark.parametrize("method", METHODS)
async def test_less_free_than_the_buffer_is_named(joint_client: Client, method: str) -> None:
    """30 % are to be free, 10 % are; what binds no more goes on, what is bought does not."""
    book = await KellyBook(joint_client, method).opened(10_000.0, [500.0, 400.0])
    await book.limited(cash_buffer=0.3)
    decision = await book.size(0.6, 0.4, 0.1, validate_only=True)
    assert not any(decision.sizes.trade_lots)
    assert left(decision) == [(CASH, "portfolio", pytest.approx(30_000.0), pytest.approx(1e4))]
    assert same(left(decision), await book.breaches())
    half = await book.size(0.4, 0.4, validate_only=True)
    sold = -sum(half.sizes.trade_lots)
    assert sold in (100, 101, 102)  # the optimum is within a lot of the stakes
    free = 1e4 + 100.0 * sold
    assert left(half) == [(CASH, "portfolio", pytest.approx(3e4), pytest.approx(free))]
    assert not left(await book.size(0.3, 0.4, validate_only=True))


@pytest.mark.parametrize("method", METHODS)
async def test_fees_of_the_decision_are_paid_from_what_is_free(
    joint_client: Client, method: str
) -> None:
    """A tenth sold brings 10,000 less 100; the buffer lacks 20,000."""
    book = await KellyBook(joint_client, method).opened(10_000.0, [500.0, 400.0])
    await book.limited(cash_buffer=0.3, fee_rate=0.01)
    decision = await book.size(0.4, validate_only=True)
    sold = -100.0 * decision.sizes.trade_lots[0]
    assert sold > 0.0
    assert left(decision) == [(CASH, "portfolio", 3e4, pytest.approx(1e4 + 0.99 * sold))]


@pytest.mark.parametrize("method", METHODS)
async def test_a_book_without_equity_is_beyond_its_limits(
    joint_client: Client, method: str
) -> None:
    """Owing 200,000 against 100,000 of shares, of which one trade sells 10,000 at most."""
    book = await KellyBook(joint_client, method).opened(-200_000.0, [1000.0])
    await book.limited(weight_max=0.5, leverage_max=1.0, trade_notional_max=10_000.0)
    decision = await book.size(0.4, validate_only=True)
    assert list(decision.sizes.trade_lots) == [-100]
    weight, leverage = types_pb2.LIMIT_KIND_WEIGHT_MAX, types_pb2.LIMIT_KIND_LEVERAGE_MAX
    assert left(decision) == [
        (weight, book.names[0], 0.5, np.inf),
        (leverage, "portfolio", 1.0, np.inf),
        (CASH, "portfolio", 0.0, pytest.approx(-190_000.0)),
    ]
    assert {row[:2] for row in await book.breaches()} == {row[:2] for row in left(decision)}


@pytest.mark.parametrize("method", METHODS)
async def test_a_buffer_that_a_least_exposure_contradicts_is_refused(
    joint_client: Client, method: str
) -> None:
    book = await KellyBook(joint_client, method).opened(50_000.0, [500.0])
    await book.limited(cash_buffer=0.9, net_weight_min=0.5, weight_max=0.8)
    refused = await refusal(book.size(0.45, 0.2))
    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.reason == "INFEASIBLE_LIMITS"
    assert "cash_buffer 0.9, net_weight_min 0.5" in refused.message
    assert "weight_max" not in refused.message


GROUP = limits_pb2.GroupLimit(name="g", net_weight_max=0.25, gross_weight_max=0.28)
BELOW = limits_pb2.GroupLimit(name="b", net_weight_min=-0.05)
ROW = limits_pb2.LinearLimit(name="row", coefficients=[1.0, -2.0], lower=-1.0, upper=0.4)
# Of 100,000: 30 % long the first, 10 % short the second, 20 % short of the volume of a day.
BEYOND: dict[str, dict[str, Any]] = {
    "weight": {"weight_max": 0.2},
    "notional": {"notional_max": 20_000.0},
    "quantity": {"instruments": [("quantity_max", 200.0)]},
    "restricted": {"restricted_instrument_ids": [0]},
    "short": {"allow_short": False},
    "share of volume": {"adv_position_max": 0.2},
    "days to exit": {"exit_days_max": 2.0},
    "group": {"groups": [GROUP]},
    "group below": {"groups": [BELOW]},
    "gross": {"gross_notional_max": 35_000.0},
    "leverage": {"leverage_max": 0.35},
    "net": {"net_weight_max": 0.1},
    "net below": {"net_weight_min": 0.25},
    "positions": {"positions_max": 1},
    "buffer": {"cash_buffer": 0.75},
    "linear": {"joint": limits_pb2.JointLimits(linear=[ROW])},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", BEYOND)
async def test_each_kind_of_breach_is_named(joint_client: Client, method: str, case: str) -> None:
    """No trade is allowed: the decision leaves what GetBreaches finds, number by number."""
    book = await KellyBook(joint_client, method).opened(
        80_000.0, [300.0, -100.0], average_daily_volume=[1000.0] * 3
    )
    limits = {"allow_short": True, "turnover_max": 0.0, **BEYOND[case]}
    if "restricted_instrument_ids" in limits:
        limits["restricted_instrument_ids"] = [book.names[0]]
    if "instruments" in limits:
        limits["instruments"] = [
            limits_pb2.InstrumentLimit(instrument_id=book.names[0], quantity_max=200.0)
        ]
    for row in limits["joint"].linear if "joint" in limits else ():
        row.instrument_ids[:] = book.names[:2]
    for group in limits.get("groups", ()):
        member = book.names[1] if group.name == "b" else book.names[0]
        group.instrument_ids[:] = [member]
    await book.limited(**limits)
    found = await book.breaches()
    assert found
    for first, stakes in ((0, (0.3, -0.1, 0.2)), (2, (0.2,))):
        decision = await book.size(*stakes, first=first, validate_only=True)
        assert not any(decision.sizes.trade_lots)
        assert same(left(decision), found), (left(decision), found)


@pytest.mark.parametrize("method", METHODS)
async def test_what_a_group_shares_is_named(joint_client: Client, method: str) -> None:
    book = await KellyBook(joint_client, method).opened(70_000.0, [300.0])
    group_id = new_id("desk")
    held = portfolio_service_pb2.Holdings(instrument_ids=book.names[:1], quantity=[300.0])
    book.portfolio_id = await joint_client.put_portfolio(70_000.0, group_id=group_id)
    await joint_client.portfolio.SetHoldings(
        portfolio_service_pb2.SetHoldingsRequest(
            portfolio_id=book.portfolio_id, cash=70_000.0, holdings=held
        )
    )
    shared = portfolio_service_pb2.SharedLimits(gross_notional_max=2e4, instrument_notional_max=1e4)
    scope = portfolio_service_pb2.Scope(group_id=group_id)
    await joint_client.set_limits(scope, shared=shared, turnover_max=0.0)
    decision = await book.size(0.2, first=2, validate_only=True)
    assert {row[0] for row in left(decision)} == {
        types_pb2.LIMIT_KIND_SHARED_GROSS_NOTIONAL_MAX,
        types_pb2.LIMIT_KIND_SHARED_INSTRUMENT_NOTIONAL_MAX,
    }
    assert same(left(decision), await book.breaches())

"""Which limits a book is beyond: by hand for each kind, and never because of a decision."""

from dataclasses import replace

import numpy as np
import pytest

from compute.limits.breaches import breaches
from compute.limits.guard import Guard, Proposal
from compute.limits.policy import GroupLimit, InstrumentLimit, LimitKind, Limits, SharedLimits
from compute.market import Market, Positions, SharedUse
from tests.compute.random_books import case

MARKET = Market(
    instrument_ids=("A", "B", "C"),
    price=np.array([10.0, 20.0, 50.0]),
    lot_size=np.ones(3),
    average_daily_volume=np.array([1000.0, 1000.0, 0.0]),
    sector=("x", "x", "y"),
)
# Worth 300, 200 and -100 of an equity of 1,000, with 100 of A being bought and 50 of C sold.
BOOK = Positions(
    held=np.array([30.0, 10.0, -2.0]),
    open_buy=np.array([10.0, 0.0, 0.0]),
    open_sell=np.array([0.0, 0.0, 1.0]),
    cash=600.0,
    cash_reserved=100.0,
)
SHORTS = Limits(allow_short=True)


def found(limits: Limits, shared: SharedUse | None = None) -> list[tuple[str, str, float, float]]:
    return [
        (breach.kind.name, breach.name, breach.bound, pytest.approx(breach.value, rel=1e-12))
        for breach in breaches(Guard(MARKET, BOOK, limits, shared))
    ]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (SHORTS, []),
        (Limits(), [("SHORT_NOT_ALLOWED", "C", 0.0, -2.0)]),
        (replace(SHORTS, weight_max=0.4), []),
        (replace(SHORTS, weight_max=0.3), [("WEIGHT_MAX", "A", 0.3, 0.4)]),
        (replace(SHORTS, notional_max=399.0), [("NOTIONAL_MAX", "A", 399.0, 400.0)]),
        (
            replace(SHORTS, instruments={"B": InstrumentLimit(weight_max=0.1, quantity_max=9.0)}),
            [("WEIGHT_MAX", "B", 0.1, 0.2), ("QUANTITY_MAX", "B", 9.0, 10.0)],
        ),
        (replace(SHORTS, restricted=frozenset("C")), [("RESTRICTED", "C", 0.0, 150.0)]),
        # What trades not at all may not be held: C is short, and any share of nothing is too much.
        (
            replace(SHORTS, exit_days_max=0.6),
            [("EXIT_DAYS_MAX", "A", 0.6, 0.8), ("EXIT_DAYS_MAX", "C", 0.6, np.inf)],
        ),
        (
            replace(SHORTS, adv_position_max=0.03),
            [("ADV_POSITION_MAX", "A", 0.03, 0.04), ("ADV_POSITION_MAX", "C", 0.03, np.inf)],
        ),
        (replace(SHORTS, leverage_max=0.7), [("LEVERAGE_MAX", "portfolio", 0.7, 0.75)]),
        (replace(SHORTS, leverage_max=0.75), []),
        (
            replace(SHORTS, gross_notional_max=700.0),
            [("GROSS_NOTIONAL_MAX", "portfolio", 700.0, 750.0)],
        ),
        # A's purchase may fill without C's sale, and the other way round.
        (replace(SHORTS, net_weight_max=0.45), [("NET_MAX", "portfolio", 0.45, 0.5)]),
        (replace(SHORTS, net_weight_min=0.36), [("NET_MIN", "portfolio", 0.36, 0.35)]),
        (
            replace(
                SHORTS,
                groups=(GroupLimit("tech", sector="x", gross_weight_max=0.5, net_weight_max=0.6),),
            ),
            [("GROUP_GROSS_MAX", "tech", 0.5, 0.6)],
        ),
        # 600 bind what is held, 150 the open trades.
        (replace(SHORTS, cash_buffer=0.6), [("CASH", "portfolio", 600.0, 250.0)]),
        (replace(SHORTS, turnover_max=0.0, trade_notional_max=1.0), []),
    ],
)
def test_each_kind_by_hand(limits: Limits, expected: list[tuple[str, str, float, float]]) -> None:
    assert found(limits) == expected


def test_what_a_group_shares() -> None:
    bounds = SharedLimits(gross_notional_max=1000.0, instrument_notional_max=450.0)
    use = SharedUse(bounds, 300.0, np.array([100.0, 200.0, 0.0]))
    assert found(SHORTS, use) == [
        ("SHARED_GROSS_NOTIONAL_MAX", "group", 1000.0, 1050.0),
        ("SHARED_INSTRUMENT_NOTIONAL_MAX", "A", 450.0, 500.0),
    ]


def test_without_equity_every_weight_is_too_large() -> None:
    broke = replace(BOOK, cash=-400.0)
    made = breaches(Guard(MARKET, broke, replace(SHORTS, weight_max=0.9)))
    assert {(breach.kind, breach.name) for breach in made} == {
        *((LimitKind.WEIGHT_MAX, name) for name in "ABC"),
        (LimitKind.CASH, "portfolio"),  # margin without equity is a deficit
    }
    assert all(breach.value == np.inf for breach in made if breach.kind is LimitKind.WEIGHT_MAX)


def test_no_decision_leads_beyond_a_limit() -> None:
    """What the guard lets pass can be reserved, and no limit is breached that was kept before."""
    rng = np.random.default_rng(20)
    n_passed = n_breached = 0
    for _ in range(2000):
        item = case(rng)
        guard = Guard(item.market, item.positions, item.limits, item.shared)
        before = {breach.key for breach in breaches(guard)}
        lot_value = (item.market.price * item.market.lot_size)[item.index]
        value = rng.normal(0.0, 0.1, len(item.index)) * guard.equity * 10.0 ** rng.uniform(-4, 0)
        trade = np.trunc(np.clip(value / lot_value, -(2.0**40), 2.0**40)).astype(np.int64)
        trade[rng.random(len(trade)) < 0.5] = 0
        if guard.violations(Proposal(item.index, trade), reducing=item.reducing):
            continue
        units = np.zeros(len(item.market.price))
        units[item.index] = trade * item.market.lot_size[item.index]
        after = replace(
            item.positions,
            open_buy=item.positions.open_buy + np.maximum(units, 0.0),
            open_sell=item.positions.open_sell + np.maximum(-units, 0.0),
        )
        found = breaches(Guard(item.market, after, item.limits, item.shared))
        new = [breach for breach in found if breach.key not in before]
        assert not new, (new, item)
        n_passed += bool(trade.any())
        n_breached += bool(before)
    assert n_passed > 200
    assert n_breached > 50

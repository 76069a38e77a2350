"""What is said of a size is so: its binding, what it would be without, and what that is worth."""

from dataclasses import replace

import numpy as np
import pytest

from compute.limits.guard import Guard, Proposal
from compute.limits.policy import GroupLimit, InstrumentLimit, LimitKind, Limits, SharedLimits
from compute.market import Positions, SharedUse
from compute.shapes import KernelRegistry
from compute.waterfall.layout import Source, Stage
from compute.waterfall.pipeline import LineStatus, Sizing
from tests.compute.plain_limits import breaches
from tests.compute.random_books import Case, case
from tests.compute.test_pipeline_properties import decided, simple


def made_of(item: Case, kernels: KernelRegistry) -> Sizing:
    made = decided(item, kernels)
    assert made is not None
    return made


def with_book(item: Case, held: list[float], buy: list[float], sell: list[float]) -> Case:
    """The case with these holdings and reservations, at an equity of a million."""
    cash = 1e6 - float(item.market.price @ np.array(held))
    book = Positions(np.array(held), np.array(buy), np.array(sell), cash)
    return replace(item, positions=book)


ONE_LIMIT = [
    ("weight_max", Limits(weight_max=0.1), LimitKind.WEIGHT_MAX, 0.1),
    ("notional_max", Limits(notional_max=5e4), LimitKind.NOTIONAL_MAX, 5e4),
    (
        "quantity_max",
        Limits(instruments={f"I{i}": InstrumentLimit(quantity_max=700.0) for i in range(4)}),
        LimitKind.QUANTITY_MAX,
        700.0,
    ),
    ("leverage_max", Limits(leverage_max=0.3), LimitKind.LEVERAGE_MAX, 0.3),
    ("gross_notional_max", Limits(gross_notional_max=3e5), LimitKind.GROSS_NOTIONAL_MAX, 3e5),
    ("net_weight_max", Limits(net_weight_max=0.25), LimitKind.NET_MAX, 0.25),
    (
        "group",
        Limits(
            groups=tuple(GroupLimit(f"g{s}", sector=s, gross_weight_max=0.15) for s in ("A", "B"))
        ),
        LimitKind.GROUP_GROSS_MAX,
        0.15,
    ),
    ("turnover_max", Limits(turnover_max=0.5), LimitKind.TURNOVER_MAX, 0.5),
    ("cash_buffer", Limits(cash_buffer=0.7), LimitKind.CASH, 3e5),
    ("adv_trade_max", Limits(adv_trade_max=0.05), LimitKind.ADV_TRADE_MAX, 0.05),
    ("adv_position_max", Limits(adv_position_max=0.05), LimitKind.ADV_POSITION_MAX, 0.05),
    (
        "exit_days_max",
        Limits(exit_days_max=0.5, participation_rate=0.1),
        LimitKind.EXIT_DAYS_MAX,
        0.5,
    ),
    ("trade_notional_max", Limits(trade_notional_max=5e4), LimitKind.TRADE_NOTIONAL_MAX, 5e4),
]


@pytest.mark.parametrize(
    ("limits", "kind", "bound"),
    [row[1:] for row in ONE_LIMIT],
    ids=[row[0] for row in ONE_LIMIT],
)
def test_without_the_binding_is_the_answer_without_that_limit(
    kernels: KernelRegistry, limits: Limits, kind: LimitKind, bound: float
) -> None:
    """With one limit alone: the other one, far away, never cuts."""
    item = simple(4, limits)
    made = made_of(item, kernels)
    free = made_of(replace(item, limits=Limits()), kernels)
    assert made.binding.kind.tolist() == [int(kind)] * 4
    assert made.binding.bound == pytest.approx([bound] * 4, rel=1e-9)
    np.testing.assert_allclose(
        made.binding.without, free.stages[Stage.RECONCILE], rtol=0, atol=1e-11
    )
    assert (made.status == LineStatus.CAPPED).all()


def test_without_the_last_limit_the_line_has_what_it_cut(kernels: KernelRegistry) -> None:
    """Random books: taking the last limit to cut away gives its lines what it took, or less."""
    checked = 0
    for seed in range(150):
        item = case(np.random.default_rng([51, seed]))
        made = decided(item, kernels)
        if made is None:
            continue
        for name, kind in (
            ("turnover_max", LimitKind.TURNOVER_MAX),
            ("leverage_max", LimitKind.LEVERAGE_MAX),
        ):
            lines = made.binding.kind == kind
            if not lines.any():
                continue
            wider = decided(replace(item, limits=replace(item.limits, **{name: None})), kernels)
            assert wider is not None
            without, got = made.binding.without[lines], wider.stages[Stage.RECONCILE][lines]
            before = made.stages[Stage.RECONCILE][lines]
            # Between what it was cut to and what it was cut from: another limit may cut then.
            low, high = np.minimum(before, without), np.maximum(before, without)
            assert (got >= low - 1e-9).all()
            assert (got <= high + 1e-9).all()
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("source", [Source.WIN_LOSS, Source.RETURN_VOLATILITY])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_the_shadow_price_is_growth_per_unit_of_the_bound(
    kernels: KernelRegistry, source: Source, side: float
) -> None:
    n = 3
    item = simple(n, Limits(allow_short=True))
    signals = replace(
        item.signals,
        side=np.full(n, side),
        source=np.full(n, int(source)),
        win_probability=np.array([0.6, 0.7, 0.55]),
        payoff=np.array([1.0, 0.8, 1.2]),
        expected_return=np.array([0.02, 0.03, 0.01]),
        volatility=np.array([0.3, 0.35, 0.25]),
    )
    item = replace(
        item,
        signals=signals,
        market=replace(item.market, lot_size=np.full(n, 1e-7)),  # lots too small to matter
    )

    def growth_at(bound: float) -> np.ndarray:
        limits = replace(item.limits, weight_max=bound)
        return made_of(replace(item, limits=limits), kernels).growth

    made = made_of(replace(item, limits=replace(item.limits, weight_max=0.04)), kernels)
    assert (made.binding.kind == LimitKind.WEIGHT_MAX).all()
    slope = (growth_at(0.04 + 1e-4) - growth_at(0.04 - 1e-4)) / 2e-4
    np.testing.assert_allclose(made.marginal, slope, rtol=1e-6)
    assert (made.marginal > 0.0).all()
    free = made_of(item, kernels)
    np.testing.assert_allclose(free.marginal, 0.0, atol=1e-6)


def test_limits_that_contradict_each_other_are_named(kernels: KernelRegistry) -> None:
    """A group that is shorter than it may be keeps the whole book from going longer elsewhere."""
    groups = (GroupLimit("short", instrument_ids=frozenset({"I0"}), net_weight_min=-0.1),)
    limits = Limits(groups=groups, leverage_max=0.5, net_weight_min=0.4, allow_short=True)
    item = with_book(simple(2, limits, probability=0.4), [0.0, 4500.0], [0.0] * 2, [0.0] * 2)
    made = made_of(item, kernels)
    kept = made.stages[Stage.RECONCILE] != made.stages[Stage.JOINT_OPTIMUM]
    assert kept.any()
    assert (made.binding.kind[kept] > 0).all()
    assert set(made.binding.kind[kept]) == {int(LimitKind.NET_MIN)}
    assert set(made.binding.bound[kept]) == {0.4}


def test_whole_lots_say_why_there_are_none(kernels: KernelRegistry) -> None:
    large = simple(1, Limits(weight_max=0.1))
    large = replace(large, market=replace(large.market, lot_size=np.array([5000.0])))
    made = made_of(large, kernels)
    assert made.status.tolist() == [LineStatus.ZERO]
    assert made.binding.kind.tolist() == [int(LimitKind.LOT_SIZE)]
    assert made.binding.bound.tolist() == [5000.0]
    assert made.binding.without == pytest.approx([0.1])
    # A minimum that whole lots have not reached is no reason of the lots.
    both = replace(large, limits=Limits(weight_max=0.1, trade_notional_min=10.0))
    assert made_of(both, kernels).binding.kind.tolist() == [int(LimitKind.LOT_SIZE)]
    small = simple(1, Limits(weight_max=0.02, trade_notional_min=20_001.0))
    made = made_of(small, kernels)
    assert made.binding.kind.tolist() == [int(LimitKind.TRADE_NOTIONAL_MIN)]
    assert made.binding.bound.tolist() == [20_001.0]


def test_a_trade_that_later_limits_make_too_small_is_named_too(kernels: KernelRegistry) -> None:
    """Held 5 %, wanted 20 %, room for 0.05 % more: below the minimum, and no silent keep."""
    limits = Limits(leverage_max=0.0505, trade_notional_min=1_000.0)
    made = made_of(with_book(simple(1, limits), [500.0], [0.0], [0.0]), kernels)
    assert made.trade_lots.tolist() == [0]
    assert made.status.tolist() == [LineStatus.CAPPED]
    assert made.binding.kind.tolist() == [int(LimitKind.TRADE_NOTIONAL_MIN)]
    assert made.binding.without == pytest.approx([0.0505])


def test_turnover_with_reductions_needs_no_second_try(kernels: KernelRegistry) -> None:
    """Reductions are rounded the other way where the turnover is used up, at the first rounding."""
    item = simple(4, Limits(turnover_max=0.1, allow_short=True))
    item = with_book(item, [3000.5, 2500.25, 0.0, 100.75], [0.0] * 4, [0.0] * 4)
    made = made_of(item, kernels)
    assert not made.rejected
    traded = float(np.abs(made.trade_lots).sum()) * 100.0
    assert 0.1 * 1e6 - 4 * 100.0 <= traded <= 0.1 * 1e6


def test_a_line_without_edge_says_which_limit_keeps_its_position(kernels: KernelRegistry) -> None:
    """Nothing is held but what is being bought: it can't be sold, whatever the grid makes of it."""
    item = with_book(simple(1, probability=0.4), [0.0], [123.4567], [0.0])
    made = made_of(item, kernels)
    assert made.trade_lots.tolist() == [0]
    assert made.binding.kind.tolist() == [int(LimitKind.RESERVED)]


def broken_by(item: Case, lots: list[int]) -> list[str]:
    index = item.index.tolist()
    return breaches(
        item.market, item.positions, item.limits, item.shared, index, lots, reducing=False
    )


def test_a_turned_position_counts_as_if_reserved_purchases_failed(kernels: KernelRegistry) -> None:
    """Bought 1,000 that may fail, sold 1,500: short 1,500 at the worst, not 500."""
    limits = Limits(allow_short=True, allow_flip=True, leverage_max=0.12)
    item = with_book(simple(1, limits), [0.0], [1000.0], [0.0])
    item = replace(item, signals=replace(item.signals, side=np.array([-1.0])))
    guard = Guard(item.market, item.positions, item.limits)
    found = guard.violations(Proposal(item.index, np.array([-1500])))
    assert [violation.kind for violation in found] == [LimitKind.LEVERAGE_MAX]
    assert found[0].value == pytest.approx(150_000.0)
    assert broken_by(item, [-1500])
    made = made_of(item, kernels)
    assert not broken_by(item, made.trade_lots.tolist())
    assert -1200 <= made.trade_lots[0] <= 0


def test_reserved_trades_count_in_what_is_shared(kernels: KernelRegistry) -> None:
    """1,000 held and 500 of them being sold: until that is filled, 1,000 are in use."""
    use = SharedUse(SharedLimits(gross_notional_max=150_000.0), 0.0, np.zeros(1))
    item = replace(with_book(simple(1), [1000.0], [0.0], [500.0]), shared=use)
    guard = Guard(item.market, item.positions, item.limits, use)
    kinds = [v.kind for v in guard.violations(Proposal(item.index, np.array([501])))]
    assert kinds == [LimitKind.SHARED_GROSS_NOTIONAL_MAX]
    assert not guard.violations(Proposal(item.index, np.array([500])))
    assert made_of(item, kernels).trade_lots.tolist() == [499] or (
        made_of(item, kernels).trade_lots.tolist() == [500]
    )

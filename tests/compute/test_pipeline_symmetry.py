"""Long and short alike, whatever the currency, and the next-card game through the pipeline."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest

from compute.limits.guard import Proposal
from compute.limits.policy import LimitKind, Limits, SharedLimits
from compute.market import SharedUse, equity_of
from compute.shapes import KernelRegistry
from compute.sizing import size
from compute.waterfall.layout import Stage
from compute.waterfall.pipeline import Sizing
from tests.compute.random_books import Case, case
from tests.compute.test_pipeline_properties import asked, decided, simple

SEEDS = range(200)
OTHER_SIDE = {
    LimitKind.NET_MAX: LimitKind.NET_MIN,
    LimitKind.NET_MIN: LimitKind.NET_MAX,
    LimitKind.GROUP_NET_MAX: LimitKind.GROUP_NET_MIN,
    LimitKind.GROUP_NET_MIN: LimitKind.GROUP_NET_MAX,
}


def negative(bound: float | None) -> float | None:
    return None if bound is None else -bound


def mirrored(item: Case) -> Case:
    """The book with every sign turned, of the same equity."""
    limits, book = item.limits, item.positions
    groups = tuple(
        replace(
            group,
            net_weight_min=negative(group.net_weight_max),
            net_weight_max=negative(group.net_weight_min),
        )
        for group in limits.groups
    )
    turned = replace(
        limits,
        groups=groups,
        net_weight_min=negative(limits.net_weight_max),
        net_weight_max=negative(limits.net_weight_min),
    )
    value = float(item.market.price @ book.held)
    positions = replace(
        book,
        held=-book.held,
        open_buy=book.open_sell,
        open_sell=book.open_buy,
        cash=equity_of(item.market, book) + value,
    )
    signals = item.signals
    price = item.market.price[item.index]
    stop = signals.stop_price
    if stop is not None:
        stop = np.where(stop > 0, np.maximum(2.0 * price - stop, 0.0), 0.0)
    signals = replace(signals, side=-signals.side, stop_price=stop)
    return replace(item, limits=turned, positions=positions, signals=signals)


def cut_by_cash(made: Sizing) -> bool:
    """Sales bring no cash before they are filled, so cash is not symmetric."""
    return bool((made.stages[Stage.CASH] != made.stages[Stage.TURNOVER_LIMIT]).any())


def test_long_and_short_are_mirror_images(kernels: KernelRegistry) -> None:
    compared = 0
    for seed in SEEDS:
        item = case(np.random.default_rng([41, seed]))
        # A stop above the price costs more fee than one below it.
        free = replace(item.limits, allow_short=True, short_margin_rate=1.0, fee_rate=None)
        low, high = free.net_weight_min, free.net_weight_max
        if low is not None and high is not None and low > high:
            continue  # a contradiction, which the two sides resolve each in its own order
        item = replace(item, limits=free)
        first, second = decided(item, kernels), decided(mirrored(item), kernels)
        if first is None or second is None:
            continue
        if cut_by_cash(first) or cut_by_cash(second) or first.rejected or second.rejected:
            continue
        compared += 1
        np.testing.assert_allclose(second.stages[:-1], -first.stages[:-1], rtol=1e-9, atol=3e-12)
        assert (second.trade_lots == -first.trade_lots).all(), seed
        assert (second.status == first.status).all()
        kind = [OTHER_SIDE.get(LimitKind(k), k) for k in first.binding.kind]
        assert second.binding.kind.tolist() == kind, seed
    assert compared > 150


def scaled(item: Case, unit: float) -> Case:
    """The same book counted in money of which one is `unit` of the old."""

    def money(bound: float | None) -> float | None:
        return None if bound is None else bound * unit

    limits, book, shared = item.limits, item.positions, item.shared
    own = {
        name: replace(bounds, notional_max=money(bounds.notional_max))
        for name, bounds in limits.instruments.items()
    }
    limits = replace(
        limits,
        instruments=own,
        notional_max=money(limits.notional_max),
        gross_notional_max=money(limits.gross_notional_max),
        trade_notional_min=money(limits.trade_notional_min),
        trade_notional_max=money(limits.trade_notional_max),
    )
    if shared is not None:
        bounds = SharedLimits(
            money(shared.limits.gross_notional_max), money(shared.limits.instrument_notional_max)
        )
        shared = SharedUse(bounds, shared.gross_notional * unit, shared.instrument_notional * unit)
    stop = item.signals.stop_price
    return replace(
        item,
        limits=limits,
        shared=shared,
        market=replace(item.market, price=item.market.price * unit),
        positions=replace(book, cash=book.cash * unit, cash_reserved=book.cash_reserved * unit),
        signals=replace(item.signals, stop_price=None if stop is None else stop * unit),
    )


@pytest.mark.parametrize("unit", [2.0**10, 2.0**-10])
def test_the_currency_does_not_matter(kernels: KernelRegistry, unit: float) -> None:
    """Powers of two, which lose no digit: then not one lot may differ."""
    for seed in SEEDS:
        item = case(np.random.default_rng([42, seed]))
        first, second = decided(item, kernels), decided(scaled(item, unit), kernels)
        if first is None or second is None:
            assert first is second
            continue
        np.testing.assert_array_equal(second.stages, first.stages)
        np.testing.assert_array_equal(second.trade_lots, first.trade_lots)
        np.testing.assert_array_equal(second.binding.kind, first.binding.kind)


def test_what_the_guard_accepts_it_accepts_again(kernels: KernelRegistry) -> None:
    """Idempotent: the guard finds nothing in the lots of a decision, asked as often as you like."""
    for seed in SEEDS:
        inputs = asked(case(np.random.default_rng([43, seed])))
        if inputs is None:
            continue
        made = size(inputs, kernels)
        again = size(inputs, kernels)
        np.testing.assert_array_equal(again.trade_lots, made.trade_lots)
        proposal = Proposal(inputs.index, made.trade_lots)
        assert not inputs.limit_bounds.guard.violations(proposal, reducing=inputs.reducing)


def play(deck: list[int], kernels: KernelRegistry) -> float:
    """Wealth after staking full Kelly on the colour of each next card, through the pipeline."""
    left, wealth = {card: deck.count(card) for card in (1, -1)}, 1.0
    for card in deck:
        item = simple(1, Limits(allow_short=True), cash=wealth)
        side = 1.0 if left[1] >= left[-1] else -1.0
        share = max(left.values()) / sum(left.values())
        signals = replace(item.signals, side=np.array([side]), win_probability=np.array([share]))
        made = decided(replace(item, signals=signals), kernels)
        assert made is not None
        wealth *= 1.0 + card * float(made.stages[Stage.RECONCILE][0])
        left[card] -= 1
    return wealth


@pytest.mark.parametrize(("n_each", "printed"), [(2, 8 / 3), (3, 3.2), (26, 9.081329549428)])
def test_the_next_card_game_ends_the_same_whatever_the_order(
    kernels: KernelRegistry, n_each: int, printed: float
) -> None:
    """Cover's game has no variance: any error in sequential sizing would show."""
    exact = float(mpmath.mpf(2) ** (2 * n_each) / mpmath.binomial(2 * n_each, n_each))
    assert exact == pytest.approx(printed, rel=1e-12)
    rng = np.random.default_rng(52)
    deck = [1] * n_each + [-1] * n_each
    for order in (deck, deck[::-1], [1, -1] * n_each, rng.permutation(deck), rng.permutation(deck)):
        wealth = play([int(card) for card in order], kernels)
        # The last card is certain, and cash keeps 1e-12 back; weights have steps of 2^-40.
        assert wealth == pytest.approx(exact, rel=1e-10)

"""An independent check of every hard limit on the final whole lots.

It shares nothing with the pipeline but the statement of the limits: it values positions in money,
from quantities and prices, and knows nothing of weights, stages or projections. Whatever it
finds, those sizes do not leave the service.

A position that was beyond a limit before may stay there or come nearer; it may not move away. So
the ceiling of every limit is the larger of two: the bound, less what pending trades may still use
of it, and the value before. Nets that the trades as they were worked out bring inside have to be
inside in whole lots too, wherever lots can be found (`reached`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compute.limits.ceilings import position_ceilings, trade_ceilings
from compute.limits.funding import Funding
from compute.limits.policy import LimitKind, Limits
from compute.market import DUST, Floats, Integers, Market, Positions, SharedUse, group_members

ROUNDING = 1e-12
"""Relative: prices, quantities and bounds arrive as doubles and are themselves no more exact."""


@dataclass(frozen=True)
class Violation:
    """A limit that the lots would break; `bound` and `value` in base currency, or counted."""

    kind: LimitKind
    name: str
    bound: float
    value: float


@dataclass(frozen=True)
class Proposal:
    """Final trades: instruments by their index in the market, whole lots signed, (n,) each."""

    index: Integers
    trade_lots: Integers


REACHED = 1e-6
"""Of equity: trades that miss a limit by less were meant to keep it, as solvers and grids miss."""

Reached = frozenset[tuple[LimitKind, str]]
"""Limits by kind and name."""

NOTHING_REACHED: Reached = frozenset()


class Guard:
    """The limits of one portfolio in money; `violations` checks a proposal against them."""

    @np.errstate(over="ignore")  # a bound that overflows is no bound
    def __init__(
        self,
        market: Market,
        positions: Positions,
        limits: Limits,
        shared: SharedUse | None = None,
        earlier: "Guard | None" = None,
    ) -> None:
        """`earlier`: a guard of the same portfolio, whose ceilings are taken where they hold."""
        self.market, self.positions, self.limits, self.shared = market, positions, limits, shared
        held = float(np.dot(market.value, positions.held))
        self.equity = positions.cash + positions.gains + held
        self.before = market.price * positions.expected
        self.lot_value = market.price * market.lot_size
        self.pending_buy = market.price * positions.open_buy
        self.pending_sell = market.price * positions.open_sell
        self.worst = self.worst_case(self.before, np.arange(len(self.before)))
        sellable = market.price * (positions.held - positions.open_sell)
        coverable = market.price * (-positions.held - positions.open_buy)
        self.sell_max = np.maximum(sellable, 0.0) * (1.0 + ROUNDING)
        self.cover_max = np.maximum(coverable, 0.0) * (1.0 + ROUNDING)
        same = earlier if earlier is not None and earlier._has_ceilings_of(self) else None
        self.position_max: Floats = (
            same.position_max if same else position_ceilings(market, limits, self.equity)
        )
        self.trade_max: Floats = same.trade_max if same else trade_ceilings(market, limits)
        self.groups = [(g, self._sum_over(group_members(market, g))) for g in limits.groups]
        self.whole = self._sum_over(np.ones(len(self.before)))
        known = same.funding if same else None
        self.funding: Funding = Funding.of(market, positions, limits, known)

    def _has_ceilings_of(self, other: "Guard") -> bool:
        same_market = self.market is other.market and self.equity == other.equity
        return same_market and (self.limits is other.limits or self.limits == other.limits)

    def worst_case(self, value: Floats, index: Integers) -> Floats:
        """Largest absolute notional, (n,), that positions of `value` may turn out to be.

        Some of the reserved trades may fill and others not.
        """
        high, low = value + self.pending_sell[index], value - self.pending_buy[index]
        worst: Floats = np.maximum(np.abs(high), np.abs(low))
        return worst

    @np.errstate(over="ignore")  # what overflows exceeds every bound
    def violations(
        self,
        proposal: Proposal,
        *,
        reducing: bool = False,
        stopless: NDArray[np.bool_] | None = None,
        reached: Reached = NOTHING_REACHED,
    ) -> list[Violation]:
        """Every limit that the proposal breaks; empty where it may leave.

        stopless: (n,) lines without a stop where one is required, None where none is.
        reached: nets that have to end inside, though the book was beyond them.
        """
        valued = _Valued.of(self, proposal)
        return [
            *self._instruments(valued),
            *self._permissions(valued, reducing, stopless),
            *self._sums(valued, reached),
            *self._shared(valued),
            *self._cash(valued),
        ]

    def reached(self, index: Integers, trade: Floats) -> Reached:
        """The nets that a book is beyond and that trades of this value, (n,) signed, bring inside.

        Whole lots near those trades should not leave the book outside by a lot.
        """
        found = set()
        for net in self._nets():
            after = net.total.net + float(net.total.member[index] @ trade)
            scale = ROUNDING * (net.total.gross + float(np.abs(trade).sum()))
            meant = max(scale, REACHED * self.equity)
            for kind, sign, bound in net.ceilings(self.equity):
                if sign * net.total.net > bound + scale and sign * after <= bound + meant:
                    found.add((kind, net.name))
        return frozenset(found)

    def _sum_over(self, member: Floats) -> "_Sum":
        return _Sum(
            member=member,
            gross=float(member @ self.worst),
            net=float(member @ self.before),
            pending_buy=float(member @ self.pending_buy),
            pending_sell=float(member @ self.pending_sell),
        )

    def _instruments(self, valued: "_Valued") -> Iterator[Violation]:
        i, after, before = valued.index, valued.after, valued.before
        bound = self.position_max[i]
        # Each side at its worst: what is reserved for the other side may fill without the rest.
        long_max = np.maximum(bound - self.pending_sell[i], before)
        short_max = np.maximum(bound - self.pending_buy[i], -before)
        size = np.abs(before) + np.abs(valued.trade)
        for kind, value, ceiling, scale in (
            (LimitKind.NOTIONAL_MAX, after, long_max, size),
            (LimitKind.NOTIONAL_MAX, -after, short_max, size),
            (LimitKind.TRADE_NOTIONAL_MAX, np.abs(valued.trade), self.trade_max[i], 0.0),
        ):
            beyond = value > ceiling + ROUNDING * np.maximum(np.abs(ceiling), scale)
            for line in _where(beyond):
                name = self.market.instrument_ids[i[line]]
                yield Violation(kind, name, float(ceiling[line]), float(value[line]))

    def _permissions(
        self, valued: "_Valued", reducing: bool, stopless: NDArray[np.bool_] | None
    ) -> Iterator[Violation]:
        after, before, trade = valued.after, valued.before, valued.trade
        flipped = after * before < 0
        oversold = -trade > self.sell_max[valued.index]
        grown = (np.abs(after) > np.abs(before)) | flipped
        rules = []
        if reducing:
            rules.append((LimitKind.REDUCING_ONLY, grown))
        if stopless is not None and self.limits.stop_required:
            rules.append((LimitKind.STOP_REQUIRED, grown & stopless))
        if not self.limits.allow_short:
            rules.append((LimitKind.SHORT_NOT_ALLOWED, oversold))
        if not self.limits.allow_flip:
            overbought = trade > self.cover_max[valued.index]
            reversed = ((before > 0) & oversold) | ((before < 0) & overbought)
            rules.append((LimitKind.FLIP_NOT_ALLOWED, flipped | reversed))
        for kind, broken in rules:
            for line in _where(broken):
                name = self.market.instrument_ids[valued.index[line]]
                yield Violation(kind, name, 0.0, float(after[line]))

    def _sums(self, valued: "_Valued", reached: Reached) -> Iterator[Violation]:
        """Groups, gross, net and turnover."""
        limits = self.limits
        for group, total in self.groups:
            gross_max = group.gross_weight_max
            kind = LimitKind.GROUP_GROSS_MAX
            yield from self._gross(valued, kind, group.name, total, gross_max)
        if limits.positions_max is not None:
            yield from self._count(valued, limits.positions_max)
        notional = limits.gross_notional_max
        for kind, bound in (
            (LimitKind.LEVERAGE_MAX, limits.leverage_max),
            (LimitKind.GROSS_NOTIONAL_MAX, None if notional is None else notional / self.equity),
        ):
            yield from self._gross(valued, kind, "portfolio", self.whole, bound)
        for net in self._nets():
            yield from self._net(valued, net, reached)
        if limits.turnover_max is not None:
            turnover = float(np.abs(valued.trade).sum())
            bound = limits.turnover_max * self.equity
            yield from _beyond(LimitKind.TURNOVER_MAX, "portfolio", bound, turnover)

    def _gross(
        self, valued: "_Valued", kind: LimitKind, name: str, total: "_Sum", bound: float | None
    ) -> Iterator[Violation]:
        if bound is None:
            return
        member = total.member[valued.index]
        yield from self._gross_in(valued, member, kind, name, total.gross, bound * self.equity)

    def _gross_in(
        self,
        valued: "_Valued",
        member: Floats,
        kind: LimitKind,
        name: str,
        worst: float,
        bound: float,
    ) -> Iterator[Violation]:
        """In each outcome the bound holds, or the trades add nothing. worst: the largest before.

        That earlier reserved trades may lead beyond the bound by themselves is no room for trades
        that do so where those are cancelled.
        """
        scale = max(worst, float(member @ np.abs(valued.trade)))
        found: list[Violation] = []
        for before, after in _outcomes(np.abs(valued.starts), np.abs(valued.ends)):
            growth = float(member @ (after - before))
            change = member @ np.where(valued.moved == 0.0, 0.0, after - valued.worst)
            ceiling = bound if growth > ROUNDING * scale else max(bound, worst)
            found += _beyond(kind, name, ceiling, worst + float(change))
        yield from sorted(found, key=lambda broken: -broken.value)[:1]

    def _count(self, valued: "_Valued", most: int) -> Iterator[Violation]:
        """Instruments of which there may be more than dust, whichever reserved trades fill."""
        dust = DUST * self.lot_value
        worst, dust = int((self.worst > dust).sum()), dust[valued.index]
        others = worst - int((valued.worst > dust).sum())
        sizes = (
            np.where(valued.moved == 0.0, valued.worst, np.abs(end)) > dust
            for end in (valued.starts, valued.ends)
        )
        found: list[Violation] = []
        for before, after in _outcomes(*(size.astype(np.float64) for size in sizes)):
            ceiling = most if after.sum() > before.sum() else max(most, worst)
            value = others + after.sum()
            found += _beyond(LimitKind.POSITIONS_MAX, "portfolio", float(ceiling), float(value))
        yield from sorted(found, key=lambda broken: -broken.value)[:1]

    def _nets(self) -> Iterator["_Net"]:
        """The limits on net sums: of groups, then of the portfolio."""
        for group, total in self.groups:
            kinds = LimitKind.GROUP_NET_MIN, LimitKind.GROUP_NET_MAX
            yield _Net(group.name, total, kinds, group.net_weight_min, group.net_weight_max)
        kinds, limits = (LimitKind.NET_MIN, LimitKind.NET_MAX), self.limits
        yield _Net("portfolio", self.whole, kinds, limits.net_weight_min, limits.net_weight_max)

    def _net(self, valued: "_Valued", net: "_Net", reached: Reached) -> Iterator[Violation]:
        total = net.total
        after = total.net + float(total.member[valued.index] @ valued.trade)
        scale = total.gross + float(np.abs(valued.trade).sum())
        for kind, sign, bound in net.ceilings(self.equity):
            is_strict = (kind, net.name) in reached
            ceiling = bound if is_strict else max(bound, sign * total.net)
            yield from _beyond(kind, net.name, ceiling, sign * after, scale)

    def _shared(self, valued: "_Valued") -> Iterator[Violation]:
        if self.shared is None:
            return
        bounds, others = self.shared.limits, self.shared
        if bounds.gross_notional_max is not None:
            kind, member = LimitKind.SHARED_GROSS_NOTIONAL_MAX, np.ones(len(valued.trade))
            before = self.whole.gross + others.gross_notional
            most = bounds.gross_notional_max
            yield from self._gross_in(valued, member, kind, "group", before, most)
        if bounds.instrument_notional_max is not None:
            other = others.instrument_notional[valued.index]
            worst = self.worst[valued.index]
            ceilings = np.maximum(bounds.instrument_notional_max, worst + other)
            position = worst + valued.grown + other
            kind = LimitKind.SHARED_INSTRUMENT_NOTIONAL_MAX
            for line in np.flatnonzero(position > ceilings * (1.0 + ROUNDING)):
                name = self.market.instrument_ids[valued.index[line]]
                yield Violation(kind, name, float(ceilings[line]), float(position[line]))

    def _cash(self, valued: "_Valued") -> Iterator[Violation]:
        """Margin and fees fit into what is free; a decision without increases always may go."""
        need = self.funding.needed(valued.index, valued.trade)
        if need is not None:
            free = self.funding.free - (self.limits.cash_buffer or 0.0) * self.equity
            scale = abs(self.equity) + float(self.funding.bound.sum())
            yield from _beyond(LimitKind.CASH, "portfolio", free, need, scale)


@dataclass(frozen=True)
class _Sum:
    """A set of instruments and what is in it before the proposal, base currency.

    gross: at its worst, whichever reserved trades fill.
    """

    member: Floats
    gross: float
    net: float
    pending_buy: float
    pending_sell: float


@dataclass(frozen=True)
class _Net:
    """A limit on a net sum, in weights. kinds: of the minimum and of the maximum."""

    name: str
    total: _Sum
    kinds: tuple[LimitKind, LimitKind]
    least: float | None
    most: float | None

    def ceilings(self, equity: float) -> Iterator[tuple[LimitKind, float, float]]:
        """Kind, sign of the net, and what that may be at most, less what pending trades use."""
        if self.most is not None:
            yield self.kinds[1], 1.0, self.most * equity - self.total.pending_sell
        if self.least is not None:
            yield self.kinds[0], -1.0, -self.least * equity - self.total.pending_buy


@dataclass(frozen=True)
class _Valued:
    """A proposal at the guard's prices, base currency, (n,) each."""

    index: Integers
    before: Floats
    trade: Floats
    after: Floats
    moved: Floats
    grown: Floats
    """By how much the largest absolute notional that the position may turn out to be grows."""
    worst: Floats
    """That notional before."""
    starts: Floats
    """Value before, (2, n), if of what is reserved only the purchases fill, or only the sales."""

    @classmethod
    def of(cls, guard: Guard, proposal: Proposal) -> "_Valued":
        i = proposal.index
        before = guard.before[i]
        trade = guard.lot_value[i] * proposal.trade_lots
        after = before + trade
        # 0.3 held less 3 lots of 0.1 is nothing, though doubles say otherwise.
        closed = np.abs(after) <= ROUNDING * (np.abs(before) + np.abs(trade))
        after = np.where(closed, 0.0, after)
        grown = guard.worst_case(after, i) - guard.worst[i]
        starts = np.stack([before + guard.pending_sell[i], before - guard.pending_buy[i]])
        moved = after - before
        return cls(i, before, trade, after, moved, grown, guard.worst[i], starts)

    @property
    def ends(self) -> Floats:
        """`starts` after the trades."""
        return self.starts + self.moved


def _outcomes(before: Floats, after: Floats) -> Iterator[tuple[Floats, Floats]]:
    """Two outcomes of what is reserved, (n,) before and after the trades each, of (2, n) ends.

    Where all together is largest after the trades, and where the trades add most to it.
    """
    growth, tie = after - before, ROUNDING * (before + after).max(axis=0)
    for first, second in ((after, growth), (growth, after)):
        is_same = np.abs(first[0] - first[1]) <= tie
        upper = np.where(is_same, second[0] >= second[1], first[0] > first[1])
        yield np.where(upper, before[0], before[1]), np.where(upper, after[0], after[1])


def _where(broken: NDArray[np.bool_]) -> Integers:
    """The lines that break a limit, most of the time none."""
    return np.flatnonzero(broken) if broken.any() else np.empty(0, dtype=np.int64)


def _beyond(
    kind: LimitKind, name: str, ceiling: float, value: float, scale: float = 0.0
) -> Iterator[Violation]:
    """A violation where `value` exceeds `ceiling` beyond the rounding of terms of size `scale`."""
    if value > ceiling + ROUNDING * max(abs(ceiling), scale):
        yield Violation(kind, name, ceiling, value)

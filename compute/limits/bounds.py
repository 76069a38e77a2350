"""The limits of a portfolio in numbers: everything about it that does not depend on the signals.

`prepare` makes it once per state, as columns over all instruments of the market, so that a request
only has to pick its lines. Quantities are in units of the instrument, money and prices in the
portfolio's base currency, weights fractions of equity.

Trades that are reserved but not filled count at their worst: they use up headroom, and headroom
that they would free can't be used before they are filled.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compute.limits.breaches import Breach, breaches
from compute.limits.caps import Caps, caps_of
from compute.limits.closing import closing_only, is_solvent, scale_of
from compute.limits.guard import Guard
from compute.limits.policy import LimitKind, Limits
from compute.limits.sum_bounds import gross_cap, headroom, shared_gross, sum_bounds
from compute.limits.trade_min import TradeMin, trade_min_of
from compute.market import (
    EQUITY_MAX,
    LOTS_MAX,
    Floats,
    Integers,
    Market,
    MissingInputError,
    Positions,
    SharedUse,
    equity_of,
    group_members,
)
from compute.money.margin import Capital, Terms, capital, terms_of
from compute.shapes import GROUPS_MAX


@dataclass(frozen=True)
class LimitBounds:
    """Everything about a portfolio that doesn't depend on the signals, over m instruments."""

    market: Market
    positions: Positions
    limits: Limits
    stated: Limits
    """`limits` before a book without equity lifted those that nothing could keep (`closing.py`)."""
    equity: float
    scale: float
    """Money that a weight of 1 stands for: equity, where it is positive (`closing.py`)."""
    capital: Capital
    free: float
    """What may still be bound: equity less margin, reservations and buffer, as a fraction of it."""
    terms: Terms
    unit_weight: Floats
    """Weight of one unit, (m,)."""
    before: Floats
    weight_min: Floats
    weight_max: Floats
    adv_weight_min: Floats
    adv_weight_max: Floats
    buy_max: Floats
    sell_max: Floats
    """Largest trades as weights, both >= 0. Where shorts or changes of side are not allowed, no
    more is sold than is held and not yet being sold: a purchase that is reserved may still fail."""
    trade_max: Floats
    """The largest trade either way, before that rule."""
    cap_kind: Integers
    cap_bound: Floats
    trade_kind: Integers
    trade_bound: Floats
    members: Floats
    """Members in {0, 1} of each group, then of the portfolio and of what is shared, (g + 2, m)."""
    bounds: Floats
    """Rows of `columns.Exposure`, with all members counted as outside, (len(Exposure), g + 2)."""
    group_names: tuple[str, ...]
    gross_kind: LimitKind
    gross_bound: float
    shared: SharedUse | None
    caps: Caps
    guard: Guard
    """Of the same limits, in money: it checks the lots, and is told nothing else of this."""

    @property
    def is_closing(self) -> bool:
        """Whether equity is used up, so that positions may only be reduced."""
        return not is_solvent(self.equity)

    @cached_property
    def trade_min(self) -> TradeMin:
        """The smallest trade worth making."""
        return trade_min_of(self.limits, self.scale)

    @cached_property
    def breaches(self) -> list[Breach]:
        """What the book is beyond before anything is decided."""
        return breaches(self.guard)

    @cached_property
    def most(self) -> Floats:
        """The largest weight each instrument may have, (m,)."""
        return np.minimum(self.weight_max, self.adv_weight_max)

    @cached_property
    def least(self) -> Floats:
        """The smallest, (m,); negative where it may be short."""
        return np.maximum(self.weight_min, self.adv_weight_min)

    @property
    def limit_names(self) -> tuple[str, ...]:
        """What bindings refer to by place: groups, then linear limits, then tails."""
        joint = self.limits.joint
        rows, tails = (tuple(item.name for item in part) for part in (joint.linear, joint.tails))
        return self.group_names + rows + tails

    @cached_property
    def gross_before(self) -> float:
        """Sum of absolute weights held and reserved."""
        return float(np.abs(self.before).sum())

    @cached_property
    def net_before(self) -> float:
        """Sum of signed weights held and reserved."""
        return float(self.before.sum())


@np.errstate(over="ignore")  # a bound that overflows is no bound
def prepare(
    market: Market,
    positions: Positions,
    limits: Limits,
    shared: SharedUse | None = None,
    earlier: LimitBounds | None = None,
) -> LimitBounds:
    """Builds the bounds of a portfolio. `earlier`: of the same one; what still holds is taken.

    Where equity is not positive, the bounds are those of a book that may only be reduced.
    Raises `MissingInputError` where equity is not a number that is meant, a position has too many
    lots, or a limit needs a column that the market snapshot doesn't have.
    """
    equity = equity_of(market, positions)
    if not abs(equity) < EQUITY_MAX:
        raise MissingInputError("NO_EQUITY", f"equity is {equity:.10g}: it must be finite")
    stated, limits = limits, limits if is_solvent(equity) else closing_only(limits)
    scale = scale_of(equity, market, positions)
    _refuse_unstated(limits)
    _refuse_uncountable(market, positions)
    unit_weight = market.price / scale
    before = unit_weight * positions.expected
    if earlier is not None and _same_rules(earlier, market, limits, shared, equity):
        caps, members, terms = earlier.caps, earlier.members, earlier.terms
    else:
        caps = caps_of(market, limits, shared, scale, is_closing=not is_solvent(equity))
        groups = [group_members(market, group) for group in limits.groups]
        members = np.stack([*groups, *np.ones((2, len(before)))])
        terms = terms_of(market, limits)
    sellable, coverable = _reversible(positions, limits)
    sellable, coverable = unit_weight * sellable, unit_weight * coverable
    pending = unit_weight * positions.open_buy, unit_weight * positions.open_sell
    gross_max, gross_kind, gross_bound = gross_cap(limits, scale)
    bound, buffer = capital(market, positions, terms), (limits.cash_buffer or 0.0) * equity
    weight_min, weight_max = _box(caps.weight, before, *pending)
    adv_min, adv_max = _box(caps.adv, before, *pending)
    least, most = np.maximum(weight_min, adv_min), np.minimum(weight_max, adv_max)
    return LimitBounds(
        market=market,
        positions=positions,
        limits=limits,
        stated=stated,
        equity=equity,
        scale=scale,
        capital=bound,
        free=(bound.free - buffer) / scale,
        terms=terms,
        unit_weight=unit_weight,
        before=before,
        weight_min=weight_min,
        weight_max=weight_max,
        adv_weight_min=adv_min,
        adv_weight_max=adv_max,
        buy_max=np.minimum(np.minimum(caps.trade, coverable), _way(before, most)),
        sell_max=np.minimum(np.minimum(caps.trade, sellable), _way(-before, -least)),
        trade_max=caps.trade,
        cap_kind=caps.kind,
        cap_bound=caps.bound,
        trade_kind=caps.trade_kind,
        trade_bound=caps.trade_bound,
        members=members,
        bounds=sum_bounds(limits, gross_max, shared_gross(shared, scale), members, before, pending),
        group_names=tuple(group.name for group in limits.groups),
        gross_kind=gross_kind,
        gross_bound=gross_bound,
        shared=shared,
        caps=caps,
        guard=Guard(market, positions, limits, shared, earlier.guard if earlier else None),
    )


def _same_rules(
    limit_bounds: LimitBounds,
    market: Market,
    limits: Limits,
    shared: SharedUse | None,
    equity: float,
) -> bool:
    return (
        limit_bounds.market is market
        and limit_bounds.equity == equity
        and limit_bounds.shared is shared
        and (limit_bounds.limits is limits or limit_bounds.limits == limits)
    )


def _refuse_unstated(limits: Limits) -> None:
    """Limits that name what is found elsewhere have to come with it; groups have a most."""
    for clusters in limits.clusters:
        raise MissingInputError("MISSING_MATRIX", f"clusters of {clusters.name!r} are unknown here")
    for stress in limits.joint.stress:
        raise MissingInputError("NO_STRESS_SCENARIO", f"{stress.scenario_id!r} is unknown here")
    if len(limits.groups) > GROUPS_MAX:
        raise MissingInputError(
            "TOO_MANY_GROUPS",
            f"{len(limits.groups)} group limits apply in all scopes together; at most "
            f"{GROUPS_MAX} can",
        )


def _refuse_uncountable(market: Market, positions: Positions) -> None:
    """Doubles count lots one by one up to `LOTS_MAX` only."""
    lots = np.abs(positions.held) + positions.open_buy + positions.open_sell
    for place in np.flatnonzero(~(lots < LOTS_MAX * market.lot_size)):
        raise MissingInputError(
            "TOO_MANY_LOTS",
            f"the position in {market.instrument_ids[place]!r} has more lots than can be counted "
            "exactly; its lot_size is too small",
        )


def _box(
    cap: Floats, before: Floats, pending_buy: Floats, pending_sell: Floats
) -> tuple[Floats, Floats]:
    """Least and largest weight of each instrument, (m,), for a cap on its absolute weight.

    A reserved sale may fail, and with it the position be so much larger; a reserved purchase may,
    and the position be so much further short. Where the two ends cross, because pending trades on
    both sides are larger than the cap, the one that is nearer to `before` holds: nothing may add
    to either side.
    """
    high = headroom(cap, pending_sell, before)
    low = -headroom(cap, pending_buy, -before)
    crossed = low > high
    # Then `before` is at or beyond one of the ends, and comes no nearer to the other than that.
    return (
        np.where(crossed & (before <= high), high, low),
        np.where(crossed & (before > high), low, high),
    )


def _reversible(positions: Positions, limits: Limits) -> tuple[Floats, Floats]:
    """Units that may be sold and bought without a change of side, whichever trades fill, (m,)."""
    long, short = positions.expected > 0, positions.expected < 0
    sellable = np.maximum(positions.held - positions.open_sell, 0.0)
    coverable = np.maximum(-positions.held - positions.open_buy, 0.0)
    sell_any = bool(limits.allow_short) & (bool(limits.allow_flip) | ~long)
    buy_any = bool(limits.allow_flip) | ~short
    return np.where(sell_any, np.inf, sellable), np.where(buy_any, np.inf, coverable)


def _way(before: Floats, most: Floats) -> Floats:
    """The largest purchase of a short position that has to stay one, (m,), infinite elsewhere.

    A reserved sale may fail, and a long position then be larger than `most` allows: of such a line
    no sum is a reason to buy more, and towards zero is not the safe side.
    """
    way = np.maximum(most - before, 0.0)
    way = np.where(before + way < most, np.nextafter(way, np.inf), way)  # as far as the end itself
    kept: Floats = np.where((most < 0.0) & (before < 0.0), way, np.inf)
    return kept

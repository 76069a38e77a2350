"""Limits that no book satisfies, whatever is held: by a linear program over the whole market.

    caps of instruments, shorts allowed or not, margin inside equity less the cash buffer, gross,
    net and group exposure, linear limits

as rows over the long and the short weight of each instrument. Limits of a decision (turnover, sizes
of trades) and curved limits are left out: they may delay a book, or want data.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from compute.limits.ceilings import position_ceilings
from compute.limits.policy import InstrumentLimit, Limits
from compute.market import Floats, Market, MissingInputError, group_members
from compute.money.margin import terms_of

INSTRUMENTS_MAX = 20_000
"""Larger markets are not looked at: the program would take seconds."""


NAMED = 5
"""Instruments whose own limits are named."""


class InfeasibleLimitsError(MissingInputError):
    """No sizes satisfy the limits together; `conflict` names those that contradict each other."""

    def __init__(self, message: str, conflict: str = "") -> None:
        super().__init__("INFEASIBLE_LIMITS", message)
        self.conflict = conflict


@dataclass(frozen=True)
class _Row:
    """row_long @ long + row_short @ short <= bound."""

    name: str
    long: Floats
    short: Floats
    bound: float


def contradiction(market: Market, limits: Limits, equity: float) -> tuple[str, ...]:
    """Names of limits that contradict each other, each of them needed for it; empty: none do."""
    if market.whole is not None:
        market = market.whole[0]
    if len(market.price) > INSTRUMENTS_MAX or not equity > 0.0:
        return ()
    caps: Floats = np.minimum(position_ceilings(market, limits, equity) / equity, 1e6)
    rows = _rows(market, limits, equity)
    shorts = bool(limits.allow_short)
    if _feasible(rows, caps, shorts):
        return ()
    needed = list(rows)
    for row in rows:
        rest = [other for other in needed if other is not row]
        if not _feasible(rest, caps, shorts):
            needed = rest
    names = [row.name for row in needed]
    if _feasible(needed, np.full_like(caps, 1e6), shorts):
        names += _holding(needed, caps, shorts, (market, limits, equity))
    if not shorts and _feasible(needed, caps, shorts=True):
        names.append("allow_short")
    return tuple(dict.fromkeys(names))


def _holding(
    rows: list[_Row], caps: Floats, shorts: bool, stated: tuple[Market, Limits, float]
) -> Iterator[str]:
    """The limits of single instruments that keep a book from the rows, the first `NAMED` of them.

    They are those with a price where the rows are missed by as little as can be.
    """
    size, count = len(caps), len(rows)
    found = linprog(
        np.concatenate([np.zeros(2 * size), np.ones(count)]),
        A_ub=np.hstack([_matrix(rows), -np.eye(count)]),
        b_ub=[row.bound for row in rows],
        bounds=np.vstack([_bounds(caps, shorts), np.tile([0.0, np.inf], (count, 1))]),
        method="highs",
    )
    price = np.abs(found.upper.marginals[: 2 * size].reshape(2, size)).max(axis=0)
    if not shorts:
        price = np.abs(found.upper.marginals[:size])
    holding = np.flatnonzero(price > 0.0)
    for place in holding[:NAMED]:
        yield f"{_cap_name(*stated, int(place))} of {stated[0].instrument_ids[place]}"
    if not len(holding):
        yield "limits of single instruments"
    if len(holding) > NAMED:
        yield f"and those of {len(holding) - NAMED} more instruments"


def _cap_name(market: Market, limits: Limits, equity: float, place: int) -> str:
    """The tightest of an instrument's own limits, by name and bound."""
    name = market.instrument_ids[place]
    if name in limits.restricted:
        return "restricted_instrument_ids"
    own = limits.instruments.get(name)
    alone: list[tuple[str, float, Limits]] = []
    for field in ("weight_max", "notional_max", "quantity_max"):
        stated = [getattr(source, field, None) for source in (limits, own) if source is not None]
        given = [bound for bound in stated if bound is not None]
        if given:
            only = InstrumentLimit(**{field: min(given)})
            alone.append((field, min(given), Limits(instruments={name: only})))
    for field in ("adv_position_max", "exit_days_max"):
        if (bound := getattr(limits, field)) is not None:
            rate = limits.participation_rate
            alone.append((field, bound, Limits(**{field: bound}, participation_rate=rate)))
    return min(
        (position_ceilings(market, single, equity)[place], f"{field} {bound:g}")
        for field, bound, single in alone
    )[1]


def _feasible(rows: list[_Row], caps: Floats, shorts: bool) -> bool:
    if not rows:
        return True
    found = linprog(
        np.zeros(2 * len(caps)),
        A_ub=_matrix(rows),
        b_ub=[row.bound for row in rows],
        bounds=_bounds(caps, shorts),
        method="highs",
    )
    return bool(found.status != 2)


def _matrix(rows: list[_Row]) -> Floats:
    return np.stack([np.concatenate([row.long, row.short]) for row in rows])


def _bounds(caps: Floats, shorts: bool) -> Floats:
    """Of the long weights and then the short ones, (2m, 2)."""
    short_caps = caps if shorts else np.zeros_like(caps)
    return np.column_stack([np.zeros(2 * len(caps)), np.concatenate([caps, short_caps])])


def _rows(market: Market, limits: Limits, equity: float) -> list[_Row]:
    one, terms = np.ones(len(market.price)), terms_of(market, limits)
    buffer = limits.cash_buffer or 0.0
    name = f"cash_buffer {buffer:g}"
    rows = [_Row(name, terms.rate_long, terms.rate_short, 1.0 - buffer)]

    def gross(name: str, member: Floats, bound: float | None) -> None:
        if bound is not None:
            rows.append(_Row(f"{name} {bound:g}", member, member, bound))

    def net(name: str, member: Floats, least: float | None, most: float | None) -> None:
        if most is not None:
            rows.append(_Row(f"{name}_max {most:g}", member, -member, most))
        if least is not None:
            rows.append(_Row(f"{name}_min {least:g}", -member, member, -least))

    gross("leverage_max", one, limits.leverage_max)
    if limits.gross_notional_max is not None:
        bound = limits.gross_notional_max
        rows.append(_Row(f"gross_notional_max {bound:g}", one, one, bound / equity))
    net("net_weight", one, limits.net_weight_min, limits.net_weight_max)
    for group in limits.groups:
        member = group_members(market, group)
        gross(f"group {group.name} gross_weight_max", member, group.gross_weight_max)
        least, most = group.net_weight_min, group.net_weight_max
        net(f"group {group.name} net_weight", member, least, most)
    for limit in limits.joint.linear:
        if limit.soft_price is None:
            row = np.zeros(len(market.price))
            for name, value in limit.coefficients.items():
                if (place := market.index.get(name)) is not None:
                    row[place] = value
            net(limit.name, row, limit.lower, limit.upper)
    return rows

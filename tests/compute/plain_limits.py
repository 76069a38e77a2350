"""The hard limits, read from the contract and checked one by one in plain Python.

Nothing here is shared with the pipeline or with its guard but the data types. A position already
beyond a bound may stay or come nearer; what reserved trades may still use of a bound is not free.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import fsum

from compute.limits.policy import GroupLimit, Limits, SaleProceeds
from compute.market import Market, Positions, SharedUse

ROUNDING = 1e-11
"""Relative to the money that is summed: doubles carry sixteen digits, sums of them a few less."""


@dataclass(frozen=True)
class Position:
    """One instrument in money: what is expected to be held, and what is reserved to be traded."""

    name: str
    sector: str
    price: float
    before: float
    buy: float
    sell: float
    trade: float
    daily_volume: float | None
    held: float

    @property
    def after(self) -> float:
        return self.before + self.trade

    @property
    def possible_before(self) -> list[float]:
        """Where the position may end without the decision, each reserved side filled or not."""
        return [self.held + buy - sell for buy in (0.0, self.buy) for sell in (0.0, self.sell)]

    @property
    def possible(self) -> list[float]:
        """The same with the decision filled or not."""
        before = self.possible_before
        return [*before, *(value + self.trade for value in before)]

    @property
    def worst_before(self) -> float:
        """The largest that the position may be, whichever reserved trades fail."""
        return max(abs(self.before + self.sell), abs(self.before - self.buy))

    @property
    def worst_after(self) -> float:
        """The same once the decision is filled too."""
        return max(abs(self.after + self.sell), abs(self.after - self.buy))

    def outcomes(self, size: Callable[[float], float] = abs) -> list[tuple[float, float]]:
        """Size before and after the decision: where it ends largest, and where it grows most."""
        ends = [self.before + self.sell, self.before - self.buy]
        if not self.trade:
            ends = [max(ends, key=abs)]
        both = [(size(end), size(end + self.trade)) for end in ends]
        unit = 1e9 / (max(map(max, both)) or 1.0)

        def key(*parts: float) -> tuple[int, ...]:
            return tuple(round(part * unit) for part in parts)

        return [
            max(both, key=lambda pair: key(pair[1], pair[1] - pair[0])),
            max(both, key=lambda pair: key(pair[1] - pair[0], pair[1])),
        ]


def breaches(
    market: Market,
    positions: Positions,
    limits: Limits,
    shared: SharedUse | None,
    index: Sequence[int],
    trade_lots: Sequence[int],
    *,
    reducing: bool,
) -> list[str]:
    """A sentence for every limit that the trades break."""
    book = list(_book(market, positions, index, trade_lots))
    equity = positions.cash + fsum(
        price * held for price, held in zip(market.price, positions.held, strict=True)
    )
    found: list[str] = []
    for position in book:
        found += _instrument(position, limits, equity)
        found += _permission(position, limits, reducing)
    for group in limits.groups:
        members = [position for position in book if _member(position, group)]
        found += _gross(group.name, members, group.gross_weight_max, equity)
        found += _net(group.name, members, group.net_weight_min, group.net_weight_max, equity)
    found += _count(book, limits.positions_max)
    notional = limits.gross_notional_max
    found += _gross("leverage", book, limits.leverage_max, equity)
    found += _gross("gross", book, None if notional is None else notional / equity, equity)
    found += _net("net", book, limits.net_weight_min, limits.net_weight_max, equity)
    turnover = fsum(abs(position.trade) for position in book)
    if limits.turnover_max is not None:
        found += _over("turnover", turnover, limits.turnover_max * equity, turnover)
    found += _shared(book, shared)
    found += _cash(book, positions, limits, equity)
    return found


def _book(
    market: Market, positions: Positions, index: Sequence[int], trade_lots: Sequence[int]
) -> Iterator[Position]:
    lots = dict(zip(map(int, index), map(int, trade_lots), strict=True))
    volume = market.average_daily_volume
    for i, name in enumerate(market.instrument_ids):
        price = float(market.price[i])
        held = float(positions.held[i])
        buy, sell = float(positions.open_buy[i]), float(positions.open_sell[i])
        yield Position(
            name=name,
            sector=market.sector[i] if market.sector else "",
            price=price,
            before=price * (held + buy - sell),
            buy=price * buy,
            sell=price * sell,
            trade=price * float(market.lot_size[i]) * lots.get(i, 0),
            daily_volume=None if volume is None else float(volume[i]),
            held=price * held,
        )


def _over(name: str, value: float, bound: float, scale: float) -> list[str]:
    if value <= bound + ROUNDING * max(abs(bound), abs(scale)):
        return []
    return [f"{name}: {value!r} is above {bound!r}"]


def _instrument(position: Position, limits: Limits, equity: float) -> Iterator[str]:
    bounds = [
        None if limits.weight_max is None else limits.weight_max * equity,
        limits.notional_max,
    ]
    own = limits.instruments.get(position.name)
    if own is not None:
        bounds.append(None if own.weight_max is None else own.weight_max * equity)
        bounds.append(own.notional_max)
        bounds.append(None if own.quantity_max is None else own.quantity_max * position.price)
    if position.name in limits.restricted:
        bounds.append(0.0)
    if limits.adv_position_max is not None and position.daily_volume is not None:
        bounds.append(limits.adv_position_max * position.daily_volume * position.price)
    if limits.exit_days_max is not None and position.daily_volume is not None:
        rate = 0.05 if limits.participation_rate is None else limits.participation_rate
        bounds.append(limits.exit_days_max * rate * position.daily_volume * position.price)
    size = abs(position.held) + position.buy + position.sell + abs(position.trade)
    for bound in bounds:
        if bound is not None:
            longest, shortest = max(position.possible), min(position.possible)
            already_long, already_short = (
                max(position.possible_before),
                min(position.possible_before),
            )
            yield from _over(f"{position.name} long", longest, max(bound, already_long), size)
            yield from _over(f"{position.name} short", -shortest, max(bound, -already_short), size)
    if limits.trade_notional_max is not None:
        most = limits.trade_notional_max
        yield from _over(f"{position.name} trade", abs(position.trade), most, 0.0)
    if limits.adv_trade_max is not None and position.daily_volume is not None:
        most = limits.adv_trade_max * position.daily_volume * position.price
        yield from _over(f"{position.name} share of volume", abs(position.trade), most, 0.0)
    grows = abs(position.after) > abs(position.before) + ROUNDING * size
    smallest = max(limits.trade_notional_min or 0.0, (limits.trade_weight_min or 0.0) * equity)
    if grows and abs(position.trade) < smallest * (1.0 - ROUNDING):
        yield f"{position.name}: a trade of {abs(position.trade)!r} is below {smallest!r}"


def _permission(position: Position, limits: Limits, reducing: bool) -> Iterator[str]:
    noise = ROUNDING * (abs(position.before) + abs(position.trade))
    shorter = position.after < -noise and position.after < position.before - noise
    if shorter and not limits.allow_short:
        yield f"{position.name}: short {position.after!r} is not allowed"
    flipped = (position.after > noise and position.before < -noise) or (
        position.after < -noise and position.before > noise
    )
    if flipped and not limits.allow_flip:
        yield f"{position.name}: turned from {position.before!r} to {position.after!r}"
    # Whatever has been reserved may still fail or fill; what is held is certain.
    sold, bought = max(-position.trade, 0.0), max(position.trade, 0.0)
    for_sale = max(position.held - position.sell, 0.0)
    to_cover = max(-position.held - position.buy, 0.0)
    if sold > for_sale + noise and not limits.allow_short:
        yield f"{position.name}: {sold!r} is sold while {for_sale!r} is held and not being sold"
    if sold > for_sale + noise and position.before > noise and not limits.allow_flip:
        yield f"{position.name}: a sale of {sold!r} may turn the position"
    if bought > to_cover + noise and position.before < -noise and not limits.allow_flip:
        yield f"{position.name}: a purchase of {bought!r} may turn the position"
    if reducing and (flipped or abs(position.after) > abs(position.before) + noise):
        yield f"{position.name}: grew to {position.after!r} while only reducing is allowed"


def _member(position: Position, group: GroupLimit) -> bool:
    if group.sector:
        return position.sector == group.sector
    return position.name in group.instrument_ids


def _gross(
    name: str, members: Sequence[Position], weight_max: float | None, equity: float
) -> list[str]:
    if weight_max is None:
        return []
    return _gross_of(f"{name} gross", members, weight_max * equity, 0.0)


def _gross_of(name: str, members: Sequence[Position], most: float, others: float) -> list[str]:
    """Beyond the bound nothing is added, whichever reserved trades fill."""
    worst = others + fsum(position.worst_before for position in members)
    found = []
    for outcome in (0, 1):
        before, after = (
            others + fsum(position.outcomes()[outcome][side] for position in members)
            for side in (0, 1)
        )
        moved = fsum(abs(position.trade) for position in members)
        adds = after - before > 1e-12 * max(worst, moved)
        found += _over(name, after, most if adds else max(most, worst), before + after)
    return found


def _count(book: Sequence[Position], most: int | None) -> list[str]:
    if most is None:
        return []
    worst = sum(_is_one(p.worst_before, p) for p in book)
    for outcome in (0, 1):
        before, after = (
            sum(p.outcomes(lambda size, p=p: _is_one(abs(size), p))[outcome][side] for p in book)  # type: ignore[misc]
            for side in (0, 1)
        )
        if after > (most if after > before else max(most, worst)):
            return [f"{after} positions, at most {most}"]
    return []


def _is_one(worst: float, position: Position) -> bool:
    moved = abs(position.held) + position.buy + position.sell + abs(position.trade)
    return worst > 1e-9 * moved


def _net(
    name: str,
    members: Sequence[Position],
    weight_min: float | None,
    weight_max: float | None,
    equity: float,
) -> Iterator[str]:
    before = fsum(position.before for position in members)
    after = fsum(position.after for position in members)
    scale = fsum(abs(position.before) + abs(position.trade) for position in members)
    if weight_max is not None:
        free = weight_max * equity - fsum(position.sell for position in members)
        yield from _over(f"{name} net", after, max(free, before), scale)
    if weight_min is not None:
        free = -weight_min * equity - fsum(position.buy for position in members)
        yield from _over(f"{name} net minimum", -after, max(free, -before), scale)


def _shared(book: Iterable[Position], shared: SharedUse | None) -> Iterator[str]:
    if shared is None:
        return
    book = list(book)
    if shared.limits.gross_notional_max is not None:
        bound = shared.limits.gross_notional_max
        yield from _gross_of("shared gross", book, bound, shared.gross_notional)
    most = shared.limits.instrument_notional_max
    if most is None:
        return
    for position, others in zip(book, shared.instrument_notional, strict=True):
        bound = max(most, float(others) + position.worst_before)
        value = float(others) + position.worst_after
        yield from _over(f"{position.name} shared", value, bound, value)


def _cash(
    book: Sequence[Position], positions: Positions, limits: Limits, equity: float
) -> list[str]:
    """Equity covers the margin of the worst that open trades can leave, and their fees."""
    short = 1.0 if limits.short_margin_rate is None else limits.short_margin_rate
    fee = limits.fee_rate or 0.0

    def margin(value: float) -> float:
        return value if value >= 0.0 else -short * value

    def worst(low: float, high: float) -> float:
        return max(margin(low), margin(high))

    used = fsum(margin(p.held) for p in book)
    bound = fsum(worst(p.held - p.sell, p.held + p.buy) for p in book)
    fees = fee * fsum(p.buy + p.sell for p in book)
    reserved = bound - used + fees
    free = equity - used - reserved - (limits.cash_buffer or 0.0) * equity
    need, grows = 0.0, False
    for p in book:
        low, high = p.held - p.sell, p.held + p.buy
        if limits.sale_proceeds is SaleProceeds.AT_ONCE:
            later = worst(low + p.trade, high + p.trade)
        else:
            later = worst(low + min(p.trade, 0.0), high + max(p.trade, 0.0))
        grown = later - worst(low, high)
        grows |= grown > ROUNDING * (worst(low, high) + abs(p.trade))
        need += grown + fee * abs(p.trade)
    if not grows:
        return []
    return _over("cash", need, free, abs(equity) + bound)

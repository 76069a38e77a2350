"""Every limit on the final lots, read from the messages of the contract in plain Python.

Nothing of the service is used: units, margins, fees and risks are worked out here from the
snapshot, the portfolio and the limits as they were sent. A book beyond a limit may stay there or
come nearer.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum
from typing import Any

import numpy as np
from positionsizing.v1 import limits_pb2, market_service_pb2, sizing_pb2

from tests.server.support.plain_risks import measured
from tests.server.support.plain_units import Line, Unit, unit_of
from tests.server.support.wide_books import RATES, Wide

ROUNDING = 1e-11
"""Relative to the money that is summed: doubles carry sixteen digits, sums of them a few less."""
MINOR = {"GBX": RATES["GBX"]}


class Reading:
    """The book of a case with what earlier decisions reserved, in units by instrument."""

    def __init__(self, case: Wide, reserved: dict[str, float], asked: limits_pb2.Limits | None):
        self.case, self.reserved = case, reserved
        self.limits = [case.stored] + ([] if asked is None else [asked])
        rates = self._most("short_margin_rate", 1.0), self._most("fee_rate", 0.0)
        count = len(case.snapshot.instrument_ids)
        self.units = [unit_of(case, i, *rates) for i in range(count)]
        held = [case.held.get(u.name, 0.0) for u in self.units]
        equity = case.cash + fsum(
            u.value * q + u.gains for u, q in zip(self.units, held, strict=True)
        )
        # No sum of doubles tells less than that from nothing.
        parts = [u.value * q for u, q in zip(self.units, held, strict=True)]
        sizes = abs(case.cash) + fsum(abs(part) for part in parts)
        self.equity = 0.0 if abs(equity) <= max(1e-12 * sizes, 1e-9) else equity

    def _most(self, name: str, default: float) -> float:
        """Of a rate or a permission: the tighter one."""
        given = [getattr(x, name) for x in self.limits if x.HasField(name)]
        return max(given) if given else default

    def _allowed(self, name: str) -> bool:
        given = [getattr(x, name) for x in self.limits if x.HasField(name)]
        return bool(given) and all(given) and self.case.stored.HasField(name)

    def lines(self, decision: sizing_pb2.SizingDecision) -> list[Line]:
        """The book with the trades of a decision."""
        lots = dict(zip(decision.sizes.instrument_ids, decision.sizes.trade_lots, strict=True))
        out = []
        for u in self.units:
            open_units = self.reserved.get(u.name, 0.0)
            n = int(lots.get(u.name, 0))
            out.append(
                Line(
                    u,
                    held=u.exposure * self.case.held.get(u.name, 0.0),
                    buy=u.exposure * max(open_units, 0.0),
                    sell=u.exposure * max(-open_units, 0.0),
                    trade=u.exposure * u.lot * n,
                    lots=n,
                )
            )
        return out

    def broken(
        self, decision: sizing_pb2.SizingDecision, signals: sizing_pb2.SignalBatch
    ) -> list[str]:
        """A sentence for every limit that the lots break."""
        lines = self.lines(decision)
        found: list[str] = []
        refused = {signals.instrument_ids[e.line] for e in decision.line_errors}
        for line in lines:
            found += self._order(line, refused)
            found += self._permissions(line)
            found += self._stop(line, signals)
            for limits in self.limits:
                found += self._one(line, limits)
        for limits in self.limits:
            found += self._sums(lines, limits)
        found += self._money(lines)
        found += self._of_parameters(lines, decision)
        if self.equity > 0.0:
            found += self._book(lines)
        return found

    def _order(self, line: Line, refused: set[str]) -> Iterator[str]:
        unit, units = line.unit, abs(line.lots) * line.unit.lot
        if not line.lots:
            return
        if unit.is_halted or unit.name in refused:
            yield f"{unit.name}: traded, though halted or refused"
        closes = abs(line.after) < min(unit.exposure * unit.lot, abs(line.before))
        if units < unit.order_min * (1.0 - 1e-8) and not closes:
            yield f"{unit.name}: an order of {units!r} below {unit.order_min!r}"
        if units > unit.order_max * (1.0 + ROUNDING):
            yield f"{unit.name}: an order of {units!r} above {unit.order_max!r}"

    def _permissions(self, line: Line) -> Iterator[str]:
        noise = ROUNDING * line.size
        before, after, trade, name = line.before, line.after, line.trade, line.unit.name
        flipped = (after > noise and before < -noise) or (after < -noise and before > noise)
        short, flip = self._allowed("allow_short"), self._allowed("allow_flip")
        for_sale, to_cover = max(line.held - line.sell, 0.0), max(-line.held - line.buy, 0.0)
        if -trade > for_sale + noise and not short:
            yield f"{name}: {-trade!r} is sold while {for_sale!r} may be"
        if flipped and not flip:
            yield f"{name}: turned from {before!r} to {after!r}"
        if before > noise and -trade > for_sale + noise and not flip:
            yield f"{name}: a sale of {-trade!r} may turn the position"
        if before < -noise and trade > to_cover + noise and not flip:
            yield f"{name}: a purchase of {trade!r} may turn the position"
        grown = flipped or abs(after) > abs(before) + noise
        if grown and (self.case.reducing or self.equity <= 0.0):
            yield f"{name}: grew to {after!r} where positions are only reduced"

    def _stop(self, line: Line, signals: sizing_pb2.SignalBatch) -> Iterator[str]:
        if not line.lots or not any(x.stop_required for x in self.limits):
            return
        own = dict(zip(signals.instrument_ids, signals.stop_price, strict=False))
        stop = own.get(line.unit.name, 0.0) or line.unit.stop
        if abs(line.after) > abs(line.before) + ROUNDING * line.size and stop <= 0.0:
            yield f"{line.unit.name}: grew without a stop"

    def _one(self, line: Line, limits: limits_pb2.Limits) -> Iterator[str]:
        unit, equity, name = line.unit, max(self.equity, 0.0), line.unit.name
        money = self._rate(limits)
        bounds = [(limits, "weight_max", equity), (limits, "notional_max", money)]
        for own in limits.instruments:
            if own.instrument_id == name:
                bounds += [(own, "weight_max", equity), (own, "notional_max", money)]
                bounds.append((own, "quantity_max", unit.exposure))
        most = [getattr(x, n) * scale for x, n, scale in bounds if x.HasField(n)]
        if name in limits.restricted_instrument_ids:
            most.append(0.0)
        trade_most = []
        if limits.HasField("trade_notional_max"):
            trade_most.append(limits.trade_notional_max * money)
        if unit.volume is not None:
            a_day = unit.volume * unit.exposure
            if limits.HasField("adv_position_max"):
                most.append(limits.adv_position_max * a_day)
            if limits.HasField("adv_trade_max"):
                trade_most.append(limits.adv_trade_max * a_day)
            if limits.HasField("exit_days_max"):
                rates = [
                    x.participation_rate for x in self.limits if x.HasField("participation_rate")
                ]
                most.append(limits.exit_days_max * min(rates, default=0.05) * a_day)
        for bound in most:
            now, was = line.ends(line.trade), line.ends(0.0)
            yield from _over(f"{name} long", max(now), max(bound, max(was)), line.size)
            yield from _over(f"{name} short", -min(now), max(bound, -min(was)), line.size)
        for bound in trade_most:
            yield from _over(f"{name} trade", abs(line.trade), bound, 0.0)
        smallest = max(limits.trade_notional_min * money, limits.trade_weight_min * equity)
        grows = abs(line.after) > abs(line.before) + ROUNDING * line.size
        if grows and abs(line.trade) < smallest * (1.0 - 1e-9):
            yield f"{name}: a trade of {abs(line.trade)!r} is below {smallest!r}"

    def _rate(self, limits: limits_pb2.Limits) -> float:
        return RATES[limits.currency or self.case.base] / RATES[self.case.base]

    def _sums(self, lines: list[Line], limits: limits_pb2.Limits) -> Iterator[str]:
        equity, money = max(self.equity, 0.0), self._rate(limits)
        if limits.HasField("leverage_max"):
            yield from _gross("leverage", lines, limits.leverage_max * equity)
        if limits.HasField("gross_notional_max"):
            yield from _gross("gross notional", lines, limits.gross_notional_max * money)
        yield from _net("net", lines, limits, ("net_weight_min", "net_weight_max"), equity)
        for group in limits.groups:
            members = [
                x
                for x in lines
                if (
                    x.unit.sector == group.sector
                    if group.sector
                    else x.unit.name in group.instrument_ids
                )
            ]
            if group.HasField("gross_weight_max"):
                yield from _gross(group.name, members, group.gross_weight_max * equity)
            names = "net_weight_min", "net_weight_max"
            yield from _net(group.name, members, group, names, equity)
        if limits.HasField("turnover_max") and self.equity > 0.0:
            turnover = fsum(abs(x.trade) for x in lines)
            yield from _over("turnover", turnover, limits.turnover_max * equity, turnover)
        if limits.HasField("positions_max"):
            count = [
                sum(
                    x.worst(value) > max(1e-9 * x.unit.exposure * x.unit.lot, 1e-14 * x.size)
                    for x, value in pairs
                )
                for pairs in ([(x, x.before) for x in lines], [(x, x.after) for x in lines])
            ]
            if count[1] > max(limits.positions_max, count[0]):
                yield f"{count[1]} positions, at most {limits.positions_max}"

    def _money(self, lines: list[Line]) -> Iterator[str]:
        """Equity covers the margin of the worst that open trades can leave, and their fees."""

        def worst(unit: Unit, low: float, high: float) -> float:
            long, short = unit.margin_long / unit.exposure, unit.margin_short / unit.exposure
            return max(long * max(high, 0.0), short * max(-low, 0.0))

        at_once = self._at_once()
        free, need, grows, scale = self.equity, 0.0, False, abs(self.equity)
        for x in lines:
            low, high, fee = x.held - x.sell, x.held + x.buy, x.unit.fee / x.unit.exposure
            bound = worst(x.unit, low, high)
            free -= bound + fee * (x.buy + x.sell)
            scale += bound
            if at_once:
                later = worst(x.unit, low + x.trade, high + x.trade)
            else:
                later = worst(x.unit, low + min(x.trade, 0.0), high + max(x.trade, 0.0))
            grows |= later - bound > ROUNDING * (bound + abs(x.trade))
            fees = max(fee * abs(x.trade), x.unit.fee_min) + x.unit.fee_fixed if x.lots else 0.0
            need += later - bound + fees
        if grows:
            free -= self._most("cash_buffer", 0.0) * self.equity
            yield from _over("cash", need, free, scale)

    def _at_once(self) -> bool:
        given = [x.sale_proceeds for x in self.limits if x.sale_proceeds]
        return (
            bool(given)
            and min(given) == limits_pb2.SALE_PROCEEDS_AT_ONCE
            and (self.case.stored.sale_proceeds == limits_pb2.SALE_PROCEEDS_AT_ONCE)
        )

    def _of_parameters(
        self, lines: list[Line], decision: sizing_pb2.SizingDecision
    ) -> Iterator[str]:
        parameters, equity = self.case.parameters, max(self.equity, 0.0)
        if parameters.HasField("volatility_target"):
            for x in lines:
                if x.unit.volatility and x.lots:
                    bound = parameters.volatility_target / x.unit.volatility * equity
                    bound = max(bound, abs(x.before))
                    yield from _over(f"{x.unit.name} volatility", abs(x.after), bound, x.size)
        if parameters.HasField("risk_budget"):
            was, now = (
                fsum(x.unit.volatility * x.worst(x.before if k else x.after) for x in lines)
                for k in (1, 0)
            )
            yield from _over("risk budget", now, max(parameters.risk_budget * equity, was), now)

    def _book(self, lines: list[Line]) -> Iterator[str]:
        before, after, buy, sell = (
            [getattr(x, name) / self.equity for x in lines]
            for name in ("before", "after", "buy", "sell")
        )
        names = [x.unit.name for x in lines]
        for limits in self.limits:
            joint = limits.joint
            for name, was, now in self._risks(joint, names, before, after):
                bound = 0.0 if name == "wealth_floor" else getattr(joint, name)
                # Next to no risk is told from 0 by the digits of wealth, which is near 1.
                slack = 1e-10 * max(bound, abs(was), 1e-3 * fsum(map(abs, after)))
                slack = max(slack, 1e-14)
                if now > max(bound, was) + slack:
                    yield f"{name}: {now!r} is above {bound!r} and was {was!r}"
            for row in rows_of(self.case, joint):
                if not row.HasField("soft_price"):
                    yield from _row(row, names, before, after, buy, sell)

    def _risks(
        self,
        joint: limits_pb2.JointLimits,
        names: list[str],
        before: list[float],
        after: list[float],
    ) -> Iterator[tuple[str, float, float]]:
        asked = ("volatility_max", "var_max", "cvar_max", "cdar_max", "wealth_floor")
        wanted = [name for name in asked if joint.HasField(name)]
        if not wanted:
            return
        was, now = (measured(self.case, names, book) for book in (before, after))
        for name in wanted:
            yield name, was[name](joint), now[name](joint)


def rows_of(case: Wide, joint: limits_pb2.JointLimits) -> list[limits_pb2.LinearLimit]:
    """Linear limits, and for each limit on a scenario one on what the book loses in it."""
    rows = list(joint.linear)
    for limit in joint.stress:
        returns = _returns(case, limit.scenario_id)
        rows.append(
            limits_pb2.LinearLimit(
                name=f"loss in {limit.scenario_id}",
                instrument_ids=returns.keys(),
                coefficients=[-x for x in returns.values()],
                upper=limit.loss_max,
            )
        )
    return rows


def _returns(case: Wide, scenario_id: str) -> dict[str, float]:
    """What each instrument returns in a scenario; of a spreading one, one return is given.

    Then the others return their covariance with that one, in units of its variance, and no less
    than everything.
    """
    given = case.stress[scenario_id]
    if scenario_id not in case.spreading:
        return given
    ((name, shock),) = given.items()
    chosen = case.matrices.get("covariance_matrix_id") or case.matrices["scenario_matrix_id"]
    names = list(chosen.instrument_ids)
    values = np.array(chosen.dense.values).reshape(-1, len(names))
    if chosen.kind == market_service_pb2.MATRIX_KIND_SCENARIOS:
        values = np.cov(values.T)
    column = values[:, names.index(name)]
    moved = np.maximum(shock * column / column[names.index(name)], -1.0)
    return dict(zip(names, moved.tolist(), strict=True))


def _over(name: str, value: float, bound: float, scale: float) -> Iterator[str]:
    if value > bound + ROUNDING * max(abs(bound), abs(scale)):
        yield f"{name}: {value!r} is above {bound!r}"


def _gross(name: str, lines: list[Line], bound: float) -> Iterator[str]:
    was, now = fsum(x.worst(x.before) for x in lines), fsum(x.worst(x.after) for x in lines)
    yield from _over(f"{name} gross", now, max(bound, was), was + now)


def _net(
    name: str, lines: list[Line], limits: Any, names: tuple[str, str], equity: float
) -> Iterator[str]:
    was, now = fsum(x.before for x in lines), fsum(x.after for x in lines)
    scale = fsum(x.size for x in lines)
    if equity <= 0.0:
        return  # positions are only reduced, whatever that does to their difference
    if limits.HasField(names[1]):
        bound = getattr(limits, names[1]) * equity - fsum(x.sell for x in lines)
        yield from _over(f"{name} net", now, max(bound, was), scale)
    if limits.HasField(names[0]):
        bound = -getattr(limits, names[0]) * equity - fsum(x.buy for x in lines)
        yield from _over(f"{name} net least", -now, max(bound, -was), scale)


def _row(
    row: limits_pb2.LinearLimit,
    names: list[str],
    before: list[float],
    after: list[float],
    buy: list[float],
    sell: list[float],
) -> Iterator[str]:
    given = dict(zip(row.instrument_ids, row.coefficients, strict=True))
    c = [given.get(name, 0.0) for name in names]
    high = fsum(v * (s if v > 0 else -b) for v, s, b in zip(c, sell, buy, strict=True))
    low = fsum(v * (-b if v > 0 else s) for v, s, b in zip(c, sell, buy, strict=True))
    was, now = (fsum(v * w for v, w in zip(c, book, strict=True)) for book in (before, after))
    scale = fsum(abs(v * w) for v, w in zip(c, after, strict=True))
    scale += fsum(abs(v * w) for v, w in zip(c, before, strict=True))
    if row.HasField("upper"):
        yield from _over(row.name, now + high, max(row.upper, was + high), scale)
    if row.HasField("lower"):
        yield from _over(f"{row.name} least", -now - low, max(-row.lower, -was - low), scale)

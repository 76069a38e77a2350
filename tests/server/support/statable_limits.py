"""Every limit that can be stated, at a loose value and at one that binds; and sets that pair them.

A row is some limits with their levels; the rows of `rows` have every pair of limits at every pair
of levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from positionsizing.v1 import correlation_service_pb2, limits_pb2, risk_service_pb2

from tests.server.support.trader_books import Trader

LOOSE, TIGHT = 0, 1
State = Callable[[limits_pb2.Limits, Trader, int], None]
VAR = limits_pb2.TAIL_MEASURE_VALUE_AT_RISK
SHORTFALL = limits_pb2.TAIL_MEASURE_EXPECTED_SHORTFALL
SINGLE = correlation_service_pb2.LINKAGE_SINGLE
NOWHERE = "NOT-IN-THE-BOOK"


@dataclass(frozen=True)
class Statable:
    """A limit: how a level of it is written. needs: "scenarios", "matrix" or nothing.

    stored: permissions and what goes with them are granted by the portfolio alone. called: what a
    refusal calls it. slow: the joint method keeps it by cuts, by one solution after another.
    """

    name: str
    state: State
    needs: str = ""
    stored: bool = False
    called: str = ""
    slow: bool = False


def _number(name: str, loose: float, tight: float, power: str = "") -> Statable:
    """A plain field. power: "usual" times the usual weight, "money" times the equity as well."""

    def state(limits: limits_pb2.Limits, book: Trader, level: int) -> None:
        setattr(limits, name, _scaled(book, (loose, tight)[level], power if level else ""))

    return Statable(name, state)


def _scaled(book: Trader, value: float, power: str) -> float:
    if power == "usual":
        return value * book.usual
    return value * book.usual * book.equity if power == "money" else value


def _own(name: str, loose: float, tight: float, power: str = "") -> Statable:
    """Of the first instrument."""

    def state(limits: limits_pb2.Limits, book: Trader, level: int) -> None:
        own = [x for x in limits.instruments if x.instrument_id == book.names[0]]
        entry = own[0] if own else limits.instruments.add(instrument_id=book.names[0])
        if name == "quantity_max":
            entry.quantity_max = 0.8 * abs(book.lines[0]["held"]) if level else 1e15
        else:
            setattr(entry, name, _scaled(book, (loose, tight)[level], power if level else ""))

    return Statable(f"instrument {name}", state)


def _group(name: str, field: str, loose: float, tight: float, *, by_sector: bool) -> Statable:
    def state(limits: limits_pb2.Limits, book: Trader, level: int) -> None:
        label = "sector" if by_sector else "members"
        found = [x for x in limits.groups if x.name == label]
        group = found[0] if found else limits.groups.add(name=label)
        if by_sector:
            group.sector = "B"
        elif not found:
            group.instrument_ids.extend(book.names[:2])
        setattr(group, field, tight * book.usual if level else loose)

    return Statable(name, state)


def _cluster(field: str, loose: float, tight: float) -> Statable:
    def state(limits: limits_pb2.Limits, book: Trader, level: int) -> None:
        cluster = limits.clusters.add(
            name=f"alike by {field}", linkage=SINGLE, distance_max=0.62, net_weight_max=1e9
        )
        setattr(cluster, field, tight * book.usual if level else loose)

    return Statable(f"cluster {field}", state, needs="matrix", called="alike")


def _book(name: str, loose: float, tight: float, needs: str) -> Statable:
    """A measure of the book; tight: at the usual weight."""

    def state(limits: limits_pb2.Limits, book: Trader, level: int) -> None:
        setattr(limits.joint, name, tight * book.usual if level else loose)

    return Statable(name, state, needs=needs)


def _floor(limits: limits_pb2.Limits, book: Trader, level: int) -> None:
    limits.joint.wealth_floor = 0.9 if level else 0.01
    limits.joint.wealth_floor_probability = 0.05 if level else 0.9


def _tail(name: str, measure: int, tight: float, needs: str) -> Statable:
    method = risk_service_pb2.TailMethod.Value(f"TAIL_METHOD_{name}")

    def state(limits: limits_pb2.Limits, book: Trader, level: int) -> None:
        bound = tight * book.usual if level else 1e6
        limits.joint.tails.add(measure=measure, method=method, level=0.9, bound=bound)  # type: ignore[arg-type]

    slow = name not in ("NORMAL", "HISTORICAL")
    called = name.lower().replace("_", " ")
    return Statable(f"tail {name.lower()}", state, needs=needs, called=called, slow=slow)


def _row(name: str, end: str, loose: float, tight: float, soft: float | None = None) -> Statable:
    def state(limits: limits_pb2.Limits, book: Trader, level: int) -> None:
        c = [(-1.0) ** i * (1.0 + 0.5 * i) for i in range(len(book.names))]
        row = limits.joint.linear.add(name=name, instrument_ids=book.names, coefficients=c)
        setattr(row, end, tight * book.usual if level else loose)
        if soft is not None:
            row.soft_price = soft

    return Statable(name, state)


def _stress(kind: str, tight: float, needs: str) -> Statable:
    def state(limits: limits_pb2.Limits, book: Trader, level: int) -> None:
        bound = tight * book.usual if level else 1e6
        limits.joint.stress.add(scenario_id=book.scenario_id(kind), loss_max=bound)

    return Statable(f"stress {kind}", state, needs=needs, called=f"joint.stress ({kind}")


def _restricted(limits: limits_pb2.Limits, book: Trader, level: int) -> None:
    limits.restricted_instrument_ids.append(book.names[1] if level else NOWHERE)


def _flag(name: str, tight: bool, *, stored: bool) -> Statable:
    def state(limits: limits_pb2.Limits, book: Trader, level: int) -> None:
        setattr(limits, name, tight if level else not tight)

    return Statable(name, state, stored=stored)


def _proceeds(limits: limits_pb2.Limits, book: Trader, level: int) -> None:
    limits.sale_proceeds = (
        limits_pb2.SALE_PROCEEDS_WHEN_FILLED if level else limits_pb2.SALE_PROCEEDS_AT_ONCE
    )


def _currency(limits: limits_pb2.Limits, book: Trader, level: int) -> None:
    limits.currency = "JPY" if level else book.base


def _exit(limits: limits_pb2.Limits, book: Trader, level: int) -> None:
    limits.exit_days_max = 0.05 if level else 1e6
    limits.participation_rate = 0.02 if level else 1.0


def _day_loss(limits: limits_pb2.Limits, book: Trader, level: int) -> None:
    limits.day_loss_max = 1e-3 if level else 1.0
    limits.day_loss_resumes = bool(level)


STATABLE = (
    _number("weight_max", 1e9, 0.3, "usual"),
    _number("notional_max", 1e18, 0.25, "money"),
    _own("weight_max", 1e9, 0.1, "usual"),
    _own("notional_max", 1e18, 0.12, "money"),
    _own("quantity_max", 0.0, 0.0),
    _group("group gross", "gross_weight_max", 1e9, 0.4, by_sector=False),
    _group("group net most", "net_weight_max", 1e9, 0.1, by_sector=False),
    _group("group net least", "net_weight_min", -1e9, -0.02, by_sector=False),
    _group("sector gross", "gross_weight_max", 1e9, 0.3, by_sector=True),
    _group("sector net most", "net_weight_max", 1e9, 0.05, by_sector=True),
    _number("gross_notional_max", 1e18, 0.7, "money"),
    _number("leverage_max", 1e9, 0.6, "usual"),
    _number("net_weight_min", -1e9, -0.02, "usual"),
    _number("net_weight_max", 1e9, 0.1, "usual"),
    _number("turnover_max", 1e9, 0.2, "usual"),
    _number("cash_buffer", 0.0, 0.5),
    _number("fee_rate", 0.0, 0.02),
    _number("short_margin_rate", 0.0, 2.0),
    _number("adv_trade_max", 1e6, 1e-3),
    _number("adv_position_max", 1e6, 2e-3),
    _number("trade_notional_min", 0.0, 0.05, "money"),
    _number("trade_notional_max", 1e18, 0.1, "money"),
    Statable("restricted", _restricted),
    _flag("allow_short", tight=False, stored=True),
    _flag("allow_flip", tight=False, stored=True),
    Statable("sale_proceeds", _proceeds, stored=True),
    Statable("currency", _currency),
    _number("trade_weight_min", 0.0, 0.1, "usual"),
    _flag("stop_required", tight=True, stored=False),
    _number("positions_max", 1_000_000, 2),
    Statable("exit_days_max", _exit),
    Statable("day_loss_max", _day_loss, stored=True),
    _cluster("gross_weight_max", 1e9, 0.35),
    _cluster("net_weight_max", 1e9, 0.1),
    _book("volatility_max", 1e9, 0.004, "matrix"),
    _book("var_max", 1e9, 0.005, "matrix"),
    _book("cvar_max", 1e9, 0.006, "scenarios"),
    _book("cdar_max", 1e9, 0.02, "scenarios"),
    Statable("wealth_floor", _floor, needs="scenarios"),
    _tail("NORMAL", VAR, 0.004, "matrix"),
    _tail("STUDENT", SHORTFALL, 0.006, "scenarios"),
    _tail("CORNISH_FISHER", VAR, 0.004, "scenarios"),
    _tail("HISTORICAL", SHORTFALL, 0.005, "scenarios"),
    _tail("FILTERED_HISTORICAL", VAR, 0.004, "scenarios"),
    _row("most", "upper", 1e9, 0.08),
    _row("least", "lower", -1e9, -0.05),
    _stress("shock", 0.02, ""),
    _stress("spread", 0.03, "matrix"),
    _row("soft", "upper", 1e9, 0.02, soft=1e-3),
)
SIZE = 9
"""Limits in a row: with all at once only the tightest would ever bind."""

Row = tuple[tuple[int, int], ...]


LOOSE_ROW: Row = tuple((i, LOOSE) for i, limit in enumerate(STATABLE) if not limit.slow)
"""Under which a book is inside every limit by itself."""


def rows(seed: int, size: int = SIZE) -> list[Row]:
    """Rows of (limit, level) that have every pair of limits at every pair of levels."""
    rng, n = np.random.default_rng(seed), 2 * len(STATABLE)
    other = np.arange(n) ^ 1
    left = np.ones((n, n), dtype=bool)
    left[np.arange(n), np.arange(n)] = left[np.arange(n), other] = False
    out: list[Row] = []
    while left.any():
        pairs = np.argwhere(left)
        row = list(pairs[int(rng.integers(len(pairs)))])
        while len(row) < size:
            gains = left[:, row].sum(axis=1) + 0.5 * rng.random(n)
            gains[[*row, *other[row]]] = -1.0
            row.append(int(np.argmax(gains)))
        for i in row:
            left[i, row] = left[row, i] = False
        out.append(tuple((int(i) // 2, int(i) % 2) for i in row))
    return out


def stated(row: Row, book: Trader, scopes: Any) -> Iterator[limits_pb2.Limits]:
    """The limits of a row: what is stored, and what the request asks for.

    scopes: one truth value a limit, whether the request states it.
    """
    for in_request in (False, True):
        limits = limits_pb2.Limits()
        if not in_request:
            limits.allow_short = limits.allow_flip = True
        for (number, level), asked in zip(row, scopes, strict=True):
            limit = STATABLE[number]
            if (bool(asked) and not limit.stored) == in_request:
                limit.state(limits, book, level)
        yield limits


def lacking(row: Row, data: str) -> list[Statable]:
    """The limits of a row that the data ("scenarios", "covariance" or "") can't measure."""
    have = {"scenarios": {"scenarios", "matrix", ""}, "covariance": {"matrix", ""}, "": {""}}[data]
    return [STATABLE[number] for number, _ in row if STATABLE[number].needs not in have]

"""Books of traders through SizePositions, under every pair of limits that can be stated.

Each pair meets at a loose value and at one that binds, with both methods and more or less data.
TRADER_SEEDS says how many sets of rows, TRADER_SEED where to begin, TRADER_SIZE how many limits a
row has.
"""

import os
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import grpc
import numpy as np
import pytest
from positionsizing.v1 import (
    limits_pb2,
    portfolio_service_pb2,
    risk_service_pb2,
    sizing_pb2,
    types_pb2,
)
from positionsizing.v1 import sizing_service_pb2 as pb

from tests.server.fuzz.test_fuzz_wide import stored
from tests.server.support.plain_traders import TraderReading, growth
from tests.server.support.service_client import Client, new_id, refusal_of
from tests.server.support.statable_limits import (
    LOOSE_ROW,
    SIZE,
    STATABLE,
    Row,
    lacking,
    rows,
    stated,
)
from tests.server.support.trader_books import TRADERS, Trader
from tests.server.support.wide_books import Wide

SEEDS = int(os.environ.get("TRADER_SEEDS", "0"))
"""0: one set, and the joint method only now and then where it needs many solutions."""
FIRST = int(os.environ.get("TRADER_SEED", "0"))
ROWS = [
    row
    for seed in range(FIRST, FIRST + max(SEEDS, 1))
    for row in rows(seed, int(os.environ.get("TRADER_SIZE", SIZE)))
] + [LOOSE_ROW] * (2 * len(TRADERS))
METHODS = {"closed": types_pb2.SIZING_METHOD_CLOSED_FORM, "joint": types_pb2.SIZING_METHOD_JOINT}
MATRICES = {"scenarios": "scenario_matrix_id", "covariance": "covariance_matrix_id"}
DATA = ("", "covariance", "scenarios")
PROVEN = ("OPTIMAL", "CAPPED")
# Each of them cuts some line of some book.
BIND = {
    "WEIGHT_MAX",
    "NOTIONAL_MAX",
    "QUANTITY_MAX",
    "GROUP_GROSS_MAX",
    "GROUP_NET_MAX",
    "LEVERAGE_MAX",
    "GROSS_NOTIONAL_MAX",
    "NET_MAX",
    "TURNOVER_MAX",
    "CASH",
    "ADV_TRADE_MAX",
    "ADV_POSITION_MAX",
    "EXIT_DAYS_MAX",
    "TRADE_NOTIONAL_MIN",
    "TRADE_NOTIONAL_MAX",
    "TRADE_WEIGHT_MIN",
    "RESTRICTED",
    "SHORT_NOT_ALLOWED",
    "FLIP_NOT_ALLOWED",
    "STOP_REQUIRED",
    "POSITIONS_MAX",
    "VOLATILITY_MAX",
    "VAR_MAX",
    "CVAR_MAX",
    "CDAR_MAX",
    "DRAWDOWN_RISK",
    "LINEAR",
    "STRESS_LOSS_MAX",
}


@dataclass
class Desk:
    """A book in the service, with orders left open by an earlier decision."""

    client: Client
    book: Trader
    case: Wide
    names: dict[str, str]
    reserved: dict[str, float] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @classmethod
    async def opened(cls, client: Client, book: Trader) -> "Desk":
        """Stores the book, and has one decision of small trades recorded."""
        case = replace(book.case(), seed=int(new_id("trader").rpartition("-")[2]))
        small = 0.1 * book.usual * book.equity
        case.stored.MergeFrom(
            limits_pb2.Limits(trade_notional_max=small, allow_short=True, allow_flip=True)
        )
        for scenario_id, returns in case.stress.items():
            shock = risk_service_pb2.ShockEvent(
                instrument_ids=returns.keys(),
                returns=returns.values(),
                spread_by_covariance=scenario_id in case.spreading,
            )
            scenario = risk_service_pb2.StressScenario(scenario_id=scenario_id, shock=shock)
            put = risk_service_pb2.PutStressScenarioRequest(scenario=scenario)
            await client.risk.PutStressScenario(put)
        desk = cls(client, book, case, await stored(client, case, "traders"))
        sizes = (await client.size(desk.request("closed", "", None, signals=case.signals[0]))).sizes
        units = np.multiply(sizes.trade_lots, sizes.lot_size)
        desk.reserved.update(zip(sizes.instrument_ids, units.tolist(), strict=True))
        assert any(units), book.name
        return desk

    def request(
        self, method: str, data: str, asked: limits_pb2.Limits | None, **given: Any
    ) -> pb.SizePositionsRequest:
        """A request on all instruments, with the matrix that `data` says."""
        if data:
            given[MATRICES[data]] = self.names[MATRICES[data]]
        return pb.SizePositionsRequest(
            request_id=str(uuid4()),
            portfolio_id=self.names["portfolio_id"],
            market_snapshot_id=self.names["market_snapshot_id"],
            method=METHODS[method],
            limits=asked,
            **given,
        )

    async def row(self, number: int, row: Row) -> None:
        """Sizes the book under the limits of a row by both methods, and reads the answers."""
        rng = np.random.default_rng([FIRST, number])
        own, asked = stated(row, self.book, rng.random(len(row)) < 0.3)
        scope = portfolio_service_pb2.Scope(portfolio_id=self.names["portfolio_id"])
        await self.client.portfolio.SetLimits(
            portfolio_service_pb2.SetLimitsRequest(scope=scope, limits=own)
        )
        enough = [data for data in DATA if not lacking(row, data)]
        data = str(rng.choice(enough if rng.random() < 0.85 else DATA))
        kept = {MATRICES[data]: self.case.matrices[MATRICES[data]]} if data else {}
        signals = self.book.signals(as_held=number // len(TRADERS) % 2 > 0)
        case = replace(self.case, stored=own, asked=[asked], matrices=kept, signals=[signals])
        is_slow = any(STATABLE[limit].slow for limit, _ in row) and not SEEDS
        for method in ("closed",) if is_slow and number % 20 else METHODS:
            began = time.monotonic()
            request = self.request(method, data, asked, signals=signals, validate_only=True)
            try:
                decision = await self.client.size(request)
            except grpc.aio.AioRpcError as error:
                found = self._refused(row, data, error)
            else:
                reading = TraderReading(case, self.reserved, asked)
                found = self._read(row, data, method, reading, decision)
            self.seen[f"{method} ms"] += round(1e3 * (time.monotonic() - began))
            levels = ", ".join(f"{STATABLE[i].name} {('loose', 'tight')[k]}" for i, k in row)
            head = f"{self.book.name}, row {number}, {method}, {data or 'no matrix'}: {levels}"
            self.wrong += [f"{head}\n    {text}" for text in found]

    def _refused(self, row: Row, data: str, error: grpc.aio.AioRpcError) -> list[str]:
        """A refusal is right where data is missing, and names the limit that misses it."""
        refused = refusal_of(error)
        self.seen[refused.reason] += 1
        text = refused.message
        if refused.reason == "MISSING_MATRIX":
            named = [x for x in lacking(row, data) if (x.called or x.name) in text]
            if named or (not data and "the joint method needs" in text):
                return []
        if refused.reason == "TAIL_NOT_MEASURABLE" and "cornish fisher" in text:
            return []  # the skewness and kurtosis of the book are outside its domain
        return [f"refused: {refused.reason} {text}"]

    def _read(
        self,
        row: Row,
        data: str,
        method: str,
        reading: TraderReading,
        decision: sizing_pb2.SizingDecision,
    ) -> list[str]:
        status = types_pb2.SizingStatus.Name(decision.status).removeprefix("SIZING_STATUS_")
        self.seen[f"{method} {status}"] += 1
        self.seen["trades"] += any(decision.sizes.trade_lots)
        for kind in set(decision.sizes.binding):
            self.seen[types_pb2.LimitKind.Name(kind).removeprefix("LIMIT_KIND_")] += 1
        if missing := [limit.name for limit in lacking(row, data)]:
            return [f"answered without the data for {missing}"]
        found = reading.broken(decision, reading.case.signals[0])
        lines = reading.lines(decision)
        filled, worst = (reading.beyond(lines, worst=w) for w in (False, True))
        told = list(decision.limits_exceeded)
        if any(limit.kind == types_pb2.LIMIT_KIND_CASH for limit in told):
            worst += ["cash"] if reading.is_unfunded(lines) else []
        if filled if status != "LIMIT_EXCEEDED" else not filled + worst:
            found.append(f"{status} with {told}, plainly {filled}, at worst {worst}")
        if method == "joint" and status in PROVEN and not decision.fallback_chain:
            found += self._growth(reading, lines, decision)
        return found

    def _growth(
        self, reading: TraderReading, lines: list[Any], decision: sizing_pb2.SizingDecision
    ) -> list[str]:
        """What is proven is worth what it says, and at least what doing nothing is."""
        case, found = reading.case, []
        own, rest = (growth(case, lines, decision, at_rest=at) for at in (False, True))
        told = decision.certificate.objective_lots
        if abs(own - told) > 1e-9:
            found.append(f"the objective is {told!r}, plainly {own!r}")
        signals, still = case.signals[0], [replace(x, trade=0.0) for x in lines]
        side = dict(zip(signals.instrument_ids, signals.side, strict=True))
        against = any(
            x.before * (1.0 if side[x.unit.name] == types_pb2.SIDE_LONG else -1.0) < 0.0
            for x in lines
        )
        if not against and not any(reading.beyond(still, worst=w) for w in (False, True)):
            self.seen["compared with doing nothing"] += 1
            if own < rest - 1e-12:
                found.append(f"growth {own!r} is below that of doing nothing, {rest!r}")
        return found


def test_books_are_worth_what_their_statements_say() -> None:
    for book in TRADERS:
        equity = TraderReading(book.case(), {}, None).equity
        assert equity == pytest.approx(book.equity, abs=1e-6), book.name


@pytest.mark.timeout(max(600, 1800 * SEEDS))
async def test_every_pair_of_limits_holds_on_the_lots(joint_client: Client) -> None:
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    for first, book in enumerate(TRADERS):
        desk = await Desk.opened(joint_client, book)
        for number in range(first, len(ROWS), len(TRADERS)):
            await desk.row(number, ROWS[number])
        seen += desk.seen
        wrong += desk.wrong
    print(len(ROWS), "rows:", dict(sorted(seen.items())))
    assert not wrong, "\n".join(wrong[:30])
    assert seen["INTERNAL"] == 0
    assert seen["trades"] > len(ROWS) // 2
    assert seen["compared with doing nothing"] > 0
    assert not BIND - set(seen)

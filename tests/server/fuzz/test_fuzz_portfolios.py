"""Random books of a group through SizePortfolios: what they share is kept, and all else as alone.

FUZZ_PORTFOLIOS says how many groups, FUZZ_PORTFOLIOS_SEED where to begin.
"""

import os
from collections import Counter
from collections.abc import Iterator
from uuid import uuid4

import grpc
import pytest
from positionsizing.v1 import portfolio_service_pb2, sizing_pb2, sizing_service_pb2

from tests.server.fuzz.test_fuzz_wide import TYPED, ShortLog, stored, wide_client
from tests.server.support.plain_lots import ROUNDING, Reading
from tests.server.support.plain_units import Line
from tests.server.support.service_client import Client, new_id, refusal_of
from tests.server.support.wide_books import RATES, Wide, drawn
from tests.server.support.wide_limits import Draw

__all__ = ["wide_client"]
GROUPS = int(os.environ.get("FUZZ_PORTFOLIOS", "60" if os.environ.get("CI") else "20"))
SEED = int(os.environ.get("FUZZ_PORTFOLIOS_SEED", "0"))
MEMBERS_MAX = 3


def shared_limits(draw: Draw, money: float) -> portfolio_service_pb2.SharedLimits:
    """Bounds in dollars, each there or not."""
    return portfolio_service_pb2.SharedLimits(
        gross_notional_max=draw.maybe(0.6, 0.0, 0.1 * money, 0.5 * money, 3.0 * money, 1e15),
        instrument_notional_max=draw.maybe(0.6, 0.0, 0.05 * money, 0.3 * money, 1e15),
        currency="USD",
    )


class Member:
    """One portfolio of a group: its case, what it has reserved, and how large it may have grown."""

    def __init__(self, case: Wide, names: dict[str, str]) -> None:
        self.case, self.names = case, names
        self.reserved: dict[str, float] = {}

    def reading(self, number: int) -> Reading:
        return Reading(self.case, self.reserved, self.case.asked[number])

    def request(self, number: int) -> sizing_service_pb2.SizePositionsRequest:
        return sizing_service_pb2.SizePositionsRequest(
            signals=self.case.signals[number],
            method=self.case.method,  # type: ignore[arg-type]
            limits=self.case.asked[number],
            **self.names,
        )

    def reserve(self, decision: sizing_pb2.SizingDecision) -> None:
        sizes = decision.sizes
        for name, lots, lot in zip(
            sizes.instrument_ids, sizes.trade_lots, sizes.lot_size, strict=True
        ):
            self.reserved[name] = self.reserved.get(name, 0.0) + lots * lot


def in_dollars(lines: list[Line], base: str, *, is_after: bool) -> dict[str, float]:
    """The largest notional of each instrument that open trades can leave."""
    return {x.unit.name: RATES[base] * x.worst(x.after if is_after else x.before) for x in lines}


def beyond_shared(
    shared: portfolio_service_pb2.SharedLimits,
    members: list[Member],
    lines: list[list[Line]],
) -> Iterator[str]:
    """A sentence for every shared limit that the lots of all members together break."""
    was, now = (
        [in_dollars(own, m.case.base, is_after=k) for m, own in zip(members, lines, strict=True)]
        for k in (False, True)
    )
    # What a member sells is room for another only once it is filled.
    used = [{n: max(b[n], a[n]) for n in a} for b, a in zip(was, now, strict=True)]

    def over(name: str, bound: float, before: float, after: float) -> Iterator[str]:
        if after > max(bound, before) * (1.0 + ROUNDING) + ROUNDING * before:
            yield f"shared {name}: {after!r} is above {bound!r} and was {before!r}"

    if shared.HasField("gross_notional_max"):
        before, after = (sum(sum(x.values()) for x in side) for side in (was, now))
        grown = sum(max(sum(b.values()), sum(a.values())) for b, a in zip(was, now, strict=True))
        yield from over("gross", shared.gross_notional_max, before, after)
        yield from over("gross until filled", shared.gross_notional_max, before, grown)
    if shared.HasField("instrument_notional_max"):
        for name in used[0]:
            before, after = (sum(x[name] for x in side) for side in (was, used))
            yield from over(name, shared.instrument_notional_max, before, after)


class Run:
    """Counts what came of the groups, and keeps what is wrong."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.seen: Counter[str] = Counter()
        self.wrong: list[tuple[int, str]] = []

    async def group(self, seed: int) -> None:
        """Two calls on one group: the second counts what the first reserves."""
        draw, group_id = Draw(seed + 7_000_000), new_id("wide")
        first = drawn(MEMBERS_MAX * seed)
        cases = [first] + [
            drawn(MEMBERS_MAX * seed + i, first) for i in range(1, draw.one(2, 2, MEMBERS_MAX))
        ]
        shared = shared_limits(draw, first.money)
        try:
            members = [Member(case, await stored(self.client, case, group_id)) for case in cases]
            await self.client.portfolio.SetLimits(
                portfolio_service_pb2.SetLimitsRequest(
                    scope=portfolio_service_pb2.Scope(group_id=group_id), shared=shared
                )
            )
        except grpc.aio.AioRpcError as error:
            self._refused(seed, error, "stored: ")
            return
        for number in range(2):
            await self._call(seed, number, shared, members)

    async def _call(
        self,
        seed: int,
        number: int,
        shared: portfolio_service_pb2.SharedLimits,
        members: list[Member],
    ) -> None:
        request = sizing_service_pb2.SizePortfoliosRequest(
            request_id=str(uuid4()), requests=[m.request(number) for m in members]
        )
        try:
            answer = await self.client.sizing.SizePortfolios(request)
        except grpc.aio.AioRpcError as error:
            self._refused(seed, error, "")
            return
        self.seen["answers"] += 1
        decisions = list(answer.decisions)
        self.seen["trades"] += any(any(one.sizes.trade_lots) for one in decisions)
        readings = [m.reading(number) for m in members]
        for member, reading, one in zip(members, readings, decisions, strict=True):
            broken = reading.broken(one, member.case.signals[number])
            self.wrong += [(seed, f"{one.portfolio_id}: {text}") for text in broken]
        lines = [r.lines(one) for r, one in zip(readings, decisions, strict=True)]
        self.wrong += [(seed, text) for text in beyond_shared(shared, members, lines)]
        for member, one in zip(members, decisions, strict=True):
            member.reserve(one)

    def _refused(self, seed: int, error: grpc.aio.AioRpcError, prefix: str) -> None:
        found = refusal_of(error)
        self.seen[prefix + found.reason] += 1
        if prefix or (found.reason not in TYPED and not found.fields):
            self.wrong.append((seed, f"{prefix}{found.reason}: {found.message}"))


@pytest.mark.timeout(max(900, 10 * GROUPS))
async def test_random_groups_stay_inside_what_each_and_all_may_have(
    wide_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.calls.rpc._log", ShortLog())
    monkeypatch.setattr("server.joint.runner._log", ShortLog())
    run = Run(wide_client)
    for seed in range(SEED, SEED + GROUPS):
        await run.group(seed)
    print(dict(sorted(run.seen.items())))
    for item in run.wrong[:60]:
        print(*item)
    assert not run.wrong
    assert run.seen["INTERNAL"] == 0
    assert run.seen["answers"] > GROUPS // 4
    assert run.seen["trades"] > GROUPS // 6

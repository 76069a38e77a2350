"""How much a caller may ask for: lines a second, as a bucket that refills.

A request passes while something is left, and takes as many lines as it has, also more than is left:
what is owed is refilled first. So no request is too large for ever, and over time nobody has more
than the rate.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from positionsizing.v1 import portfolio_service_pb2, sizing_service_pb2

from server.auth.identity import Identity
from server.calls.errors import Refusal

Key = tuple[str, str]
"""Tenant and subject."""
BURST_S = 10.0
"""A caller that was quiet has so many seconds' worth of lines at once."""
CALLERS_MAX = 10_000


@dataclass
class _Bucket:
    lines: float
    time: float


class Quotas:
    """One bucket for each subject of each tenant. lines_per_s None: no bound.

    Others who let the same callers in say so (`used_elsewhere`) and are told (`used`).
    """

    def __init__(
        self, lines_per_s: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = lines_per_s
        self._clock = clock
        self._buckets: dict[Key, _Bucket] = {}
        self._used: dict[Key, int] = {}
        self.refused = 0

    def charge(self, identity: Identity, request: Any) -> None:
        """Takes the lines of a request. Raises `Refusal` with when to come again if none are left.

        The kill switch costs nothing and is never refused.
        """
        lines = lines_of(request)
        if self._rate is None or lines == 0:
            return
        key = identity.tenant_id, identity.subject
        bucket = self._bucket(key, self._rate)
        if bucket.lines <= 0:
            self.refused += 1
            raise _exhausted(self._rate, bucket.lines)
        bucket.lines -= lines
        self._used[key] = self._used.get(key, 0) + lines

    def used(self) -> dict[Key, int]:
        """Lines that were let in since the last time."""
        found, self._used = self._used, {}
        return found

    def not_told(self, used: dict[Key, int]) -> None:
        """Takes `used` back: nobody was told."""
        for key, lines in used.items():
            self._used[key] = self._used.get(key, 0) + lines

    def used_elsewhere(self, key: Key, lines: int) -> None:
        """Takes what others have let in from the caller's bucket."""
        if self._rate is not None and lines:
            self._bucket(key, self._rate).lines -= lines

    def _bucket(self, key: Key, rate: float) -> _Bucket:
        """The caller's bucket, refilled."""
        now, full = self._clock(), rate * BURST_S
        found = self._buckets.pop(key, None)
        if found is None:
            if len(self._buckets) >= CALLERS_MAX:  # the one that has been quiet for longest
                del self._buckets[next(iter(self._buckets))]
            found = _Bucket(full, now)
        found.lines = min(full, found.lines + rate * (now - found.time))
        found.time = now
        self._buckets[key] = found
        return found


def lines_of(request: Any) -> int:
    """What a request costs: its lines, those of each variation of a what-if, and at least one."""
    match request:
        case portfolio_service_pb2.SetTradingStateRequest():
            return 0
        case sizing_service_pb2.SizePositionsRequest():
            return max(1, len(request.signals.instrument_ids))
        case sizing_service_pb2.SizePortfoliosRequest():
            return max(1, sum(map(lines_of, request.requests)))
        case sizing_service_pb2.WhatIfRequest():
            return lines_of(request.base) * (1 + len(request.variations))
    return 1


def _exhausted(rate: float, left: float) -> Refusal:
    """RESOURCE_EXHAUSTED with the time until something is left again."""
    # A hundredth of a line more than what is owed, so that whoever comes then finds something.
    wait_s = math.ceil((0.01 - left) / rate * 1000) / 1000
    return Refusal(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "QUOTA_EXCEEDED",
        f"more than {rate:g} lines a second; nothing was done. Come again in {wait_s:.3g} s",
        metadata={"lines_per_s": f"{rate:g}"},
        retry_after_s=wait_s,
    )

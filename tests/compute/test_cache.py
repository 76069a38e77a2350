"""The cache that threads share: bounded, and never empty between a look and a read."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from compute.cache import Cache
from compute.market import Market


def test_what_was_used_least_lately_goes_first() -> None:
    cache: Cache[str, int] = Cache(2)
    made: list[str] = []

    def get(key: str) -> int:
        return cache.get(key, lambda: made.append(key) or len(made))  # type: ignore[func-returns-value]

    assert [get(key) for key in "abacab"] == [1, 2, 1, 3, 1, 4]
    assert made == ["a", "b", "c", "b"]
    assert len(cache) == 2


def test_what_fails_is_not_kept() -> None:
    cache: Cache[str, int] = Cache(2)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: 1 // 0)
    assert cache.get("a", lambda: 7) == 7
    with pytest.raises(ValueError, match="at least one"):
        Cache(0)


def test_parts_of_a_market_asked_for_by_threads_at_once() -> None:
    """More parts than are kept, by threads that are switched as often as can be."""
    n = 600
    market = Market(tuple(f"I{i}" for i in range(n)), np.arange(1.0, n + 1), np.ones(n))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def ask(start: int) -> None:
        for i in range(1500):
            place = (start + 7 * i) % n
            assert market.part(np.array([place])).price[0] == place + 1.0

    try:
        with ThreadPoolExecutor(4) as threads:
            for done in [threads.submit(ask, 150 * i) for i in range(4)]:
                done.result()
    finally:
        sys.setswitchinterval(before)

"""Values kept for a moment: loaded once, anew beside those who ask, never over what is newer."""

import asyncio
import time

import pytest

from server.refreshing_cache import RefreshingCache

AGE_MAX_S = 0.2


class Source:
    """Counts its loads; each waits for `gate`."""

    def __init__(self) -> None:
        self.loads = 0
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self) -> int:
        self.loads += 1
        mine = self.loads
        await self.gate.wait()
        if self.fails:
            raise ConnectionError
        return mine


async def test_many_askers_one_load():
    kept, source = RefreshingCache[int](AGE_MAX_S), Source()
    assert await asyncio.gather(*(kept.get("k", source.load) for _ in range(5))) == [1] * 5
    assert source.loads == 1


async def test_what_was_asked_for_least_lately_goes_first_and_alone():
    kept, source = RefreshingCache[int](60.0, size_max=3), Source()
    for key in "abc":
        await kept.get(key, source.load)
    await kept.get("a", source.load)
    await kept.get("d", source.load)
    assert [kept.peek(key) for key in "abcd"] == [1, None, 3, 4]
    assert source.loads == 4


async def test_half_way_to_the_limit_it_is_loaded_beside_who_asks():
    kept, source = RefreshingCache[int](AGE_MAX_S), Source()
    await kept.get("k", source.load)
    await asyncio.sleep(0.6 * AGE_MAX_S)
    source.gate.clear()
    assert await kept.get("k", source.load) == 1  # without waiting for the gate
    assert await kept.get("k", source.load) == 1
    await asyncio.sleep(0)
    assert source.loads == 2
    source.gate.set()
    await asyncio.sleep(0.01)
    assert kept.peek("k") == 2


async def test_what_was_read_before_a_change_does_not_replace_it():
    kept, source = RefreshingCache[int](AGE_MAX_S), Source()
    await kept.get("k", source.load)
    await asyncio.sleep(0.6 * AGE_MAX_S)
    source.gate.clear()
    await kept.get("k", source.load)
    await asyncio.sleep(0)
    kept.advance("k", 1, 10)
    source.gate.set()
    await asyncio.sleep(0.01)
    assert kept.last("k") == 10


async def test_a_load_that_fails_is_felt_only_at_the_limit():
    kept, source = RefreshingCache[int](AGE_MAX_S), Source()
    await kept.get("k", source.load)
    source.fails = True
    await asyncio.sleep(0.6 * AGE_MAX_S)
    assert await kept.get("k", source.load) == 1
    await asyncio.sleep(0.6 * AGE_MAX_S)
    with pytest.raises(ConnectionError):
        await kept.get("k", source.load)


async def test_a_look_at_one_value_looks_at_others_in_use_too():
    kept, source = RefreshingCache[int](AGE_MAX_S), Source()
    for key in "abc":
        await kept.get(key, source.load)
    assert kept.due(9) == {}
    await asyncio.sleep(0.6 * AGE_MAX_S)
    assert kept.due(9) == {"a": 1, "b": 2, "c": 3}
    assert kept.due(2) == {"a": 1, "b": 2}
    look = time.monotonic()
    kept.renew("a", 1, look)
    kept.renew("b", 7, look)  # not what is kept by now
    assert kept.due(9) == {"b": 2, "c": 3}
    await asyncio.sleep(0.6 * AGE_MAX_S)
    assert (kept.peek("a"), kept.peek("b")) == (1, None)


async def test_a_renewed_value_is_as_old_as_the_look():
    kept, source = RefreshingCache[int](AGE_MAX_S), Source()
    await kept.get("k", source.load)
    look = time.monotonic()
    await asyncio.sleep(0.6 * AGE_MAX_S)
    kept.renew("k", 1, look)
    await asyncio.sleep(0.6 * AGE_MAX_S)
    assert kept.peek("k") is None

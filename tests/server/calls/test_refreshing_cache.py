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


async def test_a_family_is_forgotten_but_for_the_key_itself_and_loads_under_way_with_it():
    kept = RefreshingCache[int](60.0, size_max=4, family=lambda key: key[0])
    source = Source()
    for key in ("ax", "ay", "bx"):
        await kept.get(key, source.load)
    source.gate.clear()
    waiting = asyncio.ensure_future(kept.get("az", source.load))
    await asyncio.sleep(0)
    kept.drop_family("ax")
    source.gate.set()
    assert await waiting == 4, "who has asked is answered"
    assert [kept.last(key) for key in ("ax", "ay", "az", "bx")] == [1, None, None, 3]
    kept.drop_family("cx")  # of which there is none
    for key in ("ay", "bx", "by", "bz", "cx"):  # "ax" goes first, and then "ay"
        await kept.get(key, source.load)
    kept.drop_family("bz")
    assert [kept.last(key) for key in ("ax", "bx", "by", "bz", "cx")] == [None, None, None, 7, 8]


async def test_what_nobody_asks_for_any_more_is_not_looked_at(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("server.refreshing_cache._IN_USE_S", 1.5 * AGE_MAX_S)
    kept, source = RefreshingCache[int](AGE_MAX_S), Source()
    for key in "ab":
        await kept.get(key, source.load)
    await asyncio.sleep(AGE_MAX_S)
    kept.advance("b", 2, 20)
    await kept.get("a", source.load)  # loaded again, and asked for now
    await asyncio.sleep(0.8 * AGE_MAX_S)
    assert kept.due(9) == {"a": 3}

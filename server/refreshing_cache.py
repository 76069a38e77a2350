"""Values kept for a moment, so that not every call reads them again."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_SIZE_MAX = 4096
_IN_USE_S = 2.0
"""A value that was asked for so lately is in use."""


@dataclass
class _Entry(Generic[T]):
    value: T
    started: float
    """When the load began that returned it, or the look that found it unchanged."""
    asked: float


class RefreshingCache(Generic[T]):
    """Values that are loaded once, by one loader at a time, and kept for `age_max_s`.

    At most `size_max` of them: what was asked for least lately goes first. `family` says which keys
    `drop_family` forgets together, without a look at all others.
    """

    def __init__(
        self,
        age_max_s: float,
        size_max: int = _SIZE_MAX,
        family: Callable[[Any], Hashable] = lambda key: key,
    ) -> None:
        self._age_max_s = age_max_s
        self._size_max = size_max
        self._family = family
        self._entries: dict[Hashable, _Entry[T]] = {}  # the one asked for last comes last
        self._loading: dict[Hashable, asyncio.Future[T]] = {}
        self._families: dict[Hashable, set[Hashable]] = {}
        """Of all keys that are kept or loaded."""

    def peek(self, key: Hashable) -> T | None:
        """The kept value, None where there is none young enough."""
        entry = self._entries.get(key)
        if entry is not None and time.monotonic() - entry.started <= self._age_max_s:
            return entry.value
        return None

    def last(self, key: Hashable) -> T | None:
        """The kept value, however old."""
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    async def get(self, key: Hashable, load: Callable[[], Awaitable[T]]) -> T:
        """The kept value, or the one `load` returns.

        Where many ask, nobody waits: half way to its age limit a value is loaded anew beside it.
        """
        now = time.monotonic()
        entry, loading = self._entries.get(key), self._loading.get(key)
        if entry is not None:
            entry.asked = now
            self._entries[key] = self._entries.pop(key)  # to the end, away from what goes first
        if loading is None and (entry is None or now - entry.started > self._age_max_s / 2):
            loading = asyncio.ensure_future(self._load(key, load))
            loading.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._loading[key] = loading
            self._families.setdefault(self._family(key), set()).add(key)
        if entry is not None and now - entry.started <= self._age_max_s:
            return entry.value
        assert loading is not None
        return await asyncio.shield(loading)

    async def _load(self, key: Hashable, load: Callable[[], Awaitable[T]]) -> T:
        started = time.monotonic()
        mine = asyncio.current_task()
        try:
            value = await load()
        finally:
            # Forgotten while it was loading: what it read may be older than what changed.
            is_wanted = self._loading.get(key) is mine
            if is_wanted:
                del self._loading[key]
                self._leave_family(key)
        if is_wanted:
            self._entries.pop(key, None)
            self._entries[key] = _Entry(value, started, asked=time.monotonic())
            self._families.setdefault(self._family(key), set()).add(key)
            while len(self._entries) > self._size_max:
                first = next(iter(self._entries))
                del self._entries[first]
                self._leave_family(first)
        return value

    def due(self, count_max: int, keys: Callable[[Any], bool] = lambda key: True) -> dict[Any, T]:
        """Values in use that are half way to the age limit, the oldest first.

        Who looks whether one of them has changed may as well look at the others.
        """
        now = time.monotonic()
        found = []
        for key, entry in reversed(self._entries.items()):
            if now - entry.asked > _IN_USE_S:
                break  # and all before it were asked for still earlier
            if now - entry.started > self._age_max_s / 2 and keys(key):
                found.append((key, entry))
        found.sort(key=lambda item: item[1].started)
        return {key: entry.value for key, entry in found[:count_max]}

    def renew(self, key: Hashable, value: T, started: float) -> None:
        """Takes in that `value` was found unchanged by a look that began at `started`."""
        entry = self._entries.get(key)
        if entry is not None and entry.value is value:
            entry.started = max(entry.started, started)

    def advance(self, key: Hashable, old: T, new: T) -> None:
        """Puts `new` in the place of `old`, no younger than it; nothing where that has gone."""
        entry = self._entries.get(key)
        if entry is not None and entry.value is old:
            self._entries[key] = _Entry(new, entry.started, entry.asked)
            self._loading.pop(key, None)  # which may have read `old`

    def drop(self, keys: Callable[[Any], bool] = lambda key: True) -> None:
        """Forgets the values whose key matches, and loads under way of them."""
        self._forget([key for key in {**self._entries, **self._loading} if keys(key)])

    def drop_family(self, key: Hashable) -> None:
        """Forgets the other keys of the family of `key`, and loads under way of them."""
        self._forget([k for k in self._families.get(self._family(key), ()) if k != key])

    def _forget(self, keys: Iterable[Hashable]) -> None:
        for key in keys:
            self._entries.pop(key, None)
            self._loading.pop(key, None)
            self._leave_family(key)

    def _leave_family(self, key: Hashable) -> None:
        if key in self._entries or key in self._loading:
            return
        family = self._family(key)
        if others := self._families.get(family):
            others.discard(key)
            if not others:
                del self._families[family]

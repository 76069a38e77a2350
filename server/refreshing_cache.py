"""Values kept for a moment, so that not every call reads them again."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
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

    At most `size_max` of them: what was asked for least lately goes first.
    """

    def __init__(self, age_max_s: float, size_max: int = _SIZE_MAX) -> None:
        self._age_max_s = age_max_s
        self._size_max = size_max
        self._entries: dict[Hashable, _Entry[T]] = {}
        self._loading: dict[Hashable, asyncio.Future[T]] = {}

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
        if is_wanted:
            self._entries.pop(key, None)
            self._entries[key] = _Entry(value, started, asked=time.monotonic())
            while len(self._entries) > self._size_max:
                del self._entries[next(iter(self._entries))]
        return value

    def due(self, count_max: int, keys: Callable[[Any], bool] = lambda key: True) -> dict[Any, T]:
        """Values in use that are half way to the age limit, the oldest first.

        Who looks whether one of them has changed may as well look at the others.
        """
        now = time.monotonic()
        found = [
            (key, entry)
            for key, entry in self._entries.items()
            if now - entry.started > self._age_max_s / 2
            and now - entry.asked <= _IN_USE_S
            and keys(key)
        ]
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
        for stored in (self._entries, self._loading):
            for key in [key for key in stored if keys(key)]:
                del stored[key]

"""A bounded cache that threads may share: what was used least lately goes first."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """At most `size_max` values, made when first asked for.

    Usage: `cache.get(key, lambda: expensive(key))`. Equal keys stand for equal values: two threads
    that ask at once may both make one, and both get the same.
    """

    def __init__(self, size_max: int) -> None:
        if size_max < 1:
            raise ValueError("a cache holds at least one value")
        self._size_max = size_max
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = Lock()

    def __reduce__(self) -> tuple[type["Cache[K, V]"], tuple[int]]:
        """An empty one: another process makes its own values, and a lock goes nowhere."""
        return Cache, (self._size_max,)

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key; what `make` raises is raised, and nothing kept.

        No look at the cache is ever followed by a second one that could find less. `make` runs
        outside the lock, as it may take long or ask for other keys.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        made = make()
        with self._lock:
            value = self._values.setdefault(key, made)
            self._values.move_to_end(key)
            while len(self._values) > self._size_max:
                self._values.popitem(last=False)
            return value

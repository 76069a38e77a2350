"""A queue in which tenants share the time of what serves it, and within a tenant its callers do."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import grpc

from server.calls.errors import Refusal

T = TypeVar("T")

_MEMORY = 0.9
"""What earlier items took counts for so much beside the latest, in the estimate of the next."""


class Shares:
    """Whose turn it is among those who share a time: of the one that has had the least.

    Start-time fair queueing (Goyal, Vin and Cheng 1996), with the time that was really taken in the
    place of an estimate: who waits next to others gets as much time as each of them, whatever one
    of its items takes, and is at most one item ahead. Who comes back is where the others are by
    then, or where it had come to before, so that nobody saves up time by staying away, and
    nobody gets more of it by asking for one thing at a time.
    """

    def __init__(self) -> None:
        self._had: OrderedDict[str, float] = OrderedDict()  # of those who wait, next of ties first
        self._ahead: dict[str, float] = {}  # of those who don't, as far as they are ahead of `_now`
        self._now = 0.0

    def __contains__(self, name: str) -> bool:
        return name in self._had

    def __iter__(self) -> Iterator[str]:
        return iter(self._had)

    def enter(self, name: str) -> None:
        """Waits from now on."""
        self._had[name] = max(self._now, self._ahead.pop(name, 0.0))

    def leave(self, name: str) -> None:
        """Waits no more."""
        had = self._had.pop(name)
        if had > self._now:
            self._ahead[name] = had

    def next(self) -> str:
        """Whose turn it is; of equals, whose turn is longest ago."""
        return min(self._had, key=self._had.__getitem__)

    def take(self) -> str:
        """The same; it goes behind its equals."""
        name = self.next()
        self.begin(name)
        self._had.move_to_end(name)
        return name

    def begin(self, name: str) -> None:
        """One of its items begins: those who come now are where it is."""
        self._now = max(self._now, self._had.get(name, self._ahead.get(name, 0.0)))

    def charge(self, name: str, took_s: float) -> None:
        """What one of its items has taken."""
        if name in self._had:
            self._had[name] += took_s
            return
        self._ahead[name] = max(self._now, self._ahead.get(name, 0.0)) + took_s
        if len(self._ahead) > 2 * len(self._had) + 64:
            self._ahead = {who: had for who, had in self._ahead.items() if had > self._now}


class FairQueue(Generic[T]):
    """First in, first out for each caller; tenants share the time, and so do callers of one.

    A caller is named "tenant subject address"; the first word is the tenant. Whoever works on items
    says what each has taken (`charge`). A full queue is nobody's: a tenant that has less in it than
    another takes the place of the latest item of that one's busiest caller, and so does a caller
    within a tenant. So one holds all places only while nobody else wants any.
    """

    def __init__(self, length_max: int) -> None:
        self._length_max = length_max
        self._by_caller: dict[str, deque[T]] = {}
        self._tenants = Shares()
        self._callers: dict[str, Shares] = {}
        self._by_tenant: dict[str, int] = {}
        self._usual_s: dict[str, float] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def of(self, caller: str) -> int:
        """How many items of a caller wait."""
        return len(self._by_caller.get(caller, ()))

    def wait_s(self, caller: str, usual_s: float) -> float:
        """About how long an item of a caller would wait, by what items of each tenant take.

        usual_s: what an item takes of a tenant of which nothing is known.
        """
        mine, tenant = self.of(caller), tenant_of(caller)
        n_own = sum(min(self.of(other), mine + 1) for other in self._waiting(tenant))
        own_s = n_own * self._usual_s.get(tenant, usual_s)
        total = own_s
        for name, n in self._by_tenant.items():
            if name != tenant:
                one_s = self._usual_s.get(name, usual_s)
                total += min(n * one_s, own_s + one_s)
        return total

    def push(self, caller: str, item: T) -> T | None:
        """Adds an item behind the caller's others; returns the one that gave way.

        Raises `Refusal` where the queue is full and nobody has more in it.
        """
        displaced, tenant = None, tenant_of(caller)
        if self._length >= self._length_max:
            largest = self._largest(caller)
            if largest is None:
                raise overloaded(f"{self._length} requests wait to be computed", 0.05)
            displaced = self._by_caller[largest].pop()
            self._less(largest)
        if caller not in self._by_caller:
            self._by_caller[caller] = deque()
            if tenant not in self._tenants:
                self._tenants.enter(tenant)
                self._callers.setdefault(tenant, Shares())
            self._callers[tenant].enter(caller)
        self._by_caller[caller].append(item)
        self._by_tenant[tenant] = self._by_tenant.get(tenant, 0) + 1
        self._length += 1
        return displaced

    def first(self) -> T:
        """The item that is next, left where it is."""
        return self._by_caller[self._callers[self._tenants.next()].next()][0]

    def pop(self) -> tuple[str, T]:
        """The next item and whose it is, who is charged with what it takes."""
        caller = self._callers[self._tenants.take()].take()
        item = self._by_caller[caller].popleft()
        self._less(caller)
        return caller, item

    def begin(self, caller: str) -> None:
        """An item of a caller begins that has not waited."""
        tenant = tenant_of(caller)
        self._tenants.begin(tenant)
        self._callers.setdefault(tenant, Shares()).begin(caller)

    def charge(self, caller: str, took_s: float) -> None:
        """What an item of a caller has taken."""
        tenant = tenant_of(caller)
        self._tenants.charge(tenant, took_s)
        if tenant in self._callers:
            self._callers[tenant].charge(caller, took_s)
        usual = self._usual_s.get(tenant, took_s)
        self._usual_s[tenant] = _MEMORY * usual + (1.0 - _MEMORY) * took_s

    def _waiting(self, tenant: str) -> Iterable[str]:
        return iter(self._callers[tenant]) if tenant in self._callers else ()

    def _largest(self, caller: str) -> str | None:
        """Whose latest item gives way to a caller's; None where nobody has more."""
        mine = tenant_of(caller)
        tenant = max(self._by_tenant, key=lambda name: self._by_tenant[name], default=mine)
        if self._by_tenant.get(tenant, 0) > self._by_tenant.get(mine, 0) + 1:
            return self._busiest(self._waiting(tenant))
        busiest = self._busiest(self._waiting(mine))
        if busiest is None or self.of(busiest) <= self.of(caller) + 1:
            return None
        return busiest

    def _busiest(self, callers: Iterable[str]) -> str | None:
        return max(callers, key=self.of, default=None)

    def _less(self, caller: str) -> None:
        """One item of a caller has gone."""
        tenant = tenant_of(caller)
        self._length -= 1
        self._by_tenant[tenant] -= 1
        if not self._by_caller[caller]:
            del self._by_caller[caller]
            self._callers[tenant].leave(caller)
        if not self._by_tenant[tenant]:
            del self._by_tenant[tenant]
            self._tenants.leave(tenant)


def tenant_of(caller: str) -> str:
    """The tenant of a caller's name."""
    return caller.partition(" ")[0]


def overloaded(message: str, retry_after_s: float) -> Refusal:
    """UNAVAILABLE: the same request may be answered a little later."""
    code = grpc.StatusCode.UNAVAILABLE
    return Refusal(code, "OVERLOADED", message, retry_after_s=retry_after_s)

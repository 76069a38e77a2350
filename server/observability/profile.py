"""Where the time of one call goes: named spans, told to a caller who asks for them.

A caller asks with the metadata `sizing-profile: 1`, and finds the spans in the trailing metadata
`sizing-profile-bin` as JSON: name, start and duration in microseconds since the call came in, and
the thread. For all other calls a span costs one look at a context variable.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

import orjson

P = ParamSpec("P")
T = TypeVar("T")

ASK, ANSWER = "sizing-profile", "sizing-profile-bin"
BYTES_MAX = 6000
"""Clients accept 8 KiB of trailers in all by default."""


class Profile:
    """The spans of one call, in the order in which they ended."""

    def __init__(self) -> None:
        self._origin = time.perf_counter()
        self._spans: list[tuple[str, float, float, str]] = []

    def add(self, name: str, began: float, ended: float) -> None:
        """A span between two times of `time.perf_counter`."""
        thread = threading.current_thread().name
        self._spans.append((name, began - self._origin, ended - began, thread))

    def encoded(self) -> bytes:
        """JSON: a list of [name, start_us, duration_us, thread]; the longest, where not all fit."""
        spans = sorted(self._spans, key=lambda span: -span[2])
        told = [[name, round(a * 1e6), round(d * 1e6), thread] for name, a, d, thread in spans]
        while len(encoded := orjson.dumps(told)) > BYTES_MAX:
            told.pop()
        return encoded


_current: ContextVar[Profile | None] = ContextVar("profile", default=None)


@contextlib.contextmanager
def begun(metadata: Mapping[str, object]) -> Iterator[Profile | None]:
    """Profiles what runs inside, if the caller asks for it; None if not."""
    if str(metadata.get(ASK, "")) in ("", "0"):
        yield None
        return
    profile = Profile()
    token = _current.set(profile)
    try:
        yield profile
    finally:
        _current.reset(token)


@contextlib.contextmanager
def _measured(profile: Profile, name: str) -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    finally:
        profile.add(name, began, time.perf_counter())


_NOTHING = contextlib.nullcontext()


def span(name: str) -> contextlib.AbstractContextManager[None]:
    """Measures the block, if its call is profiled."""
    profile = _current.get()
    return _NOTHING if profile is None else _measured(profile, name)


def handed_over(work: Callable[P, T], name: str) -> Callable[P, T]:
    """`work` as another thread runs it: profiled alike, with the wait for its turn as a span."""
    profile = _current.get()
    if profile is None:
        return work
    asked = time.perf_counter()

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        began = time.perf_counter()
        profile.add(f"wait for {name}", asked, began)
        token = _current.set(profile)
        try:
            return work(*args, **kwargs)
        finally:
            _current.reset(token)
            profile.add(name, began, time.perf_counter())

    return run

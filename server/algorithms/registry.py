"""The algorithms of a server: asked by name, in turn, with a deadline."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from compute.algorithm import AlgorithmInput
from server.algorithms.asked import Algorithm, AlgorithmError, Description, Reply
from server.algorithms.breaker import Breaker
from server.algorithms.process import ProcessAlgorithm
from server.algorithms.settings import AlgorithmSettings, load
from server.algorithms.trusted import TrustedAlgorithm
from server.config import ConfigError
from server.observability.telemetry import Telemetry

DESCRIBE_S = 2.0
"""For an algorithm to say who it is."""

OUTCOMES = (
    "OK",
    "TIMEOUT",
    "UNAVAILABLE",
    "ERROR",
    "INVALID_ANSWER",
    "NOT_THE_PINNED_ONE",
    "RESTING",
    "BUSY",
)
"""All that a question may come to."""


@dataclass
class Entry:
    """An algorithm with its settings and how it has done."""

    settings: AlgorithmSettings
    algorithm: Algorithm
    breaker: Breaker = field(default_factory=Breaker)
    outcomes: Counter[str] = field(default_factory=Counter)
    turns: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.turns = asyncio.Semaphore(self.settings.in_flight_max)


class Algorithms:
    """Every algorithm that the settings name."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = dict(sorted(entries.items()))

    @classmethod
    def of(cls, path: Path | None) -> "Algorithms":
        """Those of a file of settings, Python code imported. Raises `ConfigError`."""
        try:
            chosen = load(path)
        except ValueError as error:
            raise ConfigError(f"algorithms_file: {error}") from error
        entries = {}
        for name, settings in chosen.items():
            try:
                entries[name] = Entry(settings, _algorithm(settings))
            except ValueError as error:
                raise ConfigError(f"algorithms_file: {path}: {name}: {error}") from error
        return cls(entries)

    @property
    def names(self) -> tuple[str, ...]:
        """All, sorted."""
        return tuple(self._entries)

    def settings(self, name: str) -> AlgorithmSettings | None:
        """Of one; None where it isn't known."""
        entry = self._entries.get(name)
        return None if entry is None else entry.settings

    def watch(self, telemetry: Telemetry) -> None:
        """Exposes how often a question came to each of `OUTCOMES`."""
        for name, entry in self._entries.items():
            for outcome in OUTCOMES:
                telemetry.count(
                    "sizing_algorithm_questions_total",
                    "Questions to custom algorithms by what they came to.",
                    partial(entry.outcomes.__getitem__, outcome),
                    algorithm=name,
                    outcome=outcome,
                )

    def is_resting(self, name: str) -> bool:
        """Whether it has failed so often that it isn't asked now."""
        return self._entries[name].breaker.is_open(time.monotonic())

    async def describe(self, name: str) -> Description:
        """Who answers under a name. Raises `AlgorithmError`."""
        return await self._entries[name].algorithm.describe(DESCRIBE_S)

    async def ask(self, name: str, question: AlgorithmInput, left_s: float) -> Reply:
        """The sizes of an algorithm, one a line. Raises `AlgorithmError`.

        left_s: the time of the call; half of it at most is given to the algorithm.
        """
        entry = self._entries[name]
        try:
            reply = await self._ask(entry, question, left_s / 2)
        except AlgorithmError as error:
            entry.outcomes[error.reason] += 1
            raise
        entry.outcomes["OK"] += 1
        return reply

    async def _ask(self, entry: Entry, question: AlgorithmInput, left_s: float) -> Reply:
        started = time.monotonic()
        if not entry.breaker.enter(started):
            text = "it failed too often and is left alone for some seconds"
            raise AlgorithmError("RESTING", text)
        try:
            async with asyncio.timeout(left_s):
                await entry.turns.acquire()
        except TimeoutError as error:
            entry.breaker.left()
            raise AlgorithmError("BUSY", "all its turns are taken") from error
        except BaseException:
            entry.breaker.left()
            raise
        left_s -= time.monotonic() - started
        deadline_s = max(min(entry.settings.deadline_ms / 1000, left_s), 0.001)
        try:
            reply = await entry.algorithm.size(question, deadline_s, entry.turns.release)
            n = len(question.instrument_ids)
            if reply.weight.shape != (n,):
                shape = "x".join(str(length) for length in reply.weight.shape)
                raise AlgorithmError("INVALID_ANSWER", f"it gave {shape} sizes for {n} lines")
        except AlgorithmError:
            entry.breaker.failed(time.monotonic())
            raise
        except BaseException:
            entry.breaker.left()
            raise
        entry.breaker.succeeded()
        return reply

    async def close(self) -> None:
        """Lets go of all."""
        for entry in self._entries.values():
            await entry.algorithm.close()


def _algorithm(settings: AlgorithmSettings) -> Algorithm:
    if settings.address is not None:
        return ProcessAlgorithm(settings)
    if settings.wasm is not None:
        try:
            from server.algorithms.wasm import WasmAlgorithm
        except ImportError as error:
            text = f"wasm needs {error.name}: pip install 'position-sizing[plugins]'"
            raise ValueError(text) from error
        return WasmAlgorithm(settings)
    return TrustedAlgorithm.loaded(settings)

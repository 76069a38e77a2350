"""How a solve runs: until when, and on programs compiled when needed or only on those at hand.

A program of a problem's own structure is the fastest one, and compiling it takes seconds. A
service can't wait for that: it hands in its programs, every problem is padded to one of the shapes
that are compiled (`JointShapes`), and one that fits none raises `NotCompiledError`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from compute.optimize.time_limit import ENDLESS, TimeLimit
from compute.shapes import KernelRegistry

T = TypeVar("T")


@dataclass(frozen=True)
class JointShapes:
    """Sizes that joint problems are padded to, each a rising ladder.

    assets: names of a problem, what is held besides included. scenarios: their number. rows:
    linear limits (groups, exposures, cash, budget and those by name), few and most.
    """

    assets: tuple[int, ...] = (32, 128, 512)
    scenarios: tuple[int, ...] = (1024, 4096)
    rows: tuple[int, int] = (32, 192)

    def quick_scenarios(self, names: int) -> int:
        """How many scenarios of so many names have a program with little work."""
        return self.scenarios[-1 if names <= self.assets[-2:][0] else 0]

    @property
    def linear_programs(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of the programs of tail measures; a book with costs has 3 columns a name.

        Programs keep a hundred or two of the scenarios as rows, more only where limits conflict.
        """
        wide = 4 * self.assets[-1]
        return ((192, 256), (256, max(wide // 4, 256)), (256, wide), (1024, wide))


@dataclass(frozen=True)
class Programs:
    """Compiled kernels, and the shapes they were compiled for."""

    registry: KernelRegistry
    shapes: JointShapes


@dataclass(frozen=True)
class Execution:
    """How a solve runs.

    time_limit: looked at between iterations, cuts and points. programs: the only ones that may
    run; None: a program of the problem's own structure is compiled when it is needed.
    """

    time_limit: TimeLimit = ENDLESS
    programs: Programs | None = None


JUST_IN_TIME = Execution()
"""No deadline; programs are compiled when they are needed."""


class Runner(Protocol):
    """Runs joint work: functions that take their `Execution` by the name `execution`.

    errors: what `run` raises for work that can't be done.
    """

    errors: tuple[type[Exception], ...]

    def run(self, work: Callable[..., T], *arguments: Any, time_limit: TimeLimit) -> T:
        """What `work` returns. Raises what it raises, `StoppedError` at the time limit."""


class InThisThread:
    """Runs joint work where it is asked for, compiling what it needs: for scripts and backtests."""

    errors: tuple[type[Exception], ...] = (ValueError, ArithmeticError)

    def run(self, work: Callable[..., T], *arguments: Any, time_limit: TimeLimit) -> T:
        """See `Runner`."""
        return work(*arguments, execution=Execution(time_limit))


IN_THIS_THREAD = InThisThread()

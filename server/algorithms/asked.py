"""What is said between the service and an algorithm, whatever that runs in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from compute.algorithm import AlgorithmInput
from compute.market import Floats


@dataclass(frozen=True)
class Description:
    """Who answers: the version and hash, and what it does in its own words."""

    version: str
    sha256: str
    text: str


@dataclass(frozen=True)
class Reply:
    """Sizes as signed fractions of equity, one a line, and who gave them."""

    weight: Floats
    version: str
    sha256: str


class AlgorithmError(Exception):
    """An algorithm gave no answer that can be used: a reason for programs, and words."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


class Algorithm(Protocol):
    """A place where an algorithm runs."""

    async def describe(self, deadline_s: float) -> Description:
        """Who is there. Raises `AlgorithmError`."""

    async def size(
        self, question: AlgorithmInput, deadline_s: float, done: Callable[[], None]
    ) -> Reply:
        """Its sizes, unchecked. Raises `AlgorithmError`.

        `done` is called once when it no longer works on the question, which may be later.
        """

    async def close(self) -> None:
        """Lets go of it."""

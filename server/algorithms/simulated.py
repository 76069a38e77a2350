"""Custom algorithms as a backtest asks them: in turn, by one thread, in a process of its own.

Live, an algorithm that fails leaves positions as they are. In a backtest that would make the result
one of chance and of the machine's load, and so a failure ends it.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np

from compute.algorithm import AlgorithmAnswer, AlgorithmInput
from compute.parameters import AlgorithmChoice
from compute.simulate.setting import Setting
from server.algorithms.asked import AlgorithmError, Description
from server.algorithms.registry import Algorithms
from server.calls.errors import FieldViolation, invalid_fields, precondition

PATIENCE_S = 3600.0
"""Each answer has the deadline of its algorithm's settings; there is no call to be in time for."""


class SimulatedAlgorithms:
    """The algorithms of a file of settings, for use in a `with` statement."""

    def __init__(self, path: Path | None) -> None:
        """Raises `ConfigError`."""
        self._runner = asyncio.Runner()
        self._algorithms = self._runner.run(_made(path))

    def __enter__(self) -> "SimulatedAlgorithms":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.run(self._algorithms.close())
        self._runner.close()

    def check_known(self, settings: Iterable[tuple[str, Setting]]) -> None:
        """Raises `Refusal` naming settings, by the path of each, with an algorithm unknown here."""
        known = ", ".join(self._algorithms.names) or "none"
        found = [
            FieldViolation(
                f"{path}.parameters.algorithm.name",
                "UNKNOWN_ALGORITHM",
                f"this server has no algorithm {chosen.name!r}; it has: {known}",
            )
            for path, setting in settings
            if (chosen := setting.parameters.algorithm) is not None
            and self._algorithms.settings(chosen.name) is None
        ]
        if found:
            raise invalid_fields(found)

    def describe(self, name: str) -> Description:
        """Who answers under a name that is known. Raises `Refusal` where nobody does."""
        with _refused(name):
            return self._runner.run(self._algorithms.describe(name))

    def ask(self, chosen: AlgorithmChoice, question: AlgorithmInput) -> AlgorithmAnswer:
        """What the algorithm says. Raises `Refusal` where it fails."""
        settings = self._algorithms.settings(chosen.name)
        assert settings is not None, "see `check_known`"
        with _refused(chosen.name):
            asked = self._algorithms.ask(chosen.name, question, PATIENCE_S)
            reply = self._runner.run(asked)
        return AlgorithmAnswer(
            name=chosen.name,
            tier=settings.tier,
            weight=np.asarray(reply.weight, dtype=np.float64),
            weight_max=settings.weight_max,
            version=reply.version,
            sha256=reply.sha256,
        )


@contextmanager
def _refused(name: str) -> Iterator[None]:
    """A failure of an algorithm as a refusal."""
    try:
        yield
    except AlgorithmError as error:
        text = f"the algorithm {name!r} failed: {error.message}"
        raise precondition(f"ALGORITHM_{error.reason}", text, algorithm=name) from error


async def _made(path: Path | None) -> Algorithms:
    """Channels to programs belong to the loop that they are made in."""
    return Algorithms.of(path)

"""The ways to size, each declared once: its number in the contract and what computes it.

The contract has their names and what they do (`SizingMethod`). Whatever asks how a method is run,
which thread it takes or whether it sees the whole market, asks `engine`.
"""

from collections.abc import Callable
from enum import Enum, IntEnum
from typing import TYPE_CHECKING

from compute.multi_period import multi_period_weights
from compute.risk_parity import risk_parity_weights

if TYPE_CHECKING:
    from compute.inputs import Inputs
    from compute.market import Floats

    Target = Callable[[Inputs], Floats]
    """Signed weights to aim at, (n,), from the inputs of a batch; raises `MissingInputError`."""


class Engine(Enum):
    """What computes the sizes that limits, lots and the guard are applied to."""

    STAKES = "Kelly of each line by itself, through the stages of the stake"
    TARGET = "a function of the inputs: weights to aim at, within the risk rules of single lines"
    OPTIMIZER = "one problem over the whole market, in a thread of its own"
    OUTSIDE = "a program that is asked over a wire"


class Method(IntEnum):
    """How sizes are computed. The numbers are those of the contract."""

    engine: Engine
    target: "Target | None"
    """Of engine TARGET."""

    def __new__(
        cls, number: int, engine: Engine = Engine.STAKES, target: "Target | None" = None
    ) -> "Method":
        """The method of a number of the contract."""
        method = int.__new__(cls, number)
        method._value_ = number
        method.engine, method.target = engine, target
        return method

    CLOSED_FORM = 1, Engine.STAKES
    JOINT = 2, Engine.OPTIMIZER
    CUSTOM = 3, Engine.OUTSIDE
    RISK_PARITY = 4, Engine.TARGET, risk_parity_weights
    MULTI_PERIOD = 5, Engine.TARGET, multi_period_weights

    @property
    def is_computed(self) -> bool:
        """Whether its target is computed here, and anew where the inputs are others."""
        return self.engine in (Engine.TARGET, Engine.OPTIMIZER)


OPTIMIZED = frozenset(int(method) for method in Method if method.engine is Engine.OPTIMIZER)
"""Numbers of the methods of engine OPTIMIZER."""

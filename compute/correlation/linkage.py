"""How the distance between clusters follows from that of their members."""

from enum import IntEnum
from typing import Literal

Method = Literal["single", "complete", "average", "ward"]
"""As SciPy names them."""


class Linkage(IntEnum):
    """The numbers are those of the contract."""

    SINGLE = 1
    COMPLETE = 2
    AVERAGE = 3
    WARD = 4

    @property
    def method(self) -> Method:
        """SciPy's name of it."""
        return _METHODS[self]


_METHODS: dict[Linkage, Method] = {
    Linkage.SINGLE: "single",
    Linkage.COMPLETE: "complete",
    Linkage.AVERAGE: "average",
    Linkage.WARD: "ward",
}

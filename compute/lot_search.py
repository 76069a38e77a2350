"""What a search for whole lots found (`joint/lots.py` searches)."""

from dataclasses import dataclass

from compute.market import Floats


@dataclass(frozen=True)
class LotSearch:
    """Signed weights (n,) of whole lots, None where none were found; then `note` says why.

    shortfall, gap: relative to the objective, as in `IntegerSolution`.
    """

    weight: Floats | None = None
    shortfall: float = 0.0
    gap: float = 0.0
    note: str = ""

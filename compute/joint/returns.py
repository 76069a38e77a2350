"""Returns as the joint problem reads them: matrices of the book, and what is known of a batch."""

from dataclasses import dataclass

from compute.limits.policy import LimitKind
from compute.market import Floats, Integers


@dataclass(frozen=True)
class BookMatrix:
    """A matrix and where the market's instruments are in it.

    values: scenarios (K, c) with probability (K,), or a covariance (c, c). place: (m,), the column
    of each instrument of the market, -1 where it has none.
    """

    values: Floats
    probability: Floats
    place: Integers


@dataclass(frozen=True)
class Returns:
    """Scenarios (T, v) with probability (T,), or mean (v,) and covariance (v, v), and notes.

    views: (v,) what is expected of each return beyond its mean in the scenarios. It is a matter of
    the objective: a signal that expects more makes no risk smaller. unmeasured: limits that are not
    to be measured on these data, as they are not those of the request.
    """

    scenarios: Floats | None = None
    probability: Floats | None = None
    mean: Floats | None = None
    covariance: Floats | None = None
    views: Floats | None = None
    notes: tuple[str, ...] = ()
    unmeasured: frozenset[LimitKind] = frozenset()

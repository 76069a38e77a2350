"""Which limit set each line's size."""

from dataclasses import dataclass

from compute.market import Floats, Integers


@dataclass(frozen=True)
class Binding:
    """The limit that set each line's size, (n,) each; kind 0 where none did."""

    kind: Integers
    group: Integers
    """Index into the bounds' group names, after them the limits by name; -1 where it is neither."""
    bound: Floats
    without: Floats
    """Weight before that limit cut; where it took part in a joint optimum, the optimum."""

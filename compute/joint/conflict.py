"""Limits of a joint problem that contradict each other, as their caller states them.

A row or a bound of the problem is the limit behind it (`cuts.limit_of`), with the instrument
or group that it is of: `weight_max 0.05 of AAPL`, `group tech gross_weight_max 0.4`.
"""

from dataclasses import dataclass

from compute.inputs import Inputs
from compute.joint.box import Box
from compute.joint.cuts import limit_of
from compute.limits.policy import LimitKind
from compute.market import Integers
from compute.optimize.infeasibility.conflict import Explanation
from compute.optimize.limits import of_asset


@dataclass(frozen=True)
class Conflict:
    """members: the limits in it; relaxation: by how much each would have to give, in its unit."""

    members: tuple[str, ...]
    relaxation: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Stated:
    """The names of a problem's limits as limits of a request.

    lines: how many of `everything`, (v,) instruments, are of the batch; owner: (n',), the place
    there of each variable, where some are divided.
    """

    inputs: Inputs
    box: Box
    lines: int
    everything: Integers
    owner: Integers

    def conflict(self, why: Explanation) -> Conflict:
        """An explanation in these names."""
        members = dict.fromkeys(self.name(limit) for limit in why.members)
        given: dict[str, float] = {}
        for limit, amount in why.relaxation.items():
            name = self.name(limit)
            given[name] = max(given.get(name, 0.0), amount)
        return Conflict(tuple(members), tuple(given.items()))

    def name(self, limit: str) -> str:
        """One limit by its name in the problem."""
        limit_bounds = self.inputs.limit_bounds
        found = limit_of(limit, self.inputs, self.box, self.owner)
        kind, owner = found.kind, ""
        label = kind.fields[0] if kind.fields else kind.name.lower()
        if (own := of_asset(limit)) is not None:
            number = int(self.owner[own[1]])
            owner = limit_bounds.market.instrument_ids[self.everything[number]]
            if kind is LimitKind.NONE:
                held = number >= self.lines
                return f"the position held in {owner}" if held else f"the side of {owner}"
            return f"{label} {found.bound:g} of {owner}"
        if kind is LimitKind.CASH:
            return "cash"
        if kind is LimitKind.NONE:
            return limit
        if found.group < 0:
            return f"{label} {found.bound:g}"
        owner = limit_bounds.limit_names[found.group]
        if kind is LimitKind.STRESS_LOSS_MAX:
            return f"stress scenario {owner} loss_max {found.bound:g}"
        if kind is LimitKind.LINEAR:
            return f"{owner} {'lower' if limit.endswith(' min') else 'upper'} {found.bound:g}"
        is_group = found.group < len(limit_bounds.group_names)
        return f"{'group ' if is_group else ''}{owner} {label} {found.bound:g}"

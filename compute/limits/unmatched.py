"""What limits name and the market has not: right where it comes later, else a slip of the pen."""

from compute.limits.policy import Limits
from compute.market import Market, group_members

NAMES_MAX = 5
"""Names that are told one by one."""


def unmatched_notes(market: Market, limits: Limits) -> list[str]:
    """Sectors and instruments that limits name and no instrument of the market is, in words."""
    whole = market if market.whole is None else market.whole[0]
    notes = []
    for group in limits.groups:
        if group_members(whole, group).any():
            continue
        named = f"the sector {group.sector!r}" if group.sector else _listed(group.instrument_ids)
        notes.append(f"group {group.name!r} bounds nothing: the market has not {named}")
    if unknown := frozenset(name for name in limits.restricted if name not in whole.index):
        notes.append(f"restricted, and not in the market: {_listed(unknown)}")
    return notes


def _listed(names: frozenset[str]) -> str:
    first = sorted(names)[:NAMES_MAX]
    more = f" and {len(names) - len(first)} more" if len(names) > len(first) else ""
    return ", ".join(map(repr, first)) + more

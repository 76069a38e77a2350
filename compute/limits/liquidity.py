"""Limits on positions and trades by how much of an instrument changes hands in a day."""

import numpy as np

from compute.limits.policy import PARTICIPATION, LimitKind, Limits
from compute.limits.projection import NO_LIMIT
from compute.market import Floats, Market, MissingInputError


def volume_share(limits: Limits) -> tuple[LimitKind, float | None, float]:
    """The tighter limit on a position by its daily volume: kind, share of it, bound as stated.

    A position that may take T days to close at a participation of r is at most r T daily volumes.
    """
    share, days = limits.adv_position_max, limits.exit_days_max
    if days is not None:
        of_days = days * (limits.participation_rate or PARTICIPATION)
        if share is None or of_days < share:
            return LimitKind.EXIT_DAYS_MAX, of_days, days
    return LimitKind.ADV_POSITION_MAX, share, share or 0.0


def daily_volume(market: Market, limit: str) -> Floats:
    """Units a day, (m,). Raises `MissingInputError`, naming the limit that needs them."""
    if market.average_daily_volume is None:
        raise MissingInputError(
            "MISSING_AVERAGE_DAILY_VOLUME",
            f"the limit {limit} needs the column average_daily_volume in the market snapshot",
        )
    return market.average_daily_volume


def position_cap(market: Market, limits: Limits, unit_weight: Floats) -> Floats:
    """Largest absolute weight by volume, (m,). Raises `MissingInputError`."""
    kind, share, _ = volume_share(limits)
    if share is None:
        return np.full(len(unit_weight), NO_LIMIT)
    return share * daily_volume(market, kind.name.lower()) * unit_weight

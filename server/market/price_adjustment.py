"""Prices of two snapshots in the same units, where corporate actions lie between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from positionsizing.v1 import corporate_action_pb2 as action_pb
from positionsizing.v1.market_service_pb2 import MarketSnapshot

from compute.market import Market
from server.convert.corporate_action import (
    change_of,
    of_instrument,
    place_of,
    shown_to,
    shown_until,
)
from server.convert.market import Snapshot
from storage.postgres.corporate_actions import StoredAction


@dataclass(frozen=True)
class Marks:
    """Markets in the base currency and the snapshots they are from, by snapshot.

    actions: at least those since the first of them, in the order of their times.
    """

    markets: Mapping[str, Market]
    snapshots: Mapping[str, Snapshot]
    actions: Sequence[StoredAction]

    def later(self, before: str, after: str) -> Market:
        """The market of the snapshot `after`, its prices in the units of `before`.

        A split of 1 into r between them multiplies by r, a dividend d at a price p by p / (p - d).
        """
        market = self.markets[after]
        if not self.actions:
            return market
        scale = self._scale(self.snapshots[before].message, self.snapshots[after].message)
        quote, point = np.ones((2, len(market.price)))
        for name, (price_step, point_step) in scale.items():
            if price_step > 0.0 and name in market.index:
                quote[market.index[name]], point[market.index[name]] = price_step, point_step
        return market.in_units(quote, point) if scale else market

    def _scale(
        self, before: MarketSnapshot, after: MarketSnapshot
    ) -> dict[str, tuple[float, float]]:
        """What the actions that only the later snapshot shows make of price and point of a unit."""
        first, last = _Shown(before), _Shown(after)
        value: dict[str, tuple[float, float]] = {}
        scale: dict[str, tuple[float, float]] = {}
        for stored in self.actions:
            name = stored.instrument_id
            place = place_of(before, name)
            if place < 0 or first.has(stored) or not last.has(stored):
                continue
            price, multiplier = value.get(name) or (
                before.price[place],
                of_instrument(before, "multiplier", place, 1.0),
            )
            change = change_of(action_pb.CorporateAction.FromString(stored.payload), multiplier)
            value[name] = (change.price(price), multiplier * change.point_factor)
            if price > 0.0:
                quote, point = scale.get(name, (1.0, 1.0))
                step = change.price(price) / price
                scale[name] = quote * step, point * change.point_factor
        return scale


class _Shown:
    """Which actions are in the prices of a snapshot."""

    def __init__(self, snapshot: MarketSnapshot) -> None:
        self._time: datetime = snapshot.as_of_time.ToDatetime(tzinfo=UTC)
        self._until = shown_until(snapshot)

    def has(self, action: StoredAction) -> bool:
        return action.effective_time <= shown_to(self._until, action.instrument_id, self._time)

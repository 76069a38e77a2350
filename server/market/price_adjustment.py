"""Prices of two snapshots in the same units, where corporate actions lie between them."""

from collections.abc import Callable, Mapping, Sequence
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
class Step:
    """What actions multiplied quote, point and units of an instrument by.

    lot_size: the one after them, None where it stays.
    """

    quote: float = 1.0
    point: float = 1.0
    units: float = 1.0
    lot_size: float | None = None


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
        last = _Shown(self.snapshots[after].message)
        steps = self._steps(self.snapshots[before].message, last.has)
        quote, point = np.ones((2, len(market.price)))
        for name, step in steps.items():
            if step.quote > 0.0 and name in market.index:
                quote[market.index[name]], point[market.index[name]] = step.quote, step.point
        return market.in_units(quote, point) if steps else market

    def recorded(self, before: str, time: datetime) -> dict[str, Step]:
        """What actions recorded until then made of what the snapshot `before` still shows.

        Fills are booked in the units and lots of their time.
        """
        if not self.actions:
            return {}
        snapshot = self.snapshots[before].message
        found = self._steps(snapshot, lambda stored: stored.create_time <= time)
        return {name: step for name, step in found.items() if step.quote > 0.0}

    def _steps(
        self, before: MarketSnapshot, counts: Callable[[StoredAction], bool]
    ) -> dict[str, Step]:
        """What actions that count do to instruments, if the snapshot doesn't show them yet."""
        first = _Shown(before)
        value: dict[str, tuple[float, float]] = {}
        steps: dict[str, Step] = {}
        for stored in self.actions:
            name = stored.instrument_id
            place = place_of(before, name)
            if place < 0 or first.has(stored) or not counts(stored):
                continue
            price, multiplier = value.get(name) or (
                before.price[place],
                of_instrument(before, "multiplier", place, 1.0),
            )
            change = change_of(action_pb.CorporateAction.FromString(stored.payload), multiplier)
            value[name] = (change.price(price), multiplier * change.point_factor)
            if price > 0.0:
                step = steps.get(name, Step())
                steps[name] = Step(
                    step.quote * change.price(price) / price,
                    step.point * change.point_factor,
                    step.units * float(change.units),
                    change.lot_size or step.lot_size,
                )
        return steps


class _Shown:
    """Which actions are in the prices of a snapshot."""

    def __init__(self, snapshot: MarketSnapshot) -> None:
        self._time: datetime = snapshot.as_of_time.ToDatetime(tzinfo=UTC)
        self._until = shown_until(snapshot)

    def has(self, action: StoredAction) -> bool:
        return action.effective_time <= shown_to(self._until, action.instrument_id, self._time)

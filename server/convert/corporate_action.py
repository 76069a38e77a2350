"""Corporate actions between the contract and the domain, and the snapshot that one leaves."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from positionsizing.v1 import corporate_action_pb2 as pb
from positionsizing.v1 import market_service_pb2 as market_pb2

from compute.money.corporate_actions import Change, exactly, multiplier_change, split
from server.calls.errors import FieldViolation, invalid
from server.convert.bars import BAR_COLUMNS, has_bars
from server.convert.market import PRICE_MIN, instrument_violations
from server.convert.names import text_violations, timestamp
from server.convert.ranges import number_violations

_BY_PRICE = ("stop_price", "underlying_price")
_BY_VALUE = ("initial_margin_long", "initial_margin_short")
_ID_LENGTH = 80


def action_violations(request: market_pb2.ApplyCorporateActionRequest) -> Iterator[FieldViolation]:
    """What is wrong with a request by itself."""
    action = request.action
    for wrong in instrument_violations([action.instrument_id], "action.instrument_id"):
        yield replace(wrong, field="action.instrument_id")
    yield from text_violations(request.reason, "reason")
    name = action.WhichOneof("action")
    if name is None:
        text = "needs one of split, lot_size_change, multiplier_change, cash_dividend"
        yield FieldViolation("action", "MISSING", text)
        return
    yield from number_violations(request)
    if name == "split" and action.split.new_units == action.split.old_units != 0.0:
        yield FieldViolation("action.split.new_units", "OUT_OF_RANGE", "is old_units: no change")
    if name in ("split", "multiplier_change"):
        policy = getattr(action, name).fraction_policy
        if policy not in pb.FractionPolicy.values():
            yield FieldViolation(f"action.{name}.fraction_policy", "UNKNOWN_VALUE", "is not known")


def change_of(action: pb.CorporateAction, multiplier: float) -> Change:
    """What it does; multiplier: of the instrument before."""
    match action.WhichOneof("action"):
        case "split":
            return split(action.split.new_units, action.split.old_units)
        case "lot_size_change":
            return Change(lot_size=action.lot_size_change.lot_size)
        case "multiplier_change":
            return multiplier_change(multiplier, action.multiplier_change.multiplier)
    return Change(payment=action.cash_dividend.amount)


def of_instrument(
    snapshot: market_pb2.MarketSnapshot, column: str, place: int, default: float
) -> float:
    """The entry of a column of a snapshot, or what an empty one means."""
    values = getattr(snapshot, column)
    return float(values[place]) if len(values) else default


def place_of(snapshot: market_pb2.MarketSnapshot, instrument_id: str) -> int:
    """The place of an instrument in a snapshot, -1 where it has none."""
    names = list(snapshot.instrument_ids)
    return names.index(instrument_id) if instrument_id in names else -1


def shown_until(snapshot: market_pb2.MarketSnapshot) -> dict[str, datetime]:
    """Until when actions are in the prices of a snapshot, where that is after its as-of time."""
    out: dict[str, datetime] = {}
    for item in snapshot.adjustments:
        then = item.effective_time.ToDatetime(tzinfo=UTC)
        out[item.instrument_id] = max(then, out.get(item.instrument_id, then))
    return out


def shown_to(shown: Mapping[str, datetime], instrument_id: str, time: datetime) -> datetime:
    """Until when actions of an instrument are in the prices of a snapshot of that time."""
    return max(time, shown.get(instrument_id, time))


def successor(
    snapshot: market_pb2.MarketSnapshot, place: int, change: Change, mark: str, time: datetime
) -> market_pb2.MarketSnapshot:
    """The snapshot after an action on the instrument at `place`; mark: ends its id.

    Raises `Refusal` where nothing of the price would be left.
    """
    made = market_pb2.MarketSnapshot()
    made.CopyFrom(snapshot)
    made.snapshot_id = f"{snapshot.snapshot_id[:_ID_LENGTH]}.{mark}"
    price = change.price(snapshot.price[place])
    if snapshot.price[place] >= PRICE_MIN > price:
        text = f"leaves {price:g} of the price {snapshot.price[place]:g}"
        raise invalid("action.cash_dividend.amount", "OUT_OF_RANGE", text)
    made.price[place] = price
    if has_bars(made):
        bar = [change.price(getattr(made, name)[place]) for name in BAR_COLUMNS]
        for name, value in zip(BAR_COLUMNS, bar, strict=True):
            getattr(made, name)[place] = value if min(bar) >= PRICE_MIN else 0.0
    for name in _BY_PRICE:
        if len(column := getattr(made, name)):
            column[place] *= change.price_factor
    for name in _BY_VALUE:
        if len(column := getattr(made, name)):
            column[place] *= change.price_factor * change.point_factor
    if len(made.average_daily_volume):
        made.average_daily_volume[place] *= float(change.units)
    if change.point_factor != 1.0:
        before = exactly(of_instrument(snapshot, "multiplier", place, 1.0))
        _set(made, "multiplier", place, float(before / change.units))
    if change.lot_size is not None:
        _set(made, "lot_size", place, change.lot_size)
    made.adjustments.add(
        instrument_id=snapshot.instrument_ids[place], effective_time=timestamp(time)
    )
    return made


def _set(snapshot: market_pb2.MarketSnapshot, name: str, place: int, value: float) -> None:
    """Sets an entry of a column that may be empty, which means 1."""
    column = getattr(snapshot, name)
    if not len(column):
        column.extend([1.0] * len(snapshot.instrument_ids))
    column[place] = value

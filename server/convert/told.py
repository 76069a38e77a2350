"""Decisions and settlements as their events told them, to be entered into a restored database."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import events_pb2, sizing_pb2, types_pb2
from positionsizing.v1 import sizing_service_pb2 as pb

from server.convert.columns import Floats, Integers, encoder, floats, integers
from server.convert.settlement import settled_answer
from server.sizing import decision_inputs
from storage.postgres.decisions import Decision, Lines
from storage.postgres.requests import Request
from storage.postgres.reservations import NewReservation
from storage.postgres.settlements import SettlementWrite

_LENGTH_DELIMITED = 2
_ANSWER = encoder(pb.SizePositionsResponse.DESCRIPTOR)
_DECISION = events_pb2.PositionSized.DECISION_FIELD_NUMBER


@dataclass(frozen=True)
class ToldDecision:
    """A decision, what it reserved, and its part of the answer to a request, byte for byte."""

    decision: Decision
    reservation: NewReservation | None
    method: str
    request_hash: bytes
    part: int
    part_count: int
    answer: bytes
    portfolio_version: int
    """Before it."""
    trading_state_version: int
    equity: float


def decision_of(payload: bytes) -> ToldDecision | None:
    """Of a PositionSized; None where its release did not tell enough."""
    event = events_pb2.PositionSized.FromString(payload)
    told, record = event.decision, event.record
    if not record.method:
        return None
    versions = told.versions
    return ToldDecision(
        decision=Decision(
            decision_id=UUID(told.decision_id),
            request_id=UUID(told.request_id),
            kind="SIZING",
            portfolio_id=told.portfolio_id,
            strategy_id=told.strategy_id,
            create_time=_time(told.create_time),
            status=types_pb2.SizingStatus.Name(told.status).removeprefix("SIZING_STATUS_"),
            inputs=decision_inputs.lost(versions.market_snapshot_id, record.base_currency),
            versions={
                "service": versions.service_version,
                "kernel": versions.kernel,
                "libraries": versions.libraries,
                "market_snapshot_id": versions.market_snapshot_id,
                "limits": versions.limits_versions,
                "parameters": versions.parameters_version,
            },
            lines=_lines(told.sizes),
            portfolio_sequence=event.portfolio_sequence,
        ),
        reservation=_reservation(told, floats(record.reserved_cash)),
        method=record.method,
        request_hash=record.request_hash,
        part=record.part,
        part_count=record.part_count,
        answer=b"".join(_ANSWER.message("decision", [_raw(payload, _DECISION)])),
        portfolio_version=versions.portfolio_version,
        trading_state_version=versions.trading_state_version,
        equity=record.equity,
    )


def _lines(sizes: sizing_pb2.PositionSizes) -> Lines:
    return Lines(
        instrument_id=tuple(sizes.instrument_ids),
        lots=integers(sizes.lots),
        weight=floats(sizes.weight),
        notional=floats(sizes.quantity) * floats(sizes.price),
        price=floats(sizes.price),
        status=integers(sizes.line_status),
    )


def _reservation(told: sizing_pb2.SizingDecision, cash: Floats) -> NewReservation | None:
    if not told.HasField("reservation_expire_time"):
        return None
    sizes, trade = told.sizes, integers(told.sizes.trade_lots)
    traded = np.flatnonzero(trade)
    return NewReservation(
        instrument_id=tuple(sizes.instrument_ids[place] for place in traded),
        trade_lots=trade[traded],
        lot_size=floats(sizes.lot_size)[traded],
        price=floats(sizes.price)[traded],
        cash=cash,
        expire_time=_time(told.reservation_expire_time),
    )


def settlement_of(tenant_id: str, payload: bytes) -> SettlementWrite | None:
    """What a DecisionSettled booked, without an event; None where its release told too little."""
    event = events_pb2.DecisionSettled.FromString(payload)
    record, fills = event.record, event.fills
    if not record.request_id:
        return None
    request = pb.SettleDecisionRequest(
        request_id=record.request_id,
        decision_id=event.decision_id,
        close=record.close,
        confirm_prices=record.confirm_prices,
    )
    if event.HasField("fills"):
        request.fills.CopyFrom(fills)
    content = request.SerializeToString(deterministic=True)
    lots: Integers = integers(fills.lots)
    return SettlementWrite(
        tenant_id=tenant_id,
        request=Request(
            UUID(record.request_id), "SettleDecision", record.request_hash, content, b""
        ),
        decision_id=UUID(event.decision_id),
        instrument_id=tuple(fills.instrument_ids),
        lots=lots,
        price=floats(record.price),
        cash_change=dict(record.cash_change),
        gain_factor=floats(record.gain_factor) if record.gain_factor else None,
        is_inverse=tuple(record.is_inverse),
        settles_in=tuple(record.settles_in),
        is_final=record.close,
        respond=lambda after, _: settled_answer(after, record.portfolio_version),
        events_of=lambda after, _: [],
        create_time=_time(event.settle_time),
    )


def version_after(payload: bytes) -> int:
    """The portfolio's version after a DecisionSettled."""
    return events_pb2.DecisionSettled.FromString(payload).record.portfolio_version


def expired(payload: bytes) -> UUID:
    """The decision whose reservation a ReservationExpired ended."""
    return UUID(events_pb2.ReservationExpired.FromString(payload).decision_id)


def _time(value: Timestamp) -> datetime:
    return value.ToDatetime(UTC)


def _raw(payload: bytes, number: int) -> bytes:
    """The bytes of a field that holds a message, once in the payload, as they were written.

    Parsed and written again they may come in another order, and an answer is repeated byte for
    byte.
    """
    place = 0
    while place < len(payload):
        tag, place = _varint(payload, place)
        if tag & 7 != _LENGTH_DELIMITED:
            _, place = _varint(payload, place)  # the other fields of the event are whole numbers
            continue
        size, place = _varint(payload, place)
        if tag >> 3 == number:
            return payload[place : place + size]
        place += size
    raise ValueError(f"the event has no field {number}")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number and the place after it."""
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7

"""Settlements as they are answered and told."""

from positionsizing.v1 import events_pb2
from positionsizing.v1 import sizing_service_pb2 as pb

from server.convert.portfolio import reservation_message
from storage.postgres.outbox import NewEvent
from storage.postgres.reservations import Reservation, ReservationState
from storage.postgres.settlements import SettlementWrite

SETTLED = {
    ReservationState.OPEN: pb.SETTLEMENT_STATE_OPEN,
    ReservationState.SETTLED: pb.SETTLEMENT_STATE_FILLED,
    ReservationState.RELEASED: pb.SETTLEMENT_STATE_CANCELLED,
    ReservationState.EXPIRED: pb.SETTLEMENT_STATE_EXPIRED,
}


def settled_answer(after: Reservation, version: int) -> bytes:
    """The encoded answer, from the reservation and the portfolio's version after the report."""
    response = pb.SettleDecisionResponse(
        settlement_state=SETTLED[after.state], portfolio_version=version
    )
    if after.state is ReservationState.OPEN:
        still = reservation_message(after)
        response.remainder.instrument_ids.extend(still.instrument_ids)
        response.remainder.trade_lots_open.extend(still.trade_lots_open)
        response.remainder.cash_open = still.cash_open
    return response.SerializeToString()


def settled_event(
    trace_id: str,
    request: pb.SettleDecisionRequest,
    write: SettlementWrite,
    after: Reservation,
    version: int,
) -> NewEvent:
    """DecisionSettled, with what was booked."""

    def build(sequence: int) -> bytes:
        event = events_pb2.DecisionSettled(
            portfolio_sequence=sequence,
            decision_id=str(after.decision_id),
            portfolio_id=after.portfolio_id,
            fills=request.fills,
            settlement_state=SETTLED[after.state],
            record=_record(request, write, version),
        )
        event.settle_time.GetCurrentTime()
        return event.SerializeToString()

    return NewEvent("decision-settled", "DecisionSettled", build, trace_id=trace_id)


def _record(
    request: pb.SettleDecisionRequest, write: SettlementWrite, version: int
) -> events_pb2.SettlementRecord:
    record = events_pb2.SettlementRecord(
        request_id=request.request_id,
        close=request.close,
        confirm_prices=request.confirm_prices,
        portfolio_version=version,
        request_hash=write.request.request_hash,
        price=write.price.tolist(),
        cash_change=write.cash_change,
    )
    if write.gain_factor is not None and write.gain_factor.any():
        record.gain_factor.extend(write.gain_factor.tolist())
        record.is_inverse.extend(write.is_inverse)
        record.settles_in.extend(write.settles_in)
    return record

"""What one transaction of a sizing will hold: answer, decisions, reservations and events."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
from positionsizing.v1 import events_pb2, types_pb2
from positionsizing.v1 import sizing_service_pb2 as pb

from compute.market import equity_of
from compute.parameters import EffectiveParameters
from server import decision_inputs, limit_monitor
from server.adaptation import new_mark
from server.convert import decision as decision_convert
from server.convert.columns import Piece, encoder
from server.convert.names import timestamp
from server.convert.parameters import seconds
from server.portfolio_state import PortfolioState
from server.prepared_request import SizedRequest
from server.request_context import Call
from storage.identifiers import uuid7
from storage.postgres.commit import DecisionWrite, PortfolioWrite
from storage.postgres.decisions import Decision, Lines
from storage.postgres.outbox import NewEvent
from storage.postgres.requests import Request
from storage.postgres.reservations import NewReservation

# The same field holds the decision of SizePositions and the decisions of SizePortfolios.
_ANSWER = encoder(pb.SizePositionsResponse.DESCRIPTOR)
_EVENT = encoder(events_pb2.PositionSized.DESCRIPTOR)
assert (
    pb.SizePortfoliosResponse.DECISIONS_FIELD_NUMBER
    == pb.SizePositionsResponse.DECISION_FIELD_NUMBER
)


def answer(decisions: Sequence[Sequence[Piece]]) -> bytes:
    """The encoded answer to either method, from encoded decisions."""
    return b"".join(p for pieces in decisions for p in _ANSWER.message("decision", pieces))


def transaction(
    call: Call,
    method: str,
    request_id: UUID,
    content: bytes,
    digest: bytes,
    states: Sequence[PortfolioState],
    solved: Sequence[SizedRequest],
) -> DecisionWrite:
    """Everything that one transaction will hold, the answer among it."""
    now = datetime.now(UTC)
    parts, encoded = [], []
    for state, item in zip(states, solved, strict=True):
        part, decision = _portfolio_write(call, request_id, state, item, now)
        parts.append(part)
        encoded.append(decision)
    return DecisionWrite(
        tenant_id=call.tenant_id,
        request=Request(request_id, method, digest, content, answer(encoded)),
        portfolios=tuple(parts),
        expected_tenant_version=states[0].tenant_version,
        event=call.event,
    )


def _portfolio_write(
    call: Call, request_id: UUID, state: PortfolioState, solved: SizedRequest, now: datetime
) -> tuple[PortfolioWrite, list[Piece]]:
    """What is written for one portfolio, and its decision encoded."""
    message, problem, sizing = solved.head, solved.problem, solved.sizing
    decision_id = uuid7()
    inputs = decision_inputs.encode(problem.context)
    message.decision_id = str(decision_id)
    message.request_id = str(request_id)
    message.create_time.CopyFrom(timestamp(now))
    message.input_hash = hashlib.sha256(
        inputs + problem.request.SerializeToString(deterministic=True)
    ).hexdigest()
    versions = message.versions
    versions.portfolio_version = state.portfolio.version
    versions.limits_versions = state.limits_versions
    versions.parameters_version = state.parameters_version
    versions.trading_state_version = state.trading_state_version
    versions.group_version = state.group_version or 0
    reservation = _reservation(solved, now, problem.context.parameters)
    if reservation is not None:
        message.reservation_expire_time.CopyFrom(timestamp(reservation.expire_time))

    encoded = solved.pieces()

    def event(sequence: int) -> bytes:
        numbered = events_pb2.PositionSized(portfolio_sequence=sequence)
        return b"".join([numbered.SerializeToString(), *_EVENT.message("decision", encoded)])

    limit_bounds = problem.inputs.limit_bounds
    finding = limit_monitor.find(
        state,
        limit_bounds.market,
        problem.context.market_snapshot_id,
        found_by=f"decision:{decision_id}",
        now=now,
        trace_id=call.trace_id,
        guard=problem.guard,
    )
    sized = NewEvent("position-sized", "PositionSized", event, trace_id=call.trace_id)
    price = limit_bounds.market.price[problem.inputs.index]
    equity = equity_of(limit_bounds.market, limit_bounds.positions)
    write = PortfolioWrite(
        decision=Decision(
            decision_id=decision_id,
            request_id=request_id,
            kind="SIZING",
            portfolio_id=problem.request.portfolio_id,
            strategy_id=problem.request.strategy_id,
            create_time=now,
            status=types_pb2.SizingStatus.Name(message.status).removeprefix("SIZING_STATUS_"),
            inputs=inputs,
            versions={
                "service": versions.service_version,
                "kernel": versions.kernel,
                "libraries": versions.libraries,
                "market_snapshot_id": versions.market_snapshot_id,
                "limits": versions.limits_versions,
                "parameters": versions.parameters_version,
            },
            lines=Lines(
                instrument_id=problem.ids,
                lots=sizing.lots,
                weight=sizing.weight,
                notional=sizing.quantity * price,
                price=price,
                status=sizing.status,
            ),
        ),
        expected_version=state.portfolio.version,
        group_id=state.portfolio.group_id,
        expected_group_version=state.group_version,
        reservation=reservation,
        events=[*finding.events, sized],
        breaches=finding.change,
        equity=equity,
        high_water_mark=new_mark(problem.context.parameters, equity, state.high_water_mark),
    )
    return write, encoded


def _reservation(
    solved: SizedRequest, now: datetime, parameters: EffectiveParameters
) -> NewReservation | None:
    """What the decision holds until it is settled; None where there is nothing to trade."""
    trade = solved.sizing.trade_lots
    traded = np.flatnonzero(trade)
    if len(traded) == 0:
        return None
    request, inputs = solved.problem.request, solved.problem.inputs
    ttl_s = parameters.reservation_ttl_s
    if request.HasField("reservation_ttl"):
        ttl_s = seconds(request.reservation_ttl)
    market = inputs.limit_bounds.market
    ids = solved.problem.ids
    return NewReservation(
        instrument_id=ids if len(traded) == len(ids) else tuple(ids[i] for i in traded),
        trade_lots=trade[traded],
        lot_size=market.lot_size[inputs.index[traded]],
        price=market.price[inputs.index[traded]],
        cash=decision_convert.cash_needed(solved.sizing, inputs)[traded],
        expire_time=now + timedelta(seconds=ttl_s),
    )


def stamped(solved: SizedRequest) -> list[Piece]:
    """A decision that is not recorded, encoded."""
    solved.head.create_time.CopyFrom(timestamp(datetime.now(UTC)))
    return solved.pieces()

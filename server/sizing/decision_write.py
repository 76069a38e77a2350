"""What one transaction of a sizing will hold: answer, decisions, reservations and events."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np

from compute.parameters import EffectiveParameters
from server.calls.request_context import Call
from server.convert.columns import Piece
from server.convert.encoded_decision import Recording, ToldRequest, answer, sized_event
from server.parameters import conditions
from server.parameters.adaptation import new_mark
from server.portfolios import limit_monitor
from server.portfolios.portfolio_state import PortfolioState
from server.sizing import decision_inputs
from server.sizing.request import SizingCall
from server.sizing.sized_request import SizedRequest
from storage.identifiers import uuid7
from storage.postgres import conditions as condition_storage
from storage.postgres.changes import Subject, SubjectKind
from storage.postgres.commit import DecisionWrite, PortfolioWrite
from storage.postgres.decisions import Decision, Lines
from storage.postgres.outbox import NewEvent
from storage.postgres.requests import Request
from storage.postgres.reservations import NewReservation


def transaction(
    call: Call,
    asked: SizingCall,
    request_id: UUID,
    digest: bytes,
    states: Sequence[PortfolioState],
    solved: Sequence[SizedRequest],
) -> DecisionWrite:
    """Everything that one transaction will hold, the answer among it."""
    now = datetime.now(UTC)
    parts, encoded = [], []
    for place, (state, item) in enumerate(zip(states, solved, strict=True)):
        part_of = asked.method, digest, place, len(solved)
        part, decision = _portfolio_write(call, request_id, state, item, now, part_of)
        parts.append(part)
        encoded.append(decision)
    return DecisionWrite(
        tenant_id=call.tenant_id,
        request=Request(request_id, asked.method, digest, asked.content, answer(encoded)),
        portfolios=tuple(parts),
        expected_tenant_version=states[0].tenant_version,
        event=call.event,
        reads=lambda: frozenset[Subject]().union(*map(_reads, states, solved)),
    )


def _reads(state: PortfolioState, solved: SizedRequest) -> frozenset[Subject]:
    """What a decision was computed from beside the versions of its own portfolio and group."""
    portfolio, parameters = state.portfolio, state.parameters
    named: dict[SubjectKind, Iterable[str | None]] = {
        SubjectKind.PORTFOLIO: [portfolio.portfolio_id],
        SubjectKind.GROUP: [portfolio.group_id],
        SubjectKind.STRATEGY: [state.strategy_id],
        SubjectKind.MARKET_SNAPSHOT: [solved.problem.context.market_snapshot_id],
        SubjectKind.VOLATILITY_MODEL: [parameters.volatility_model],
        SubjectKind.INSTRUMENT: [*solved.problem.ids, *state.instrument_ids],
    }
    keys = conditions.keys(parameters, portfolio.portfolio_id, state.strategy_id)
    return frozenset(
        [
            *(Subject(kind, id) for kind, ids in named.items() for id in ids if id),
            *map(condition_storage.subject_of, keys),
        ]
    )


def _portfolio_write(
    call: Call,
    request_id: UUID,
    state: PortfolioState,
    solved: SizedRequest,
    now: datetime,
    part_of: tuple[str, bytes, int, int],
) -> tuple[PortfolioWrite, list[Piece]]:
    """What is written for one portfolio, and its decision encoded."""
    problem, sizing = solved.problem, solved.sizing
    decision_id = uuid7()
    inputs = decision_inputs.encode(problem.context)
    reservation = _reservation(solved, now, problem.context.parameters)
    recording = Recording(
        decision_id=decision_id,
        request_id=request_id,
        author=call.author,
        create_time=now,
        input_hash=hashlib.sha256(inputs + problem.request.content).hexdigest(),
        portfolio_version=state.portfolio.version,
        limits_versions=state.limits_versions,
        parameters_version=state.parameters_version,
        trading_state_version=state.trading_state_version,
        group_version=state.group_version or 0,
        reservation_expire_time=None if reservation is None else reservation.expire_time,
    )
    solved.decision.record(recording)
    encoded = solved.decision.pieces()
    limit_bounds = problem.inputs.limit_bounds
    finding = limit_monitor.find(
        state,
        limit_bounds.market,
        problem.context.market_snapshot_id,
        found_by=f"decision:{decision_id}",
        now=now,
        trace_id=call.trace_id,
        of_decision=limit_bounds,
        at_rest=problem.at_rest,
    )
    sized = NewEvent(
        "position-sized",
        "PositionSized",
        lambda sequence: sized_event(sequence, encoded, told),
        trace_id=call.trace_id,
    )
    price = limit_bounds.market.price[problem.inputs.index]
    equity = limit_bounds.equity
    cash = [] if reservation is None else reservation.cash.tolist()
    told = ToldRequest(*part_of, state.portfolio.base_currency, cash, equity)
    write = PortfolioWrite(
        decision=Decision(
            decision_id=decision_id,
            request_id=request_id,
            kind="SIZING",
            portfolio_id=problem.request.portfolio_id,
            strategy_id=problem.request.strategy_id,
            create_time=now,
            status=solved.decision.status,
            inputs=inputs,
            versions=solved.decision.versions,
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
    if request.reservation_ttl_s is not None:
        ttl_s = request.reservation_ttl_s
    market = inputs.limit_bounds.market
    ids = solved.problem.ids
    return NewReservation(
        instrument_id=ids if len(traded) == len(ids) else tuple(ids[i] for i in traded),
        trade_lots=trade[traded],
        lot_size=market.lot_size[inputs.index[traded]],
        price=market.price[inputs.index[traded]],
        cash=solved.decision.cash_needed[traded],
        expire_time=now + timedelta(seconds=ttl_s),
    )


def stamped(solved: SizedRequest) -> list[Piece]:
    """A decision that is not recorded, encoded."""
    solved.decision.stamp(datetime.now(UTC))
    return solved.decision.pieces()

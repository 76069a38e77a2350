"""SizingService: sizes, what-ifs, and what became of them."""

import hashlib
from contextlib import suppress
from uuid import UUID

import numpy as np
from positionsizing.v1 import sizing_service_pb2 as pb
from positionsizing.v1 import types_pb2

from compute.market import MissingInputError
from server.calls import reading
from server.calls.errors import invalid, invalid_fields, precondition
from server.calls.reading import mask_violations
from server.calls.request_context import Call, first_delivery
from server.convert.columns import integers
from server.convert.names import (
    instant,
    optional_id,
    optional_moment,
    page_size,
    page_start,
    page_token,
    timestamp,
)
from server.convert.names import uuid as parse_uuid
from server.convert.recorded import answer_of
from server.convert.settlement import SETTLED, settled_answer, settled_event
from server.convert.sizing_call import for_one, for_several
from server.decisions import recorded
from server.decisions.replay import Replay
from server.decisions.what_if import WhatIf
from server.portfolios.day_loss import DayLossMonitor
from server.portfolios.fills import Accounts, Band, Booking, bookings, fill_violations, paid
from server.portfolios.limit_monitor import BreachWatch
from server.portfolios.state import States
from server.sizing import decision_inputs
from server.sizing.coordinator import SizingCoordinator
from storage.errors import NotFound
from storage.postgres import decisions, requests, reservations, settlements
from storage.postgres.decisions import Decision, DecisionFilter
from storage.postgres.pool import Database
from storage.postgres.requests import Request
from storage.postgres.reservations import Reservation
from storage.postgres.settlements import SettlementWrite


class SizingService:
    """See `protos/positionsizing/v1/sizing_service.proto`."""

    def __init__(
        self,
        coordinator: SizingCoordinator,
        what_if: WhatIf,
        replay: Replay,
        database: Database,
        states: States,
        lines_max: int,
    ) -> None:
        """lines_max: of one request."""
        self._lines_max = lines_max
        self._coordinator = coordinator
        self._what_if = what_if
        self._replay = replay
        self._database = database
        self._states = states
        self._breaches = BreachWatch(states)
        self._days = DayLossMonitor(database, states)

    async def size_positions(self, call: Call, request: pb.SizePositionsRequest) -> bytes:
        """Sizes one portfolio."""
        return await self._coordinator.size(call, for_one(request, self._lines_max))

    async def size_portfolios(self, call: Call, request: pb.SizePortfoliosRequest) -> bytes:
        """Sizes several portfolios."""
        return await self._coordinator.size(call, for_several(request, self._lines_max))

    async def what_if(self, call: Call, request: pb.WhatIfRequest) -> pb.WhatIfResponse:
        """Sizes variations of a request, recording nothing."""
        return await self._what_if.answer(call, request)

    async def get_decision(
        self, call: Call, request: pb.GetDecisionRequest
    ) -> pb.GetDecisionResponse:
        """A decision as it was answered, and what became of it."""
        decision_id = parse_uuid(request.decision_id, "decision_id")
        if found := list(mask_violations(request.read_mask)):
            raise invalid_fields(found)
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            stored = await recorded.granted_decision(connection, call, decision_id)
            made = await requests.get(connection, call.tenant_id, stored.request_id)
            try:
                held = await reservations.get(connection, call.tenant_id, decision_id)
                state = SETTLED[held.state]
            except NotFound:
                state = pb.SETTLEMENT_STATE_NOTHING_TO_TRADE
        message = answer_of(made.method, made.response, request.decision_id)
        decision = reading.read_decision(message, request.read_mask)
        return pb.GetDecisionResponse(decision=decision, settlement_state=state)

    async def list_decisions(
        self, call: Call, request: pb.ListDecisionsRequest
    ) -> pb.ListDecisionsResponse:
        """Decisions newest first."""
        size = page_size(request.page_size)
        start = page_start(request, instant, UUID)
        where = DecisionFilter(
            portfolio_id=optional_id(request.portfolio_id, "portfolio_id") or None,
            strategy_id=optional_id(request.strategy_id, "strategy_id") or None,
            start_time=optional_moment(request, "create_time_from"),
            end_time=optional_moment(request, "create_time_to"),
            granted=call.identity.granted,
        )
        if where.start_time and where.end_time and where.start_time > where.end_time:
            raise invalid("create_time_from", "EMPTY_RANGE", "is after create_time_to")
        after = None
        if start is not None:
            after = start[0], start[1]
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            rows = await decisions.list_page(
                connection, call.tenant_id, where, after=after, limit=size + 1
            )
        response = pb.ListDecisionsResponse(
            decisions=[
                pb.DecisionSummary(
                    decision_id=str(row.decision_id),
                    request_id=str(row.request_id),
                    portfolio_id=row.portfolio_id,
                    strategy_id=row.strategy_id,
                    create_time=timestamp(row.create_time),
                    status=types_pb2.SizingStatus.Value(f"SIZING_STATUS_{row.status}"),
                    portfolio_sequence=row.portfolio_sequence,
                    line_count=row.n_lines,
                    gross_notional=row.gross_notional,
                )
                for row in rows[:size]
            ]
        )
        if len(rows) > size:
            last = rows[size - 1]
            response.next_page_token = page_token(
                request, last.create_time.isoformat(), str(last.decision_id)
            )
        return response

    async def replay_decision(
        self, call: Call, request: pb.ReplayDecisionRequest
    ) -> pb.ReplayDecisionResponse:
        """Computes a decision again and compares."""
        decision_id = parse_uuid(request.decision_id, "decision_id")
        return await self._replay.compare(call, decision_id)

    async def settle_decision(self, call: Call, request: pb.SettleDecisionRequest) -> bytes:
        """Books fills and frees what they no longer need."""
        request_id = parse_uuid(request.request_id, "request_id")
        decision_id = parse_uuid(request.decision_id, "decision_id")
        if found := fill_violations(request):
            raise invalid_fields(found)
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            decision = await recorded.granted_decision(connection, call, decision_id)
            try:
                held = await reservations.get(connection, call.tenant_id, decision_id)
            except NotFound as error:
                text = f"decision {request.decision_id!r} had nothing to trade: nothing to settle"
                raise precondition("NOTHING_TO_TRADE", text) from error
            known = await requests.find(connection, call.tenant_id, request_id)
        content = request.SerializeToString(deterministic=True)
        booked = await self._booked(call, request, decision, held, again=known is not None)
        write = SettlementWrite(
            tenant_id=call.tenant_id,
            request=Request(
                request_id, "SettleDecision", hashlib.sha256(content).digest(), content, b""
            ),
            decision_id=decision_id,
            instrument_id=tuple(request.fills.instrument_ids),
            lots=integers(request.fills.lots),
            price=np.array([item.price for item in booked]),
            cash_change=paid(booked),
            gain_factor=np.array([item.gain_factor for item in booked]),
            is_inverse=tuple(item.is_inverse for item in booked),
            settles_in=tuple(item.settles_in for item in booked),
            is_final=request.close,
            respond=settled_answer,
            events_of=lambda after, version: [
                settled_event(call.trace_id, request, write, after, version)
            ],
        )
        limited = await self._days.before(call, [held.portfolio_id])
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            await first_delivery(connection, call)
            result = await settlements.settle(connection, write)
            if not result.is_replay:
                await self._breaches.look(connection, call, [held.portfolio_id], "fills")
        self._states.changed(call.tenant_id)
        await self._days.after(call, limited)
        return result.response

    async def _booked(
        self,
        call: Call,
        request: pb.SettleDecisionRequest,
        decision: Decision,
        held: Reservation,
        *,
        again: bool,
    ) -> list[Booking]:
        """What the fills book, held against the newest market of its universe that has them.

        A settlement that comes again is answered as it was, wherever the market has gone.
        """
        snapshot_id, currency = decision_inputs.market_named(decision.inputs)
        decided = await self._states.snapshot(call.tenant_id, snapshot_id)
        state = await self._states.portfolio(
            call.tenant_id, held.portfolio_id, decision.strategy_id
        )
        markets = [self._states.market(call.tenant_id, decided, currency)]
        with suppress(NotFound, MissingInputError):
            universe_id = state.portfolio.universe_id
            newest = await self._states.snapshot_of(call.tenant_id, universe_id)
            markets.insert(0, self._states.market(call.tenant_id, newest, currency))
        most = None if request.confirm_prices or again else state.parameters.fill_deviation_max
        lot_size = dict(zip(held.instrument_id, held.lot_size.tolist(), strict=True))
        for instrument_id in request.fills.instrument_ids:
            if instrument_id not in lot_size:  # before its price is held against the market
                text = f"a fill of {instrument_id!r}, which {request.decision_id} doesn't trade"
                raise precondition("FILL_NOT_OPEN", text)
        accounts = Accounts(currency, frozenset(state.portfolio.balances))
        return bookings(request.fills, lot_size, markets, Band(most), accounts)

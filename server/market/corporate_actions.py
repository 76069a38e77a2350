"""Corporate actions: recorded, and applied to books, open trades, limits and prices at once.

`action_plans.py` says what one does to the newest prices of each universe.

All in one transaction that raises the tenant's version first: a decision that was computed before
is refused at its commit and computed anew, on the quantities and the price that hold then.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import grpc
from positionsizing.v1 import corporate_action_pb2 as action_pb
from positionsizing.v1 import events_pb2
from positionsizing.v1 import market_service_pb2 as pb
from positionsizing.v1 import portfolio_service_pb2 as portfolio_pb

from server.calls.errors import Refusal, invalid_fields
from server.calls.request_context import Call
from server.convert import corporate_action as convert
from server.convert import limits as limits_convert
from server.convert.change_record import change_record
from server.convert.names import past_moment, uuid
from server.market import trade_changes
from server.market.action_plans import Plan, planned
from server.market.action_record import record
from server.portfolios import four_eyes
from server.portfolios.state import States
from server.portfolios.told import scope_message, tell
from storage.postgres import (
    changes,
    limits,
    locks,
    outbox,
    portfolio_updates,
    requests,
)
from storage.postgres import (
    corporate_actions as storage,
)
from storage.postgres import volatility as volatility_storage
from storage.postgres.changes import Subject, SubjectKind
from storage.postgres.outbox import NewEvent
from storage.postgres.pool import Database
from storage.postgres.portfolio_updates import PortfolioUpdate
from storage.postgres.proposals import Proposal
from storage.postgres.requests import Request
from storage.postgres.scopes import Scope, ScopeKind

REPEATED_WITHIN = timedelta(days=1)
"""An equal action without a time within a day is taken for the same one, told by two people."""
METHOD = "ApplyCorporateAction"
TOPIC = "corporate-actions"


class _Undone(Exception):
    """What an action would do; its transaction is rolled back."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer


async def apply(
    database: Database, states: States, call: Call, request: pb.ApplyCorporateActionRequest
) -> bytes:
    """Applies it, or answers as before. Raises `Refusal`."""
    if call.identity.granted is not None:
        text = "a corporate action changes every portfolio: it needs a grant of all"
        raise Refusal(grpc.StatusCode.PERMISSION_DENIED, "PORTFOLIO_NOT_GRANTED", text)
    request_id = uuid(request.request_id, "request_id")
    if found := list(convert.action_violations(request)):
        raise invalid_fields(found)
    given = None
    if request.action.HasField("effective_time"):
        given = past_moment(request.action.effective_time, "action.effective_time")
    content = request.SerializeToString(deterministic=True)
    digest = hashlib.sha256(content).digest()
    try:
        async with database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            subject = Subject(SubjectKind.INSTRUMENT, request.action.instrument_id)
            await changes.change(connection, call.tenant_id, subject)  # before any other lock
            known = await requests.find(connection, call.tenant_id, request_id)
            if known is not None:
                return known.answer_to(METHOD, digest)
            work = _Work(connection, states, call, request, request_id)
            answer = (await work.done(given)).SerializeToString(deterministic=True)
            if request.validate_only:
                raise _Undone(answer)
            made = Request(request_id, METHOD, digest, content, answer)
            await requests.put(connection, call.tenant_id, made)
    except _Undone as looked:
        return looked.answer
    states.changed(call.tenant_id)
    return answer


class _Work:
    """One action inside its transaction."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        states: States,
        call: Call,
        request: pb.ApplyCorporateActionRequest,
        request_id: UUID,
    ) -> None:
        self._connection = connection
        self._states = states
        self._call = call
        self._request = request
        self._request_id = request_id

    async def done(self, given: datetime | None) -> pb.ApplyCorporateActionResponse:
        """Everything that changes, and the answer."""
        tenant_id, connection = self._call.tenant_id, self._connection
        await volatility_storage.share(connection, tenant_id)
        if given is None:
            await self._refuse_repeated()
        plans = await planned(connection, tenant_id, self._request.action, given, self._request_id)
        plan = plans[0]
        held = await storage.concerned(connection, tenant_id, plan.instrument_id)
        trades = await storage.open_trades(connection, tenant_id, plan.instrument_id)
        bounds = await self._bounds(plan)
        locked = await self._lock(held, bounds)
        made = await record(
            connection,
            tenant_id,
            plans,
            self._request_id,
            author=self._call.author,
            reason=self._request.reason,
        )
        effects = await self._effects(plans, held, trades)
        await portfolio_updates.apply(
            connection,
            [
                PortfolioUpdate(key, locked[key].event_sequence, [self._event(plan, effect)])
                for effect in effects
                if (key := (tenant_id, effect.portfolio_id))
            ],
        )
        told = self._event(plan, None)
        await outbox.append(connection, tenant_id, "", [told])
        proposed = [await self._set_limits(scope, document, plan) for scope, document in bounds]
        proposal_ids = [str(item.proposal_id) for item in proposed if item is not None]
        return pb.ApplyCorporateActionResponse(
            action=plan.action,
            effects=effects,
            market_snapshot_id=made[0] if made else "",
            market_snapshot_ids=made,
            limits_changed=len(bounds) - len(proposal_ids),
            proposal_ids=() if self._request.validate_only else proposal_ids,
        )

    async def _effects(
        self,
        plans: Sequence[Plan],
        held: Sequence[storage.Holding],
        trades: Sequence[storage.OpenTrade],
    ) -> list[action_pb.CorporateActionEffect]:
        """What is held and reserved, each at the market of its portfolio's universe.

        Where that doesn't have the instrument, at the first that has.
        """
        known = {item.universe_id for item in plans}
        effects = []
        for place, plan in enumerate(plans):
            own = [
                item
                for item in held
                if item.universe_id == plan.universe_id
                or (place == 0 and item.universe_id not in known)
            ]
            books = trade_changes.Books(self._states, self._call.tenant_id, plan, own, trades)
            effects += await books.changed(self._connection)
        return sorted(effects, key=lambda effect: effect.portfolio_id)

    async def _refuse_repeated(self) -> None:
        """Raises `Refusal` where the last action of the instrument is this one."""
        asked = self._request.action
        recorded = await storage.list_page(
            self._connection, self._call.tenant_id, instrument_id=asked.instrument_id, limit=1
        )
        for last in recorded:
            known = action_pb.CorporateAction.FromString(last.payload)
            known.ClearField("effective_time")
            if known == asked and datetime.now(UTC) - last.create_time < REPEATED_WITHIN:
                text = (
                    f"the same {last.kind.lower()} of {asked.instrument_id!r} was recorded at "
                    f"{last.create_time:%Y-%m-%dT%H:%M:%SZ}, effective "
                    f"{last.effective_time:%Y-%m-%dT%H:%M:%SZ}: another one needs its own "
                    "effective_time"
                )
                raise Refusal(grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS", text)

    async def _bounds(self, plan: Plan) -> list[tuple[Scope, dict[str, Any]]]:
        """The limits that count units of the instrument, as they will be."""
        if not plan.change.changes_units:
            return []
        rows = await storage.limits_with_quantity(
            self._connection, self._call.tenant_id, plan.instrument_id
        )
        out = []
        for row in rows:
            document, is_changed = storage.document_of(row), False
            for own in document["limits"]["instruments"]:
                if own.get("instrument_id") == plan.instrument_id and "quantity_max" in own:
                    own["quantity_max"] = float(own["quantity_max"]) * float(plan.change.units)
                    is_changed = True
            if is_changed:
                out.append((Scope(ScopeKind(row["scope_kind"]), row["scope_id"]), document))
        return out

    async def _lock(
        self,
        held: Sequence[storage.Holding],
        bounds: Sequence[tuple[Scope, dict[str, Any]]],
    ) -> dict[locks.Key, locks.LockedPortfolio]:
        """Groups, then portfolios; groups of what is held are told."""
        tenant_id = self._call.tenant_id
        groups = {(tenant_id, item.group_id) for item in held if item.group_id is not None}
        limited = {(tenant_id, s.id) for s, _ in bounds if s.kind is ScopeKind.GROUP}
        await locks.lock_groups(self._connection, groups | limited)
        own = {(tenant_id, s.id) for s, _ in bounds if s.kind is ScopeKind.PORTFOLIO}
        ids = {(tenant_id, item.portfolio_id) for item in held}
        locked = await locks.lock_portfolios(self._connection, ids | own)
        await locks.bump_groups(self._connection, groups)
        return locked

    async def _set_limits(
        self, scope: Scope, document: dict[str, Any], plan: Plan
    ) -> Proposal | None:
        """New limits in units; the proposal that larger ones may become."""
        reason = f"{plan.kind.lower()} of {plan.instrument_id}: {self._request.reason}"
        request = portfolio_pb.SetLimitsRequest(
            scope=scope_message(scope),
            limits=limits_convert.parse_limits(document.get("limits", {})),
            reason=reason,
        )
        if "shared" in document:
            request.shared.CopyFrom(limits_convert.parse_shared(document["shared"]))
        path = f"limits.instruments[{plan.instrument_id}].quantity_max"
        proposal = await four_eyes.proposed(
            self._connection,
            self._call,
            request,
            version=await limits.current_version(self._connection, self._call.tenant_id, scope),
            loosened=(path,) if plan.change.units > 1 else (),
            approval=None,
            portfolio_id=scope.id if scope.kind is ScopeKind.PORTFOLIO else "",
        )
        if proposal is not None:
            return proposal
        stored = await limits.put(
            self._connection,
            self._call.tenant_id,
            scope,
            document,
            author=self._call.author,
            reason=reason,
        )
        event = events_pb2.LimitsChanged(
            scope=request.scope,
            limits=request.limits,
            shared=request.shared if request.HasField("shared") else None,
            change=change_record(stored),
        )
        await tell(self._connection, self._call, "limits-changed", scope, event)
        return None

    def _event(self, plan: Plan, effect: action_pb.CorporateActionEffect | None) -> NewEvent:
        def build(sequence: int) -> bytes:
            event = events_pb2.CorporateActionApplied(
                portfolio_sequence=0 if effect is None else sequence,
                action=plan.action,
                effect=effect,
                request_id=str(self._request_id),
                author=self._call.author,
                reason=self._request.reason,
            )
            return event.SerializeToString()

        return NewEvent(TOPIC, "CorporateActionApplied", build, trace_id=self._call.trace_id)

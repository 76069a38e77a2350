"""Corporate actions: recorded, and applied to books, open trades, limits and prices at once.

All in one transaction that raises the tenant's version first: a decision that was computed before
is refused at its commit and computed anew, on the quantities and the price that hold then.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import grpc
from positionsizing.v1 import corporate_action_pb2 as action_pb
from positionsizing.v1 import events_pb2
from positionsizing.v1 import market_service_pb2 as pb
from positionsizing.v1 import portfolio_service_pb2 as portfolio_pb

from compute.contracts import ContractKind
from compute.corporate_actions import Change
from server import four_eyes, price_jumps, trade_changes, volatility
from server.convert import corporate_action as convert
from server.convert import limits as limits_convert
from server.convert.bars import has_bars
from server.convert.names import past_moment, timestamp, uuid
from server.errors import Refusal, invalid, invalid_fields, precondition
from server.request_context import Call
from server.services.portfolio_life import change_record, scope_message, tell
from server.state import States
from storage.errors import NotFound
from storage.postgres import (
    changes,
    limits,
    locks,
    market,
    outbox,
    portfolio_updates,
    requests,
)
from storage.postgres import (
    corporate_actions as storage,
)
from storage.postgres import price_jumps as jump_storage
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


@dataclass(frozen=True)
class Plan:
    """An action over the newest market. place: of the instrument; change: with its old multiplier.

    is_shown: the market's prices show it already.
    """

    action: action_pb.CorporateAction
    time: datetime
    change: Change
    newest: pb.MarketSnapshot
    place: int
    is_shown: bool
    after: pb.MarketSnapshot

    @property
    def instrument_id(self) -> str:
        """The instrument."""
        return self.action.instrument_id

    @property
    def kind(self) -> str:
        """SPLIT and so on."""
        return str(self.action.WhichOneof("action")).upper()


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
        plan = await self._plan(given)
        held = await storage.concerned(connection, tenant_id, plan.instrument_id)
        trades = await storage.open_trades(connection, tenant_id, plan.instrument_id)
        bounds = await self._bounds(plan)
        locked = await self._lock(held, bounds)
        stored = await storage.put(
            connection,
            tenant_id,
            self._request_id,
            instrument_id=plan.instrument_id,
            kind=plan.kind,
            effective_time=plan.time,
            price_factor=plan.change.price_factor,
            payment=plan.change.payment,
            payload=plan.action.SerializeToString(),
            author=self._call.author,
            reason=self._request.reason,
        )
        if not plan.is_shown:
            await volatility.reprice(connection, tenant_id, stored)
        books = trade_changes.Books(self._states, tenant_id, plan, held, trades)
        effects = await books.changed(connection)
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
            market_snapshot_id=await self._set_market(plan),
            limits_changed=len(bounds) - len(proposal_ids),
            proposal_ids=() if self._request.validate_only else proposal_ids,
        )

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

    async def _plan(self, given: datetime | None) -> Plan:
        connection, tenant_id = self._connection, self._call.tenant_id
        action = action_pb.CorporateAction()
        action.CopyFrom(self._request.action)
        try:
            stored = await market.latest_snapshot(connection, tenant_id)
        except NotFound as error:
            raise precondition("NO_MARKET", "there is no market snapshot yet") from error
        newest = pb.MarketSnapshot.FromString(stored.payload)
        place = convert.place_of(newest, action.instrument_id)
        if place < 0:
            text = f"is not in the newest market snapshot {newest.snapshot_id!r}"
            raise invalid("action.instrument_id", "UNKNOWN_INSTRUMENT", text)
        old = convert.of_instrument(newest, "multiplier", place, 1.0)
        jump = await self._jump(newest, action.instrument_id)
        time, is_shown = given or datetime.now(UTC), False
        if given is not None:
            shown = convert.shown_until(newest)
            is_shown = convert.shown_to(shown, action.instrument_id, stored.as_of_time) >= given
        elif jump is not None:
            expected = convert.change_of(action, old).price(jump.accepted)
            if is_shown := await self._is_near(newest.price[place], expected):
                time = stored.as_of_time
        if is_shown and action.WhichOneof("action") == "multiplier_change":
            old = await self._multiplier_before(action.instrument_id, time)
        action.effective_time.CopyFrom(timestamp(time))
        change = convert.change_of(action, old)
        _check_kind(action, newest, place)
        mark = f"ca-{str(self._request_id)[:8]}"
        after = newest if is_shown else convert.successor(newest, place, change, mark, time)
        return Plan(action, time, change, newest, place, is_shown, after)

    async def _jump(
        self, snapshot: pb.MarketSnapshot, instrument_id: str
    ) -> jump_storage.PriceJump | None:
        found = await jump_storage.of_snapshot(
            self._connection, self._call.tenant_id, snapshot.snapshot_id
        )
        price = jump_storage.JumpKind.PRICE
        return next((j for j in found if (j.kind, j.name) == (price, instrument_id)), None)

    async def _is_near(self, price: float, expected: float) -> bool:
        bound = await price_jumps.jump_max(self._connection, self._call.tenant_id)
        return expected > 0.0 and abs(price - expected) <= bound * expected

    async def _multiplier_before(self, instrument_id: str, time: datetime) -> float:
        before = time - timedelta(microseconds=1)
        try:
            stored = await market.latest_snapshot(
                self._connection, self._call.tenant_id, time=before
            )
        except NotFound as error:
            text = "no market snapshot from before it says the old multiplier"
            raise precondition("NO_MARKET", text) from error
        earlier = pb.MarketSnapshot.FromString(stored.payload)
        place = convert.place_of(earlier, instrument_id)
        if place < 0:
            text = "the market snapshot before it doesn't have the instrument"
            raise precondition("NO_MARKET", text)
        return convert.of_instrument(earlier, "multiplier", place, 1.0)

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

    async def _set_market(self, plan: Plan) -> str:
        """Stores the successor of the newest snapshot; its id, empty where there is none."""
        tenant_id, connection = self._call.tenant_id, self._connection
        found = await jump_storage.of_snapshot(connection, tenant_id, plan.newest.snapshot_id)
        own = await self._jump(plan.newest, plan.instrument_id)
        if plan.is_shown:
            if own is not None and await self._is_near(
                plan.newest.price[plan.place], plan.change.price(own.accepted)
            ):
                named = (tenant_id, plan.newest.snapshot_id, [plan.instrument_id])
                await jump_storage.accept(connection, *named)
            return ""
        after = plan.after
        await market.put_snapshot(
            connection,
            tenant_id,
            after.snapshot_id,
            as_of_time=after.as_of_time.ToDatetime(tzinfo=UTC),
            instrument_id=tuple(after.instrument_ids),
            payload=after.SerializeToString(deterministic=True),
            has_bars=has_bars(after),
        )
        # What had jumped for another reason has jumped still.
        moved = price_jumps.moved(found, plan.instrument_id, plan.change, plan.time)
        await jump_storage.put(connection, tenant_id, after.snapshot_id, moved)
        return after.snapshot_id

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


def _check_kind(action: action_pb.CorporateAction, snapshot: pb.MarketSnapshot, place: int) -> None:
    """Raises `Refusal` for what the contract of the instrument doesn't have."""
    kind = int(snapshot.contract_kind[place]) if len(snapshot.contract_kind) else 0
    name = action.WhichOneof("action")
    if kind == ContractKind.INVERSE_FUTURE and name in ("split", "cash_dividend"):
        raise invalid(f"action.{name}", "NOT_APPLICABLE", "is not for inverse futures")
    if kind in (ContractKind.FUTURE, ContractKind.INVERSE_FUTURE) and name != "cash_dividend":
        policy = getattr(getattr(action, str(name)), "fraction_policy", 0)
        if policy == action_pb.FRACTION_POLICY_PAY_CASH:
            where = f"action.{name}.fraction_policy"
            raise invalid(where, "NOT_APPLICABLE", "parts of futures are kept: KEEP")

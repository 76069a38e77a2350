"""What a portfolio may hold and whether it may trade: limits, and the kill switch."""

from collections.abc import Sequence

import asyncpg
from positionsizing.v1 import access_pb2, events_pb2, types_pb2
from positionsizing.v1 import portfolio_service_pb2 as pb

from compute.limits.loosening import loosened, loosened_shared
from server.auth.access import SCOPES, denied
from server.calls.errors import FieldViolation, invalid, invalid_fields, not_found
from server.calls.request_context import Call, first_delivery
from server.convert import limits as limits_convert
from server.convert.change_record import change_record
from server.convert.names import text_violations
from server.convert.portfolio import scope_of
from server.convert.ranges import number_violations
from server.observability.alerts import CRITICAL, WARNING, alert
from server.portfolios import currencies, four_eyes
from server.portfolios.four_eyes import Approval
from server.portfolios.told import tell
from server.risk.stress import unknown_scenarios
from server.services.portfolio_money import PortfolioMoney
from storage.errors import VersionConflict
from storage.postgres import (
    closing,
    groups,
    limits,
    outbox,
    portfolios,
    scopes,
    stress,
    tenant_lock,
    trading_state,
)
from storage.postgres.limits import LimitSet
from storage.postgres.outbox import NewEvent
from storage.postgres.proposals import Proposal
from storage.postgres.scopes import TENANT_SCOPE, Scope, ScopeKind
from storage.postgres.trading_state import TradingState

_RESUME = SCOPES[access_pb2.ACCESS_SCOPE_RESUME]
_STATES = {
    types_pb2.TRADING_STATE_ACTIVE: TradingState.ACTIVE,
    types_pb2.TRADING_STATE_REDUCING: TradingState.REDUCING,
    types_pb2.TRADING_STATE_HALTED: TradingState.HALTED,
}


class PortfolioControl(PortfolioMoney):
    """Limits and trading states, of any scope."""

    async def set_limits(
        self, call: Call, request: pb.SetLimitsRequest, approval: Approval | None = None
    ) -> pb.SetLimitsResponse:
        """Stores a version of a scope's limits; what allows more may become a proposal."""
        scope = scope_of(request.scope)
        _check_limits(scope, request)
        change, affected = None, list[str]()
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            await first_delivery(connection, call)
            if scope.kind is ScopeKind.GROUP:
                await groups.ensure(connection, call.tenant_id, scope.id)
            wrong = await currencies.unnamed(
                connection, call.tenant_id, scope, request.limits, request.shared
            )
            wrong += await _unknown_scenarios(connection, call.tenant_id, request)
            if wrong:
                raise invalid_fields(wrong)
            proposal = await self._proposed_limits(connection, call, scope, request, approval)
            if proposal is None:
                change = await self._put_limits(connection, call, scope, request, approval)
                affected = await self._breaches.affected(connection, call, scope)
                await self._breaches.look(connection, call, affected, "limits")
        if proposal is not None:
            raise four_eyes.required(proposal)
        self._states.changed(call.tenant_id)
        if request.limits.HasField("day_loss_max"):
            await self._days.before(call, affected)
        return pb.SetLimitsResponse(change=change)

    async def _proposed_limits(
        self,
        connection: asyncpg.Connection,
        call: Call,
        scope: Scope,
        request: pb.SetLimitsRequest,
        approval: Approval | None,
    ) -> Proposal | None:
        """The proposal that new limits become; the scope stays locked."""
        await scopes.lock(connection, call.tenant_id, scope)
        found = await limits.current(connection, call.tenant_id, [scope, TENANT_SCOPE])
        own = next((item for item in found if item.scope == scope), None)
        version = 0 if own is None else own.version
        if request.HasField("expected_version") and request.expected_version != version:
            id = f"{scope.kind}/{scope.id}"
            raise VersionConflict("limits", id, request.expected_version, version)
        return await four_eyes.proposed(
            connection,
            call,
            request,
            version=version,
            loosened=loosened_by(own, request, has_firm=bool(found)),
            approval=approval,
            portfolio_id=scope.id if scope.kind is ScopeKind.PORTFOLIO else "",
        )

    async def _put_limits(
        self,
        connection: asyncpg.Connection,
        call: Call,
        scope: Scope,
        request: pb.SetLimitsRequest,
        approval: Approval | None,
    ) -> types_pb2.ChangeRecord:
        document = {"limits": limits_convert.document(request.limits)}
        if request.HasField("shared"):
            document["shared"] = limits_convert.document(request.shared)
        stored = await limits.put(
            connection,
            call.tenant_id,
            scope,
            document,
            author=call.author,
            approver=four_eyes.approver(approval),
            reason=request.reason,
        )
        change = change_record(stored)
        event = events_pb2.LimitsChanged(
            scope=request.scope,
            limits=request.limits,
            shared=request.shared if request.HasField("shared") else None,
            change=change,
        )
        await tell(connection, call, "limits-changed", scope, event)
        return change

    async def get_limits(self, call: Call, request: pb.GetLimitsRequest) -> pb.GetLimitsResponse:
        """The limits of a scope, in force or of a past version."""
        scope = scope_of(request.scope)
        if found := list(number_violations(request)):
            raise invalid_fields(found)
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            if request.version:
                stored = await limits.history(
                    connection,
                    call.tenant_id,
                    scope,
                    before_version=request.version + 1,
                    limit=1,
                )
                stored = [item for item in stored if item.version == request.version]
            else:
                stored = await limits.current(connection, call.tenant_id, [scope])
        if not stored:
            raise not_found("limits", f"{scope.kind.lower()}:{scope.id}")
        document = stored[0].document
        response = pb.GetLimitsResponse(change=change_record(stored[0]))
        response.limits.CopyFrom(limits_convert.parse_limits(document.get("limits", {})))
        for bound, value in document.get("shared", {}).items():
            setattr(response.shared, bound, value)
        return response

    async def set_trading_state(
        self, call: Call, request: pb.SetTradingStateRequest, approval: Approval | None = None
    ) -> pb.SetTradingStateResponse:
        """The kill switch: no decision computed before it can be committed after it.

        What is less strict than before may become a proposal.
        """
        scope = scope_of(request.scope)
        if request.trading_state not in _STATES:
            text = "must be ACTIVE, REDUCING or HALTED"
            raise invalid("trading_state", "MISSING", text)
        if found := list(text_violations(request.reason, "reason")):
            raise invalid_fields(found)
        response = None
        async with tenant_lock.exclusively(
            self._database, call.tenant_id, deadline_s=call.left_s
        ) as connection:
            if scope.kind is ScopeKind.PORTFOLIO:
                await closing.check_open(connection, call.tenant_id, scope.id)
            proposal = await self._proposed_state(connection, call, scope, request, approval)
            if proposal is None:
                response = await _put_state(connection, call, scope, request, approval)
        if proposal is not None:
            raise four_eyes.required(proposal)
        assert response is not None
        self._states.changed(call.tenant_id)
        return response

    async def _proposed_state(
        self,
        connection: asyncpg.Connection,
        call: Call,
        scope: Scope,
        request: pb.SetTradingStateRequest,
        approval: Approval | None,
    ) -> Proposal | None:
        """The proposal that a change of state becomes; a halt asks nobody.

        Raises `Refusal` where it allows more and the caller may only allow less.
        """
        state = _STATES[request.trading_state]
        if state is TradingState.HALTED and approval is None:
            return None
        now = await trading_state.current(connection, call.tenant_id, [scope])
        before = now[0].state if now else TradingState.ACTIVE
        is_looser = trading_state.is_looser(state, before)
        if is_looser and approval is None and _RESUME not in call.identity.scopes:
            raise denied(_RESUME)
        return await four_eyes.proposed(
            connection,
            call,
            request,
            version=now[0].version if now else 0,
            loosened=("trading_state",) if is_looser else (),
            approval=approval,
            portfolio_id=scope.id if scope.kind is ScopeKind.PORTFOLIO else "",
        )

    async def get_trading_state(
        self, call: Call, request: pb.GetTradingStateRequest
    ) -> pb.GetTradingStateResponse:
        """The trading state of a scope by itself, and why; ACTIVE where it was never set."""
        scope = scope_of(request.scope)
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            if scope.kind is ScopeKind.PORTFOLIO:
                await portfolios.get(connection, call.tenant_id, scope.id)
            elif scope.kind is ScopeKind.GROUP:
                await groups.get(connection, call.tenant_id, scope.id)
            found = await trading_state.current(connection, call.tenant_id, [scope])
        if not found:
            return pb.GetTradingStateResponse(trading_state=types_pb2.TRADING_STATE_ACTIVE)
        return pb.GetTradingStateResponse(
            trading_state=types_pb2.TradingState.Value(f"TRADING_STATE_{found[0].state}"),
            trading_state_version=found[0].tenant_version,
            change=change_record(found[0]),
        )


async def _put_state(
    connection: asyncpg.Connection,
    call: Call,
    scope: Scope,
    request: pb.SetTradingStateRequest,
    approval: Approval | None,
) -> pb.SetTradingStateResponse:
    stored = await trading_state.put(
        connection,
        call.tenant_id,
        scope,
        _STATES[request.trading_state],
        author=call.author,
        approver=four_eyes.approver(approval),
        reason=request.reason,
    )
    change = change_record(stored)
    event = events_pb2.TradingStateChanged(
        scope=request.scope,
        trading_state=request.trading_state,
        trading_state_version=stored.tenant_version,
        change=change,
    )
    await tell(connection, call, "trading-state-changed", scope, event)
    if stored.state is TradingState.HALTED:
        halted = _halted(scope, stored.author, stored.reason, call.trace_id)
        await outbox.append(connection, call.tenant_id, "", [halted])
    return pb.SetTradingStateResponse(
        trading_state=request.trading_state,
        trading_state_version=stored.tenant_version,
        change=change,
    )


def loosened_by(
    before: LimitSet | None, request: pb.SetLimitsRequest, *, has_firm: bool
) -> Sequence[str]:
    """Paths by which new limits of a scope allow more.

    The first of a scope only add to those of the firm; where there are none, they let sizing begin.
    """
    if before is None and not has_firm:
        return ("limits",)
    document = {} if before is None else before.document
    old = limits_convert.limits_of_document(document.get("limits", {}))
    new = limits_convert.limits(request.limits)
    shared = document.get("shared")
    more = loosened_shared(
        None if shared is None else limits_convert.shared_of_document(shared),
        limits_convert.shared(request.shared) if request.HasField("shared") else None,
    )
    return (*(f"limits.{path}" for path in loosened(old, new)), *(f"shared.{p}" for p in more))


def _check_limits(scope: Scope, request: pb.SetLimitsRequest) -> None:
    """What is wrong with a request by itself. Raises `Refusal`."""
    found = list(number_violations(request))
    found += limits_convert.violations(request.limits, "limits")
    if scope.kind is ScopeKind.STRATEGY:
        found += limits_convert.book_only_violations(request.limits, "limits")
    found += text_violations(request.reason, "reason")
    if request.HasField("shared") and scope.kind is not ScopeKind.GROUP:
        found.append(FieldViolation("shared", "NOT_APPLICABLE", "is for groups only"))
    if not (request.HasField("limits") or request.HasField("shared")):
        text = "must be given; empty limits lift all limits of the scope"
        found.append(FieldViolation("limits", "MISSING", text))
    if found:
        raise invalid_fields(found)


async def _unknown_scenarios(
    connection: asyncpg.Connection, tenant_id: str, request: pb.SetLimitsRequest
) -> list[FieldViolation]:
    """Stress scenarios that limits name and that are not in force."""
    joint = request.limits.joint
    named = [item.scenario_id for item in joint.stress]
    if not named:
        return []
    known = {item.scenario_id for item in await stress.in_force(connection, tenant_id, named)}
    return list(unknown_scenarios(joint, known, "limits.joint"))


def _halted(scope: Scope, author: str, reason: str, trace_id: str) -> NewEvent:
    firm = scope.kind is ScopeKind.TENANT
    subject = "firm" if firm else f"{scope.kind.lower()}:{scope.id}"
    text = f"{author} halted trading of {subject}: {reason}"
    return alert(CRITICAL if firm else WARNING, "TRADING_HALTED", text, subject, trace_id)

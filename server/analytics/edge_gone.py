"""What happens when the outcomes of decisions say that an edge is gone.

An alert, and where `SizingParameters.edge_gone_action` says so, trading is reduced until a person
resumes it. Evidence begins anew after the alert; where trading was reduced, with the first decision
made after it was resumed.
"""

from dataclasses import replace
from datetime import datetime

import asyncpg

from compute.analytics.forecasts import E_VALUE_GONE
from compute.analytics.running_evidence import RunningEvidence
from compute.parameters import EdgeGoneAction
from server.calls.request_context import Call
from server.observability.alerts import WARNING, alert
from server.portfolios.told import set_state_and_tell
from storage.postgres import outbox, trading_state
from storage.postgres.edge_evidence import StoredEvidence
from storage.postgres.scopes import Scope, ScopeKind
from storage.postgres.trading_state import TradingState

AUTHOR = "service:edge_gone_action"
"""Who reduces trading by itself."""


def evidence_of(stored: StoredEvidence) -> RunningEvidence:
    """What has been stored of it."""
    return RunningEvidence(stored.decisions, stored.bets, stored.log_gone, stored.log_edge)


async def resume_time(
    connection: asyncpg.Connection, tenant_id: str, stored: StoredEvidence
) -> datetime | None:
    """When trading that was reduced was resumed; None while it is not, or never was."""
    if not stored.reduced:
        return None
    scope = _scope(ScopeKind(stored.reduced), stored)
    found = await trading_state.current(connection, tenant_id, [scope])
    is_active = bool(found) and found[0].state is TradingState.ACTIVE
    return found[0].create_time if is_active else None


def resumed(stored: StoredEvidence) -> StoredEvidence:
    """With evidence that begins anew."""
    return replace(stored, reduced="", begin_time=None, **vars(RunningEvidence()))


def after_alert(stored: StoredEvidence, reduced: Scope | None) -> StoredEvidence:
    """The same, resting where trading is reduced."""
    return replace(resumed(stored), reduced="" if reduced is None else str(reduced.kind))


async def scope_to_reduce(
    connection: asyncpg.Connection, tenant_id: str, stored: StoredEvidence, action: EdgeGoneAction
) -> Scope | None:
    """What the action is to reduce; None for nothing, also where it doesn't trade freely now."""
    if action is EdgeGoneAction.ALERT:
        return None
    of_strategy = action is EdgeGoneAction.REDUCE_STRATEGY and stored.strategy_id
    scope = _scope(ScopeKind.STRATEGY if of_strategy else ScopeKind.PORTFOLIO, stored)
    state = await trading_state.effective(connection, tenant_id, [scope])
    return scope if state is TradingState.ACTIVE else None


async def act(
    connection: asyncpg.Connection, call: Call, stored: StoredEvidence, reduced: Scope | None
) -> None:
    """Tells that the edge is gone, and reduces trading of a scope."""
    found = evidence_of(stored)
    assert stored.begin_time is not None, "there are bets"
    claims = (
        f"the e-value against the claimed win probabilities of {found.bets} bets in "
        f"{found.decisions} decisions since {stored.begin_time:%Y-%m-%d %H:%M:%S} UTC is "
        f"{found.e_value_gone:.3g}; {E_VALUE_GONE:g} is where an edge is taken for gone"
    )
    whose = f"portfolio {stored.portfolio_id}"
    if stored.strategy_id:
        whose = f"strategy {stored.strategy_id} in {whose}"
    text = f"the edge of {whose} is gone: {claims}"
    if reduced is not None:
        await set_state_and_tell(
            connection, call, reduced, TradingState.REDUCING, author=AUTHOR, reason=text
        )
        text += f". Trading of {reduced.kind.lower()} {reduced.id} is reduced until it is resumed"
    event = alert(WARNING, "EDGE_GONE", text, f"portfolio:{stored.portfolio_id}", call.trace_id)
    await outbox.append(connection, call.tenant_id, "", [event])


def _scope(kind: ScopeKind, stored: StoredEvidence) -> Scope:
    is_strategy = kind is ScopeKind.STRATEGY
    return Scope(kind, stored.strategy_id if is_strategy else stored.portfolio_id)

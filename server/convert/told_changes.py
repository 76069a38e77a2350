"""Changes of limits, parameters and trading states as their events told them, author and all."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from positionsizing.v1 import events_pb2, types_pb2

from server.convert import limits as limits_convert
from server.convert import parameters as parameters_convert
from server.convert.portfolio import scope_of
from storage.postgres.scopes import Scope
from storage.postgres.trading_state import TradingState


@dataclass(frozen=True)
class Told:
    """Who changed it, who approved, why, and the version that it made."""

    author: str
    approver: str
    reason: str
    version: int

    @classmethod
    def of(cls, change: types_pb2.ChangeRecord) -> "Told":
        """From the contract."""
        return cls(change.author, change.approver, change.reason, change.version)


@dataclass(frozen=True)
class ToldLimits:
    """Limits of a scope, as they are stored."""

    scope: Scope
    document: Mapping[str, Any]
    change: Told


@dataclass(frozen=True)
class ToldParameters:
    """Parameters of a portfolio ('' for all) and a strategy ('' for all), as they are stored."""

    portfolio_id: str
    strategy_id: str
    document: Mapping[str, Any]
    effective_time: datetime
    change: Told


@dataclass(frozen=True)
class ToldState:
    """The trading state of a scope; `tenant_version` is the tenant's after it."""

    scope: Scope
    state: TradingState
    tenant_version: int
    change: Told


def change_of(kind: str, payload: bytes) -> ToldLimits | ToldParameters | ToldState:
    """Of a LimitsChanged, ParametersChanged or TradingStateChanged."""
    if kind == "LimitsChanged":
        return _limits(events_pb2.LimitsChanged.FromString(payload))
    if kind == "ParametersChanged":
        return _parameters(events_pb2.ParametersChanged.FromString(payload))
    return _state(events_pb2.TradingStateChanged.FromString(payload))


def _limits(event: events_pb2.LimitsChanged) -> ToldLimits:
    document = {"limits": limits_convert.document(event.limits)}
    if event.shared.ByteSize():  # an empty one bounds nothing
        document["shared"] = limits_convert.document(event.shared)
    return ToldLimits(scope_of(event.scope), document, Told.of(event.change))


def _parameters(event: events_pb2.ParametersChanged) -> ToldParameters:
    return ToldParameters(
        event.portfolio_id,
        event.strategy_id,
        parameters_convert.document(event.parameters),
        event.effective_time.ToDatetime(UTC),
        Told.of(event.change),
    )


def _state(event: events_pb2.TradingStateChanged) -> ToldState:
    name = types_pb2.TradingState.Name(event.trading_state).removeprefix("TRADING_STATE_")
    return ToldState(
        scope_of(event.scope),
        TradingState(name),
        event.trading_state_version,
        Told.of(event.change),
    )

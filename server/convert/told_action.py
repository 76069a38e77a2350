"""Corporate actions as their events told them: that one was recorded, and what it did to a book."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from positionsizing.v1 import corporate_action_pb2, events_pb2


@dataclass(frozen=True)
class ToldEffect:
    """What a portfolio held before and after, in units, and the cash that was booked.

    cash_currency: of the account that was moved.
    """

    portfolio_id: str
    quantity_before: Decimal
    quantity_after: Decimal
    cash_change: float
    cash_currency: str


@dataclass(frozen=True)
class ToldAction:
    """An action with the time that it took effect, and who recorded it, why.

    effect: None in the tenant's stream.
    """

    action: corporate_action_pb2.CorporateAction
    effective_time: datetime
    request_id: UUID
    author: str
    reason: str
    effect: ToldEffect | None


def action_of(payload: bytes) -> ToldAction:
    """Of a CorporateActionApplied."""
    event = events_pb2.CorporateActionApplied.FromString(payload)
    told = event.effect
    effect = ToldEffect(
        told.portfolio_id,
        Decimal(repr(told.quantity_before)),
        Decimal(repr(told.quantity_after)),
        told.cash_change,
        told.cash_currency,
    )
    return ToldAction(
        event.action,
        event.action.effective_time.ToDatetime(tzinfo=UTC),
        UUID(event.request_id),
        event.author,
        event.reason,
        effect if event.HasField("effect") else None,
    )

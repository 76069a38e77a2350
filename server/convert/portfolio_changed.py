"""The event of a portfolio that was changed: told, and read again for a restored database."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from positionsizing.v1 import events_pb2
from positionsizing.v1 import portfolio_service_pb2 as pb

from server.convert.portfolio import balances, holdings
from storage.postgres.portfolios import Holdings
from storage.postgres.requests import Request


class PortfolioChange(StrEnum):
    """What was done, by its name in the contract."""

    CREATED = "CREATED"
    RENAMED = "RENAMED"
    HOLDINGS_SET = "HOLDINGS_SET"
    CASH_ADJUSTED = "CASH_ADJUSTED"
    TIME_ZONE_SET = "TIME_ZONE_SET"
    UNIVERSE_SET = "UNIVERSE_SET"
    EQUITY_CONFIRMED = "EQUITY_CONFIRMED"
    CLOSED = "CLOSED"
    HIGH_WATER_MARK_REBASED = "HIGH_WATER_MARK_REBASED"


_PREFIX = "PORTFOLIO_CHANGE_KIND_"
_KINDS: dict[int, PortfolioChange] = {
    events_pb2.PortfolioChangeKind.Value(f"{_PREFIX}{kind}"): kind for kind in PortfolioChange
}


@dataclass(frozen=True)
class ToldPortfolio:
    """A portfolio after a change, who made it and why.

    kind: None of a release that knows more. request: of CASH_ADJUSTED, with its answer.
    """

    kind: PortfolioChange | None
    portfolio_id: str
    group_id: str
    display_name: str
    base_currency: str
    cash: float
    balances: dict[str, float]
    holdings: Holdings
    time_zone: str
    universe_id: str
    version: int
    equity_accepted: float | None
    high_water_mark: float | None
    as_of_time: datetime
    create_time: datetime
    close_time: datetime
    author: str
    reason: str
    request: Request | None


def changed_event(
    kind: PortfolioChange,
    stored: pb.Portfolio,
    equity_accepted: float | None,
    high_water_mark: float | None,
    *,
    author: str,
    reason: str,
    request: Request | None,
) -> events_pb2.PortfolioChanged:
    """What tells of a change, but for its number. stored: after it; request: of CASH_ADJUSTED."""
    event = events_pb2.PortfolioChanged(
        kind=events_pb2.PortfolioChangeKind.Value(f"{_PREFIX}{kind}"),
        portfolio=stored,
        equity_accepted=equity_accepted,
        high_water_mark=high_water_mark,
        author=author,
        reason=reason,
    )
    if request is not None:
        event.request_id, event.request_hash = str(request.request_id), request.request_hash
    return event


def portfolio_of(payload: bytes) -> ToldPortfolio:
    """Of a PortfolioChanged."""
    event = events_pb2.PortfolioChanged.FromString(payload)
    told = event.portfolio
    return ToldPortfolio(
        kind=_KINDS.get(event.kind),
        portfolio_id=told.portfolio_id,
        group_id=told.group_id,
        display_name=told.display_name,
        base_currency=told.base_currency,
        cash=told.cash,
        balances=balances(told.cash_balances),
        holdings=holdings(told.holdings),
        time_zone=told.time_zone,
        universe_id=told.universe_id,
        version=told.version,
        equity_accepted=event.equity_accepted if event.HasField("equity_accepted") else None,
        high_water_mark=event.high_water_mark if event.HasField("high_water_mark") else None,
        as_of_time=told.as_of_time.ToDatetime(tzinfo=UTC),
        create_time=told.create_time.ToDatetime(tzinfo=UTC),
        close_time=told.close_time.ToDatetime(tzinfo=UTC),
        author=event.author,
        reason=event.reason,
        request=_request(event),
    )


def _request(event: events_pb2.PortfolioChanged) -> Request | None:
    if not event.request_id:
        return None
    answer = pb.AdjustCashResponse(portfolio=event.portfolio).SerializeToString(deterministic=True)
    return Request(UUID(event.request_id), "AdjustCash", event.request_hash, b"", answer)

"""What takes in messages by topic, with the services that a test needs."""

from typing import Any, cast

from server.messaging.ingest import Intake
from server.observability.usage import Usage
from server.services.condition import ConditionService
from server.services.feature import FeatureService
from server.services.history import HistoryService
from server.services.market import MarketService
from server.services.parameter import ParameterService
from server.services.portfolio import PortfolioService
from server.services.sizing import SizingService
from storage.postgres.pool import Database

KINDS = (
    ConditionService,
    FeatureService,
    HistoryService,
    MarketService,
    ParameterService,
    PortfolioService,
    SizingService,
)


def intake_of(
    database: Database, tenant_id: str, *services: object, usage: Usage | None = None
) -> Intake:
    """An intake of `services`; all others are there by name alone."""
    known: dict[str, object] = {kind.__name__: kind.__new__(cast(Any, kind)) for kind in KINDS}
    known |= {type(service).__name__: service for service in services}
    return Intake(known, database, tenant_id, usage or Usage())

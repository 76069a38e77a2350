"""The services of the contract by name, of the parts of a process that they share."""

from dataclasses import dataclass

from server.algorithms.registry import Algorithms
from server.calls.admission import Admission
from server.config import Config
from server.decisions.replay import Replay
from server.decisions.what_if import WhatIf
from server.jobs.runner import JobRunner
from server.jobs.worker import Worker
from server.learning.model_schedules import ModelSchedules
from server.learning.models import Models
from server.portfolios.state import States
from server.risk.matrix_refresh import MatrixRefreshes
from server.secret_keys import SecretKeys
from server.services.algorithm import AlgorithmService
from server.services.analytics import AnalyticsService
from server.services.approval import ApprovalService
from server.services.audit import AuditService
from server.services.condition import ConditionService
from server.services.correlation import CorrelationService
from server.services.edge import EdgeService
from server.services.explanation import ExplanationService
from server.services.feature import FeatureService
from server.services.history import HistoryService
from server.services.job import JobService
from server.services.learning import LearningService
from server.services.liquidity import LiquidityService
from server.services.market import MarketService
from server.services.optimization import OptimizationService
from server.services.parameter import ParameterService
from server.services.portfolio import PortfolioService
from server.services.risk import RiskService
from server.services.server import ServerService
from server.services.simulation import SimulationService
from server.services.sizing import SizingService
from server.services.volatility import VolatilityService
from server.services.webhook import WebhookService
from server.sizing.coordinator import SizingCoordinator
from server.sizing.engine import SizingEngine
from storage.postgres.pool import Database


@dataclass(frozen=True)
class Parts:
    """What services are made of. worker: of long work that ends with its call."""

    config: Config
    database: Database
    states: States
    models: Models
    engine: SizingEngine
    coordinator: SizingCoordinator
    admission: Admission
    algorithms: Algorithms
    worker: Worker
    jobs: JobRunner
    refreshes: MatrixRefreshes
    schedules: ModelSchedules
    secret_keys: SecretKeys


def implementations(parts: Parts) -> dict[str, object]:
    """An object a service; what it may be called for is in the contract."""
    config, database, states, engine = parts.config, parts.database, parts.states, parts.engine
    simulation = SimulationService(database, parts.worker)
    learning = LearningService(database, parts.worker, parts.models, parts.schedules)
    portfolio = PortfolioService(database, states)
    parameter = ParameterService(database, states)
    replay = Replay(engine, database)
    return {
        "SizingService": SizingService(
            parts.coordinator, WhatIf(engine), replay, database, states, config.lines_max
        ),
        "PortfolioService": portfolio,
        "ApprovalService": ApprovalService(database, portfolio, parameter),
        "AuditService": AuditService(database),
        "MarketService": MarketService(database, states),
        "ConditionService": ConditionService(database, states),
        "FeatureService": FeatureService(database),
        "VolatilityService": VolatilityService(database, states),
        "HistoryService": HistoryService(database),
        "EdgeService": EdgeService(database, engine),
        "CorrelationService": CorrelationService(states, parts.refreshes),
        "RiskService": RiskService(database, states),
        "LiquidityService": LiquidityService(states),
        "ParameterService": parameter,
        "OptimizationService": OptimizationService(engine),
        "AnalyticsService": AnalyticsService(database, states),
        "AlgorithmService": AlgorithmService(parts.algorithms),
        "ExplanationService": ExplanationService(engine, database),
        "SimulationService": simulation,
        "JobService": JobService(database, simulation, learning, parts.jobs),
        "LearningService": learning,
        "ServerService": ServerService(config, database, parts.admission),
        "WebhookService": WebhookService(database, config.webhook_networks, parts.secret_keys),
    }

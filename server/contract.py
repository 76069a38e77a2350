"""The services of the contract, by name: what a server binds and says the health of."""

from positionsizing.v1 import (
    algorithm_service_pb2,
    analytics_service_pb2,
    condition_service_pb2,
    correlation_service_pb2,
    edge_service_pb2,
    explanation_service_pb2,
    history_service_pb2,
    learning_service_pb2,
    market_service_pb2,
    optimization_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    risk_service_pb2,
    simulation_service_pb2,
    sizing_service_pb2,
    volatility_service_pb2,
)

SERVICES = {
    name: module.DESCRIPTOR.services_by_name[name]
    for name, module in (
        ("SizingService", sizing_service_pb2),
        ("PortfolioService", portfolio_service_pb2),
        ("MarketService", market_service_pb2),
        ("ConditionService", condition_service_pb2),
        ("VolatilityService", volatility_service_pb2),
        ("HistoryService", history_service_pb2),
        ("EdgeService", edge_service_pb2),
        ("CorrelationService", correlation_service_pb2),
        ("RiskService", risk_service_pb2),
        ("ParameterService", parameter_service_pb2),
        ("OptimizationService", optimization_service_pb2),
        ("SimulationService", simulation_service_pb2),
        ("LearningService", learning_service_pb2),
        ("AnalyticsService", analytics_service_pb2),
        ("AlgorithmService", algorithm_service_pb2),
        ("ExplanationService", explanation_service_pb2),
    )
}

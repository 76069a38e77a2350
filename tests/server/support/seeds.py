"""A request of every method that works, to be broken by tests."""

from uuid import uuid4

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import (
    algorithm_service_pb2,
    analytics_service_pb2,
    approval_service_pb2,
    audit_service_pb2,
    condition_service_pb2,
    corporate_action_pb2,
    correlation_service_pb2,
    edge_service_pb2,
    explanation_service_pb2,
    feature_service_pb2,
    history_service_pb2,
    job_service_pb2,
    limits_pb2,
    liquidity_service_pb2,
    market_service_pb2,
    optimization_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    risk_service_pb2,
    server_service_pb2,
    simulation_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    volatility_service_pb2,
    webhook_service_pb2,
)

from tests.server.support.service_client import (
    INSTRUMENTS,
    Client,
    new_id,
    sizing_request,
    snapshot_message,
)

THEN = Timestamp(seconds=1_600_000_000)


def matrix(kind: int, values: list[float], **given: object) -> market_service_pb2.Matrix:
    """A matrix over the first two instruments."""
    return market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MatrixKind.ValueType(kind),
        as_of_time=THEN,
        instrument_ids=INSTRUMENTS[:2],
        dense=market_service_pb2.DenseMatrix(values=values),
        **given,  # type: ignore[arg-type]
    )


def limits() -> limits_pb2.Limits:
    """Limits with a part of every kind."""
    return limits_pb2.Limits(
        weight_max=0.05,
        groups=[limits_pb2.GroupLimit(name="g", sector="A")],
        instruments=[limits_pb2.InstrumentLimit(instrument_id="I0", quantity_max=10.0)],
        joint=limits_pb2.JointLimits(
            linear=[
                limits_pb2.LinearLimit(
                    name="row", instrument_ids=["I0"], coefficients=[1.0], upper=1.0
                )
            ]
        ),
    )


def batch(portfolio_id: str) -> sizing_service_pb2.SizePositionsRequest:
    """Lines with an edge of every source that needs no matrix, every column given."""
    columns = {
        "features": [sizing_pb2.FeatureColumn(name="read-by-nobody", values=[0.1] * 4)],
        "edge_source": [1, 2, 4, 1],
        "expected_return": [0.01] * 4,
        "volatility": [0.2] * 4,
        "loss_fraction": [1.0] * 4,
        "stop_price": [5.0, 10.0, 20.0, 40.0],
        "history_outcome": [0.1, -0.1, 0.1, 0.2],
        "history_length": [0, 0, 4, 0],
    }
    return sizing_request(portfolio_id, signals=columns, limits=limits(), all_or_nothing=True)


def problem() -> optimization_service_pb2.OptimizationProblem:
    """A joint problem that states its matrices itself."""
    return optimization_service_pb2.OptimizationProblem(
        instrument_ids=INSTRUMENTS[:2],
        objective=optimization_service_pb2.Objective(
            kind=optimization_service_pb2.OBJECTIVE_KIND_MIN_VARIANCE
        ),
        mean=[0.01, 0.02],
        scenarios=matrix(3, [0.1, 0.1, -0.05, 0.02, 0.03, -0.07]),
        covariance=matrix(1, [0.04, 0.01, 0.01, 0.09]),
        limits=limits().joint,
    )


def seeds(portfolio_id: str, decision_id: str) -> dict[str, Message]:
    """Requests that work, by method."""
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    base = batch(portfolio_id)
    part = batch(portfolio_id)
    part.request_id = ""
    variation = sizing_service_pb2.Variation(price_multiplier=1.1, limits=limits())
    variation.parameters.kelly_fraction = 0.4
    held = portfolio_service_pb2.Holdings(instrument_ids=["I0"], quantity=[5.0])
    book = portfolio_service_pb2.Portfolio(
        portfolio_id=new_id("fuzzed"), base_currency="USD", cash=1e6, holdings=held
    )
    market = snapshot_message(
        snapshot_id=new_id("fuzzed"),
        exchange_rates=[
            market_service_pb2.ExchangeRate(from_currency="EUR", to_currency="USD", rate=1.1)
        ],
        as_of_time=THEN,
    )
    fills = sizing_service_pb2.Fills(instrument_ids=["I0"], lots=[1], price=[10.0], fee=[0.1])
    history = history_service_pb2.History(
        universe_id=new_id("fuzzed"),
        kind=history_service_pb2.HISTORY_KIND_PRICES,
        instrument_ids=INSTRUMENTS[:2],
        observation_times=[Timestamp(seconds=THEN.seconds + day * 86400) for day in range(3)],
        values=[10.0, 20.0, 11.0, 19.0, 10.5, 0.0],
        missing=[5],
    )
    lots = optimization_service_pb2.LotRules(lot_weight=[0.01] * 2)
    return {
        "SizePositions": base,
        "SizePortfolios": sizing_service_pb2.SizePortfoliosRequest(
            request_id=str(uuid4()), requests=[part]
        ),
        "WhatIf": sizing_service_pb2.WhatIfRequest(base=base, variations=[variation]),
        "GetDecision": sizing_service_pb2.GetDecisionRequest(decision_id=decision_id),
        "ListDecisions": sizing_service_pb2.ListDecisionsRequest(portfolio_id=portfolio_id),
        "ReplayDecision": sizing_service_pb2.ReplayDecisionRequest(decision_id=decision_id),
        "CompareDecisions": explanation_service_pb2.CompareDecisionsRequest(
            first_decision_id=decision_id, second_decision_id=decision_id
        ),
        "GetLimitLadder": explanation_service_pb2.GetLimitLadderRequest(
            decision_id=decision_id, instrument_id=INSTRUMENTS[0]
        ),
        "SettleDecision": sizing_service_pb2.SettleDecisionRequest(
            request_id=str(uuid4()), decision_id=decision_id, fills=fills
        ),
        "CreatePortfolio": portfolio_service_pb2.CreatePortfolioRequest(portfolio=book),
        "GetPortfolio": portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id),
        "ListPortfolios": portfolio_service_pb2.ListPortfoliosRequest(page_size=3),
        "RenamePortfolio": portfolio_service_pb2.RenamePortfolioRequest(
            portfolio_id=portfolio_id, display_name="renamed"
        ),
        "ClosePortfolio": portfolio_service_pb2.ClosePortfolioRequest(
            portfolio_id=portfolio_id, reason="moved"
        ),
        "SetHoldings": portfolio_service_pb2.SetHoldingsRequest(
            portfolio_id=portfolio_id, cash=1e6, holdings=held
        ),
        "SetLimits": portfolio_service_pb2.SetLimitsRequest(scope=scope, limits=limits()),
        "GetLimits": portfolio_service_pb2.GetLimitsRequest(scope=scope),
        "SetTradingState": portfolio_service_pb2.SetTradingStateRequest(
            scope=scope, trading_state=1
        ),
        "RebaseHighWaterMark": portfolio_service_pb2.RebaseHighWaterMarkRequest(
            portfolio_id=portfolio_id, reason="a new mandate"
        ),
        "ConfirmEquity": portfolio_service_pb2.ConfirmEquityRequest(
            portfolio_id=portfolio_id, reason="a deposit"
        ),
        "AdjustCash": portfolio_service_pb2.AdjustCashRequest(
            request_id=str(uuid4()),
            portfolio_id=portfolio_id,
            changes=[portfolio_service_pb2.CashBalance(currency="USD", amount=1.0)],
            kind=portfolio_service_pb2.CASH_FLOW_KIND_INCOME,
        ),
        "SetTimeZone": portfolio_service_pb2.SetTimeZoneRequest(
            portfolio_id=portfolio_id, time_zone="Europe/Zurich"
        ),
        "SetUniverse": portfolio_service_pb2.SetUniverseRequest(
            portfolio_id=portfolio_id, reason="one feed for all"
        ),
        # Of an instrument that no market has: another one's price would change for all tests.
        "ApplyCorporateAction": market_service_pb2.ApplyCorporateActionRequest(
            request_id=str(uuid4()),
            action=corporate_action_pb2.CorporateAction(
                instrument_id="SPLIT0",
                split=corporate_action_pb2.Split(new_units=2.0, old_units=1.0),
            ),
        ),
        "ListCorporateActions": market_service_pb2.ListCorporateActionsRequest(page_size=2),
        "GetTradingState": portfolio_service_pb2.GetTradingStateRequest(scope=scope),
        "GetBreaches": portfolio_service_pb2.GetBreachesRequest(portfolio_id=portfolio_id),
        "ListReservations": portfolio_service_pb2.ListReservationsRequest(
            portfolio_id=portfolio_id
        ),
        "PutMarketSnapshot": market_service_pb2.PutMarketSnapshotRequest(snapshot=market),
        "GetMarketSnapshot": market_service_pb2.GetMarketSnapshotRequest(),
        "ListMarketSnapshots": market_service_pb2.ListMarketSnapshotsRequest(page_size=2),
        "PutMatrix": market_service_pb2.PutMatrixRequest(
            matrix=matrix(3, [0.1, 0.1, -0.05, 0.02], scenario_probability=[0.5, 0.5])
        ),
        "GetMatrix": market_service_pb2.GetMatrixRequest(matrix_id="none"),
        "PutHistory": history_service_pb2.PutHistoryRequest(history=history),
        "GetHistory": history_service_pb2.GetHistoryRequest(universe_id="none"),
        "ListHistories": history_service_pb2.ListHistoriesRequest(page_size=2),
        "EstimateMatrix": correlation_service_pb2.EstimateMatrixRequest(
            universe_id=history.universe_id,
            instrument_ids=list(history.instrument_ids),
            settings=correlation_service_pb2.EstimatorSettings(decay=0.9),
            gap_policy=history_service_pb2.GAP_POLICY_COMPLETE,
        ),
        "ListMatrixRefreshes": correlation_service_pb2.ListMatrixRefreshesRequest(),
        "EvaluateStakes": edge_service_pb2.EvaluateStakesRequest(
            bet=edge_service_pb2.BetEdge(
                win_probability=0.6, payoff=1.0, loss_fraction=0.5, outcome_count=50.0
            ),
            kelly_fractions=[0.5, 1.0],
            levels=[0.5],
            wealth_floor=0.5,
            floor_probability=0.1,
            interval_probability=0.9,
        ),
        "EstimateEdge": edge_service_pb2.EstimateEdgeRequest(
            instrument_ids=["I0", "I1"],
            history_outcome=[0.1, -0.05, 0.2, 0.1, -0.1],
            history_length=[3, 2],
            prior_mean=[0.0, 0.0],
            prior_error=[0.1, 0.1],
            views=[
                edge_service_pb2.EdgeView(
                    instrument_ids=["I0"], coefficients=[1.0], expected_return=0.01, error=0.1
                )
            ],
        ),
        "ClusterInstruments": correlation_service_pb2.ClusterInstrumentsRequest(matrix_id="none"),
        "AllocateByHierarchy": correlation_service_pb2.AllocateByHierarchyRequest(
            matrix_id="none", method=correlation_service_pb2.HIERARCHY_METHOD_HRP, upper=[0.5]
        ),
        "ReportRisk": risk_service_pb2.ReportRiskRequest(
            universe_id=history.universe_id,
            proposed=risk_service_pb2.BookWeights(
                instrument_ids=list(history.instrument_ids)[:1], weights=[0.5]
            ),
            level=0.95,
            gap_policy=history_service_pb2.GAP_POLICY_COMPLETE,
        ),
        "PutStressScenario": risk_service_pb2.PutStressScenarioRequest(
            scenario=risk_service_pb2.StressScenario(
                scenario_id=new_id("fuzzed"),
                shock=risk_service_pb2.ShockEvent(instrument_ids=["I0"], returns=[-0.1]),
            )
        ),
        "ListStressScenarios": risk_service_pb2.ListStressScenariosRequest(page_size=2),
        "MeasureLiquidity": liquidity_service_pb2.MeasureLiquidityRequest(
            prices=simulation_service_pb2.PriceTable(
                dates=["2024-01-02", "2024-01-03", "2024-01-04"],
                instrument_ids=["I0"],
                close=[10.0, 10.1, 10.0],
                volume=[100.0, 200.0, 0.0],
            )
        ),
        "PlanExecution": liquidity_service_pb2.PlanExecutionRequest(
            portfolio_id=portfolio_id,
            instrument_ids=["I0"],
            quantities=[-100.0],
            days=2.0,
            period_count=4,
            risk_aversion=1e-6,
            temporary_share=0.01,
            permanent_share=0.1,
            shares_outstanding=[1e6],
        ),
        "BacktestRisk": risk_service_pb2.BacktestRiskRequest(
            level=0.95,
            recorded=risk_service_pb2.RecordedForecasts(
                losses=[0.1, -0.1, 0.3],
                value_at_risk=[0.2, 0.2, 0.2],
                expected_shortfall=[0.3, 0.3, 0.3],
            ),
        ),
        "PutCondition": condition_service_pb2.PutConditionRequest(
            condition=condition_service_pb2.Condition(
                condition_id=new_id("fuzzed"), value=0.8, as_of_time=THEN
            )
        ),
        "ListConditions": condition_service_pb2.ListConditionsRequest(),
        "PutFeatureSet": feature_service_pb2.PutFeatureSetRequest(
            feature_set=feature_service_pb2.FeatureSet(
                feature_set_id=new_id("fuzzed"), features=["x"], age_max={"seconds": 60}
            )
        ),
        "ListFeatureSets": feature_service_pb2.ListFeatureSetsRequest(),
        "PutFeatures": feature_service_pb2.PutFeaturesRequest(
            feature_set_id="fuzzed",
            instrument_ids=["I0"],
            as_of_times=[THEN],
            known_times=[THEN],
            features=[sizing_pb2.FeatureColumn(name="x", values=[0.1])],
        ),
        "GetFeatures": feature_service_pb2.GetFeaturesRequest(
            feature_set_id="fuzzed", instrument_ids=["I0"], moment=THEN
        ),
        "PutVolatilityModel": volatility_service_pb2.PutVolatilityModelRequest(
            model=volatility_service_pb2.VolatilityModel(
                model_id=new_id("fuzzed"), half_life=23.0, band=0.1, observations_min=20
            ),
            reason="first",
        ),
        "ListVolatilityModels": volatility_service_pb2.ListVolatilityModelsRequest(),
        "GetVolatility": volatility_service_pb2.GetVolatilityRequest(model_id="none"),
        "FitVolatilityModel": volatility_service_pb2.FitVolatilityModelRequest(
            fit=volatility_service_pb2.VOLATILITY_FIT_GARCH,
            universe_id="none",
            instrument_id="I0",
            base=volatility_service_pb2.VolatilityModel(model_id="none"),
        ),
        "RebuildVolatility": volatility_service_pb2.RebuildVolatilityRequest(
            model_id="none", validate_only=True
        ),
        "ListAlgorithms": algorithm_service_pb2.ListAlgorithmsRequest(),
        "SetApprovalPolicy": approval_service_pb2.SetApprovalPolicyRequest(
            policy=approval_service_pb2.ApprovalPolicy(required=False, proposal_hours_max=24)
        ),
        "GetApprovalPolicy": approval_service_pb2.GetApprovalPolicyRequest(),
        "ListProposals": approval_service_pb2.ListProposalsRequest(page_size=5),
        "ApproveProposal": approval_service_pb2.ApproveProposalRequest(
            proposal_id=str(uuid4()), digest=bytes(32)
        ),
        "RejectProposal": approval_service_pb2.RejectProposalRequest(proposal_id=str(uuid4())),
        "ListAuditEvents": audit_service_pb2.ListAuditEventsRequest(page_size=5),
        "VerifyAudit": audit_service_pb2.VerifyAuditRequest(
            noted=audit_service_pb2.AuditHead(sequence=1, hash=bytes(32))
        ),
        "VerifySeals": audit_service_pb2.VerifySealsRequest(after=1, records_max=5),
        "SetParameters": parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameter_service_pb2.SizingParameters(kelly_fraction=0.5),
        ),
        "GetParameters": parameter_service_pb2.GetParametersRequest(portfolio_id=portfolio_id),
        "SimulateParameters": parameter_service_pb2.SimulateParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameter_service_pb2.SizingParameters(drawdown_floor=0.5),
            start_time=THEN,
            end_time=THEN,
            step={"seconds": 60},
            instrument_ids=["I0"],
            equity=[parameter_service_pb2.EquityPoint(time=THEN, equity=100.0)],
        ),
        "ListParameterVersions": parameter_service_pb2.ListParameterVersionsRequest(
            portfolio_id=portfolio_id
        ),
        "AnalyzeDecisions": analytics_service_pb2.AnalyzeDecisionsRequest(
            portfolio_id=portfolio_id
        ),
        "CompareStrategies": analytics_service_pb2.CompareStrategiesRequest(
            portfolios=[analytics_service_pb2.ComparedPortfolio(portfolio_id=portfolio_id)]
        ),
        "OptimizePortfolio": optimization_service_pb2.OptimizePortfolioRequest(
            problem=problem(), lots=lots
        ),
        "TraceFrontier": optimization_service_pb2.TraceFrontierRequest(problem=problem()),
        "ExplainInfeasibility": optimization_service_pb2.ExplainInfeasibilityRequest(
            problem=problem()
        ),
        "CreateWebhook": webhook_service_pb2.CreateWebhookRequest(
            webhook=webhook_service_pb2.Webhook(
                webhook_id=new_id("hook"), url="https://webhook.invalid/", topics=["alerts"]
            )
        ),
        "UpdateWebhook": webhook_service_pb2.UpdateWebhookRequest(
            webhook_id="none", url="https://webhook.invalid/", enabled=False
        ),
        "RotateWebhookSecret": webhook_service_pb2.RotateWebhookSecretRequest(
            webhook_id="none", overlap_hours=1.0
        ),
        "DeleteWebhook": webhook_service_pb2.DeleteWebhookRequest(webhook_id="none"),
        "ListWebhooks": webhook_service_pb2.ListWebhooksRequest(),
        "ListWebhookDeliveries": webhook_service_pb2.ListWebhookDeliveriesRequest(
            webhook_id="none", page_size=5
        ),
        "RedeliverWebhookEvents": webhook_service_pb2.RedeliverWebhookEventsRequest(
            webhook_id="none", event_ids=[str(uuid4())]
        ),
        "GetJob": job_service_pb2.GetJobRequest(job_id="none"),
        "ListJobs": job_service_pb2.ListJobsRequest(),
        "CancelJob": job_service_pb2.CancelJobRequest(job_id="none"),
        "ResumeJob": job_service_pb2.ResumeJobRequest(job_id="none"),
        "WhatIfDecision": explanation_service_pb2.WhatIfDecisionRequest(
            decision_id=decision_id,
            variations=[explanation_service_pb2.DecisionVariation(change=variation)],
        ),
        "GetServerInfo": server_service_pb2.GetServerInfoRequest(),
        "ListUsage": server_service_pb2.ListUsageRequest(
            start_time=THEN, by=[server_service_pb2.USAGE_DIMENSION_METHOD]
        ),
    }


def stubs(client: Client) -> dict[str, object]:
    """The calls of every service, by method."""
    # Those start a process for each call, and one method answers by a stream.
    apart = (client.channel, client.simulation, client.learning)
    services = [stub for stub in vars(client).values() if stub not in apart]
    calls = {name: getattr(service, name) for service in services for name in vars(service)}
    return {name: call for name, call in calls.items() if name not in ("StartJob", "WatchJob")}


def keep_to(request: Message, portfolio_id: str, spare_id: str) -> None:
    """Changes that would count for the whole firm stay with this one; the spare is closed."""
    is_end = isinstance(request, portfolio_service_pb2.ClosePortfolioRequest)
    if is_end and request.portfolio_id == portfolio_id:
        request.portfolio_id = spare_id
    if isinstance(
        request,
        portfolio_service_pb2.SetLimitsRequest | portfolio_service_pb2.SetTradingStateRequest,
    ):
        request.scope.portfolio_id = portfolio_id
    if isinstance(request, parameter_service_pb2.SetParametersRequest):
        request.portfolio_id = portfolio_id
    if isinstance(request, market_service_pb2.PutMarketSnapshotRequest):
        request.snapshot.as_of_time.seconds = min(request.snapshot.as_of_time.seconds, 1)

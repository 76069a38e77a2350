"""A client for tests: stubs, small requests that work, and errors taken apart."""

import contextlib
import functools
import itertools
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from positionsizing.v1 import (
    algorithm_service_pb2_grpc,
    analytics_service_pb2_grpc,
    approval_service_pb2_grpc,
    audit_service_pb2_grpc,
    condition_service_pb2_grpc,
    correlation_service_pb2_grpc,
    edge_service_pb2_grpc,
    explanation_service_pb2_grpc,
    feature_service_pb2_grpc,
    history_service_pb2_grpc,
    job_service_pb2_grpc,
    learning_service_pb2_grpc,
    limits_pb2,
    liquidity_service_pb2_grpc,
    market_service_pb2,
    market_service_pb2_grpc,
    optimization_service_pb2_grpc,
    parameter_service_pb2_grpc,
    portfolio_service_pb2,
    portfolio_service_pb2_grpc,
    risk_service_pb2_grpc,
    server_service_pb2_grpc,
    simulation_service_pb2_grpc,
    sizing_pb2,
    sizing_service_pb2,
    sizing_service_pb2_grpc,
    types_pb2,
    volatility_service_pb2_grpc,
    webhook_service_pb2_grpc,
)

from compute.optimize.execution import Programs
from compute.shapes import KernelRegistry
from server import app as app_module
from server.app import App
from server.config import Config
from server.secret_keys import new_key
from storage import embedded
from storage.postgres.pool import PoolOptions
from tests.fixtures_kernels import share_programs
from tests.fixtures_postgres import create_database

_numbers = itertools.count(1)
RECEIVED_MAX = 1 << 26
INSTRUMENTS = tuple(f"I{i}" for i in range(8))
PRICES = (10.0, 20.0, 50.0, 100.0, 5.0, 200.0, 30.0, 80.0)


@dataclass(frozen=True)
class Refused:
    """A rich error: its code, its reason, and the paths of wrong fields with their reasons."""

    code: grpc.StatusCode
    reason: str
    message: str
    fields: dict[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def parse_refusal(status: Any) -> Refused:
    """Takes a google.rpc.Status apart; every error has exactly one ErrorInfo."""
    codes = {code.value[0]: code for code in grpc.StatusCode}
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    infos, delay = 0, None
    for detail in status.details:
        if detail.Unpack(info):
            infos += 1
        elif detail.Unpack(retry):
            delay = retry.retry_delay.ToTimedelta().total_seconds()
        else:
            assert detail.Unpack(bad), f"unknown detail {detail.type_url}"
    assert infos == 1, "one ErrorInfo"
    assert info.domain == "positionsizing"
    paths = {item.field: item.reason for item in bad.field_violations}
    return Refused(
        codes[status.code], info.reason, status.message, paths, delay, dict(info.metadata)
    )


def refusal_of(error: grpc.aio.AioRpcError) -> Refused:
    """The rich error in the trailing metadata."""
    packed = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    assert packed is not None, f"no rich status: {error.code()} {error.details()}"
    status = status_pb2.Status.FromString(packed)
    assert status.code == error.code().value[0]
    return parse_refusal(status)


async def refusal(call: Awaitable[Any]) -> Refused:
    """The rich error of a call that has to fail."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    raise AssertionError(f"was answered: {str(answer)[:200]}")


LATENCY_MAX_S = 1e6
"""A call that a test leaves behind stands still while tests without a loop run, for minutes."""


_SECRET_KEY = new_key()


def started(
    server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    folder: Path,
    *,
    dsn: str | None = None,
    **settings: object,
) -> contextlib.AbstractAsyncContextManager[App]:
    """An app that takes `kernels` as they are, joint ones if asked.

    It runs on the database `dsn`, by default on one of its own.
    """
    dsn = dsn or create_database(server, template=embedded.DATABASE)
    share_programs(folder / "kernels")
    # Timings decide no test: connections and calls have long on a busy machine.
    patch = pytest.MonkeyPatch()
    patch.setattr(app_module, "PoolOptions", functools.partial(PoolOptions, connect_timeout_s=60.0))
    keys = folder / "secret.keys"
    if not keys.exists():
        folder.mkdir(parents=True, exist_ok=True)
        keys.write_text(f"{_SECRET_KEY}\n")
    patient = {"deadline_default_s": 60.0, "latency_max_s": LATENCY_MAX_S}
    chosen: dict[str, Any] = {
        "listen_port": 0,
        "secret_keys_file": keys,
        **patient,
        **settings,
    }
    config = Config(dsn=dsn, data_dir=folder, **chosen)
    return App.started(config, Programs(kernels, config.joint_shapes))


class _SaysItsLimit(grpc.aio.UnaryUnaryClientInterceptor):
    """Tells the server what a call can receive, unless the call says so itself."""

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = details.metadata or grpc.aio.Metadata()
        if "sizing-max-response-bytes" not in metadata:
            metadata.add("sizing-max-response-bytes", str(RECEIVED_MAX))
        return await continuation(details._replace(metadata=metadata), request)


class Client:
    """Stubs of every service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.sizing = sizing_service_pb2_grpc.SizingServiceStub(channel)
        self.portfolio = portfolio_service_pb2_grpc.PortfolioServiceStub(channel)
        self.market = market_service_pb2_grpc.MarketServiceStub(channel)
        self.correlation = correlation_service_pb2_grpc.CorrelationServiceStub(channel)
        self.risk = risk_service_pb2_grpc.RiskServiceStub(channel)
        self.liquidity = liquidity_service_pb2_grpc.LiquidityServiceStub(channel)
        self.volatility = volatility_service_pb2_grpc.VolatilityServiceStub(channel)
        self.condition = condition_service_pb2_grpc.ConditionServiceStub(channel)
        self.features = feature_service_pb2_grpc.FeatureServiceStub(channel)
        self.edge = edge_service_pb2_grpc.EdgeServiceStub(channel)
        self.history = history_service_pb2_grpc.HistoryServiceStub(channel)
        self.parameter = parameter_service_pb2_grpc.ParameterServiceStub(channel)
        self.optimization = optimization_service_pb2_grpc.OptimizationServiceStub(channel)
        self.analytics = analytics_service_pb2_grpc.AnalyticsServiceStub(channel)
        self.approvals = approval_service_pb2_grpc.ApprovalServiceStub(channel)
        self.audit = audit_service_pb2_grpc.AuditServiceStub(channel)
        self.algorithms = algorithm_service_pb2_grpc.AlgorithmServiceStub(channel)
        self.explanation = explanation_service_pb2_grpc.ExplanationServiceStub(channel)
        self.simulation = simulation_service_pb2_grpc.SimulationServiceStub(channel)
        self.jobs = job_service_pb2_grpc.JobServiceStub(channel)
        self.learning = learning_service_pb2_grpc.LearningServiceStub(channel)
        self.webhooks = webhook_service_pb2_grpc.WebhookServiceStub(channel)
        self.server = server_service_pb2_grpc.ServerServiceStub(channel)

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, port: int) -> AsyncIterator["Client"]:
        """A client of the service on a local port."""
        options = [("grpc.max_receive_message_length", RECEIVED_MAX)]
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=options, interceptors=[_SaysItsLimit()]
        ) as channel:
            yield cls(channel)

    async def put_market(self, **columns: Any) -> str:
        """Stores a snapshot of the test instruments, its prices confirmed, and returns its id."""
        snapshot = snapshot_message(**columns)
        request = market_service_pb2.PutMarketSnapshotRequest(
            snapshot=snapshot, confirm_prices=True
        )
        await self.market.PutMarketSnapshot(request)
        return snapshot.snapshot_id

    async def put_portfolio(
        self, cash: float = 1e6, held: dict[str, float] | None = None, **given: Any
    ) -> str:
        """Creates a portfolio and returns its id."""
        held = held or {}
        given.setdefault("portfolio_id", new_id("portfolio"))
        portfolio = portfolio_service_pb2.Portfolio(
            base_currency="USD",
            cash=cash,
            holdings=portfolio_service_pb2.Holdings(
                instrument_ids=held.keys(), quantity=held.values()
            ),
            **given,
        )
        request = portfolio_service_pb2.CreatePortfolioRequest(portfolio=portfolio)
        await self.portfolio.CreatePortfolio(request)
        return portfolio.portfolio_id

    async def set_limits(
        self, scope: portfolio_service_pb2.Scope, **given: Any
    ) -> portfolio_service_pb2.SetLimitsResponse:
        """Stores limits for a scope."""
        shared = given.pop("shared", None)
        request = portfolio_service_pb2.SetLimitsRequest(
            scope=scope, limits=limits_pb2.Limits(**given), shared=shared
        )
        return await self.portfolio.SetLimits(request)

    async def ready(self, cash: float = 1e6, **limits: Any) -> str:
        """A portfolio with limits and a market to size it in."""
        await self.put_market()
        portfolio_id = await self.put_portfolio(cash)
        limits = limits or {"weight_max": 0.1, "leverage_max": 1.0}
        await self.set_limits(portfolio_service_pb2.Scope(portfolio_id=portfolio_id), **limits)
        return portfolio_id

    async def size(
        self, request: sizing_service_pb2.SizePositionsRequest
    ) -> sizing_pb2.SizingDecision:
        """The decision on a request."""
        return (await self.sizing.SizePositions(request)).decision

    async def counts(self, portfolio_id: str) -> tuple[int, int]:
        """Decisions recorded and reservations open."""
        decisions = await self.sizing.ListDecisions(
            sizing_service_pb2.ListDecisionsRequest(portfolio_id=portfolio_id, page_size=1000)
        )
        reservations = await self.portfolio.ListReservations(
            portfolio_service_pb2.ListReservationsRequest(portfolio_id=portfolio_id, page_size=1000)
        )
        return len(decisions.decisions), len(reservations.reservations)


def new_id(kind: str) -> str:
    """An id that no other test uses."""
    return f"{kind}-{next(_numbers)}"


def snapshot_message(**columns: Any) -> market_service_pb2.MarketSnapshot:
    """A snapshot of the test instruments that is true now."""
    given: dict[str, Any] = {
        "snapshot_id": new_id("snapshot"),
        "instrument_ids": INSTRUMENTS,
        "price": PRICES,
        "volatility": [0.3] * len(PRICES),
        "average_daily_volume": [1e6] * len(PRICES),
        "sector": ["A", "B"] * (len(PRICES) // 2),
    }
    snapshot = market_service_pb2.MarketSnapshot(**{**given, **columns})
    if not snapshot.HasField("as_of_time"):
        snapshot.as_of_time.FromDatetime(datetime.now(UTC))
    return snapshot


def all_that_may_be_had(name: str, side: int = types_pb2.SIDE_LONG) -> sizing_pb2.SignalBatch:
    """One line on an edge that asks for all that limits and cash let it have."""
    return sizing_pb2.SignalBatch(
        instrument_ids=[name],
        side=[types_pb2.Side.ValueType(side)],
        win_probability=[0.99],
        payoff=[1.0],
        loss_fraction=[0.01],
    )


def sizing_request(
    portfolio_id: str,
    instruments: Sequence[str] = INSTRUMENTS[:4],
    signals: dict[str, Any] | None = None,
    **given: Any,
) -> sizing_service_pb2.SizePositionsRequest:
    """A request with an edge for every instrument."""
    n = len(instruments)
    columns: dict[str, Any] = {
        "instrument_ids": instruments,
        "side": [1] * n,
        "win_probability": [0.6] * n,
        "payoff": [1.0] * n,
    }
    given.setdefault("request_id", str(uuid4()))
    return sizing_service_pb2.SizePositionsRequest(
        portfolio_id=portfolio_id,
        signals=sizing_pb2.SignalBatch(**{**columns, **(signals or {})}),
        **given,
    )


def same(left: Message, right: Message) -> bool:
    """Whether two messages are the same bytes."""
    return left.SerializeToString(deterministic=True) == right.SerializeToString(deterministic=True)

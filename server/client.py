"""A thin client: one channel, the stubs of every service, a deadline on each call.

    with Client("127.0.0.1:50051") as client:
        client.sizing.SizePositions(request)

Programs need no more than the generated stubs (`protos/python`); see the README.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from positionsizing.v1.algorithm_service_pb2_grpc import AlgorithmServiceStub
from positionsizing.v1.analytics_service_pb2_grpc import AnalyticsServiceStub
from positionsizing.v1.approval_service_pb2_grpc import ApprovalServiceStub
from positionsizing.v1.audit_service_pb2_grpc import AuditServiceStub
from positionsizing.v1.condition_service_pb2_grpc import ConditionServiceStub
from positionsizing.v1.correlation_service_pb2_grpc import CorrelationServiceStub
from positionsizing.v1.edge_service_pb2_grpc import EdgeServiceStub
from positionsizing.v1.explanation_service_pb2_grpc import ExplanationServiceStub
from positionsizing.v1.feature_service_pb2_grpc import FeatureServiceStub
from positionsizing.v1.history_service_pb2_grpc import HistoryServiceStub
from positionsizing.v1.job_service_pb2_grpc import JobServiceStub
from positionsizing.v1.learning_service_pb2_grpc import LearningServiceStub
from positionsizing.v1.liquidity_service_pb2_grpc import LiquidityServiceStub
from positionsizing.v1.market_service_pb2_grpc import MarketServiceStub
from positionsizing.v1.optimization_service_pb2_grpc import OptimizationServiceStub
from positionsizing.v1.parameter_service_pb2_grpc import ParameterServiceStub
from positionsizing.v1.portfolio_service_pb2_grpc import PortfolioServiceStub
from positionsizing.v1.risk_service_pb2_grpc import RiskServiceStub
from positionsizing.v1.server_service_pb2_grpc import ServerServiceStub
from positionsizing.v1.simulation_service_pb2_grpc import SimulationServiceStub
from positionsizing.v1.sizing_service_pb2_grpc import SizingServiceStub
from positionsizing.v1.volatility_service_pb2_grpc import VolatilityServiceStub
from positionsizing.v1.webhook_service_pb2_grpc import WebhookServiceStub

from server.hosts import is_loopback

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""Most bytes of a message. gRPC's own default is 4 MiB, which a few ten thousand lines exceed."""
RECEIVE_LIMIT = "sizing-max-response-bytes"
"""Metadata that tells the server so: it refuses a larger answer before it records anything."""
_POLL_S = 0.1


CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
]


def channel_credentials(
    ca_file: Path | None = None, cert_file: Path | None = None, key_file: Path | None = None
) -> grpc.ChannelCredentials | None:
    """TLS with the server's certificates, and one's own where it asks; None: no TLS."""
    if ca_file is None:
        return None
    files = (ca_file, key_file, cert_file)
    return grpc.ssl_channel_credentials(
        *(file.read_bytes() if file is not None else None for file in files)
    )


class Client:
    """All services at one address; the channel connects with the first call."""

    def __init__(
        self,
        address: str,
        timeout_s: float = 30.0,
        *,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        cert_file: Path | None = None,
        key_file: Path | None = None,
    ) -> None:
        """token_file: holds a token or key, read for each call. ca_file: connects with TLS.
        cert_file, key_file: the client's own certificate, where the server asks for one.

        Raises `ValueError` where a token would travel in the clear to another machine.
        """
        self.address = address
        options = CHANNEL_OPTIONS
        credentials = channel_credentials(ca_file, cert_file, key_file)
        if credentials is not None:
            self._channel = grpc.secure_channel(address, credentials, options=options)
        elif token_file is not None and not is_loopback(address.rpartition(":")[0]):
            raise ValueError("a token is sent to another machine only with TLS: name a ca_file")
        else:
            self._channel = grpc.insecure_channel(address, options=options)
        channel = grpc.intercept_channel(self._channel, _Caller(timeout_s, token_file))
        self.sizing = SizingServiceStub(channel)
        self.portfolios = PortfolioServiceStub(channel)
        self.market = MarketServiceStub(channel)
        self.conditions = ConditionServiceStub(channel)
        self.features = FeatureServiceStub(channel)
        self.volatility = VolatilityServiceStub(channel)
        self.histories = HistoryServiceStub(channel)
        self.edges = EdgeServiceStub(channel)
        self.risk = RiskServiceStub(channel)
        self.liquidity = LiquidityServiceStub(channel)
        self.correlations = CorrelationServiceStub(channel)
        self.parameters = ParameterServiceStub(channel)
        self.optimization = OptimizationServiceStub(channel)
        self.simulation = SimulationServiceStub(channel)
        self.jobs = JobServiceStub(channel)
        self.learning = LearningServiceStub(channel)
        self.analytics = AnalyticsServiceStub(channel)
        self.algorithms = AlgorithmServiceStub(channel)
        self.explanation = ExplanationServiceStub(channel)
        self.approvals = ApprovalServiceStub(channel)
        self.audit = AuditServiceStub(channel)
        self.webhooks = WebhookServiceStub(channel)
        self.server = ServerServiceStub(channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._channel.close()

    def health(self, timeout_s: float = 2.0) -> str:
        """SERVING, NOT_SERVING, or UNREACHABLE where nobody answers in time."""
        try:
            answer = self._health.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError:
            return "UNREACHABLE"
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    def is_serving_within(self, timeout_s: float) -> bool:
        """Waits until the service says SERVING; false where it doesn't within the time."""
        give_up = time.monotonic() + timeout_s
        while self.health(timeout_s=1.0) != "SERVING":
            if time.monotonic() > give_up:
                return False
            time.sleep(_POLL_S)
        return True


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Caller(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Says for every call who asks, until when (where it has no deadline), for how many bytes."""

    def __init__(self, timeout_s: float, token_file: Path | None) -> None:
        self._timeout_s = timeout_s
        self._token_file = token_file

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Calls on with a timeout, the limit and the token."""
        return continuation(self._said(details), request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        """The same of a call that is answered by many messages."""
        return continuation(self._said(details), request)

    def _said(self, details: Any) -> _Details:
        said = [(RECEIVE_LIMIT, str(MESSAGE_BYTES_MAX))]
        if self._token_file is not None:
            said.append(("authorization", f"Bearer {self._token_file.read_text().strip()}"))
        return _Details(
            details.method,
            self._timeout_s if details.timeout is None else details.timeout,
            [*(details.metadata or ()), *said],
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )

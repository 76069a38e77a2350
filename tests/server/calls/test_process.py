"""What a process promises around its RPCs: health, reflection, configuration, overload, the end."""

import asyncio
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from compute.shapes import KernelRegistry
from server.config import ConfigError, load
from storage import embedded
from storage.errors import SchemaMismatch
from storage.postgres.migrations import current_version, migrate
from tests.fixtures_postgres import create_database
from tests.server.support.service_client import Client, refusal_of, sizing_request, started

SERVICES = ("SizingService", "PortfolioService", "MarketService", "ParameterService")


async def test_health_says_serving_for_each_service(client: Client) -> None:
    stub = health_pb2_grpc.HealthStub(client.channel)
    for name in ("", *(f"positionsizing.v1.{service}" for service in SERVICES)):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_tells_the_whole_contract(client: Client) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="positionsizing.v1.SizingService"
        ),
    ]
    answers = [answer async for answer in stub.ServerReflectionInfo(iter(requests))]
    names = {service.name for service in answers[0].list_services_response.service}
    assert {f"positionsizing.v1.{service}" for service in SERVICES} <= names
    files = answers[1].file_descriptor_response.file_descriptor_proto
    methods = {
        method.name
        for data in files
        for service in FileDescriptorProto.FromString(data).service
        for method in service.method
    }
    assert "SizePositions" in methods


def test_unknown_settings_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIZING_LISTEN_PROT", "1")
    with pytest.raises(ConfigError, match="SIZING_LISTEN_PROT"):
        load()
    monkeypatch.delenv("SIZING_LISTEN_PROT")
    file = tmp_path / "sizing.toml"
    file.write_text("listen_prot = 1\n")
    monkeypatch.setenv("SIZING_CONFIG", str(file))
    with pytest.raises(ConfigError, match="listen_prot"):
        load()
    file.write_text("listen_port = 70000\n")
    with pytest.raises(ConfigError, match="listen_port"):
        load()
    file.write_text("listen_port = 1234\n")
    monkeypatch.setenv("SIZING_LISTEN_PORT", "4321")
    assert load().listen_port == 4321
    monkeypatch.delenv("SIZING_LISTEN_PORT")
    assert load().listen_port == 1234


async def test_overload_is_refused_with_advice_and_the_rest_is_answered(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    async with (
        started(postgres_server, kernels, tmp_path, compute_waiting_max=2) as app,
        Client.connected(app.port) as client,
    ):
        portfolios = [await client.ready() for _ in range(8)]
        calls = [
            client.sizing.SizePositions(sizing_request(name, validate_only=True))
            for name in portfolios
            for _ in range(16)
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        refused = [refusal_of(a) for a in answers if isinstance(a, grpc.aio.AioRpcError)]
        assert refused
        assert len(refused) < len(calls)
        for item in refused:
            assert (item.code.name, item.reason) == ("UNAVAILABLE", "OVERLOADED")
            assert item.retry_after_s is not None
        assert await client.size(sizing_request(portfolios[0]))


async def test_calls_inside_finish_when_the_service_stops(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    async with (
        started(postgres_server, kernels, tmp_path) as app,
        Client.connected(app.port) as client,
    ):
        portfolio_id = await client.ready()
        running = [client.sizing.SizePositions(sizing_request(portfolio_id)) for _ in range(24)]
        for _ in range(60_000):  # the first may take long to arrive on a busy machine
            if app._admission.in_flight:
                break
            await asyncio.sleep(0.001)
        await app.stop()
        answers = await asyncio.gather(*running, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                assert isinstance(answer, grpc.aio.AioRpcError)
                assert answer.code() is grpc.StatusCode.UNAVAILABLE
        assert any(not isinstance(answer, BaseException) for answer in answers)


async def test_a_start_refuses_an_older_schema_where_it_may_not_change_it(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    dsn = create_database(postgres_server)
    await migrate(dsn, "0021")
    with pytest.raises(SchemaMismatch, match="sizing migrate"):
        async with started(postgres_server, kernels, tmp_path, dsn=dsn, migrate="check"):
            pass
    assert await current_version(dsn) == "0021"
    await migrate(dsn)
    async with started(postgres_server, kernels, tmp_path, dsn=dsn, migrate="check") as app:
        assert app.port

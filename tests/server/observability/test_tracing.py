"""Spans reach a collector in the caller's trace, and nothing is traced unless it is asked for."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from positionsizing.v1 import sizing_service_pb2

from compute.shapes import KernelRegistry
from server.app import App
from server.observability import tracing
from storage import embedded
from tests.server.support.service_client import Client, refusal, sizing_request, started

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{PARENT}-01"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans as a collector does, and keeps them."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[Any] = []

    async def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            self.resources.append(resource.resource)
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest_asyncio.fixture
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    server, collector = grpc.aio.server(), Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield collector, f"http://127.0.0.1:{port}"
    await server.stop(None)


async def test_a_request_is_one_trace_from_the_caller_to_the_commit(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path: Path,
    collector: tuple[Collector, str],
) -> None:
    found, endpoint = collector
    settings = {"otel_endpoint": endpoint, "otel_sample_ratio": 0.0}
    async with (
        started(postgres_server, kernels, tmp_path, **settings) as app,
        Client.connected(app.port) as client,
    ):
        portfolio_id = await client.ready()  # of no trace, and so of no sample
        metadata = [("traceparent", HEADER)]
        await client.sizing.SizePositions(sizing_request(portfolio_id), metadata=metadata)
        request = sizing_request("nobody")
        await refusal(client.sizing.SizePositions(request, metadata=metadata))
        with tracing.publishing("position-sized", HEADER):
            pass
    for _ in range(100):  # the collector runs in this loop
        if len(found.spans) >= 7:
            break
        await asyncio.sleep(0.05)
    assert {span.trace_id.hex() for span in found.spans} == {TRACE}
    calls = [span for span in found.spans if span.name == "SizePositions"]
    assert {span.parent_span_id.hex() for span in calls} == {PARENT}
    codes = {
        attribute.value.string_value
        for span in calls
        for attribute in span.attributes
        if attribute.key == "rpc.response.status_code"
    }
    assert codes == {"OK", "NOT_FOUND"}
    sized = next(s for s in calls if any(p.name == "commit" and p.parent_span_id == s.span_id
                                         for p in found.spans))  # fmt: skip
    parts = {s.name for s in found.spans if s.parent_span_id == sized.span_id}
    assert parts == {"gather", "compute", "commit"}
    assert "publish position-sized" in {span.name for span in found.spans}
    names = {a.key: a.value.string_value for a in found.resources[0].attributes}
    assert names["service.name"] == "position-sizing"


async def test_without_a_collector_the_header_is_only_passed_on(client: Client, app: App) -> None:
    assert tracing._tracer is None
    with tracing.request("a", parent=HEADER) as trace:
        assert trace.traceparent == HEADER
    with tracing.request("a", parent="anything\n") as trace:
        assert trace.traceparent == ""
    portfolio_id = await client.ready()
    answer = await client.sizing.SizePositions(
        sizing_request(portfolio_id), metadata=[("traceparent", "not one")]
    )
    assert isinstance(answer, sizing_service_pb2.SizePositionsResponse)


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEADER[:-1],
        HEADER.upper(),
        "01" + HEADER[2:],
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        HEADER + "\n",
        b"00",
        None,
    ],
)
def test_what_is_no_header_is_dropped(text: object) -> None:
    assert tracing.traceparent_of(text) == ""
    assert tracing.traceparent_of(HEADER) == HEADER

"""Traces: spans of requests and their parts, sent to an OpenTelemetry collector where one is named.

    with tracing.request("SizePositions", parent=traceparent) as trace:   # trace.traceparent
        with tracing.part("gather"):
            ...

Without a collector all of this costs next to nothing: a trace is then only passed on, as the W3C
header `traceparent` that a caller sent. Spans hold names, methods and codes; no sizes, no holdings.
"""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from server.config import Config, ConfigError
from server.version import VERSION

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_tracer: Any = None

FLUSH_MS = 3000
"""For spans on their way when the process ends."""


@dataclass
class Trace:
    """The trace that a call belongs to."""

    traceparent: str = ""
    """Its W3C header, of our span where there is one, else as the caller sent it; may be empty."""
    span: Any = None

    def ended(self, code: str) -> None:
        """What the call came to."""
        if self.span is not None:
            self.span.set_attribute("rpc.response.status_code", code)
            if code in ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED"):
                self.span.set_status(_error(code))


def traceparent_of(text: object) -> str:
    """A `traceparent` as W3C has it, or nothing."""
    return text if isinstance(text, str) and _TRACEPARENT.fullmatch(text) else ""


@contextlib.contextmanager
def request(name: str, *, parent: str = "", **attributes: str) -> Iterator[Trace]:
    """The span of a call or a message; `parent`: the header that came with it, valid or not."""
    parent = traceparent_of(parent)
    if _tracer is None:
        yield Trace(parent)
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {"traceparent": parent} if parent else {}
    context = TraceContextTextMapPropagator().extract(carrier)
    kind = trace.SpanKind.SERVER
    with _tracer.start_as_current_span(
        name,
        context=context,
        kind=kind,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield Trace(_header(span), span)


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """The span of a part of what runs now: gather, compute, commit."""
    if _tracer is None:
        yield
        return
    with _tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False):
        yield


@contextlib.contextmanager
def publishing(topic: str, traceparent: str) -> Iterator[None]:
    """The span of sending an event, in the trace of the request that caused it."""
    if _tracer is None or not traceparent_of(traceparent):
        yield
        return
    with request(f"publish {topic}", parent=traceparent, **{"messaging.destination.name": topic}):
        yield


def start(config: Config) -> Any:
    """Begins to send spans where `otel_endpoint` is set; what has to be shut down, else None.

    Raises `ConfigError` where the extra is not installed.
    """
    if config.otel_endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as error:
        text = f"otel_endpoint needs {error.name}: pip install 'position-sizing[otel]'"
        raise ConfigError(text) from error
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(config.otel_sample_ratio)),
        resource=Resource.create({"service.name": "position-sizing", "service.version": VERSION}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(config.otel_endpoint)))
    global _tracer
    _tracer = provider.get_tracer("positionsizing", VERSION)
    return provider


async def stop(provider: Any) -> None:
    """Begins no more spans and sends what is left, for a few seconds at most."""
    global _tracer
    if provider is not None:
        _tracer = None
        await asyncio.to_thread(provider.force_flush, FLUSH_MS)
        await asyncio.to_thread(provider.shutdown)


def _header(span: Any) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _error(code: str) -> Any:
    from opentelemetry.trace import Status, StatusCode

    return Status(StatusCode.ERROR, code)

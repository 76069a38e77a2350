"""Logs and metrics of the process."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from server.version import VERSION

disable_created_metrics()  # a second series for every counter, which nobody reads

REASONS_MAX = 200
"""Reasons of refusals that are counted by name; they come from the code, so there are fewer."""

_LATENCY_BUCKETS_S = (
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.15,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
)


class _Counts(Collector):
    """Counters of one name, read when metrics are."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...]) -> None:
        self._head = name, text, labels
        self._values: list[tuple[Callable[[], float], tuple[str, ...]]] = []

    def add(self, value: Callable[[], float], labels: Mapping[str, str]) -> None:
        """One more of them. Errors: KeyError where it lacks a label of the first."""
        self._values.append((value, tuple(labels[label] for label in self._head[2])))

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        name, text, labels = self._head
        family = CounterMetricFamily(name.removesuffix("_total"), text, labels=labels)
        for value, its in self._values:
            family.add_metric(its, value())
        yield family


class Telemetry:
    """Counters of the service; served over HTTP where a port is configured."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counts: dict[str, _Counts] = {}
        self._gauges: dict[str, Gauge] = {}
        self._latency = Histogram(
            "sizing_rpc_seconds",
            "Time of the calls that were answered with OK.",
            ["method"],  # by code as well, buckets would be most of what is exported
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._calls = Counter(
            "sizing_rpcs",
            "Calls answered, by method and status code.",
            ["method", "code"],
            registry=self.registry,
        )
        self._refusals = Counter(
            "sizing_refusals",
            "Calls answered with an error, by its reason.",
            ["reason"],
            registry=self.registry,
        )
        self._reasons: set[str] = set()
        build = Gauge("sizing_build_info", "The release.", ["version"], registry=self.registry)
        build.labels(VERSION).set(1)
        ProcessCollector(registry=self.registry)

    def watch(self, name: str, text: str, value: Callable[[], float], **labels: str) -> None:
        """Exposes a value that is read when metrics are.

        Values of one name differ in their labels.
        """
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, text, list(labels), registry=self.registry)
        gauge = self._gauges[name]
        (gauge.labels(**labels) if labels else gauge).set_function(value)

    def count(self, name: str, text: str, value: Callable[[], float], **labels: str) -> None:
        """Exposes a count that something else keeps and that only rises, as a counter.

        `name` ends in `_total`. Counts of one name differ in their labels.
        """
        if name not in self._counts:
            self._counts[name] = _Counts(name, text, tuple(labels))
            self.registry.register(self._counts[name])
        self._counts[name].add(value, labels)

    def answered(self, method: str, code: str, seconds: float) -> None:
        """A call has been answered."""
        self._calls.labels(method, code).inc()
        if code == "OK":
            self._latency.labels(method).observe(seconds)

    def refused(self, reason: str) -> None:
        """A call has been answered with an error."""
        if reason not in self._reasons and len(self._reasons) >= REASONS_MAX:
            reason = "OTHER"
        self._reasons.add(reason)
        self._refusals.labels(reason).inc()

    def serve(self, host: str, port: int) -> None:
        """Starts the HTTP endpoint of the metrics."""
        start_http_server(port, host, self.registry)


def configure_logging(level: str, *, as_json: bool) -> None:
    """Structured log lines on standard error."""
    renderer: structlog.types.Processor = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    if as_json:
        renderer = structlog.processors.JSONRenderer()
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("jax").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # a line for each step of the schema

"""Counters of what was decided, for dashboards and alerts; labels are values of enums alone."""

from collections import Counter as Counted

import numpy as np
from positionsizing.v1 import types_pb2
from prometheus_client import CollectorRegistry, Counter

from server.prepared_request import SizedRequest


class DecisionMetrics:
    """What recorded decisions were, and what became of their commits."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        self._decisions = counter(
            "sizing_decisions", "Decisions recorded, a portfolio each.", "method", "status"
        )
        self._lines = counter("sizing_lines", "Lines of them by what became of each.", "status")
        self._bindings = counter(
            "sizing_bindings", "Lines of them by the limit that cut each last.", "limit"
        )
        self._rejections = counter(
            "sizing_guard_rejections",
            "Decisions whose first lots the independent check refused: smaller ones were answered.",
        )
        self._conflicts = counter(
            "sizing_commit_conflicts", "Commits that found newer versions and were computed again."
        )
        self._repeated = counter(
            "sizing_requests_repeated", "Requests answered with what was stored under their id."
        )

    def decided(self, solved: SizedRequest) -> None:
        """A decision has been recorded."""
        head, sizing = solved.head, solved.sizing
        self._decisions.labels(
            _name(types_pb2.SizingMethod, head.method, "SIZING_METHOD_"),
            _name(types_pb2.SizingStatus, head.status, "SIZING_STATUS_"),
        ).inc()
        for number, count in Counted(sizing.status.tolist()).items():
            name = _name(types_pb2.LineStatus, number, "LINE_STATUS_")
            self._lines.labels(name).inc(count)
        kinds = sizing.binding.kind
        for number, count in Counted(kinds[np.flatnonzero(kinds)].tolist()).items():
            name = _name(types_pb2.LimitKind, number, "LIMIT_KIND_")
            self._bindings.labels(name).inc(count)
        if sizing.rejected:
            self._rejections.inc()

    def conflicted(self) -> None:
        """A commit found newer versions."""
        self._conflicts.inc()

    def repeated(self) -> None:
        """A request was answered with what is stored."""
        self._repeated.inc()


def _name(enum: object, number: int, prefix: str) -> str:
    name: str = enum.Name(number)  # type: ignore[attr-defined]
    return name.removeprefix(prefix)

"""Counters of what was decided, for dashboards and alerts; labels are values of enums alone."""

from collections import Counter as Counted

import numpy as np
from prometheus_client import CollectorRegistry, Counter

from compute.limits.policy import LimitKind
from compute.waterfall.pipeline import LineStatus
from server.sizing.sized_request import SizedRequest


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
        sizing = solved.sizing
        self._decisions.labels(sizing.inputs.method.name, solved.decision.status).inc()
        for number, count in Counted(sizing.status.tolist()).items():
            self._lines.labels(LineStatus(number).name).inc(count)
        kinds = sizing.binding.kind
        for number, count in Counted(kinds[np.flatnonzero(kinds)].tolist()).items():
            self._bindings.labels(LimitKind(number).name).inc(count)
        if sizing.rejected:
            self._rejections.inc()

    def conflicted(self) -> None:
        """A commit found newer versions."""
        self._conflicts.inc()

    def repeated(self) -> None:
        """A request was answered with what is stored."""
        self._repeated.inc()

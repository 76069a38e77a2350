"""Writes the Grafana dashboard: `python ops/dashboard.py > ops/dashboard.json`.

A panel is a title, a unit and its queries; rows are laid out three to a line. The data source is
chosen in Grafana (`$datasource`), and so is which servers are shown (`$instance`).
"""

import json
from typing import Any

Queries = tuple[tuple[str, str], ...]
RATE = "$__rate_interval"
_WIDTH, _HEIGHT = 8, 7

ROWS: dict[str, tuple[tuple[str, str, Queries], ...]] = {
    "Service": (
        (
            "Calls by method",
            "reqps",
            (("sum by (method) (rate(sizing_rpcs_total{I}[R]))", "{{method}}"),),
        ),
        (
            "Calls by code, without OK",
            "reqps",
            (('sum by (code) (rate(sizing_rpcs_total{I,code!="OK"}[R]))', "{{code}}"),),
        ),
        (
            "Time of SizePositions",
            "s",
            tuple(
                (
                    f"histogram_quantile({q}, sum by (le) "
                    '(rate(sizing_rpc_seconds_bucket{I,method="SizePositions"}[R])))',
                    f"p{100 * q:g}",
                )
                for q in (0.5, 0.99)
            ),
        ),
        (
            "Calls in progress",
            "short",
            (
                ("sum(sizing_rpc_in_flight{I})", "in progress"),
                ("sum(sizing_rpc_limit{I})", "let in at once"),
                ("sum(sizing_compute_waiting{I})", "waiting to be computed"),
                ("sum(sizing_commit_waiting{I})", "waiting for a commit"),
            ),
        ),
        (
            "Refused for overload, dropped",
            "reqps",
            (
                ("sum(rate(sizing_rpc_refused_total{I}[R]))", "refused"),
                ("sum(rate(sizing_compute_dropped_total{I}[R]))", "dropped unrun"),
            ),
        ),
        (
            "Refusals by reason",
            "reqps",
            (("sum by (reason) (rate(sizing_refusals_total{I}[R]))", "{{reason}}"),),
        ),
    ),
    "Decisions": (
        (
            "Decisions by status",
            "ops",
            (
                (
                    "sum by (method, status) (rate(sizing_decisions_total{I}[R]))",
                    "{{method}} {{status}}",
                ),
            ),
        ),
        (
            "Lines",
            "ops",
            (("sum by (status) (rate(sizing_lines_total{I}[R]))", "{{status}}"),),
        ),
        (
            "Lines by the limit that cut them",
            "ops",
            (("sum by (limit) (rate(sizing_bindings_total{I}[R]))", "{{limit}}"),),
        ),
        (
            "Refused by the independent check",
            "ops",
            (("sum(rate(sizing_guard_rejections_total{I}[R]))", "first lots refused"),),
        ),
        (
            "Joint method",
            "short",
            (
                ("sum(sizing_programs_missing{I})", "programs missing"),
                ("sum(increase(sizing_programs_waits_total{I}[R]))", "calls that waited for one"),
                ("sum(increase(sizing_joint_restarts_total{I}[R]))", "ends of its process"),
                ("sum(increase(sizing_compiles_after_serving_total{I}[R]))", "late compilations"),
            ),
        ),
        (
            "Time of joint work and what-ifs",
            "s",
            (
                (
                    "histogram_quantile(0.99, sum by (le, method) (rate(sizing_rpc_seconds_bucket"
                    '{I,method=~"OptimizePortfolio|WhatIf|SizePortfolios"}[R])))',
                    "{{method}} p99",
                ),
            ),
        ),
    ),
    "Data and events": (
        (
            "Commits",
            "ops",
            (
                ("sum(rate(sizing_commits_total{I}[R]))", "transactions"),
                ("sum(rate(sizing_commit_conflicts_total{I}[R]))", "computed again"),
                ("sum(rate(sizing_requests_repeated_total{I}[R]))", "requests repeated"),
            ),
        ),
        (
            "Database",
            "short",
            (
                ("min(sizing_database_available{I})", "available"),
                ("sum(sizing_database_connections_busy{I})", "connections busy"),
            ),
        ),
        (
            "Age of the oldest event",
            "s",
            (
                ("max(sizing_outbox_oldest_age_seconds{I})", "waiting to be published"),
                ("max(sizing_webhook_oldest_age_seconds{I})", "waiting for a webhook"),
            ),
        ),
    ),
    "Process": (
        (
            "Event loop lag",
            "s",
            (
                (
                    "histogram_quantile(0.99, sum by (instance, le) "
                    "(rate(sizing_event_loop_lag_seconds_bucket{I}[R])))",
                    "{{instance}} p99",
                ),
            ),
        ),
        (
            "Processor",
            "percentunit",
            (("rate(process_cpu_seconds_total{I}[R])", "{{instance}}"),),
        ),
        (
            "Memory",
            "bytes",
            (("process_resident_memory_bytes{I}", "{{instance}}"),),
        ),
    ),
}
"""By row; `I` stands for the chosen instances, `[R]` for the interval of rates."""

OPTIONAL = {
    "Events": (
        (
            "Topics",
            "ops",
            (
                ("sum(rate(sizing_events_published_total{I}[R]))", "published"),
                ("sum by (topic) (rate(sizing_messages_handled_total{I}[R]))", "in: {{topic}}"),
                ("sum by (topic) (rate(sizing_dead_letters_total{I}[R]))", "put aside: {{topic}}"),
            ),
        ),
    ),
    "Access": (
        (
            "Denied and above quota",
            "reqps",
            (
                ("sum by (reason) (rate(sizing_auth_denied_total{I}[R]))", "denied: {{reason}}"),
                ("sum(rate(sizing_quota_refused_total{I}[R]))", "above quota"),
            ),
        ),
    ),
    "Algorithms": (
        (
            "Questions to custom algorithms",
            "reqps",
            (
                (
                    "sum by (algorithm, outcome) (rate(sizing_algorithm_questions_total{I}[R]))",
                    "{{algorithm}} {{outcome}}",
                ),
            ),
        ),
    ),
}
"""Of what a server exports only where it is configured: a broker, authentication, algorithms."""


def expression(query: str) -> str:
    """A query as Grafana takes it."""
    chosen = query.replace("{I", '{instance=~"$instance"')
    return chosen.replace("[R]", f"[{RATE}]")


def dashboard() -> dict[str, Any]:
    """The dashboard in Grafana's JSON."""
    panels: list[dict[str, Any]] = []
    y = 0
    for name, row in {**ROWS, **OPTIONAL}.items():
        panels.append({"type": "row", "title": name, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y += 1
        for place, (title, unit, queries) in enumerate(row):
            position = {
                "x": _WIDTH * (place % 3),
                "y": y + _HEIGHT * (place // 3),
                "w": _WIDTH,
                "h": _HEIGHT,
            }
            panels.append(_panel(title, unit, queries, position))
        y += _HEIGHT * -(-len(row) // 3)
    for number, panel in enumerate(panels, start=1):
        panel["id"] = number
    return {
        "title": "Position sizing",
        "uid": "position-sizing",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus"},
        {
            "name": "instance",
            "type": "query",
            "datasource": {"type": "prometheus", "uid": "$datasource"},
            "query": "label_values(sizing_rpc_in_flight, instance)",
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "current": {"text": "All", "value": "$__all"},
            "refresh": 2,
        },
    ]


def _panel(title: str, unit: str, queries: Queries, position: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "$datasource"},
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "expr": expression(query), "legendFormat": legend}
            for place, (query, legend) in enumerate(queries)
        ],
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=1))

"""Alerts and dashboard ask for what the server exports, and each alert says what to do.

Prometheus itself tries rules and queries where it is installed (Debian package `prometheus`).
"""

import asyncio
import importlib.util
import json
import re
import shutil
import socket
import subprocess
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from positionsizing.v1 import sizing_service_pb2
from prometheus_client import generate_latest

from compute.shapes import KernelRegistry
from server.app import App
from storage import embedded
from tests.server.support.service_client import Client, refusal, sizing_request, started

ROOT = Path(__file__).resolve().parents[3]
OPS = ROOT / "ops"
ALERTS = (OPS / "alerts.yaml").read_text()
ELSEWHERE = {"up", "time", "vector"}
CONDITIONAL = {
    "sizing_events_published_total": "server/messaging/events.py",
    "sizing_messages_handled_total": "server/messaging/events.py",
    "sizing_dead_letters_total": "server/messaging/events.py",
    "sizing_auth_denied_total": "server/auth/gate.py",
    "sizing_quota_refused_total": "server/auth/gate.py",
    "sizing_algorithm_questions_total": "server/algorithms/registry.py",
    "sizing_certificate_not_after_seconds": "server/app.py",
}
"""Exported only with a broker, authentication, algorithms or TLS, and where."""


def rules() -> Iterator[tuple[str, str, str]]:
    """Kind, name and expression of each rule, as the file has them, without a YAML parser."""
    pattern = re.compile(
        r"- (?P<kind>alert|record): (?P<name>\S+)\n\s+expr: (?P<expr>>\n(?:\s{10}.*\n)+|.*\n)"
    )
    for found in pattern.finditer(ALERTS):
        yield found["kind"], found["name"], " ".join(found["expr"].lstrip(">").split())


ALERT_NAMES = [name for kind, name, _ in rules() if kind == "alert"]


def metrics_of(expression: str) -> set[str]:
    """Names of metrics in an expression."""
    text = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', " ", expression)
    return set(re.findall(r"\b(?:sizing_\w+|process_\w+|up)\b", text))


def dashboard_module() -> Any:
    spec = importlib.util.spec_from_file_location("ops_dashboard", OPS / "dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DASHBOARD = dashboard_module()
QUERIES = sorted(
    target["expr"]
    .replace('instance=~"$instance"', 'instance=~".*"')
    .replace("$__rate_interval", "5m")
    for panel in DASHBOARD.dashboard()["panels"]
    for target in panel.get("targets", ())
)


async def scraped(client: Client, app: App) -> str:
    """The metrics of a server that has sized, refused and repeated."""
    portfolio_id = await client.ready()
    request = sizing_request(portfolio_id, signals={"payoff": [3.0] * 4})
    await client.size(request)
    await client.size(request)
    what_if = sizing_service_pb2.WhatIfRequest(base=request)
    what_if.variations.add(edge_multiplier=0.5)
    await client.sizing.WhatIf(what_if)
    await refusal(client.sizing.SizePositions(sizing_request("nobody")))
    return generate_latest(app.telemetry.registry).decode()


async def test_what_alerts_and_dashboard_ask_for_is_exported(client: Client, app: App) -> None:
    scrape = await scraped(client, app)
    exported = set(re.findall(r"^(\w+)[{ ]", scrape, re.M))
    wanted = {name for _, _, text in rules() for name in metrics_of(text)}
    assert len(wanted) > 15
    for query in QUERIES:
        wanted |= metrics_of(query)
    missing = wanted - exported - ELSEWHERE
    assert missing <= CONDITIONAL.keys(), missing - CONDITIONAL.keys()
    for name in missing:
        assert name in (ROOT / CONDITIONAL[name]).read_text()


async def test_what_is_decided_and_refused_is_counted(client: Client, app: App) -> None:
    await scraped(client, app)
    value = app.telemetry.registry.get_sample_value
    before = {
        "sizing_requests_repeated_total": value("sizing_requests_repeated_total"),
        "decisions": value("sizing_decisions_total", {"method": "CLOSED_FORM", "status": "CAPPED"}),
        "lines": value("sizing_lines_total", {"status": "CAPPED"}),
        "refusals": value("sizing_refusals_total", {"reason": "PORTFOLIO_NOT_FOUND"}),
    }
    await scraped(client, app)
    assert value("sizing_requests_repeated_total") == before["sizing_requests_repeated_total"] + 1
    decisions = {"method": "CLOSED_FORM", "status": "CAPPED"}
    assert value("sizing_decisions_total", decisions) == before["decisions"] + 1
    assert value("sizing_lines_total", {"status": "CAPPED"}) > before["lines"]
    refusals = value("sizing_refusals_total", {"reason": "PORTFOLIO_NOT_FOUND"})
    assert refusals == before["refusals"] + 1
    assert value("sizing_bindings_total", {"limit": "WEIGHT_MAX"}) > 0
    assert value("sizing_database_available") == 1.0
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert value("sizing_build_info", {"version": version}) == 1.0


async def test_labels_are_few(client: Client, app: App) -> None:
    scrape = await scraped(client, app)
    assert sum(not line.startswith("#") for line in scrape.splitlines()) < 2000


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_an_alert_has_its_part_of_the_runbook(name: str) -> None:
    assert f"runbook: docs/operations.md#{name.lower()}\n" in ALERTS
    text = (ROOT / "docs" / "operations.md").read_text()
    _, heading, rest = text.partition(f"### {name}\n")
    assert heading
    told = rest.partition("\n#")[0].strip()
    severity = re.search(rf"- alert: {name}\n.*?severity: (\w+)", ALERTS, re.S)
    assert severity
    assert told.lower().startswith(severity[1])
    assert len(told) > 60


def test_the_runbook_has_no_alert_that_is_gone() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    told = set(re.findall(r"^### (Sizing\w+)$", text, re.M))
    assert told == set(ALERT_NAMES)


async def test_every_metric_is_explained(client: Client, app: App) -> None:
    scrape = await scraped(client, app)
    exported = set(re.findall(r"^# TYPE (sizing_\w+)", scrape, re.M)) | CONDITIONAL.keys()
    text = (ROOT / "docs" / "operations.md").read_text()
    for name in exported:
        assert re.search(rf"`{name}[`{{]", text), f"docs/operations.md doesn't say what {name} is"


def test_the_dashboard_is_what_its_script_writes() -> None:
    written = json.loads((OPS / "dashboard.json").read_text())
    assert written == DASHBOARD.dashboard(), "python ops/dashboard.py > ops/dashboard.json"


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: rules and queries were NOT tried by Prometheus")
    return found


def run(*command: str, given: str = "") -> str:
    done = subprocess.run(
        command, cwd=OPS, input=given, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


async def test_prometheus_takes_rules_queries_and_metrics(
    client: Client, app: App, tmp_path: Path
) -> None:
    promtool = tool("promtool")
    run(promtool, "check", "rules", "alerts.yaml")
    assert "SUCCESS" in run(promtool, "test", "rules", "alerts_test.yaml")
    as_rules = tmp_path / "queries.yaml"
    as_rules.write_text(
        "groups:\n- name: queries\n  rules:\n"
        + "".join(
            f"  - record: query:{n}\n    expr: {json.dumps(text)}\n"
            for n, text in enumerate(QUERIES)
        )
    )
    run(promtool, "check", "rules", str(as_rules))
    run(promtool, "check", "metrics", given=await scraped(client, app))


async def test_prometheus_finds_data_for_the_dashboard(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path: Path,
) -> None:
    """A real scrape of a real server; what is exported only under conditions may be empty."""
    prometheus = tool("prometheus")
    web, metrics = _free_port(), _free_port()
    config = tmp_path / "prometheus.yaml"
    config.write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: sizing\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{metrics}']}}]\n"
    )
    async with (
        started(postgres_server, kernels, tmp_path / "data", metrics_port=metrics) as app,
        Client.connected(app.port) as client,
    ):
        process = await asyncio.create_subprocess_exec(
            prometheus,
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{web}",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            empty: set[str] = set(QUERIES)
            for _ in range(60):
                await scraped(client, app)
                empty = {q for q in QUERIES if not await asyncio.to_thread(_result, web, q)}
                if all(metrics_of(query) & CONDITIONAL.keys() for query in empty):
                    break
                await asyncio.sleep(1.0)
        finally:
            process.terminate()
            await process.wait()
    assert all(metrics_of(query) & CONDITIONAL.keys() for query in empty), empty


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _result(port: int, query: str) -> Any:
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
            return []  # as below: it listens before it is ready
        raise AssertionError(f"{query}: {error.read().decode()}") from error
    except OSError:
        return []  # it is still starting

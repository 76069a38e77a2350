"""The consumer of `examples/`: copied by others, so it has to be right."""

import asyncio
import importlib.util
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pulsar
import pytest
from positionsizing.v1 import events_pb2, types_pb2

from storage.events.client import BrokerConfig, PulsarBroker
from storage.events.ports import OutMessage
from tests.fixtures_pulsar import TestBroker

PATH = Path(__file__).parents[3] / "examples" / "consumer" / "consumer.py"
N_EVENTS = 120


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_consumer", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sized(portfolio: str, sequence: int, lots: int) -> bytes:
    event = events_pb2.PositionSized(portfolio_sequence=sequence)
    event.decision.portfolio_id = portfolio
    event.decision.decision_id = f"{portfolio}-{sequence}"
    event.decision.sizes.instrument_ids.extend(["AAA", "BBB"])
    event.decision.sizes.lots.extend([lots, -lots])
    return event.SerializeToString()


def properties(id: str, type: str = "PositionSized") -> dict[str, str]:
    return {"event_id": id, "event_type": type, "tenant_id": "acme"}


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    database = sqlite3.connect(path)
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


def test_a_size_older_than_a_halt_is_dropped_whichever_comes_first(tmp_path: Path) -> None:
    targets = load().Targets(str(tmp_path / "t.db"))

    def size(id: str, portfolio: str, number: int, strategy: str = "") -> None:
        event = events_pb2.PositionSized.FromString(sized(portfolio, int(id), number))
        event.decision.versions.trading_state_version = number
        event.decision.strategy_id = strategy
        assert targets.apply(properties(id), event.SerializeToString())

    def change(id: str, number: int, state: int, **scope: str) -> None:
        event = events_pb2.TradingStateChanged(trading_state=state, trading_state_version=number)  # type: ignore[arg-type]
        event.scope.SetInParent()
        for name, value in scope.items():
            setattr(event.scope, name, value)
        assert targets.apply(properties(id, "TradingStateChanged"), event.SerializeToString())

    halted, reducing, active = (
        types_pb2.TRADING_STATE_HALTED,
        types_pb2.TRADING_STATE_REDUCING,
        types_pb2.TRADING_STATE_ACTIVE,
    )
    size("1", "p", 4)
    change("101", 5, halted)
    size("2", "p", 4)  # decided before, arrives after
    size("3", "p", 6)  # decided after the resume, which has not arrived yet
    change("102", 6, active)
    size("4", "p", 4)
    change("103", 7, reducing, portfolio_id="p")
    change("104", 9, halted, strategy_id="trend")
    size("5", "p", 6)
    size("6", "q", 6)
    size("7", "q", 8, strategy="trend")
    query = "SELECT portfolio_id, portfolio_sequence FROM target GROUP BY 1, 2 ORDER BY 1"
    assert rows(tmp_path / "t.db", query) == [("p", 3), ("q", 6)]


def test_an_event_is_applied_once(tmp_path: Path) -> None:
    targets = load().Targets(str(tmp_path / "t.db"))
    assert targets.apply(properties("1"), sized("p", 1, 10))
    assert not targets.apply(properties("1"), sized("p", 1, 10))
    assert targets.apply(properties("3"), sized("p", 3, 30))
    assert targets.apply(properties("2"), sized("p", 2, 20)), "new, and older than what is there"
    refusal = events_pb2.SignalsRefused(code="INVALID_ARGUMENT", message="p > 1")
    assert targets.apply(properties("4", "SignalsRefused"), refusal.SerializeToString())
    assert targets.apply(properties("5", "SomethingNew"), b"?")
    targets.close()
    found = rows(tmp_path / "t.db", "SELECT instrument_id, lots, portfolio_sequence FROM target")
    assert found == [("AAA", 30, 3), ("BBB", -30, 3)]
    assert rows(tmp_path / "t.db", "SELECT code FROM refused") == [("INVALID_ARGUMENT",)]


def test_work_that_fails_is_not_remembered_as_done(tmp_path: Path) -> None:
    targets = load().Targets(str(tmp_path / "t.db"))
    with pytest.raises(Exception, match=r".+"):
        targets.apply(properties("1"), b"\xff\xff no protobuf")
    assert targets.apply(properties("1"), sized("p", 1, 10))
    targets.close()


def test_old_ids_are_forgotten(tmp_path: Path) -> None:
    targets = load().Targets(str(tmp_path / "t.db"))
    targets.apply(properties("1"), sized("p", 1, 10))
    assert targets.forget() == 0
    database = sqlite3.connect(tmp_path / "t.db")
    database.execute("UPDATE seen SET seen_time = '2000-01-01'")
    database.commit()
    database.close()
    assert targets.forget() == 1
    targets.close()


@pytest.mark.integration
async def test_killed_again_and_again_it_applies_every_event_once(
    broker: PulsarBroker, broker_config: BrokerConfig, pulsar_broker: TestBroker, tmp_path: Path
) -> None:
    """Over TLS, with a token from a file."""
    producer = await broker.open_producer("position-sized")
    for n in range(N_EVENTS):
        sequence, portfolio = n // 6 + 1, f"p{n % 6}"
        sent = OutMessage(portfolio, sized(portfolio, sequence, sequence), properties(f"e{n}"))
        for _ in range(1 + n % 3):  # the wire repeats
            await producer.send(sent)
    token, database = tmp_path / "token", tmp_path / "targets.db"
    token.write_text(broker_config.read_token())
    place = f"{broker_config.tenant}/{broker_config.namespace}"
    tls = pulsar_broker.tls_config()
    command = [sys.executable, str(PATH), "--service-url", tls.service_url]
    command += ["--trust-file", tls.tls_trust_file, "--token-file", str(token)]
    command += ["--namespace", place, "--database", str(database)]
    for _ in range(3):
        await asyncio.to_thread(_run_and_kill, command, database)
    count = await asyncio.to_thread(_run_to_the_end, command, database)
    assert count == N_EVENTS
    assert rows(database, "SELECT DISTINCT lots FROM target WHERE instrument_id = 'AAA'") == [(20,)]
    assert rows(database, "SELECT count(*) FROM target") == [(12,)]


def _seen(database: Path) -> int:
    try:
        return int(str(rows(database, "SELECT count(*) FROM seen")[0][0]))
    except sqlite3.OperationalError:  # not made yet
        return 0


def _run_and_kill(command: list[str], database: Path) -> None:
    """Kill the consumer in the middle of its work."""
    before = _seen(database)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    give_up = time.monotonic() + 60
    while _seen(database) < min(N_EVENTS, before + 5) and time.monotonic() < give_up:
        time.sleep(0.002)
    process.kill()
    process.wait()


def _run_to_the_end(command: list[str], database: Path) -> int:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    give_up = time.monotonic() + 60
    while _seen(database) < N_EVENTS and time.monotonic() < give_up:
        time.sleep(0.05)
    process.terminate()
    output = process.communicate(timeout=30)[0].decode()
    assert "came again" in output
    return _seen(database)


@pytest.mark.integration
async def test_consume_tells_new_from_repeated(
    broker: PulsarBroker, broker_config: BrokerConfig
) -> None:
    module = load()
    stop = threading.Event()
    seen: set[str] = set()

    def apply(given: dict[str, str], _payload: bytes) -> bool:
        new = given["event_id"] not in seen
        seen.add(given["event_id"])
        if given["event_id"] == "z":
            stop.set()
        return new

    producer = await broker.open_producer("alerts")
    for id in ("x", "x", "y", "z"):
        await producer.send(OutMessage("k", b"", properties(id)))
    client = pulsar.Client(
        broker_config.service_url,
        authentication=pulsar.AuthenticationToken(broker_config.read_token()),
    )
    topic = broker_config.topic("alerts")
    found = await asyncio.to_thread(module.consume, client, topic, apply, stop)
    client.close()
    assert found == (3, 1)

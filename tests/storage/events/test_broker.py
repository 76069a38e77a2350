"""The broker for a laptop: what it says where it can't run, and how it runs in the foreground."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.errors import Unavailable
from storage.events.broker import jars
from storage.events.broker.jars import BrokerMissing
from storage.events.broker.process import LocalBroker, Ports
from tests.fixtures_pulsar import TestBroker


def test_without_java_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(BrokerMissing, match=r"`java` was not found.*events then wait"):
        jars.java()


def test_without_maven_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BrokerMissing, match="`mvn` was not found"):
        jars.fetch(tmp_path)
    assert not (tmp_path / "lib").exists()


def test_maven_that_fails_is_quoted_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text("#!/bin/sh\necho 'no route to any repository' >&2\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{maven.parent}:/usr/bin:/bin")
    with pytest.raises(BrokerMissing, match="no route to any repository"):
        jars.fetch(tmp_path / "cache")
    assert not (tmp_path / "cache" / "lib").exists()


def test_jars_that_are_there_are_not_fetched_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "lib").mkdir()
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv(jars.CACHE_VARIABLE, str(tmp_path))
    assert jars.fetch() == tmp_path / "lib"


def test_java_home_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert jars.java() == str(java)


def test_a_broker_that_does_not_come_up_shows_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'no room on this device'\nexit 3\n")
    java.chmod(0o755)
    (tmp_path / "lib").mkdir()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv(jars.CACHE_VARIABLE, str(tmp_path))
    broker = LocalBroker(tmp_path / "data", Ports.free())
    with pytest.raises(Unavailable, match="no room on this device"):
        broker.start()
    assert not broker.is_running
    broker.erase()
    assert not broker.data_dir.exists()


@pytest.mark.integration
def test_data_that_can_not_be_read_is_named(pulsar_broker: TestBroker, tmp_path: Path) -> None:
    """The fixture is asked for so that a broker can be had."""
    metadata = tmp_path / "data" / "metadata"
    metadata.mkdir(parents=True)
    (metadata / "CURRENT").write_text("no manifest\n")
    broker = LocalBroker(tmp_path / "data", Ports.free())
    with pytest.raises(Unavailable, match="CURRENT file corrupted"):
        broker.start()
    assert not broker.is_running


@contextlib.contextmanager
def heeding_interrupts() -> Iterator[None]:
    """Programs started in the block can be interrupted, even if this run ignores interrupts.

    As it does in the background of a script. A signal that is ignored stays so in a new program,
    one that is handled goes back to its default; `preexec_fn` would do it by a fork of this
    process with all its threads.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.integration
def test_in_the_foreground_until_interrupted(pulsar_broker: TestBroker, tmp_path: Path) -> None:
    """`python -m storage.events.broker`; the fixture is asked for so that a broker can be had."""
    ports = Ports.free()
    names = ("--port", "--web-port", "--bookie-port")
    numbers = (ports.service, ports.web, ports.bookie)
    arguments = [str(word) for pair in zip(names, numbers, strict=True) for word in pair]
    with heeding_interrupts():
        process = subprocess.Popen(
            [sys.executable, "-m", "storage.events.broker", "--data", str(tmp_path), *arguments],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    assert process.stdout is not None
    lines: list[str] = []
    while "end with Ctrl-C" not in "".join(lines[-1:]):
        line = process.stdout.readline().decode()
        assert line, "ended before it served"
        lines.append(line)
    assert f"serving pulsar://127.0.0.1:{ports.service}" in "".join(lines)
    assert LocalBroker(tmp_path, ports).is_healthy()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    process.stdout.close()
    assert not LocalBroker(tmp_path, ports).is_healthy()

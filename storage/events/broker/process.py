"""One standalone broker as a child process: start, health, stop, kill, start again."""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from storage.errors import Unavailable
from storage.events.broker import jars, recovery

_MAIN = "org.apache.pulsar.PulsarStandaloneStarter"
_OPENED = (
    *(f"java.base/{p}" for p in ("sun.net", "java.lang", "java.nio", "java.util.zip")),
    *("java.base/jdk.internal.misc", "java.base/jdk.internal.platform"),
    *("java.management/sun.management", "jdk.management/com.sun.management.internal"),
)
_JVM = (
    *("-Xmx384m", "-XX:MaxDirectMemorySize=384m", "-XX:+UseSerialGC"),
    "-XX:TieredStopAtLevel=1",  # a third less work to start; peak speed is not the point here
    "-Dio.netty.tryReflectionSetAccessible=true",
    *(word for p in _OPENED for word in ("--add-opens", f"{p}=ALL-UNNAMED")),
)
_LOGGING = """\
<Configuration status="ERROR"><Appenders><File name="F" fileName="{log}">
<PatternLayout pattern="%d{{ISO8601}} %-5p %c{{1}} - %m%n"/></File></Appenders>
<Loggers><Root level="WARN"><AppenderRef ref="F"/></Root></Loggers></Configuration>
"""


@dataclass(frozen=True)
class Ports:
    """Where the broker listens, all on the loopback interface."""

    service: int = 6650
    """Binary protocol: `pulsar://127.0.0.1:<service>`."""
    web: int = 8080
    """Admin REST API: `http://127.0.0.1:<web>`."""
    bookie: int = 3181
    """The storage node inside the process; its address is kept in the data."""

    @classmethod
    def free(cls) -> "Ports":
        """Three ports nobody listens on now."""
        sockets = [socket.socket() for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        numbers = [one.getsockname()[1] for one in sockets]
        for one in sockets:
            one.close()
        return cls(*numbers)


@dataclass
class LocalBroker:
    """A broker whose data is in `data_dir`; all of it survives `stop`, and `kill` as well."""

    data_dir: Path
    ports: Ports = field(default_factory=Ports)
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further lines of the configuration file, e.g. for authentication."""
    bearer_token: str = field(default="", repr=False)
    """Sent by the health check, where the broker asks for authentication."""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def service_url(self) -> str:
        """What clients connect to."""
        return f"pulsar://127.0.0.1:{self.ports.service}"

    @property
    def admin_url(self) -> str:
        """What `storage.events.topics.ensure` talks to."""
        return f"http://127.0.0.1:{self.ports.web}"

    @property
    def log(self) -> Path:
        """Warnings and errors of the broker."""
        return self.data_dir / "broker.log"

    def log_tail(self, n_lines: int = 40) -> str:
        """The last of what the broker complained about, without the stack traces."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        lines = [line[:400] for line in text.splitlines() if line.startswith(("2", "Caused by"))]
        return "\n".join(lines[-n_lines:])

    @property
    def is_running(self) -> bool:
        """Whether the child process lives (healthy or not)."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_s: float = 240.0) -> None:
        """Start and wait until healthy: 5 to 10 s, the first time more for fetching the jars.

        Errors: `BrokerMissing` without Java or Maven; `Unavailable` with the end of the log if the
        broker doesn't come up.
        """
        if self.is_running:
            return
        lib = jars.fetch()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        logging = self.data_dir / "log4j2.xml"
        logging.write_text(_LOGGING.format(log=self.log))
        java = [jars.java(), *_JVM, f"-Dlog4j2.configurationFile={logging}"]
        recovery.forget_registration(java, f"{lib}/*", self.data_dir)
        with (self.data_dir / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                [*java, "-cp", f"{lib}/*", _MAIN, *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # an interrupt at the terminal is for us to pass on
                cwd=self.data_dir,
            )
        self._wait_until_healthy(timeout_s)

    def is_healthy(self) -> bool:
        """Whether the broker can write a message and read it back, by its own check."""
        url = f"{self.admin_url}/admin/v2/brokers/health"
        request = urllib.request.Request(url)
        if self.bearer_token:
            request.add_header("Authorization", f"Bearer {self.bearer_token}")
        try:
            with urllib.request.urlopen(request, timeout=5.0) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def stop(self, timeout_s: float = 30.0) -> None:
        """End the process and wait for it; the data's lock is free afterwards."""
        if self._process is None:
            return
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End the process wherever it is; acknowledged messages survive it.

        It is stopped first, which lets a write to the journal that has begun come to its end: the
        journal has no checksums, and half a record, filled up with the zeros of the space set
        aside, would be taken for a message that closes its topic for ever.
        """
        if self._process is None:
            return
        if self.is_running:
            os.killpg(self._process.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def wait(self) -> int:
        """Block until the process ends by itself; its exit status."""
        return self._process.wait() if self._process is not None else 0

    def erase(self) -> None:
        """Remove the data of a stopped broker."""
        if self.is_running:
            raise RuntimeError("stop the broker before erasing its data")
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def on_free_ports(self) -> "LocalBroker":
        """The same broker, not started, on ports nobody uses."""
        return replace(self, ports=Ports.free(), _process=None)

    def _arguments(self) -> list[str]:
        """No functions worker, no stream storage; all data below `data_dir`."""
        metadata = ("--metadata-dir", str(self.data_dir / "metadata"))
        bookkeeper = ("--bookkeeper-dir", str(self.data_dir / "bookkeeper"))
        port = ("--bookkeeper-port", str(self.ports.bookie))
        settings = ("--config", str(self._write_settings()))
        return [*settings, "-nfw", "-nss", *metadata, *bookkeeper, *port]

    def _write_settings(self) -> Path:
        base = (Path(__file__).parent / "standalone.conf").read_text()
        own = {
            "brokerServicePort": str(self.ports.service),
            "webServicePort": str(self.ports.web),
            **self.settings,
        }
        path = self.data_dir / "standalone.conf"
        path.write_text(base + "".join(f"{name}={value}\n" for name, value in own.items()))
        return path

    def _wait_until_healthy(self, timeout_s: float) -> None:
        give_up = time.monotonic() + timeout_s
        while not self.is_healthy():
            if not self.is_running or time.monotonic() > give_up:
                self.kill()
                output = (self.data_dir / "output.log").read_text(errors="replace")
                raise Unavailable(
                    f"the broker did not come up; its output ends:\n{output[-1000:]}\n"
                    f"and its log:\n{self.log_tail()}"
                )
            time.sleep(0.1)

"""Real server processes on one real PostgreSQL and one real Pulsar, each behind a proxy."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from storage.crash import VARIABLE as CRASH_POINT
from storage.events.broker.process import LocalBroker
from storage.events.client import BrokerConfig
from tests.chaos.proxy import Proxy

START_TIMEOUT_S = float(os.environ.get("CHAOS_START_TIMEOUT_S", "600"))
COMMAND = os.environ.get("CHAOS_COMMAND", "").split() or [
    *(sys.executable, str(Path(__file__).parent / "serve.py"), "serve")
]
OPTIONS = (
    ("grpc.max_receive_message_length", 64 * 2**20),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)


@dataclass
class Replica:
    """One server process. `start` returns when it serves."""

    name: str
    environment: dict[str, str]
    folder: Path
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    _log: IO[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def launch(self, crash_point: str = "") -> None:
        """Start without waiting; `crash_point` as in `storage/crash.py`."""
        self.port = self.port or _free_port()
        extra = {CRASH_POINT: crash_point} if crash_point else {}
        if self._log is not None:
            self._log.close()
        self._log = (self.folder / f"{self.name}.log").open("ab")
        self.process = subprocess.Popen(
            COMMAND,
            env={**self.environment, **extra, "SIZING_LISTEN_PORT": str(self.port)},
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def wait_until_serving(self) -> None:
        """Raises with the end of the log if it doesn't come up."""
        give_up = time.monotonic() + START_TIMEOUT_S
        request = health_pb2.HealthCheckRequest()
        with grpc.insecure_channel(self.address, OPTIONS) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while True:
                try:
                    answer = stub.Check(request, timeout=1.0)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                except grpc.RpcError:
                    pass
                if not self.is_running or time.monotonic() > give_up:
                    raise RuntimeError(f"{self.name} does not serve: {self.log()[-3000:]}")
                time.sleep(0.1)

    def start(self, crash_point: str = "") -> None:
        self.launch(crash_point)
        self.wait_until_serving()

    def kill(self) -> None:
        if self.process is not None:
            if self.is_running:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.reap()

    def terminate(self) -> float:
        """SIGTERM, and the seconds until the process has ended."""
        assert self.process is not None
        started = time.monotonic()
        self.process.terminate()
        self.process.wait(60)
        took = time.monotonic() - started
        self.reap()
        return took

    def reap(self) -> int:
        """Wait for a process that ends by itself; its exit status."""
        assert self.process is not None
        status = self.process.wait(120)
        if self._log is not None:
            self._log.close()
            self._log = None
        return status

    def usage(self) -> tuple[float, int]:
        """Resident memory in MiB and open descriptors."""
        assert self.process is not None
        process = psutil.Process(self.process.pid)
        return process.memory_info().rss / 2**20, process.num_fds()

    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text(errors="replace")


@dataclass
class Cluster:
    """Three replicas; `database` and `events` are the proxies in front of the real parts."""

    folder: Path
    dsn: str
    database: Proxy
    events: Proxy
    broker: LocalBroker
    namespace: str
    replicas: list[Replica] = field(default_factory=list)

    @property
    def config(self) -> BrokerConfig:
        """The broker as the tests see it: through the same proxy, since it names no other way."""
        return BrokerConfig(
            service_url=f"pulsar://127.0.0.1:{self.events.port}",
            admin_url=self.broker.admin_url,
            namespace=self.namespace,
        )

    def make_replicas(self, n: int) -> None:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("SIZING_")
        }
        environment |= {
            "SIZING_DSN": f"postgresql://postgres@127.0.0.1:{self.database.port}/{_name(self.dsn)}",
            "SIZING_DATA_DIR": str(self.folder / "data"),
            "SIZING_PULSAR_URL": f"pulsar://127.0.0.1:{self.events.port}",
            "SIZING_PULSAR_ADMIN_URL": self.broker.admin_url,
            "SIZING_PULSAR_NAMESPACE": self.namespace,
        }
        self.replicas = [Replica(f"replica-{i}", environment, self.folder) for i in range(n)]

    def heal(self, n_replicas: int | None = None) -> None:
        """Everything passes and replicas (all, or the first few) serve, whatever was before."""
        for proxy in (self.database, self.events):
            proxy.restore()
            proxy.delay_s = 0.0
        for replica in self.replicas[:n_replicas]:
            if not replica.is_running:
                replica.launch()
            replica.wait_until_serving()  # one after the other: the first fills the kernel cache


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _name(dsn: str) -> str:
    return dsn.split("?")[0].rsplit("/", 1)[1]

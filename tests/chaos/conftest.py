"""One cluster for all chaos tests: three replicas, each part behind a proxy that can be cut.

What the run found is shown at its end, and written to the file that CHAOS_REPORT names.
"""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from storage import embedded
from storage.events.broker.jars import BrokerMissing
from storage.events.broker.process import LocalBroker, Ports
from tests.chaos.accounts import Callers, Counts
from tests.chaos.cluster import Cluster
from tests.chaos.proxy import Proxy
from tests.chaos.report import Figure, Report
from tests.fixtures_postgres import create_database
from tests.fixtures_pulsar import missing, running

KERNELS = Path(__file__).parents[2] / ".cache" / "kernels"
_report = Report()


@pytest.fixture(scope="session")
def seeds() -> range:
    """How many rounds of each experiment: 1 in CI, CHAOS_SEEDS by `make chaos`."""
    return range(int(os.environ.get("CHAOS_SEEDS", "1")))


@pytest.fixture(scope="session")
def chaos_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalBroker, Proxy]]:
    """A broker that names a proxy as its only address, so that everybody goes through it."""
    ports = Ports.free()
    proxy = Proxy(("127.0.0.1", ports.service))
    settings = {
        "advertisedListeners": f"proxied:pulsar://127.0.0.1:{proxy.port}",
        "internalListenerName": "proxied",
    }
    broker = LocalBroker(tmp_path_factory.mktemp("broker"), ports, settings)
    try:
        broker.start()
    except BrokerMissing as error:
        missing(str(error))
    running["chaos_broker"] = broker
    yield broker, proxy
    broker.stop()
    proxy.stop()


@pytest.fixture(scope="session")
def running_cluster(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: embedded.EmbeddedServer,
    chaos_broker: tuple[LocalBroker, Proxy],
) -> Iterator[Cluster]:
    """Three replicas on a database and a namespace of their own."""
    folder = tmp_path_factory.mktemp("cluster")
    KERNELS.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "data").mkdir()
    (folder / "data" / "kernels").symlink_to(KERNELS)
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    database = Proxy(str(postgres_server.socket_dir / ".s.PGSQL.5432"))
    broker, events = chaos_broker
    cluster = Cluster(folder, dsn, database, events, broker, namespace="chaos")
    cluster.make_replicas(3)
    yield cluster
    for replica in cluster.replicas:
        replica.kill()
    database.stop()


@pytest.fixture
def cluster(running_cluster: Cluster) -> Cluster:
    """The cluster with everything whole and every replica serving."""
    running_cluster.heal()
    return running_cluster


@pytest_asyncio.fixture
async def callers(cluster: Cluster) -> AsyncIterator[Callers]:
    opened = Callers([replica.address for replica in cluster.replicas])
    yield opened
    await opened.close()


@pytest.fixture
def record() -> Iterator[list[Counts]]:
    """Counts to be shown at the end of the run; the last three of each have to be 0."""
    mine: list[Counts] = []
    yield mine
    for counts in mine:
        _report.count(counts)
    for counts in mine:
        assert (counts.lost, counts.phantom, counts.duplicate) == (0, 0, 0), counts


@pytest.fixture
def figure() -> Figure:
    """Notes what was measured for a goal (R1, R2, ...), to be shown at the end of the run."""
    return _report.note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    if _report.is_empty:
        return
    terminalreporter.section("what became of every request")
    for line in _report.lines():
        terminalreporter.write_line(line)
    if path := os.environ.get("CHAOS_REPORT"):
        Path(path).write_text(_report.page(pytest.ExitCode(exitstatus).name))

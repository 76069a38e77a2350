"""Fast backtests on the machines of a cluster: the same bits, and nothing lost with a machine."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import job_service_pb2, simulation_service_pb2

from compute.limits.policy import Limits
from compute.parameters import EffectiveParameters
from compute.shapes import KernelRegistry
from compute.simulate.backtest import Backtest
from compute.simulate.fast_settings import CHUNK, Outcome, in_threads, run_fast
from compute.simulate.history import PriceHistory
from compute.simulate.setting import Setting
from compute.simulate.strategies import MeanReturn
from server.calls.errors import Refusal
from server.config import ConfigError
from server.simulation.chunks import keep, keys
from server.simulation.cluster import Cluster, is_installed
from server.simulation.simulate import run_backtest
from storage import embedded
from tests.server.simulation.test_backtests import LONG_S, momentum, table
from tests.server.support.service_client import Client, refusal, started

needs_ray = pytest.mark.skipif(
    not is_installed(), reason="ray, of the extra 'cluster', is not installed: make test-cluster"
)


def history(sessions: int = 400) -> PriceHistory:
    rng = np.random.default_rng(3)
    moved = 1.0 + 0.001 + 0.02 * rng.standard_normal((sessions, 12))
    days = np.datetime64("2020-01-01") + np.arange(sessions)
    names = tuple(f"I{i}" for i in range(moved.shape[1]))
    return PriceHistory(tuple(map(str, days)), names, 50.0 * np.cumprod(moved, axis=0))


def settings(count: int) -> list[Setting]:
    rng = np.random.default_rng(4)
    rule = MeanReturn(sessions=20)
    return [
        Setting(
            rule,
            EffectiveParameters(kelly_fraction=float(rng.uniform(0.05, 1.0))),
            Limits(weight_max=float(rng.uniform(0.05, 0.3)), leverage_max=1.0, allow_short=True),
        )
        for _ in range(count)
    ]


def same_bits(found: list[Backtest], wanted: list[Backtest]) -> bool:
    return all(
        one.equity.tobytes() == two.equity.tobytes()
        and one.cash.tobytes() == two.cash.tobytes()
        and one.account.units.tobytes() == two.account.units.tobytes()
        and one.trades == two.trades
        for one, two in zip(found, wanted, strict=True)
    )


class Kept:
    """Runs chunks in this process; remembers what it was given."""

    def __init__(self) -> None:
        self.given: tuple[Any, ...] = ()
        self.outcomes: list[Outcome] = []

    def run(self, *given: Any) -> Iterator[Outcome]:
        self.given = given
        self.outcomes = list(in_threads(1)(*given))
        yield from self.outcomes


@pytest.mark.skipif(is_installed(), reason="ray is installed")
async def test_without_the_package_a_server_refuses_to_start(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="cluster"):
        async with started(postgres_server, kernels, tmp_path, cluster="127.0.0.1:6379"):
            pass
    with pytest.raises(Refusal) as refused:
        run_fast(history(60), settings(2), run=Cluster("127.0.0.1:6379", tmp_path).run)
    assert refused.value.reason == "PACKAGE_MISSING"


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    """A cluster of two machines with a processor each, on this one."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster as Machines

    made = Machines(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    yield made
    ray.shutdown()
    made.shutdown()


@needs_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what Ray leaves open is not ours
@pytest.mark.timeout(600)
class TestOnTwoMachines:
    async def test_an_address_where_nothing_answers(
        self, postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
    ) -> None:
        request = simulation_service_pb2.RunBacktestRequest(
            prices=table(60), settings=[momentum("a", 0.5, 5)], mode=2
        )
        async with (
            started(postgres_server, kernels, tmp_path, cluster="127.0.0.1:9") as app,
            Client.connected(app.port) as client,
        ):
            refused = await refusal(client.simulation.RunBacktest(request, timeout=LONG_S))
        assert refused.reason == "CLUSTER_UNAVAILABLE"
        assert refused.retry_after_s == 30.0

    async def test_a_job_goes_on_where_its_process_died(
        self,
        machines: Any,
        postgres_server: embedded.EmbeddedServer,
        kernels: KernelRegistry,
        tmp_path: Path,
    ) -> None:
        """Over the RPC: killed after the first chunk, begun again, the numbers of this machine."""
        rng = np.random.default_rng(5)
        request = simulation_service_pb2.RunBacktestRequest(
            prices=table(200),
            settings=[
                momentum(f"s{i}", float(rng.uniform(0.1, 1.0)), 12) for i in range(2 * CHUNK + 4)
            ],
            mode=simulation_service_pb2.BACKTEST_MODE_FAST,
            summary_only=True,
        )
        chunks = tmp_path / "chunks"
        async with (
            started(postgres_server, kernels, tmp_path, cluster=machines.address) as app,
            Client.connected(app.port) as client,
        ):
            work = job_service_pb2.StartJobRequest(run_backtest=request)
            job = (await client.jobs.StartJob(work)).job
            await asyncio.to_thread(_until_one_is_kept, chunks)
            os.kill(_worker(), signal.SIGKILL)
            asked = job_service_pb2.WatchJobRequest(job_id=job.job_id)
            told = [one.job async for one in client.jobs.WatchJob(asked, timeout=LONG_S)]
            answer = await client.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job.job_id))
        assert (told[-1].state, told[-1].attempts) == (job_service_pb2.JOB_STATE_SUCCEEDED, 2)
        known = run_backtest(request).answer
        known.overfitting.trials_counted = len(request.settings)
        # The service takes the spread of all trials from the database, which sums in its own order.
        deflated = answer.run_backtest.overfitting.deflated_sharpe
        assert deflated == pytest.approx(known.overfitting.deflated_sharpe, rel=1e-12)
        known.overfitting.deflated_sharpe = deflated
        assert answer.run_backtest == known
        assert not list(chunks.iterdir())

    def test_what_was_done_is_not_done_again(self, machines: Any, tmp_path: Path) -> None:
        past, tried, kept = history(60), settings(CHUNK + 5), Kept()
        wanted = run_fast(past, tried, run=kept.run)
        marked = [part + 0.0 for part in kept.outcomes[0]]
        marked[5] += 1000.0  # trades
        keep(tmp_path / f"{keys(*kept.given)[0]}.npz", marked)
        found = run_fast(past, tried, run=Cluster(machines.address, tmp_path).run)
        assert [one.trades for one in found[:CHUNK]] == [a.trades + 1000 for a in wanted[:CHUNK]]
        assert same_bits(found[CHUNK:], wanted[CHUNK:])
        assert not list(tmp_path.iterdir())

    def test_a_machine_that_is_lost_loses_nothing(self, machines: Any, tmp_path: Path) -> None:
        """One of two is killed after the first of eight chunks. The last test: it is gone then."""
        past, tried = history(), settings(8 * CHUNK)
        done_then: list[int] = []

        def accident() -> None:
            _until_one_is_kept(tmp_path)
            (other,) = machines.worker_nodes
            machines.remove_node(other, allow_graceful=False)
            done_then.append(len(list(tmp_path.glob("*.npz"))))

        thread = threading.Thread(target=accident)
        thread.start()
        parts: list[float] = []
        run = Cluster(machines.address, tmp_path).run
        found = run_fast(past, tried, run=run, told=parts.append)
        thread.join()
        assert not machines.worker_nodes
        assert 1 <= done_then[0] < 8
        assert parts == [k / 8 for k in range(1, 9)]
        assert same_bits(found, run_fast(past, tried, run=in_threads(2)))


def _until_one_is_kept(folder: Path) -> None:
    for _ in range(int(LONG_S / 0.02)):
        if list(folder.glob("*.npz")):
            return
        time.sleep(0.02)
    raise AssertionError("nothing was done")


def _worker() -> int:
    """The process of this one that works on a backtest."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == os.getpid() and b"server.jobs.worker" in words and b"RunBacktest" in words:
            return int(folder.name)
    raise AssertionError("nobody works")

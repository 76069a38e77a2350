"""Backtests in mode EXACT keep how far they are, and go on from it when they were ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from positionsizing.v1 import job_service_pb2 as pb
from positionsizing.v1 import simulation_service_pb2 as simulation

from compute.simulate.delisting import Delisting
from compute.simulate.history import PriceHistory
from compute.simulate.run_state import RunState, arrays_of
from server.algorithms.asked import Description
from server.app import App
from server.cli.backtest_page import write_backtest
from server.cli.page import Output
from server.convert.simulation import checked_history
from server.jobs.worker import Means
from server.simulation.kept_files import write
from server.simulation.kept_states import KeptState, KeptStates, keys_of
from server.simulation.simulate import run_backtest
from tests.server.jobs.test_jobs import (
    CANCELLED,
    RUNNING,
    SUCCEEDED,
    becomes,
    firm,
    got,
    jobs_app,
    start,
    until,
    workers,
)
from tests.server.simulation.test_backtests import momentum, table
from tests.server.support.service_client import Client, new_id

__all__ = ["firm", "jobs_app"]


def asked(sessions: int = 60, settings: int = 2, **more: str) -> simulation.RunBacktestRequest:
    tried = [momentum(f"s{i}", 0.3 + 0.1 * i, 12) for i in range(settings)]
    return simulation.RunBacktestRequest(prices=table(sessions), settings=tried, **more)


class Ended(KeyboardInterrupt):
    """What ends the work in the middle."""


@pytest.mark.parametrize("sessions_done", [3, 37, 59, 60, 91])
def test_work_that_was_ended_goes_on_and_answers_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sessions_done: int
) -> None:
    request, seen, keep = asked(), list[int](), KeptState.keep
    wanted = run_backtest(request).encoded()

    def counting(place: KeptState, state: RunState) -> None:
        keep(place, state)
        seen.append(state.session)
        if len(seen) == sessions_done:
            raise Ended

    monkeypatch.setattr(KeptState, "keep", counting)
    with pytest.raises(Ended):
        run_backtest(request, kept=KeptStates(tmp_path, every_s=0.0))
    assert len(list(tmp_path.iterdir())) == 1 + (sessions_done > 60)
    kept = KeptStates(tmp_path)
    assert run_backtest(request, kept=kept).encoded() == wanted
    assert seen == [*range(1, 61)] * 2, "what was done is not done again"
    kept.drop()
    assert not list(tmp_path.iterdir())


def test_a_state_is_written_every_so_often_and_at_the_end(tmp_path: Path) -> None:
    seconds: Iterator[float] = iter(np.arange(0.0, 1e4, 0.5))
    written: list[int] = []
    kept = KeptStates(tmp_path, every_s=5.0, clock=lambda: next(seconds))
    place = kept.of("one")
    state = RunState.at_start(1e6, (34, 2), keeps_units=False)
    while not state.is_over:
        state.session += 1
        place.keep(state)
        if (found := place.found()) is not None and found.session not in written:
            written.append(found.session)
    assert written == [10, 20, 30, 34]
    assert len(list(tmp_path.iterdir())) == 1
    found = KeptStates(tmp_path).of("one").found()
    assert found is not None
    assert found.session == 34
    (tmp_path / "one.npz").write_bytes((tmp_path / "one.npz").read_bytes()[:-50])
    assert KeptStates(tmp_path).of("one").found() is None
    write(tmp_path / "one.npz", {"equity": np.zeros(3)})
    assert KeptStates(tmp_path).of("one").found() is None


def test_a_state_is_named_by_all_that_the_rest_depends_on() -> None:
    request = asked()
    past = checked_history(request)
    a, b = (item.SerializeToString(deterministic=True) for item in request.settings)

    def key(
        past: PriceHistory = past,
        setting: bytes = a,
        scenarios: tuple[bytes, ...] = (),
        asked: Description | None = None,
    ) -> str:
        return keys_of(past, [setting], scenarios, [asked])[0]

    close = past.close.copy()
    close[-1, -1] = np.nextafter(close[-1, -1], 1e9)
    others = [
        key(setting=b),
        key(replace(past, close=close)),
        *(key(replace(past, **{name: past.close})) for name in ("open", "dividend", "volume")),
        key(replace(past, split=np.ones_like(past.close))),
        key(replace(past, sector=("X",) * len(past.instrument_ids))),
        key(replace(past, dates=("1999-01-01", *past.dates[1:]))),
        key(replace(past, close=past.close[:-1], dates=past.dates[:-1])),
        key(scenarios=(b"a",)),
        key(scenarios=(b"a", b"b")),
        key(asked=Description("1", "ab", "")),
        key(asked=Description("2", "ab", "")),
    ]
    gone = past.close.copy()
    gone[-1, 0] = np.nan
    last = len(past.dates) - 1
    others += [
        key(replace(past, close=gone, delistings=(Delisting(last, 0, price),)))
        for price in (1.0, 2.0)
    ]
    assert len({key(), *others}) == 1 + len(others)
    assert key() == key()


def test_a_worker_that_is_killed_has_kept_what_it_has_done(tmp_path: Path) -> None:
    """By kill -9 in the middle of a setting, after the first state is there."""
    request = asked(250, 2)
    means = Means(tmp_path / "kernels", keeps_chunks=True)
    program = """if True:
        import sys
        from functools import partialmethod
        from server.jobs import worker
        from server.simulation.kept_states import KeptStates

        KeptStates.__init__ = partialmethod(KeptStates.__init__, every_s=0.2)
        sys.exit(worker.main())
    """
    command = [sys.executable, "-c", program, "RunBacktest", "0", means.encoded()]
    folder = means.chunks_dir
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request.SerializeToString())
        process.stdin.close()
        while not (folder.is_dir() and list(folder.glob("*.npz"))):
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
        assert process.stdout.read() == b""
    assert process.returncode == -signal.SIGKILL
    assert list(folder.glob("*.npz"))
    wanted = run_backtest(request).encoded()
    ended = subprocess.run(command, input=request.SerializeToString(), capture_output=True)
    assert (ended.returncode, ended.stdout) == (0, wanted)
    assert not list(folder.iterdir())


def pages(answer: simulation.RunBacktestResponse, folder: Path) -> dict[str, bytes]:
    """The page and the tables of an answer."""
    folder.mkdir()
    write_backtest(Output(folder / "page.html", folder / "tables"), answer)
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


async def test_jobs_that_were_killed_and_cancelled_end_like_one_that_ran_through(
    firm: Client, jobs_app: App, tmp_path: Path
) -> None:
    request = asked(120, 4, experiment=new_id("experiment"))
    folder = jobs_app.config.data_dir / "chunks"

    def n_kept() -> int:
        return len(list(folder.glob("*.npz")))

    job = await start(firm, request)
    await becomes(lambda: n_kept() >= 1)
    (pid,) = workers()
    os.kill(pid, signal.SIGKILL)
    await becomes(lambda: bool(set(workers()) - {pid}))
    named = pb.CancelJobRequest(job_id=job.job_id)
    await becomes(lambda: n_kept() >= 2)
    await firm.jobs.CancelJob(named)
    assert (await until(firm, job, CANCELLED))[-1].state == CANCELLED
    assert n_kept() >= 2
    await firm.jobs.ResumeJob(pb.ResumeJobRequest(job_id=job.job_id))
    parts: list[float] = []
    for told in await until(firm, job, SUCCEEDED):
        if told.state == RUNNING and told.HasField("progress"):
            parts.append(told.progress)
    assert all(part > 1 / 4 for part in parts)
    assert n_kept() == 0
    through = await start(firm, request)
    await until(firm, through, SUCCEEDED)
    found, wanted = [(await got(firm, item)).run_backtest for item in (job, through)]
    assert found.SerializeToString(deterministic=True) == wanted.SerializeToString(
        deterministic=True
    )
    shown = pages(found, tmp_path / "resumed")
    assert shown == pages(wanted, tmp_path / "through")
    assert {name.split(".")[-1] for name in shown} == {"html", "csv", "parquet"}


async def test_a_job_reads_the_state_that_is_kept(firm: Client, jobs_app: App) -> None:
    """It is marked, to tell that it was read."""
    request = asked(50, 1)
    (setting,) = request.settings
    past = checked_history(request)
    (key,) = keys_of(past, [setting.SerializeToString(deterministic=True)], (), [None])
    state = RunState.at_start(1e6, past.close.shape, keeps_units=False)
    state.trades, state.session, state.equity[:] = 1000, 30, 1e6
    state.cash[:] = 1e6
    folder = jobs_app.config.data_dir / "chunks"
    folder.mkdir(exist_ok=True)
    write(folder / f"{key}.npz", arrays_of(state))
    job = await start(firm, request)
    await until(firm, job, SUCCEEDED)
    (result,) = (await got(firm, job)).run_backtest.results
    assert result.trades > 1000
    assert list(result.equity[:30]) == [1e6] * 30
    assert not list(folder.glob("*.npz"))

"""Chunks of fast backtests that are done are kept until all are, and not done again."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import job_service_pb2 as pb
from positionsizing.v1 import simulation_service_pb2 as simulation

from compute.simulate.fast_settings import CHUNK, Outcome, in_threads, run_fast
from server.app import App
from server.simulation import kept_files
from server.simulation.chunks import KeptChunks, keep, keys, load
from server.simulation.kept_files import forget_old
from server.simulation.simulate import run_backtest
from tests.server.jobs.test_jobs import (
    CANCELLED,
    QUEUED,
    SUCCEEDED,
    firm,
    got,
    jobs_app,
    long,
    start,
    until,
)
from tests.server.simulation.test_backtests import momentum, table
from tests.server.simulation.test_cluster import Kept, history, same_bits, settings
from tests.server.support.service_client import Client

__all__ = ["firm", "jobs_app"]


def test_a_chunk_is_named_by_all_that_it_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept()
    run_fast(history(60), settings(CHUNK + 2), run=kept.run)
    first = keys(*kept.given)
    assert len(set(first)) == len(first) == 2
    run_fast(history(60), settings(CHUNK + 2), run=kept.run)
    assert keys(*kept.given) == first
    sessions, features, chunks = kept.given
    other = chunks[0]._replace(fraction=np.nextafter(chunks[0].fraction, 2.0))
    assert keys(sessions, features, [other])[0] != first[0]
    assert keys(sessions, features._replace(positions=True), chunks)[0] != first[0]
    later = sessions._replace(price=np.nextafter(sessions.price, 1e9))
    assert keys(later, features, chunks)[0] != first[0]
    monkeypatch.setattr(kept_files, "_code", lambda: "other code of the same version")
    assert not set(keys(sessions, features, chunks)) & set(first)
    # What is kept is read as it was; what is damaged or old is not read.
    path = tmp_path / f"{first[0]}.npz"
    assert load(path) is None
    keep(path, kept.outcomes[0])
    again = load(path)
    assert again is not None
    assert [part.tobytes() for part in again] == [part.tobytes() for part in kept.outcomes[0]]
    path.write_bytes(path.read_bytes()[:-40])
    assert load(path) is None
    forget_old(tmp_path, time.time() + 60.0)
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_ended_goes_on_where_it_was(tmp_path: Path) -> None:
    past, tried, done = history(60), settings(2 * CHUNK + 2), []

    def counting(*given: Any) -> Iterator[Outcome]:
        for chunk in given[2]:
            done.append(chunk)
            yield from in_threads(1)(*given[:2], [chunk])

    def ended(*given: Any) -> Iterator[Outcome]:
        yield next(KeptChunks(tmp_path, counting).run(*given))
        raise KeyboardInterrupt

    wanted = run_fast(past, tried)
    try:
        run_fast(past, tried, run=ended)
    except KeyboardInterrupt:
        assert len(done) == len(list(tmp_path.glob("*.npz"))) == 1
    kept = KeptChunks(tmp_path, counting)
    assert same_bits(run_fast(past, tried, run=kept.run), wanted)
    assert len(done) == 3, "the first is not done again"
    assert len(list(tmp_path.glob("*.npz"))) == 3, "until the answer is there"
    assert same_bits(run_fast(past, tried, run=kept.run), wanted)
    assert len(done) == 3
    kept.drop()
    assert not list(tmp_path.iterdir())


def test_chunks_that_are_alike_are_done_once(tmp_path: Path) -> None:
    past, alike, done = history(60), settings(1) * (2 * CHUNK), []

    def counting(*given: Any) -> Iterator[Outcome]:
        done.extend(given[2])
        yield from in_threads(1)(*given)

    found = run_fast(past, alike, run=KeptChunks(tmp_path, counting).run)
    assert len(done) == 1
    assert same_bits(found, run_fast(past, alike))


async def test_a_job_that_is_resumed_goes_on_from_what_was_kept(
    firm: Client, jobs_app: App
) -> None:
    """The chunk that is there already is marked, to tell that it was read."""
    rng = np.random.default_rng(7)
    fractions = rng.uniform(0.1, 1.0, CHUNK + 3)
    request = simulation.RunBacktestRequest(
        prices=table(80),
        settings=[momentum(f"s{i}", float(fraction), 12) for i, fraction in enumerate(fractions)],
        mode=simulation.BACKTEST_MODE_FAST,
        summary_only=True,
    )
    kept = Kept()
    wanted = run_backtest(request, run_chunks=kept.run).answer
    marked = [part + 0.0 for part in kept.outcomes[0]]
    marked[5] += 1000.0  # trades
    folder = jobs_app.config.data_dir / "chunks"
    folder.mkdir(exist_ok=True)
    keep(folder / f"{keys(*kept.given)[0]}.npz", marked)

    before = await start(firm, long())  # one at a time: the other waits
    job = await start(firm, request)
    named = pb.CancelJobRequest(job_id=job.job_id)
    assert (await firm.jobs.CancelJob(named)).job.state == CANCELLED
    asked = pb.ResumeJobRequest(job_id=job.job_id)
    assert (await firm.jobs.ResumeJob(asked)).job.state == QUEUED
    await firm.jobs.CancelJob(pb.CancelJobRequest(job_id=before.job_id))
    assert (await until(firm, job, SUCCEEDED))[-1].attempts == 1
    found = (await got(firm, job)).run_backtest
    trades = [item.trades for item in wanted.results]
    assert [item.trades for item in found.results] == [
        *(count + 1000 for count in trades[:CHUNK]),
        *trades[CHUNK:],
    ]
    assert not list(folder.glob("*.npz"))

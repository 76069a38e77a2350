"""Chunks of fast backtests on the machines of a Ray cluster, the same bits as here.

    run_fast(history, settings, run=Cluster("head:6379", folder).run)

A chunk that is done is a file (`chunks.py`), so a chunk that runs twice changes nothing, and a
run that ended before it was over goes on where it was. A machine that is lost loses nothing: Ray
runs its chunks on another.

Every machine needs this package, of the same versions, with the extra `cluster`. Ray is imported by
the worker that uses it alone, never by the server.
"""

import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc

from compute.simulate.fast_decision import Bounds, Features, Session
from compute.simulate.fast_settings import Outcome, run_chunk
from server.calls.errors import Refusal, precondition
from server.config import ConfigError
from server.simulation.chunks import files_of, keep, load
from server.simulation.kept_files import kept_in, versions

PACKAGE = "ray"
ATTEMPTS_MAX = 5
"""Of a chunk whose machine or process is lost; one that fails by itself fails the run at once."""
CONNECT_S = 5.0


def is_installed() -> bool:
    """Whether the extra `cluster` is there; imports nothing."""
    return find_spec(PACKAGE) is not None


def check(address: str | None) -> None:
    """Raises `ConfigError` where a cluster is to be used and the package is missing."""
    if address is not None and not is_installed():
        raise ConfigError("cluster needs ray: pip install 'position-sizing[cluster]'")


class Cluster:
    """Runs chunks on the cluster at an address, HOST:PORT of its head.

    This machine has to be one of the cluster (`ray start --address=HOST:PORT`). folder: where what
    is done is kept until all is.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self._address, self._folder = address, folder

    def run(
        self, sessions: Session, features: Features, chunks: Sequence[Bounds]
    ) -> Iterator[Outcome]:
        """What came of each chunk, in their order; those that were done before are read.

        Raises `Refusal` where the package is missing, nothing answers at the address, a machine has
        other versions, or a chunk was lost too often.
        """
        if not is_installed():
            text = "the cluster needs the package ray: the extra 'cluster' has it"
            raise precondition("PACKAGE_MISSING", text)
        import ray

        self._connect()
        files = files_of(self._folder, sessions, features, chunks)
        remote = ray.remote(_on_a_machine).options(
            num_cpus=1, max_retries=ATTEMPTS_MAX, scheduling_strategy="SPREAD"
        )
        shared, told = ray.put(sessions), versions()
        waiting = {
            path: remote.remote(shared, features, chunk, told)
            for path, chunk in zip(files, chunks, strict=True)
            if not path.exists()
        }
        for path, chunk in zip(files, chunks, strict=True):
            while path in waiting:
                self._keep_next(waiting)
            outcome = load(path)
            yield run_chunk(sessions, features, chunk) if outcome is None else outcome
        for path in files:
            path.unlink(missing_ok=True)

    def _connect(self) -> None:
        import ray

        kept_in(self._folder)
        if ray.is_initialized():
            return
        _refuse_unreachable(self._address)
        try:  # a worker writes its answer to standard output: nothing else may
            ray.init(self._address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _unreachable(self._address, str(error)) from error

    def _keep_next(self, waiting: dict[Path, Any]) -> None:
        """Keeps a chunk as soon as it is done, whichever is first."""
        import ray

        (done,), _ = ray.wait(list(waiting.values()), num_returns=1)
        path = next(path for path, reference in waiting.items() if reference == done)
        try:
            keep(path, ray.get(done))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, OtherVersionsError):
                raise precondition("CLUSTER_MIXED", str(error.cause)) from error
            raise
        except ray.exceptions.RayError as error:
            raise _unreachable(self._address, f"a chunk was lost: {error}") from error
        del waiting[path]


class OtherVersionsError(Exception):
    """A machine of the cluster has other versions than the one that asks."""


def _on_a_machine(
    sessions: Session, features: Features, bounds: Bounds, wanted: Mapping[str, str]
) -> Outcome:
    """What a machine of the cluster does with a chunk."""
    os.environ.setdefault("PJRT_NPROC", "1")  # a processor a chunk, as Ray gives it
    if (own := versions()) != wanted:
        text = f"{socket.gethostname()} has {own}; {dict(wanted)} is asked for"
        raise OtherVersionsError(text)
    return run_chunk(sessions, features, bounds)


def _refuse_unreachable(address: str) -> None:
    """Ray itself tries for minutes, and then ends the process."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise _unreachable(address, str(error)) from error


def _unreachable(address: str, why: str) -> Refusal:
    text = f"the cluster at {address} can't be used: {why}"
    return Refusal(grpc.StatusCode.UNAVAILABLE, "CLUSTER_UNAVAILABLE", text, retry_after_s=30.0)

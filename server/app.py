"""The process: opens storage, compiles the kernels, serves, and stops in order.

Health says SERVING only when every kernel is compiled and storage answers; on SIGTERM it says
NOT_SERVING, admitted calls finish, and then the connections close.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import jax
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from positionsizing.v1 import (
    history_service_pb2,
    market_service_pb2,
    optimization_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    simulation_service_pb2,
    sizing_service_pb2,
)

from compute.kernels import registry
from compute.optimize.ahead import JointShapes, Programs
from compute.optimize.kernels import joint_kernels
from compute.shapes import KernelRegistry
from server.admission import Admission
from server.batching import ComputeLoop, ComputeThread
from server.chores import Chores
from server.config import Config
from server.decisions import Solver
from server.desk import Desk
from server.events import Events
from server.ingest import Intake
from server.replay import Replay
from server.rpc import bind
from server.services.history import HistoryService
from server.services.market import MarketService
from server.services.optimization import OptimizationService
from server.services.parameter import ParameterService
from server.services.portfolio import PortfolioService
from server.services.simulation import SimulationService
from server.services.sizing import SizingService
from server.state import States
from server.telemetry import Telemetry
from server.what_if import WhatIf
from server.worker import Worker
from storage import embedded
from storage.postgres import tenants
from storage.postgres.group_commit import GroupCommitter
from storage.postgres.migrations import migrate
from storage.postgres.pool import Database, PoolOptions

_log = structlog.get_logger(__name__)

CLOSE_TIMEOUT_S = 5.0
QUIET_S, QUIET_MAX_S = 0.25, 2.0
"""A server that stops goes on refusing until nobody has called for so long, or for at most that."""
STOP_GRACE_S = 0.5
"""For answers on their way out; the calls themselves have been waited for."""

SERVICES = {
    name: module.DESCRIPTOR.services_by_name[name]
    for name, module in (
        ("SizingService", sizing_service_pb2),
        ("PortfolioService", portfolio_service_pb2),
        ("MarketService", market_service_pb2),
        ("HistoryService", history_service_pb2),
        ("ParameterService", parameter_service_pb2),
        ("OptimizationService", optimization_service_pb2),
        ("SimulationService", simulation_service_pb2),
    )
}


def prepare_jax(cache_dir: Path) -> None:
    """One compute thread of predictable speed, and compiled programs kept on disk."""
    os.environ.setdefault("PJRT_NPROC", "1")
    cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(cache_dir))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def compile_kernels(telemetry: Telemetry, shapes: JointShapes) -> Programs:
    """Compiles every kernel; what is compiled after the service says SERVING is counted.

    Nothing should be: programs are called by shape, and joint problems are padded to `shapes`.
    """
    kernels = KernelRegistry([*registry().kernels, *joint_kernels(shapes)])
    started = time.monotonic()
    kernels.compile(
        on_progress=lambda done, total: _log.info("compiling kernels", done=done, total=total)
    )
    seconds = round(time.monotonic() - started, 1)
    _log.info("kernels compiled", programs=kernels.program_count, seconds=seconds)

    def on_event(event: str, duration_secs: float, **kwargs: str | int) -> None:
        del duration_secs, kwargs
        if event.endswith("backend_compile_duration"):
            telemetry.compiles.inc()

    jax.monitoring.register_event_duration_secs_listener(on_event)
    return Programs(kernels, shapes)


def settle_memory() -> None:
    """Takes what start-up made out of the collector's sight for good.

    These are hundreds of thousands of objects. A full collection goes through all of them while
    every call waits: 0.2 s each time.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # counts anew what there is to go through: by now next to nothing


class App:
    """One server process. `async with App.started(config) as app` serves inside the block."""

    def __init__(self, config: Config, telemetry: Telemetry, programs: Programs) -> None:
        self.config = config
        self.telemetry = telemetry
        self.port = 0
        self._programs = programs
        self._health = health.aio.HealthServicer()
        self._stack = contextlib.AsyncExitStack()
        self._server: grpc.aio.Server | None = None
        self._admission = Admission(config.in_flight_max)

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, config: Config) -> AsyncIterator["App"]:
        """A serving app, stopped in order at the end of the block."""
        _check_port(config.listen_host, config.listen_port)
        prepare_jax(config.data_dir / "kernels")
        telemetry = Telemetry()
        programs = await asyncio.to_thread(compile_kernels, telemetry, config.joint_shapes)
        settle_memory()
        app = cls(config, telemetry, programs)
        async with app._stack:
            await app._start()
            yield app
            await app.stop()

    async def _start(self) -> None:
        database = await self._open_database()
        states = self._states = States(database, self.config.deadline_default_s)
        loop = ComputeLoop(self.config.compute_waiting_max)
        thread = ComputeThread(self.config.compute_waiting_max)
        self._stack.callback(thread.stop)
        committer = GroupCommitter(database)
        self._stack.push_async_callback(committer.aclose)
        joint_thread = ComputeThread(self.config.compute_waiting_max)
        self._stack.callback(joint_thread.stop)
        lines_max = self.config.lines_max
        solver = Solver(states, self._programs, loop, thread, joint_thread, lines_max)
        events = Events(self.config, self.telemetry)
        desk = Desk(solver, database, committer, events.wake)
        self._watch(loop, thread, committer)
        listening = asyncio.create_task(states.listen(), name="listen for changes")
        self._stack.callback(listening.cancel)
        chores = Chores(database, states, self.config.tenant_id)
        self._stack.callback(asyncio.create_task(chores.run(), name="chores").cancel)
        implementations = {
            "SizingService": SizingService(desk, WhatIf(solver), Replay(solver), database, states),
            "PortfolioService": PortfolioService(database, states),
            "MarketService": MarketService(database, states),
            "HistoryService": HistoryService(database),
            "ParameterService": ParameterService(database, states),
            "OptimizationService": OptimizationService(solver),
            "SimulationService": SimulationService(
                database, Worker(self.config.data_dir / "kernels")
            ),
        }
        events.start(database, Intake(implementations, desk, database, self.config.tenant_id))
        self._stack.push_async_callback(events.stop)
        await self._serve(implementations)

    async def _open_database(self) -> Database:
        config = self.config
        if config.dsn is None:
            folder = config.data_dir / "postgres"
            server = await asyncio.to_thread(embedded.start, folder)
            self._stack.callback(server.stop)
            dsn = server.dsn
        else:
            dsn = config.dsn.get_secret_value()
        try:
            version = await migrate(dsn)
        except OSError as error:
            text = f"PostgreSQL does not answer: {error}; is it running, is SIZING_DSN right?"
            raise OSError(text) from error
        database = await Database.open(dsn, PoolOptions(n_connections=config.connections))
        self._stack.push_async_callback(_close, database)
        async with database.transaction(deadline_s=config.deadline_default_s) as connection:
            await tenants.ensure(connection, config.tenant_id)
        _log.info("storage open", database=repr(database), schema=version)
        return database

    async def _serve(self, implementations: dict[str, object]) -> None:
        config = self.config
        options = [
            ("grpc.max_receive_message_length", config.message_bytes_max),
            ("grpc.max_send_message_length", config.message_bytes_max),
            ("grpc.so_reuseport", 0),
        ]
        server = grpc.aio.server(options=options)
        self._server = server
        for name, descriptor in SERVICES.items():
            bind(
                server,
                descriptor,
                implementations[name],
                tenant_id=config.tenant_id,
                deadline_default_s=config.deadline_default_s,
                admission=self._admission,
                telemetry=self.telemetry,
            )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [*(d.full_name for d in SERVICES.values()), health.SERVICE_NAME]
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
        address = f"{config.listen_host}:{config.listen_port}"
        try:
            self.port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise _not_listening(address) from error
        await server.start()
        await self._say(health_pb2.HealthCheckResponse.SERVING)
        if config.metrics_port is not None:
            self.telemetry.serve(config.listen_host, config.metrics_port)
        _log.info("serving", address=f"{config.listen_host}:{self.port}")

    async def _say(self, status: "health_pb2.HealthCheckResponse.ServingStatus.ValueType") -> None:
        services: list[ServiceDescriptor] = list(SERVICES.values())
        for name in ("", *(service.full_name for service in services)):
            await self._health.set(name, status)

    async def stop(self) -> None:
        """Admits nothing more, finishes what was admitted, then closes."""
        if self._server is None:
            return
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)
        left = await self._admission.drain(self.config.drain_s)
        await self._admission.quiet(QUIET_S, QUIET_MAX_S)
        await self._server.stop(STOP_GRACE_S)
        self._server = None
        _log.info("stopped", calls_cut_off=left)

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.set)
        await asked.wait()

    def _watch(self, loop: ComputeLoop, thread: ComputeThread, committer: GroupCommitter) -> None:
        watch = self.telemetry.watch

        def waiting() -> int:
            return loop.waiting + thread.waiting

        def dropped() -> int:
            return loop.dropped + thread.dropped

        watch("sizing_rpc_in_flight", "Calls in progress.", lambda: self._admission.in_flight)
        watch("sizing_rpc_refused", "Calls not admitted.", lambda: self._admission.refused)
        watch("sizing_compute_waiting", "Requests waiting to be computed.", waiting)
        watch("sizing_compute_dropped", "Requests dropped unrun.", dropped)
        watch("sizing_commit_waiting", "Writes waiting for a commit.", lambda: committer.n_waiting)
        watch("sizing_commits", "Transactions committed.", lambda: committer.n_transactions)


def _check_port(host: str, port: int) -> None:
    """Tells before a minute of compiling that there will be nothing to listen on."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise _not_listening(f"{host}:{port}") from error


def _not_listening(address: str) -> OSError:
    return OSError(f"cannot listen on {address}: is another server running?")


async def _close(database: Database) -> None:
    """Closes the pool; a connection that isn't given back can't hold up the exit."""
    try:
        await asyncio.wait_for(database.aclose(), CLOSE_TIMEOUT_S)
    except TimeoutError:
        _log.warning("connections left open", database=repr(database))

"""The process: opens storage, prepares the kernels, serves, and stops in order.

The closed form serves as soon as storage answers and its commonest programs are there; the rest
follows in the background (`programs/preparation.py`). Joint work runs in a process of its own. On
SIGTERM health says NOT_SERVING, admitted calls finish, and then the connections close.
"""

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import grpc
import structlog

from compute.optimize.execution import JointShapes, Programs
from compute.optimize.kernels import joint_kernels
from compute.shapes import Kernel
from compute.waterfall.kernels import registry
from server import opening
from server.algorithms.registry import Algorithms
from server.auth import gate as gates
from server.auth.tls import certificates_of
from server.calls import listening
from server.calls.admission import Admission
from server.calls.batching import ComputeLoop, ComputeThread
from server.calls.contract import SERVICES
from server.calls.health import Health
from server.config import Config
from server.implementations import Parts, implementations
from server.jobs.runner import NICE as JOB_NICE
from server.jobs.runner import JobRunner
from server.jobs.worker import Means, Worker
from server.joint.process import JointProcess
from server.joint.runner import InThisProcess, JointRunner
from server.learning.model_schedules import ModelSchedules
from server.learning.models import Models
from server.maintenance.tasks import MaintenanceTasks
from server.messaging.events import Events
from server.messaging.ingest import Intake
from server.observability import gauges, tracing
from server.observability.lag import watch_lag
from server.observability.metrics import DecisionMetrics
from server.observability.telemetry import Telemetry
from server.observability.usage import Usage
from server.portfolios.state import States
from server.programs.preparation import Preparation, is_joint
from server.programs.store import ProgramStore
from server.risk.matrix_refresh import MatrixRefreshes
from server.secret_keys import ensure as ensure_secret_keys
from server.services.learning import keep_trained
from server.simulation import cluster
from server.simulation.trials import METHODS, keep_tried_of_job
from server.sizing.coordinator import SizingCoordinator
from server.sizing.engine import Places, SizingEngine
from server.sizing.gatherer import Gatherer
from server.webhooks.process import WebhookProcess
from server.webhooks.secrets import seal_plain
from storage.postgres import tenants
from storage.postgres.group_commit import GroupCommitter
from storage.postgres.liveness import answers
from storage.postgres.migrations import check, migrate
from storage.postgres.pool import Database, PoolOptions

_log = structlog.get_logger(__name__)

CLOSE_TIMEOUT_S = 5.0
STARTING_MAX_S = 60.0
"""For the first statement."""
QUIET_S, QUIET_MAX_S = 0.25, 2.0
"""A server that stops goes on refusing until nobody has called for so long, or for at most that."""
STOP_GRACE_S = 0.5
"""For answers on their way out; the calls themselves have been waited for."""


def wanted_kernels(shapes: JointShapes) -> list[Kernel]:
    """Every kernel that a service of these shapes may run."""
    return [*registry().kernels, *joint_kernels(shapes)]


def settle_memory() -> None:
    """Takes what start-up made out of the collector's sight for good.

    These are hundreds of thousands of objects. A full collection goes through all of them while
    every call waits: 0.2 s each time.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # counts anew what there is to go through: by now next to nothing


async def ended(task: "asyncio.Task[None]") -> None:
    """Cancels a task and waits for what it does then."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class App:
    """One server process. `async with App.started(config) as app` serves inside the block."""

    def __init__(self, config: Config, telemetry: Telemetry) -> None:
        self.config = config
        self.telemetry = telemetry
        self.port = 0
        self._stack = contextlib.AsyncExitStack()
        self._certificates = certificates_of(config)
        self._server: grpc.aio.Server | None = None
        self._health: Health | None = None
        self._admission = Admission(config.in_flight_max, config.latency_max_s)
        self._places: Places | None = None
        self._joint: JointRunner | None = None
        self._algorithms = Algorithms({})
        self._usage = Usage()

    @classmethod
    @contextlib.asynccontextmanager
    async def started(
        cls, config: Config, programs: Programs | None = None
    ) -> AsyncIterator["App"]:
        """A serving app, stopped in order at the end of the block.

        programs: compiled already, for tests; joint work then runs in this process.
        """
        listening.check_port(config.listen_host, config.listen_port)
        app = cls(config, Telemetry())
        app._algorithms = Algorithms.of(config.algorithms_file)
        app._stack.push_async_callback(tracing.stop, tracing.start(config))
        async with app._stack:
            await app._start(programs)
            yield app
            await app.stop()

    async def _start(self, programs: Programs | None) -> None:
        os.environ.setdefault("PJRT_NPROC", "1")  # one compute thread, of predictable speed
        prepared = self._prepared(programs)
        database = await self._opened(prepared)
        settle_memory()
        joint = self._compute(prepared, programs)
        events = Events(self.config, self.telemetry)
        parts = await self._parts(prepared, database, joint, events.wake)
        self._work_by_the_clock(parts)
        services = implementations(parts)
        events.start(database, lambda tenant_id: Intake(services, database, tenant_id, self._usage))
        self._stack.push_async_callback(events.stop)
        hooks = WebhookProcess(database, self.config, parts.secret_keys, self.telemetry)
        self._stack.push_async_callback(hooks.stop)
        hooks.start()
        gate = await self._stack.enter_async_context(
            gates.opened(self.config, database, self.telemetry)
        )
        await self._serve(services, _health_of(prepared, database), gate)
        prepared.go_on()
        if isinstance(joint, JointProcess) and any(map(is_joint, prepared.kernels.keys)):
            await asyncio.to_thread(joint.begin)

    async def _opened(self, prepared: Preparation) -> Database:
        """The database, opened while the first programs are loaded."""
        connecting = asyncio.create_task(self._open_database())
        preparing = asyncio.create_task(prepared.first())
        try:
            database, _ = await asyncio.gather(connecting, preparing)
        finally:  # where one fails, the other is no longer wanted
            connecting.cancel()
            preparing.cancel()
            await asyncio.gather(connecting, preparing, return_exceptions=True)
        return database

    async def _parts(
        self,
        prepared: Preparation,
        database: Database,
        joint: JointRunner,
        on_events: Callable[[], None],
    ) -> Parts:
        """What services are made of; what of it has an end is ended with the process."""
        config, places = self.config, self._places
        assert places is not None, "compute threads are there first"
        states = self._states = States(database, config.deadline_default_s)
        models = Models(database, config.deadline_default_s)
        committer = GroupCommitter(database)
        self._stack.push_async_callback(committer.aclose)
        self._stack.push_async_callback(self._algorithms.close)
        engine = SizingEngine(
            Gatherer(states, database, models),
            prepared.kernels,
            joint,
            places,
            config.lines_max,
            prepared.ready,
            self._algorithms,
        )
        secret_keys = ensure_secret_keys(config)
        await seal_plain(database, secret_keys)
        cluster.check(config.cluster)
        means = Means(config.data_dir / "kernels", config.algorithms_file, config.cluster)
        worker = Worker(means)
        of_jobs = Worker(replace(means, keeps_chunks=True), JOB_NICE)
        endings = {"TrainModel": keep_trained, **dict.fromkeys(METHODS, keep_tried_of_job)}
        metrics = DecisionMetrics(self.telemetry.registry)
        gauges.watch_work(self.telemetry, self._admission, places, prepared, joint)
        gauges.watch_database(
            self.telemetry,
            database,
            committer,
            lambda: self._health is None or self._health.database_is_there,
        )
        return Parts(
            config=config,
            database=database,
            states=states,
            models=models,
            engine=engine,
            coordinator=SizingCoordinator(engine, database, committer, on_events, metrics),
            admission=self._admission,
            algorithms=self._algorithms,
            worker=worker,
            jobs=JobRunner(database, of_jobs, endings=endings),
            refreshes=MatrixRefreshes(database, states),
            schedules=ModelSchedules(database, worker, models),
            secret_keys=secret_keys,
        )

    def _work_by_the_clock(self, parts: Parts) -> None:
        """What goes on beside the calls until the process ends."""
        self._algorithms.watch(self.telemetry)
        database, states = parts.database, parts.states
        maintenance = MaintenanceTasks(
            database, states, parts.refreshes, parts.schedules, self._usage
        )
        maintenance.watch(self.telemetry)
        self._stack.push_async_callback(maintenance.usage.turn)  # what was counted until the end
        for name, work in (
            ("event loop lag", watch_lag(self.telemetry.registry)),
            ("listen for changes", states.listen()),
            ("maintenance", maintenance.run()),
        ):
            self._stack.callback(asyncio.create_task(work, name=name).cancel)
        self._stack.push_async_callback(ended, asyncio.create_task(parts.jobs.run(), name="jobs"))

    def _prepared(self, programs: Programs | None) -> Preparation:
        """The programs: loaded and compiled in the background, or those given."""
        if programs is not None:
            return Preparation.of(programs)
        store = ProgramStore(self.config.data_dir / "kernels" / "programs")
        prepared = Preparation(
            wanted_kernels(self.config.joint_shapes), self.config.joint_shapes, store
        )
        self._stack.push_async_callback(prepared.stop)
        return prepared

    def _compute(self, prepared: Preparation, programs: Programs | None) -> JointRunner:
        """Threads that compute, and who runs joint work."""
        waiting_max = self.config.compute_waiting_max
        joint: JointRunner = (
            InThisProcess(programs)
            if programs is not None
            else JointProcess(prepared.folder, prepared.shapes)
        )
        places = Places(
            ComputeLoop(waiting_max),
            ComputeThread(waiting_max),
            ComputeThread(waiting_max, "joint"),
        )
        for thread in (places.thread, places.joint):
            self._stack.callback(thread.stop, CLOSE_TIMEOUT_S)
        self._stack.callback(joint.close)
        self._places, self._joint = places, joint
        return joint

    async def _open_database(self) -> Database:
        config = self.config
        if config.dsn is None:
            folder = config.data_dir / "postgres"
            server = await opening.start_embedded(folder)
            self._stack.callback(server.stop)
            if server.is_owner:
                watching = asyncio.create_task(opening.keep_running(server), name="PostgreSQL")
                self._stack.push_async_callback(ended, watching)
            dsn = server.dsn
        else:
            dsn = config.dsn.get_secret_value()
        try:
            version = await (check if config.migrate == "check" else migrate)(dsn)
        except OSError as error:
            text = f"PostgreSQL does not answer: {error}; is it running, is SIZING_DSN right?"
            raise OSError(text) from error
        database = await opening.open_pool(dsn, PoolOptions(n_connections=config.connections))
        self._stack.push_async_callback(opening.close_pool, database)
        async with database.transaction(config.tenant_id, deadline_s=STARTING_MAX_S) as connection:
            await tenants.ensure(connection, config.tenant_id)
        _log.info("storage open", database=repr(database), schema=version)
        return database

    async def _serve(
        self, implementations: dict[str, object], health: Health, gate: gates.Gate
    ) -> None:
        config = self.config
        self._health = health
        if (certificates := self._certificates) is not None:
            self._stack.callback(asyncio.create_task(certificates.run(), name="tls").cancel)
            text = "When the certificate in use expires, in seconds since 1970."
            name = "sizing_certificate_not_after_seconds"
            self.telemetry.watch(name, text, lambda: certificates.not_after)
        server = listening.server_of(
            config,
            implementations,
            health,
            gate,
            self._admission,
            self.telemetry,
            self._usage,
            certificates,
        )
        self._server = server
        self.port = listening.bound(server, config, certificates)
        await server.start()
        await health.say()
        self._stack.callback(asyncio.create_task(health.watch(), name="health").cancel)
        if config.metrics_port is not None:
            self.telemetry.serve(config.listen_host, config.metrics_port)
        _log.info("serving", address=f"{config.listen_host}:{self.port}")

    async def stop(self) -> None:
        """Admits nothing more, finishes what was admitted, then closes.

        What isn't finished in time is told to ask another replica; the process of joint work ends.
        """
        if self._server is None or self._health is None:
            return
        await self._health.stopping()
        left = await self._admission.drain(self.config.drain_s)
        if left and self._joint is not None and self._places is not None:
            await asyncio.to_thread(self._joint.close)
            await asyncio.to_thread(self._places.joint.stop, STOP_GRACE_S)
            left = await self._admission.drain(STOP_GRACE_S)
        await self._admission.quiet(QUIET_S, QUIET_MAX_S)
        await self._server.stop(STOP_GRACE_S)
        self._server = None
        _log.info("stopped", calls_cut_off=left)


def _health_of(prepared: Preparation, database: Database) -> Health:
    """SERVING by service: joint problems need every joint program, all else the commonest."""
    services = {"": prepared.has_first}
    for name, descriptor in SERVICES.items():
        services[descriptor.full_name] = prepared.has_first
        if name == "OptimizationService":
            services[descriptor.full_name] = lambda: prepared.is_complete(joint=True)
    return Health(services, lambda deadline_s: answers(database, deadline_s))

"""Numbers of a process that are read when metrics are: its queues, its programs, its database."""

from collections.abc import Callable

import jax

from server.calls.admission import Admission
from server.joint.process import JointProcess
from server.joint.runner import JointRunner
from server.observability.telemetry import Telemetry
from server.programs.preparation import Preparation
from server.sizing.engine import Places
from storage.postgres.group_commit import GroupCommitter
from storage.postgres.pool import Database


def watch_database(
    telemetry: Telemetry,
    database: Database,
    committer: GroupCommitter,
    is_available: Callable[[], bool],
) -> None:
    """Commits and connections."""
    watch, count = telemetry.watch, telemetry.count
    watch("sizing_database_available", "1 while PostgreSQL answers, else 0.", is_available)
    text = "Connections to PostgreSQL that calls use now."
    watch("sizing_database_connections_busy", text, lambda: database.n_busy)
    watch("sizing_commit_waiting", "Writes waiting for a commit.", lambda: committer.n_waiting)
    count("sizing_commits_total", "Transactions committed.", lambda: committer.n_transactions)


def watch_work(
    telemetry: Telemetry,
    admission: Admission,
    places: Places,
    prepared: Preparation,
    joint: JointRunner,
) -> None:
    """Calls, computations and programs."""
    watch, count = telemetry.watch, telemetry.count
    queues = (places.loop, places.thread, places.joint)

    def waiting() -> int:
        return sum(queue.waiting for queue in queues)

    def dropped() -> int:
        return sum(queue.dropped for queue in queues)

    def compiles() -> int:
        return counted_here() + (joint.compiles if isinstance(joint, JointProcess) else 0)

    def restarts() -> int:
        return joint.restarts if isinstance(joint, JointProcess) else 0

    counted_here = _count_compiles()
    watch("sizing_rpc_in_flight", "Calls in progress.", lambda: admission.in_flight)
    watch("sizing_rpc_limit", "Short calls let in at once, now.", lambda: admission.limit)
    count("sizing_rpc_refused_total", "Calls not admitted.", lambda: admission.refused)
    watch("sizing_compute_waiting", "Requests waiting to be computed.", waiting)
    count("sizing_compute_dropped_total", "Requests dropped unrun.", dropped)
    watch("sizing_programs_missing", "Programs not there yet.", lambda: prepared.missing)
    text = "Calls that waited for a program."
    count("sizing_programs_waits_total", text, lambda: prepared.waits)
    count("sizing_joint_restarts_total", "Ends of the joint method's process.", restarts)
    count(
        "sizing_compiles_after_serving_total",
        "Programs compiled by the processes that serve; stays 0.",
        compiles,
    )


def _count_compiles() -> Callable[[], int]:
    """How often this process has compiled anything from now on."""
    count = 0

    def on_event(event: str, duration_secs: float, **kwargs: str | int) -> None:
        nonlocal count
        del duration_secs, kwargs
        count += event.endswith("backend_compile_duration")

    jax.monitoring.register_event_duration_secs_listener(on_event)
    return lambda: count

"""The process of joint work: what it raises, and that it ends whatever it does."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from compute.market import MissingInputError
from compute.optimize.execution import JointShapes
from compute.optimize.time_limit import AbandonedError, OutOfTimeError, TimeLimit
from server.calls.errors import Refusal
from server.joint.process import JointProcess
from tests.server.support import joint_works


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JointProcess]:
    """A process without programs."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", str(Path(__file__).parents[3]), prepend=":")
    made = JointProcess(tmp_path_factory.mktemp("programs"), JointShapes((16,), (64,)))
    yield made
    made.close()
    patch.undo()


def within(seconds: float) -> TimeLimit:
    deadline = time.monotonic() + seconds
    return TimeLimit(lambda: deadline - time.monotonic())


def test_work_runs_in_another_process_and_errors_come_back_whole(child: JointProcess) -> None:
    values = np.arange(5.0)
    process, answer = child.run(joint_works.doubled, values, time_limit=within(600))
    assert process != __import__("os").getpid()
    assert (answer == 2.0 * values).all()
    with pytest.raises(Refusal) as refused:
        child.run(joint_works.refused, time_limit=within(600))
    assert refused.value.fields[0].field == "problem.rows"
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(MissingInputError) as missing:
        child.run(joint_works.lacking, time_limit=within(600))
    assert (missing.value.reason, str(missing.value)) == ("MISSING_MATRIX", "no scenarios")
    assert child.compiles == 0


def test_work_that_looks_ends_at_its_deadline_in_the_same_process(child: JointProcess) -> None:
    before, _ = child.run(joint_works.doubled, np.zeros(1), time_limit=within(600))
    with pytest.raises(OutOfTimeError):
        child.run(joint_works.patient, time_limit=within(0.2))
    after, _ = child.run(joint_works.doubled, np.zeros(1), time_limit=within(600))
    assert before == after


def test_work_that_nobody_waits_for_ends(child: JointProcess) -> None:
    before, _ = child.run(joint_works.doubled, np.zeros(1), time_limit=within(600))
    gone = threading.Event()
    threading.Timer(0.2, gone.set).start()
    with pytest.raises(AbandonedError):
        child.run(joint_works.patient, time_limit=TimeLimit(is_cancelled=gone.is_set))
    after, _ = child.run(joint_works.doubled, np.zeros(1), time_limit=within(600))
    assert before == after


def test_work_that_does_not_look_is_ended_and_the_next_is_answered(child: JointProcess) -> None:
    before, _ = child.run(joint_works.doubled, np.zeros(1), time_limit=within(600))
    restarts = child.restarts
    with pytest.raises(OutOfTimeError):
        child.run(joint_works.deaf, time_limit=within(0.2))
    after, _ = child.run(joint_works.doubled, np.zeros(1), time_limit=within(600))
    assert before != after
    assert child.restarts == restarts + 1


def test_a_death_is_told_with_advice_and_the_next_is_answered(child: JointProcess) -> None:
    with pytest.raises(Refusal) as refused:
        child.run(joint_works.dying, time_limit=within(600))
    assert (refused.value.code, refused.value.reason) == (
        grpc.StatusCode.UNAVAILABLE,
        "JOINT_RESTARTED",
    )
    assert refused.value.retry_after_s is not None
    child.run(joint_works.doubled, np.zeros(1), time_limit=within(600))


def test_closing_ends_work_under_way(child: JointProcess) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(child.run, joint_works.deaf, time_limit=within(3600))
        while child._child is None:
            time.sleep(0.01)
        child.close()
        with pytest.raises(Refusal) as refused:
            running.result()
    assert refused.value.reason == "DRAINING"

"""Who runs joint work: a process beside the service, or this one.

    runner.run(solve_joint, inputs, scenarios, covariance, time_limit=limit)

A function of joint work is one of a module, takes its `execution` by name, and computes with the
programs compiled ahead and no others. `run` blocks; it is called in the thread of joint work.
"""

import pickle
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
import structlog

from compute.optimize.execution import Execution, Programs, Runner
from compute.optimize.objectives import UnsupportedError
from compute.optimize.time_limit import StoppedError, TimeLimit
from compute.shapes import NotCompiledError
from server.calls.errors import Refusal, precondition

T = TypeVar("T")
_log = structlog.get_logger(__name__)

_ILL_CONDITIONED = (
    ValueError,
    ArithmeticError,
    AssertionError,
    np.linalg.LinAlgError,
    RuntimeError,
)
"""What our own solvers, SciPy, HiGHS and XLA raise for numbers they can do nothing with."""


class JointRunner(Runner, Protocol):
    """Runs joint work, one piece at a time; raises `Refusal` as well."""

    def close(self) -> None:
        """Ends what is running; its caller is refused."""


class InThisProcess:
    """Runs joint work in the thread that asks: for tests, and scripts with one caller.

    Work and answer are copied as they are on the way to another process, so that what can't go
    there doesn't go here either.
    """

    errors: tuple[type[Exception], ...] = (Refusal,)

    def __init__(self, programs: Programs) -> None:
        self._programs = programs

    def run(self, work: Callable[..., T], *arguments: Any, time_limit: TimeLimit) -> T:
        """See `JointRunner`."""
        work, arguments = pickle.loads(pickle.dumps((work, arguments)))
        answer = with_programs(self._programs, work, *arguments, time_limit=time_limit)
        copied: T = pickle.loads(pickle.dumps(answer))
        return copied

    def close(self) -> None:
        """Nothing is left behind."""


def with_programs(
    programs: Programs, work: Callable[..., T], *arguments: Any, time_limit: TimeLimit
) -> T:
    """Runs `work` with these programs alone.

    Raises `Refusal` where it needs larger ones, or its numbers are beyond what can be solved: the
    one place where exceptions of solvers and libraries become typed errors.
    """
    try:
        return work(*arguments, execution=Execution(time_limit, programs))
    except StoppedError:
        raise
    except UnsupportedError as error:
        raise precondition("UNSUPPORTED_OBJECTIVE", f"joint_objective: {error}") from error
    except NotCompiledError as error:
        n_assets, n_scenarios = programs.shapes.assets[-1], programs.shapes.scenarios[-1]
        text = (
            f"{error}. This server takes up to {n_assets} instruments, those held besides "
            f"included, and {n_scenarios} scenarios; SIZING_JOINT_ASSETS and "
            "SIZING_JOINT_SCENARIOS set it up for more. Ask for fewer of them, or fewer limits"
        )
        raise precondition("PROBLEM_TOO_LARGE", text) from error
    except _ILL_CONDITIONED as error:
        # Of numbers that libraries give up on; what callers can mend is refused before.
        _log.warning("joint_problem_failed", exc_info=error)
        text = f"the problem can't be solved in double precision: {error}"
        raise precondition("ILL_CONDITIONED", text) from error

"""The joint method in a decision: the optimum as target of limits and lots, or why there is none.

Everything here runs in the joint compute thread, with the programs that were compiled before the
service said SERVING and no others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from positionsizing.v1 import sizing_pb2

from compute.joint import BookMatrix, JointAnswer, solve_joint
from compute.optimize.ahead import Programs, only
from compute.optimize.infeasible import UnexplainedError
from compute.optimize.objectives import UnsupportedError
from compute.parameters import Method
from compute.shapes import NotCompiledError
from server.convert import joint as joint_convert
from server.convert.market import MatrixData
from server.errors import precondition
from server.problem import Problem

T = TypeVar("T")


@dataclass(frozen=True)
class Aimed:
    """A problem with the joint optimum as its target where that was asked for and found.

    chain: what was tried, empty where the first method answered.
    """

    problem: Problem
    answer: JointAnswer | None = None
    chain: list[sizing_pb2.FallbackStep] = field(default_factory=list)


def with_programs(programs: Programs, work: Callable[[], T]) -> T:
    """Runs `work` with these programs alone.

    Raises `Refusal` where it needs larger ones, or its limits can't be told apart.
    """
    try:
        with only(programs):
            return work()
    except UnexplainedError as error:
        raise precondition("ILL_CONDITIONED", str(error)) from error
    except NotCompiledError as error:
        n_assets, n_scenarios = programs.shapes.assets[-1], programs.shapes.scenarios[-1]
        text = (
            f"the problem has more than {n_assets} instruments with the holdings, more than "
            f"{n_scenarios} scenarios, or too many limits for this server; SIZING_JOINT_ASSETS and "
            "SIZING_JOINT_SCENARIOS set it up for more"
        )
        raise precondition("PROBLEM_TOO_LARGE", text) from error


def aimed(programs: Programs, problem: Problem) -> Aimed:
    """Solves a problem that asks for the joint method, and leaves others as they are.

    Raises `Refusal` where the limits contradict each other or the book is too large,
    `MissingInputError`.
    """
    if problem.method is not Method.JOINT:
        return Aimed(problem)
    place = problem.inputs.sheet.market.index
    scenarios, covariance = (
        None if matrix is None else _placed(matrix, place)
        for matrix in (problem.scenarios, problem.covariance)
    )
    try:
        answer = with_programs(programs, lambda: solve_joint(problem.inputs, scenarios, covariance))
    except UnsupportedError as error:
        raise precondition("UNSUPPORTED_OBJECTIVE", f"joint_objective: {error}") from error
    if answer.explanation is not None:
        conflict = ", ".join(answer.explanation.conflict)
        relaxation = ", ".join(
            f"{joint_convert.named(name, answer.instrument_ids)} by {amount:.6g}"
            for name, amount in answer.explanation.relaxation.items()
        )
        raise precondition(
            "INFEASIBLE_LIMITS",
            f"no sizes satisfy these limits together: {conflict}. Cheapest way out: {relaxation}",
            conflict=conflict,
        )
    if answer.weights is None:
        steps = [
            sizing_pb2.FallbackStep(method="joint", outcome=answer.status.value),
            sizing_pb2.FallbackStep(method="closed form", outcome="answered"),
        ]
        return Aimed(problem, None, steps)
    inputs = replace(problem.inputs, target=answer.weights)
    return Aimed(replace(problem, inputs=inputs), answer)


def _placed(matrix: MatrixData, place: Mapping[str, int]) -> BookMatrix:
    """The matrix with the place of each instrument of the market in it."""
    columns = np.full(len(place), -1, dtype=np.int64)
    for column, name in enumerate(matrix.instrument_ids):
        if name in place:
            columns[place[name]] = column
    return BookMatrix(matrix.values, matrix.probability, columns)

"""The method CUSTOM in a decision: an algorithm of the user's own is asked for the sizes.

It fails closed: a line without a usable size keeps its position and says why; where the algorithm
gives no answer, that is every line. The raw answer is recorded, so a replay asks nobody.
"""

from dataclasses import replace

import grpc
import numpy as np

from compute.algorithm import (
    AlgorithmAnswer,
    AlgorithmInput,
    AlgorithmPortfolio,
    columns_of,
    numbers_of,
    unusable,
    with_sizes,
)
from compute.market import Floats
from compute.methods import Engine
from compute.shapes import KernelRegistry
from compute.waterfall.pipeline import Attempt
from server.algorithms.asked import AlgorithmError
from server.algorithms.registry import Algorithms
from server.calls.errors import FieldViolation, Refusal, invalid, invalid_fields, precondition
from server.sizing.prepared_request import PreparedRequest
from server.sizing.request import violations_of

_REASON = "ALGORITHM_"
"""Begins the reason of each line that an algorithm left without a size."""

_PASSING = {"TIMEOUT", "UNAVAILABLE", "RESTING", "BUSY"}
"""Failures that may be over soon."""


def is_asked(problem: PreparedRequest) -> bool:
    """Whether an algorithm has to be asked. Without equity nothing grows: positions are reduced."""
    return (
        problem.inputs.method.engine is Engine.OUTSIDE
        and problem.context.algorithm is None
        and not problem.inputs.limit_bounds.is_closing
    )


def question_of(problem: PreparedRequest, kernels: KernelRegistry) -> AlgorithmInput:
    """What the algorithm is told; runs in a compute thread. Raises `MissingInputError`."""
    inputs, chosen = problem.inputs, problem.algorithm
    assert chosen is not None, "checked by `check_known`"
    limit_bounds = inputs.limit_bounds
    return AlgorithmInput(
        instrument_ids=tuple(problem.ids[i] for i in np.flatnonzero(inputs.active)),
        columns=columns_of(inputs, kernels),
        parameters={**numbers_of(inputs.parameters), **dict(chosen.parameters)},
        portfolio=AlgorithmPortfolio(
            portfolio_id=problem.request.portfolio_id,
            strategy_id=problem.request.strategy_id,
            base_currency=problem.context.base_currency,
            equity=limit_bounds.equity,
            free=limit_bounds.free,
            gross_weight=limit_bounds.gross_before,
            net_weight=limit_bounds.net_before,
            is_reducing=inputs.must_reduce,
        ),
    )


def check_known(problem: PreparedRequest, algorithms: Algorithms) -> None:
    """Raises `Refusal` where no algorithm is named, or one that the server doesn't have."""
    known = ", ".join(algorithms.names) or "none"
    if problem.algorithm is None:
        text = "method CUSTOM needs an algorithm, in the request or the sizing parameters"
        raise precondition("NO_ALGORITHM", f"{text}; this server has: {known}")
    name = problem.algorithm.name
    if algorithms.settings(name) is not None:
        return
    text = f"this server has no algorithm {name!r}; it has: {known}"
    if problem.request.algorithm is not None:
        raise invalid("algorithm.name", "UNKNOWN_ALGORITHM", text)
    raise precondition("UNKNOWN_ALGORITHM", text, algorithm=name)


async def answer_of(
    problem: PreparedRequest, question: AlgorithmInput, algorithms: Algorithms, left_s: float
) -> AlgorithmAnswer:
    """What the algorithm says; a failure is an answer too, one without sizes."""
    assert problem.algorithm is not None, "checked by `check_known`"
    name = problem.algorithm.name
    settings = algorithms.settings(name)
    assert settings is not None, "checked by `check_known`"
    weight: Floats = np.full(len(problem.ids), np.nan)
    answer = AlgorithmAnswer(
        name=name,
        tier=settings.tier,
        weight=weight,
        weight_max=settings.weight_max,
    )
    try:
        reply = await algorithms.ask(name, question, left_s)
    except AlgorithmError as error:
        return replace(answer, failure=error.reason, failure_message=error.message)
    # The record is JSON, which has no infinity: the largest number is refused all the same.
    weight[problem.inputs.active] = np.nan_to_num(reply.weight, nan=np.nan)
    return replace(answer, version=reply.version, sha256=reply.sha256)


def sized_by(problem: PreparedRequest, answer: AlgorithmAnswer) -> PreparedRequest:
    """The problem with an answer in it. Raises `Refusal` where all or nothing is wanted."""
    refused = unusable(answer, problem.inputs)
    if refused and problem.request.all_or_nothing:
        _refuse(answer, violations_of(refused))
    lines = np.array([error.line for error in refused], dtype=np.int64)
    return replace(
        problem,
        inputs=with_sizes(problem.inputs, answer.weight, lines),
        errors=[*problem.errors, *refused],
        context=replace(problem.context, algorithm=answer),
    )


def without_sizes(problem: PreparedRequest) -> PreparedRequest:
    """The problem as it was before `sized_by`."""
    if problem.context.algorithm is None:
        return problem
    is_own = [error.reason.startswith(_REASON) for error in problem.errors]
    active = problem.inputs.active.copy()
    active[[e.line for e, own in zip(problem.errors, is_own, strict=True) if own]] = True
    return replace(
        problem,
        inputs=replace(problem.inputs, active=active, target=None, target_binding=None),
        errors=[e for e, own in zip(problem.errors, is_own, strict=True) if not own],
        context=replace(problem.context, algorithm=None),
    )


def _refuse(answer: AlgorithmAnswer, lines: list[FieldViolation]) -> None:
    if not answer.failure:
        raise invalid_fields(lines)
    reason = f"{_REASON}{answer.failure}"
    text = f"the algorithm {answer.name!r} failed: {answer.failure_message}"
    if answer.failure in _PASSING:
        raise Refusal(grpc.StatusCode.UNAVAILABLE, reason, text, retry_after_s=1.0)
    raise precondition(reason, text, algorithm=answer.name)


def tried_by(problem: PreparedRequest) -> tuple[Attempt, ...]:
    """What was tried, where the algorithm didn't answer or wasn't asked."""
    answer = problem.context.algorithm
    if problem.inputs.method.engine is not Engine.OUTSIDE:
        return ()
    if answer is None:
        why = "there is no equity to grow; positions are reduced"
        return Attempt("algorithm", why), Attempt("closed form", "answered")
    if not answer.failure:
        return ()
    outcome = f"{answer.failure}: {answer.failure_message}"
    return Attempt(f"algorithm {answer.name}", outcome), Attempt("keep positions", "answered")

"""A computed size per line, as the decision that is answered and recorded."""

import jax
import numpy as np
from positionsizing.v1 import (
    sizing_pb2,
    types_pb2,
)

from compute.joint_sizing import JointAnswer
from compute.joint_value import joint_objective
from compute.pipeline import LineStatus, Sizing, sensitivities
from compute.shapes import KernelRegistry
from server import cash_needs, decision_risk, prediction, volatility_answer
from server.adaptation import tell
from server.convert import algorithm as algorithm_convert
from server.convert import decision as decision_convert
from server.convert import optimization as joint_convert
from server.custom import chain_of
from server.joint_target import JointTarget
from server.prepared_request import (
    SizedRequest,
)
from server.remaining import limits_exceeded
from server.version import VERSION

LIBRARIES = f"jax {jax.__version__}, numpy {np.__version__}"


def encoded(asked: JointTarget, sizing: Sizing, kernels: KernelRegistry) -> SizedRequest:
    """The decision as its message: status, summary, proof, risk, versions and columns."""
    problem, joint = asked.problem, asked.answer
    chain = [*asked.chain, *chain_of(problem)]
    if sizing.rejected:
        broken = sizing.rejected[0]
        outcome = f"would break {broken.kind.name.lower()} of {broken.name}"
        chain += [
            sizing_pb2.FallbackStep(method="largest whole lots", outcome=outcome),
            sizing_pb2.FallbackStep(method="smaller increases", outcome="answered"),
        ]
    head = sizing_pb2.SizingDecision(
        portfolio_id=problem.request.portfolio_id,
        strategy_id=problem.request.strategy_id,
        method=types_pb2.SizingMethod.ValueType(problem.method),
        status=types_pb2.SIZING_STATUS_FALLBACK if chain else _status(sizing, joint),
        fallback_chain=chain,
    )
    tell(head, problem.context)
    algorithm_convert.tell(head, problem.context.algorithm)
    prediction.tell(head, problem.context)
    limits_exceeded(head, problem, sizing)
    decision_convert.line_errors(head, problem.errors)
    cash = decision_convert.cash_needed(sizing, problem.inputs)
    decision_convert.summary(head.summary, sizing, problem.inputs, cash)
    cash_needs.tell(head, problem, sizing, cash)
    head.notes.extend(asked.notes)
    if joint is not None and joint.certificate is not None:
        solved = joint.certificate, joint.prices, joint.problem, joint.instrument_ids
        kinds = {name: int(limit.kind) for name, limit in joint.named.items()}
        joint_convert.certificate(head.certificate, *solved, kinds)
        head.certificate.note = joint.note
        head.notes.extend(joint.notes)
        head.certificate.iterations = joint.iterations
        head.certificate.objective_lots = joint_objective(problem.inputs, joint, sizing.weight)
    decision_risk.fill(head, problem, sizing)
    head.versions.kernel = sizing.kernel
    head.versions.service_version = VERSION
    head.versions.libraries = LIBRARIES
    head.versions.market_snapshot_id = problem.context.market_snapshot_id
    head.versions.covariance_matrix_id = (
        problem.request.covariance_matrix_id or problem.context.covariance_matrix_id
    )
    stages = decision_convert.STAGE_NUMBERS
    if problem.context.algorithm is not None or problem.method.target is not None:
        stages = decision_convert.ALGORITHM_STAGE_NUMBERS
    columns = decision_convert.columns(problem.ids, sizing, problem.inputs, stages)
    columns += volatility_answer.fill(head, problem, sizing)
    if problem.request.include_sensitivities:
        gradient = sensitivities(problem.inputs, kernels)
        columns += decision_convert.sensitivities(gradient)
    return SizedRequest(problem, sizing, head, columns)


def _status(sizing: Sizing, joint: JointAnswer | None) -> types_pb2.SizingStatus.ValueType:
    if joint is not None and joint.certificate is not None:
        if not joint.certificate.is_optimal:
            return types_pb2.SIZING_STATUS_UNPROVEN
        if joint.prices:
            return types_pb2.SIZING_STATUS_CAPPED
    capped = (sizing.binding.kind > 0) & (sizing.status != LineStatus.REFUSED)
    return types_pb2.SIZING_STATUS_CAPPED if capped.any() else types_pb2.SIZING_STATUS_OPTIMAL

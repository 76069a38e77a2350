"""A sized request as the decision that is answered, recorded and told of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import jax
import numpy as np
from positionsizing.v1 import events_pb2, sizing_service_pb2, types_pb2
from positionsizing.v1 import sizing_pb2 as pb

from compute.joint.sizing import JointAnswer
from compute.joint.value import joint_objective
from compute.limits.bindings import stated_limit
from compute.limits.unmatched import unmatched_notes
from compute.market import Floats
from compute.shapes import KernelRegistry
from compute.waterfall.pipeline import Attempt, LineStatus, Sizing, sensitivities
from compute.waterfall.planned_periods import planned_periods
from server.convert import algorithm as algorithm_convert
from server.convert import cash_needs, decision_risk, volatility_answer
from server.convert import decision as decision_convert
from server.convert import optimization as joint_convert
from server.convert.adjustment import adjustments
from server.convert.columns import Piece, encoder
from server.convert.exceeded_limits import limits_exceeded
from server.convert.limit_words import limit_words
from server.convert.names import timestamp
from server.sizing.custom import tried_by
from server.sizing.decision_inputs import DecisionInputs
from server.sizing.prepared_request import PreparedRequest
from server.version import VERSION

LIBRARIES = f"jax {jax.__version__}, numpy {np.__version__}"

# The same field holds the decision of SizePositions and the decisions of SizePortfolios.
_ANSWER = encoder(sizing_service_pb2.SizePositionsResponse.DESCRIPTOR)
_EVENT = encoder(events_pb2.PositionSized.DESCRIPTOR)
assert (
    sizing_service_pb2.SizePortfoliosResponse.DECISIONS_FIELD_NUMBER
    == sizing_service_pb2.SizePositionsResponse.DECISION_FIELD_NUMBER
)


@dataclass(frozen=True)
class Recording:
    """What recording adds to a decision: its names, its time and the versions it depends on."""

    decision_id: UUID
    request_id: UUID
    author: str
    create_time: datetime
    input_hash: str
    portfolio_version: int
    limits_versions: str
    parameters_version: int
    trading_state_version: int
    group_version: int
    reservation_expire_time: datetime | None


@dataclass(frozen=True)
class ToldRequest:
    """What an event says of request and state beside the decision, as in `DecisionRecord`."""

    method: str
    request_hash: bytes
    part: int
    part_count: int
    base_currency: str
    reserved_cash: list[float]
    equity: float


@dataclass(frozen=True)
class EncodedDecision:
    """A decision in pieces that are joined once: `head`, which recording adds to, and columns."""

    head: pb.SizingDecision
    columns: list[Piece]
    cash_needed: Floats
    """What each line's trade may bind, base currency, (n,)."""

    def pieces(self) -> list[Piece]:
        """The decision on the wire, to be joined with what goes around it."""
        return [self.head.SerializeToString(), *self.columns]

    def message(self) -> pb.SizingDecision:
        """The decision as a message."""
        return pb.SizingDecision.FromString(b"".join(self.pieces()))

    @property
    def status(self) -> str:
        """Such as OPTIMAL."""
        return types_pb2.SizingStatus.Name(self.head.status).removeprefix("SIZING_STATUS_")

    @property
    def versions(self) -> dict[str, object]:
        """What it was computed with, as it is stored beside the decision."""
        versions = self.head.versions
        return {
            "service": versions.service_version,
            "kernel": versions.kernel,
            "libraries": versions.libraries,
            "market_snapshot_id": versions.market_snapshot_id,
            "limits": versions.limits_versions,
            "parameters": versions.parameters_version,
        }

    def stamp(self, time: datetime) -> None:
        """Says when it was made."""
        self.head.create_time.CopyFrom(timestamp(time))

    def record(self, recording: Recording) -> None:
        """Adds what recording knows."""
        head = self.head
        head.decision_id = str(recording.decision_id)
        head.request_id = str(recording.request_id)
        head.author = recording.author
        head.input_hash = recording.input_hash
        self.stamp(recording.create_time)
        for name in (
            "portfolio_version",
            "limits_versions",
            "parameters_version",
            "trading_state_version",
            "group_version",
        ):
            setattr(head.versions, name, getattr(recording, name))
        if recording.reservation_expire_time is not None:
            head.reservation_expire_time.CopyFrom(timestamp(recording.reservation_expire_time))


def answer(decisions: Sequence[Sequence[Piece]]) -> bytes:
    """The encoded answer to either method, from encoded decisions."""
    return b"".join(p for pieces in decisions for p in _ANSWER.message("decision", pieces))


def sized_event(sequence: int, decision: Sequence[Piece], told: ToldRequest) -> bytes:
    """PositionSized, from an encoded decision."""
    record = events_pb2.DecisionRecord(**vars(told))
    numbered = events_pb2.PositionSized(portfolio_sequence=sequence, record=record)
    return b"".join([numbered.SerializeToString(), *_EVENT.message("decision", decision)])


def encoded(problem: PreparedRequest, sizing: Sizing, kernels: KernelRegistry) -> EncodedDecision:
    """The decision as its message: status, summary, proof, risk, versions and columns.

    problem: with the inputs as they were sized.
    """
    joint = sizing.joint
    chain = [
        pb.FallbackStep(method=item.method, outcome=item.outcome)
        for item in (*sizing.tried, *tried_by(problem), *_rejected(sizing))
    ]
    head = pb.SizingDecision(
        portfolio_id=problem.request.portfolio_id,
        strategy_id=problem.request.strategy_id,
        method=types_pb2.SizingMethod.ValueType(sizing.method or problem.inputs.method),
        fallback_chain=chain,
    )
    head.adjustments.extend(adjustments(problem.context.adjustments))
    algorithm_convert.tell(head, problem.context.algorithm)
    _predictions(head, problem.context)
    _features(head, problem.context)
    limits_exceeded(head, problem, sizing)
    head.status = _status(head, sizing, joint)
    if chain and head.status == types_pb2.SIZING_STATUS_LIMIT_EXCEEDED:
        # The status says one thing, and this is another.
        head.notes.append("FALLBACK: " + "; ".join(f"{s.method}: {s.outcome}" for s in chain))
    decision_convert.line_errors(head, problem.errors)
    decision_convert.clusters(head, problem.context.clusters)
    cash = decision_convert.cash_needed(sizing, problem.inputs)
    decision_convert.summary(head.summary, sizing, problem.inputs, cash)
    cash_needs.tell(head, problem, sizing, cash)
    decision_convert.plan(head, planned_periods(sizing, kernels))
    head.notes.extend(sizing.notes)
    limit_bounds = problem.inputs.limit_bounds
    head.notes.extend(unmatched_notes(limit_bounds.market, limit_bounds.limits))
    decision_convert.lot_search(head, sizing.lots_compared)
    if joint is not None and joint.certificate is not None:
        solved = joint.certificate, joint.prices, joint.problem, joint.instrument_ids
        kinds = {name: int(limit.kind) for name, limit in joint.named.items()}
        bounds = {name: limit.weight for name, limit in joint.named.items()}
        joint_convert.certificate(head.certificate, *solved, kinds, bounds)
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
    if problem.context.algorithm is not None or problem.inputs.method.target is not None:
        stages = decision_convert.ALGORITHM_STAGE_NUMBERS
    columns = decision_convert.columns(problem.ids, sizing, problem.inputs, stages)
    columns += volatility_answer.fill(head, problem, sizing)
    if problem.request.include_sensitivities:
        gradient = sensitivities(problem.inputs, kernels)
        columns += decision_convert.sensitivities(gradient)
    return EncodedDecision(head, columns, cash)


def _rejected(sizing: Sizing) -> Iterator[Attempt]:
    """Lots that the guard refused."""
    if sizing.rejected:
        broken = sizing.rejected[0]
        limit = limit_words(*stated_limit(broken, sizing.inputs.limit_bounds), broken.name)
        yield Attempt("largest whole lots", f"would break {limit}")
        yield Attempt("smaller increases", "answered")


def _predictions(head: pb.SizingDecision, context: DecisionInputs) -> None:
    """Writes what models and filters of regimes said into a decision."""
    if context.regimes is not None:
        rows = zip(context.regimes.lines, context.regimes.probability, strict=True)
        told = [row for row in rows if row[1]]
        head.regimes.model_id = context.regimes.model_id
        head.regimes.state_version = context.regimes.state_version
        head.regimes.lines.extend(line for line, _ in told)
        head.regimes.probability.extend(p for _, row in told for p in row)
    for item in context.predictions:
        head.predictions.add(
            model_id=item.model_id,
            model_hash=item.model_hash,
            lines=item.lines,
            win_probability=item.win_probability,
            win_probability_error=item.win_probability_error,
        )


def _features(head: pb.SizingDecision, context: DecisionInputs) -> None:
    """Writes what models read from their feature sets into a decision."""
    for item in context.stored_features:
        known = [place for place, row in enumerate(item.values) if row]
        told = head.features.add(
            feature_set_id=item.feature_set_id,
            lines=[item.lines[place] for place in known],
            features=[
                pb.FeatureColumn(name=name, values=[item.values[place][i] for place in known])
                for i, name in enumerate(item.names)
            ],
        )
        for place in known:
            told.as_of_times.add().FromDatetime(datetime.fromisoformat(item.as_of_time[place]))


def _status(
    head: pb.SizingDecision, sizing: Sizing, joint: JointAnswer | None
) -> types_pb2.SizingStatus.ValueType:
    """What a caller must know first, of what `head` says already and of the sizes."""
    if head.limits_exceeded:
        return types_pb2.SIZING_STATUS_LIMIT_EXCEEDED
    if head.fallback_chain:
        return types_pb2.SIZING_STATUS_FALLBACK
    if joint is not None and joint.certificate is not None:
        if not joint.certificate.is_optimal:
            return types_pb2.SIZING_STATUS_UNPROVEN
        if joint.prices:
            return types_pb2.SIZING_STATUS_CAPPED
    capped = (sizing.binding.kind > 0) & (sizing.status != LineStatus.REFUSED)
    return types_pb2.SIZING_STATUS_CAPPED if capped.any() else types_pb2.SIZING_STATUS_OPTIMAL

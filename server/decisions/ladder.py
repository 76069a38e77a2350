"""Why a position is not larger: its limits lifted one after another, each time sized anew."""

from dataclasses import replace
from uuid import UUID

from positionsizing.v1 import explanation_service_pb2 as pb
from positionsizing.v1 import types_pb2

from compute.limits.bounds import prepare
from compute.limits.lift import Rules, lifted
from compute.limits.policy import LimitKind
from compute.market import MissingInputError
from compute.optimize.time_limit import TimeLimit
from compute.waterfall.layout import Stage
from server.calls.errors import Refusal, invalid
from server.calls.request_context import Call
from server.convert.decision import ALGORITHM_STAGE_NUMBERS, STAGE_NUMBERS
from server.decisions import recorded
from server.sizing.engine import SizingEngine
from server.sizing.prepared_request import PreparedRequest
from server.sizing.sized_request import SizedRequest
from storage.postgres.pool import Database

RUNGS_MAX = 64

_ENDS = {
    LimitKind.LOT_SIZE: "a whole lot is the least that trades",
    LimitKind.ORDER_MAX: "the largest order is a fact of the instrument, in the market snapshot",
    LimitKind.ORDER_MIN: "the smallest order is a fact of the instrument, in the market snapshot",
    LimitKind.NO_EQUITY: "without equity positions are only reduced",
}


class Ladder:
    """Lifts limits of recorded decisions, one after another; writes nothing."""

    def __init__(self, engine: SizingEngine, database: Database) -> None:
        self._engine = engine
        self._database = database

    async def climb(
        self, call: Call, decision_id: UUID, instrument_id: str
    ) -> pb.GetLimitLadderResponse:
        """The rungs of one line. Raises `Refusal` where the decision has no such line."""
        found = await recorded.read(self._engine, self._database, call, decision_id)
        names = list(found.request.signals.instrument_ids)
        if instrument_id not in names:
            text = f"{instrument_id!r} is not in the decision"
            raise invalid("instrument_id", "UNKNOWN_INSTRUMENT", text)
        line = names.index(instrument_id)

        def work(time_limit: TimeLimit) -> pb.GetLimitLadderResponse:
            problem = recorded.inputs_of(self._engine, call.tenant_id, found).problem()
            return self._rungs(problem, line, time_limit)

        return await self._engine.run(work, found.n_lines, call, is_joint=found.is_joint)

    def _rungs(
        self, problem: PreparedRequest, line: int, time_limit: TimeLimit
    ) -> pb.GetLimitLadderResponse:
        response = pb.GetLimitLadderResponse()
        solved = self._engine.answer(problem, time_limit)
        _stages(response, solved, line)
        seen: set[tuple[int, str]] = set()
        while (kind := LimitKind(int(solved.sizing.binding.kind[line]))) and len(seen) < RUNGS_MAX:
            name = _name(solved, line)
            rung = response.rungs.add(
                limit=int(kind),
                limit_name=name,
                limit_bound=float(solved.sizing.binding.bound[line]),
                lots=int(solved.sizing.lots[line]),
                weight=float(solved.sizing.weight[line]),
            )
            higher = None if (kind, name) in seen else _lifted(solved.problem, kind, name, line)
            if higher is None:
                response.end_reason = _ENDS.get(kind, "it can't be lifted by itself")
                break
            seen.add((kind, name))
            before = solved
            try:
                solved = self._engine.answer(higher, time_limit)
            except (MissingInputError, Refusal) as error:
                response.end_reason = str(error)
                break
            rung.lots_without = int(solved.sizing.lots[line])
            rung.weight_without = float(solved.sizing.weight[line])
            rung.growth_gained = float(solved.sizing.growth[line] - before.sizing.growth[line])
        return response


def _name(solved: SizedRequest, line: int) -> str:
    group = int(solved.sizing.binding.group[line])
    return solved.problem.inputs.limit_bounds.limit_names[group] if group >= 0 else ""


def _lifted(
    problem: PreparedRequest, kind: LimitKind, name: str, line: int
) -> PreparedRequest | None:
    """The problem without a limit; None where nothing lifts it."""
    inputs, limit_bounds = problem.inputs, problem.inputs.limit_bounds
    rules = Rules(limit_bounds.limits, inputs.parameters, inputs.reducing, problem.context.shared)
    others = [other for place, other in enumerate(problem.ids) if place != line]
    without = lifted(rules, kind, name, problem.ids[line], others)
    if without is None:
        return None
    limit_bounds = prepare(
        limit_bounds.market, limit_bounds.positions, without.limits, without.shared
    )
    if inputs.method.is_computed:  # the optimum is another one
        inputs = replace(inputs, target=None, target_binding=None, target_marginal=None)
    return replace(
        problem,
        inputs=replace(
            inputs,
            limit_bounds=limit_bounds,
            parameters=without.parameters,
            reducing=without.reducing,
            lot_search=None,
        ),
        context=replace(
            problem.context,
            parameters=without.parameters,
            reducing=without.reducing,
            shared=without.shared,
        ),
    )


def _stages(response: pb.GetLimitLadderResponse, solved: SizedRequest, line: int) -> None:
    """The stages from raw Kelly to the last that no limit has a part in."""
    weights = solved.sizing.stages[: Stage.CORRELATION + 1, line]
    is_custom = solved.problem.context.algorithm is not None
    numbers = ALGORITHM_STAGE_NUMBERS if is_custom else STAGE_NUMBERS
    for stage, weight in enumerate(weights):
        if stage == 0 or weight != weights[stage - 1]:
            response.stages.append(types_pb2.SizingStage.ValueType(numbers[stage]))
            response.stage_weight.append(float(weight))

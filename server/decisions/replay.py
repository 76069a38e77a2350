"""A recorded decision computed again from its recorded inputs, and compared with its answer."""

from uuid import UUID

import numpy as np
from positionsizing.v1 import sizing_pb2, types_pb2
from positionsizing.v1 import sizing_service_pb2 as pb

from compute.optimize.time_limit import TimeLimit
from server.calls.request_context import Call
from server.convert.columns import Floats, floats, integers
from server.convert.encoded_decision import LIBRARIES
from server.decisions import recorded
from server.sizing.engine import SizingEngine
from server.version import VERSION
from storage.postgres.pool import Database


class Replay:
    """Replays decisions; writes nothing."""

    def __init__(self, engine: SizingEngine, database: Database) -> None:
        self._engine = engine
        self._database = database

    async def compare(self, call: Call, decision_id: UUID) -> pb.ReplayDecisionResponse:
        """The decision computed now from what was recorded, next to what was answered."""
        found = await recorded.read(self._engine, self._database, call, decision_id)
        answered = found.answered

        def work(time_limit: TimeLimit) -> sizing_pb2.SizingDecision:
            problem = recorded.inputs_of(self._engine, call.tenant_id, found).problem()
            return self._engine.answer(problem, time_limit).decision.message()

        again = await self._engine.run(work, found.n_lines, call, is_joint=found.is_joint)
        lots = integers(answered.sizes.lots) != integers(again.sizes.lots)
        trades = integers(answered.sizes.trade_lots) != integers(again.sizes.trade_lots)
        difference = np.abs(_before_lots(answered) - _before_lots(again))
        versions = []
        for name, then, now in (
            ("service", answered.versions.service_version, VERSION),
            ("libraries", answered.versions.libraries, LIBRARIES),
            ("kernel", answered.versions.kernel, again.versions.kernel),
        ):
            if then != now:
                versions.append(f"{name}: {then} then, {now} now")
        return pb.ReplayDecisionResponse(
            lots_equal=not (lots | trades).any(),
            weight_difference_max=float(difference.max(initial=0.0)),
            lines_different=np.flatnonzero(lots | trades).tolist(),
            replayed=again,
            version_differences=versions,
        )


def _before_lots(decision: sizing_pb2.SizingDecision) -> Floats:
    """Weights after the last stage before the lots."""
    stages = decision.waterfall.stages
    before = [s for s in stages if s.stage != types_pb2.SIZING_STAGE_LOTS]
    return floats(before[-1].weight)

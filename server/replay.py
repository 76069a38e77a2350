"""A recorded decision computed again from its recorded inputs, and compared with its answer."""

import numpy as np
from positionsizing.v1 import sizing_pb2, types_pb2
from positionsizing.v1 import sizing_service_pb2 as pb

from compute.optimize.time_limit import TimeLimit
from server import record
from server.call import Call
from server.convert.columns import Floats, floats, integers
from server.decisions import LIBRARIES, Solver
from server.problem import assemble
from server.version import VERSION
from storage.postgres.decisions import Decision
from storage.postgres.requests import Request


class Replay:
    """Replays decisions; writes nothing."""

    def __init__(self, solver: Solver) -> None:
        self._solver = solver

    async def compare(
        self, call: Call, stored: Decision, made: Request, answered: sizing_pb2.SizingDecision
    ) -> pb.ReplayDecisionResponse:
        """The decision computed now from what was recorded, next to what was answered."""
        request = _part_of(stored, made)
        snapshot_id, currency = record.market_named(stored.inputs)
        snapshot = await self._solver.states.snapshot(call.tenant_id, snapshot_id)
        scenarios, covariance = await self._solver.matrices(call.tenant_id, request)
        if default_id := record.covariance_named(stored.inputs):
            covariance = await self._solver.states.matrix(call.tenant_id, default_id)

        def work(time_limit: TimeLimit) -> sizing_pb2.SizingDecision:
            prices = self._solver.states.market(call.tenant_id, snapshot, currency)
            context = record.decode(stored.inputs, prices)
            prices = record.market_of(context, prices)
            problem = assemble(request, context, prices, scenarios, covariance, {})
            return self._solver.answer(problem, time_limit).decision()

        is_joint = answered.method == types_pb2.SIZING_METHOD_JOINT
        n_lines = len(request.signals.instrument_ids)
        again = await self._solver.run(work, n_lines, call, is_joint=is_joint)
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


def _part_of(stored: Decision, made: Request) -> pb.SizePositionsRequest:
    """The request of one portfolio, out of a call for several where it was one."""
    if made.method == "SizePositions":
        return pb.SizePositionsRequest.FromString(made.request)
    whole = pb.SizePortfoliosRequest.FromString(made.request)
    return next(part for part in whole.requests if part.portfolio_id == stored.portfolio_id)


def _before_lots(decision: sizing_pb2.SizingDecision) -> Floats:
    """Weights after the last stage before the lots."""
    stages = decision.waterfall.stages
    before = [s for s in stages if s.stage != types_pb2.SIZING_STAGE_LOTS]
    return floats(before[-1].weight)

"""ExplanationService: why recorded decisions are what they are."""

from positionsizing.v1 import explanation_service_pb2 as pb

from server.calls.request_context import Call
from server.convert.names import checked_id, uuid
from server.decisions.compare import Comparison
from server.decisions.decision_what_if import DecisionWhatIf
from server.decisions.ladder import Ladder
from server.sizing.engine import SizingEngine
from storage.postgres.pool import Database


class ExplanationService:
    """See `protos/positionsizing/v1/explanation_service.proto`."""

    def __init__(self, engine: SizingEngine, database: Database) -> None:
        self._comparison = Comparison(engine, database)
        self._ladder = Ladder(engine, database)
        self._what_if = DecisionWhatIf(engine, database)

    async def compare_decisions(
        self, call: Call, request: pb.CompareDecisionsRequest
    ) -> pb.CompareDecisionsResponse:
        """Why the sizes of two decisions differ."""
        first = uuid(request.first_decision_id, "first_decision_id")
        second = uuid(request.second_decision_id, "second_decision_id")
        return await self._comparison.compare(call, first, second)

    async def get_limit_ladder(
        self, call: Call, request: pb.GetLimitLadderRequest
    ) -> pb.GetLimitLadderResponse:
        """Why a position is not larger."""
        decision_id = uuid(request.decision_id, "decision_id")
        instrument_id = checked_id(request.instrument_id, "instrument_id")
        return await self._ladder.climb(call, decision_id, instrument_id)

    async def what_if_decision(
        self, call: Call, request: pb.WhatIfDecisionRequest
    ) -> pb.WhatIfDecisionResponse:
        """What a recorded decision would have been."""
        decision_id = uuid(request.decision_id, "decision_id")
        return await self._what_if.answer(call, decision_id, request)

"""AlgorithmService: the custom sizing algorithms of this server."""

import asyncio

from positionsizing.v1 import algorithm_service_pb2 as pb
from positionsizing.v1 import sizing_pb2

from server.algorithms.asked import AlgorithmError
from server.algorithms.registry import Algorithms
from server.calls.request_context import Call


class AlgorithmService:
    """See `protos/positionsizing/v1/algorithm_service.proto`."""

    def __init__(self, algorithms: Algorithms) -> None:
        self._algorithms = algorithms

    async def list_algorithms(
        self, call: Call, request: pb.ListAlgorithmsRequest
    ) -> pb.ListAlgorithmsResponse:
        """All of them, and whether each answers now."""
        del call, request
        found = await asyncio.gather(*map(self._status, self._algorithms.names))
        return pb.ListAlgorithmsResponse(algorithms=found)

    async def _status(self, name: str) -> pb.AlgorithmStatus:
        settings = self._algorithms.settings(name)
        assert settings is not None, "one of the names"
        status = pb.AlgorithmStatus(
            name=name,
            tier=sizing_pb2.AlgorithmTier.ValueType(settings.tier),
            state=pb.ALGORITHM_STATE_READY,
            deadline_ms=settings.deadline_ms,
            weight_max=settings.weight_max,
        )
        try:
            described = await self._algorithms.describe(name)
        except AlgorithmError as error:
            status.state = pb.ALGORITHM_STATE_UNAVAILABLE
            status.state_message = f"{error.reason}: {error.message}"
            return status
        status.version, status.sha256 = described.version, described.sha256
        status.description = described.text
        if self._algorithms.is_resting(name):
            status.state = pb.ALGORITHM_STATE_RESTING
            status.state_message = "it failed too often and is left alone for some seconds"
        return status

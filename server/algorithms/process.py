"""An algorithm in a process of its own, asked over gRPC on a unix socket or on loopback."""

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from positionsizing.v1 import sizing_algorithm_pb2 as pb
from positionsizing.v1 import sizing_algorithm_pb2_grpc as stubs

from compute.algorithm import AlgorithmInput
from server.algorithms.asked import AlgorithmError, Description, Reply
from server.algorithms.settings import AlgorithmSettings
from server.convert.columns import floats, set_floats

_MESSAGE_MAX = 64 << 20
_LENGTH_MAX = 300
_OPTIONS = [
    ("grpc.max_receive_message_length", _MESSAGE_MAX),
    ("grpc.max_send_message_length", _MESSAGE_MAX),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),  # it is back a moment after it is started again
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class ProcessAlgorithm:
    """A program that serves `SizingAlgorithmService`. It is started by somebody else."""

    def __init__(self, settings: AlgorithmSettings) -> None:
        assert settings.address is not None, "the settings of a program"
        self._settings = settings
        self._channel = grpc.aio.insecure_channel(settings.address, options=_OPTIONS)
        self._stub = stubs.SizingAlgorithmServiceStub(self._channel)

    async def describe(self, deadline_s: float) -> Description:
        """See `Algorithm`."""
        request = pb.DescribeAlgorithmRequest()
        try:
            answer = await self._stub.DescribeAlgorithm(request, timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            raise _failure(error, deadline_s) from error
        self._check(answer.version, answer.sha256)
        return Description(answer.version, answer.sha256, answer.description[:_LENGTH_MAX])

    async def size(
        self, question: AlgorithmInput, deadline_s: float, done: Callable[[], None]
    ) -> Reply:
        """See `Algorithm`."""
        try:
            answer = await self._stub.SizeLines(request_of(question), timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            raise _failure(error, deadline_s) from error
        finally:
            done()
        self._check(answer.version, answer.sha256)
        return Reply(np.array(floats(answer.weight)), answer.version, answer.sha256)

    async def close(self) -> None:
        """See `Algorithm`."""
        await self._channel.close()

    def _check(self, version: str, sha256: str) -> None:
        """Raises `AlgorithmError` where it is not the one that the settings pin."""
        wanted = self._settings
        if not 1 <= len(version) <= 128 or len(sha256) not in (0, 64):
            text = "it must say a version of 1 to 128 characters, and a SHA-256 in hex or none"
            raise AlgorithmError("INVALID_ANSWER", text)
        if wanted.version not in (None, version):
            text = f"it is version {version}, not {wanted.version}"
            raise AlgorithmError("NOT_THE_PINNED_ONE", text)
        if wanted.sha256 not in (None, sha256):
            raise AlgorithmError("NOT_THE_PINNED_ONE", "its SHA-256 is not that of the settings")


def request_of(question: AlgorithmInput) -> pb.SizeLinesRequest:
    """The question as a message."""
    portfolio = question.portfolio
    request = pb.SizeLinesRequest(
        instrument_ids=question.instrument_ids,
        parameters=question.parameters,
        portfolio=pb.AlgorithmPortfolio(**vars(portfolio)),
    )
    for name, column in question.columns.items():
        set_floats(request.columns, name, column)
    return request


def _failure(error: Any, deadline_s: float) -> AlgorithmError:
    match error.code():
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            text = f"no answer within {1000 * deadline_s:.0f} ms"
            return AlgorithmError("TIMEOUT", text)
        case grpc.StatusCode.UNAVAILABLE:
            return AlgorithmError("UNAVAILABLE", "nothing answers at its address")
    text = f"it answered {error.code().name}: {error.details()}"
    return AlgorithmError("ERROR", text[:_LENGTH_MAX])

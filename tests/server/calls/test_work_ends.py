"""Long work looks at the time between its iterations, and ends with its call."""

import asyncio
import threading
import time
from collections.abc import Callable

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import (
    correlation_service_pb2 as correlation,
)
from positionsizing.v1 import (
    edge_service_pb2,
    history_service_pb2,
    market_service_pb2,
    risk_service_pb2,
)

from compute.optimize.time_limit import TimeLimit
from server.calls import long_work
from tests.server.support.service_client import Client, new_id, refusal

N, PERIODS = 12, 150
IDS = [f"W{i}" for i in range(N)]
DAY, THEN = 86_400, 1_600_000_000


@pytest_asyncio.fixture(scope="module")
async def universe(client: Client) -> str:
    """A history of returns that have one factor in common."""
    rng = np.random.default_rng(3)
    returns = rng.normal(0, 0.01, (PERIODS, N)) + rng.normal(0, 0.01, (PERIODS, 1))
    history = history_service_pb2.History(
        universe_id=new_id("long"),
        kind=history_service_pb2.HISTORY_KIND_RETURNS,
        instrument_ids=IDS,
        observation_times=[Timestamp(seconds=THEN + day * DAY) for day in range(PERIODS)],
        values=returns.ravel(),
    )
    await client.history.PutHistory(history_service_pb2.PutHistoryRequest(history=history))
    return history.universe_id


@pytest_asyncio.fixture(scope="module")
async def matrix_id(client: Client, universe: str) -> str:
    """The covariance of that history."""
    request = correlation.EstimateMatrixRequest(universe_id=universe)
    return (await client.correlation.EstimateMatrix(request)).matrix_id


def book() -> risk_service_pb2.BookWeights:
    return risk_service_pb2.BookWeights(instrument_ids=IDS, weights=[1 / N] * N)


def dcc(universe: str, matrix_id: str) -> Message:
    del matrix_id
    return correlation.EstimateMatrixRequest(
        universe_id=universe,
        estimator=correlation.COVARIANCE_ESTIMATOR_DCC,
        held_out_fraction=0.1,
    )


def rolling(method: risk_service_pb2.TailMethod.ValueType) -> Callable[[str, str], Message]:
    def request(universe: str, matrix_id: str) -> Message:
        del matrix_id
        return risk_service_pb2.BacktestRiskRequest(
            rolling=risk_service_pb2.RollingForecasts(
                book=book(), universe_id=universe, method=method, window=100
            )
        )

    return request


def report(universe: str, matrix_id: str) -> Message:
    del matrix_id
    return risk_service_pb2.ReportRiskRequest(universe_id=universe, proposed=book())


def hierarchy(method: correlation.HierarchyMethod.ValueType) -> Callable[[str, str], Message]:
    def request(universe: str, matrix_id: str) -> Message:
        del universe
        return correlation.AllocateByHierarchyRequest(matrix_id=matrix_id, method=method)

    return request


def edges(universe: str, matrix_id: str) -> Message:
    del matrix_id
    return edge_service_pb2.EstimateEdgeRequest(universe_id=universe, instrument_ids=IDS)


LONG: dict[str, tuple[str, Callable[[str, str], Message]]] = {
    "DCC": ("correlation.EstimateMatrix", dcc),
    "extreme value": ("risk.BacktestRisk", rolling(risk_service_pb2.TAIL_METHOD_EXTREME_VALUE)),
    "filtered": ("risk.BacktestRisk", rolling(risk_service_pb2.TAIL_METHOD_FILTERED_HISTORICAL)),
    "report": ("risk.ReportRisk", report),
    "HRP": ("correlation.AllocateByHierarchy", hierarchy(correlation.HIERARCHY_METHOD_HRP)),
    "HERC": ("correlation.AllocateByHierarchy", hierarchy(correlation.HIERARCHY_METHOD_HERC)),
    "NCO": ("correlation.AllocateByHierarchy", hierarchy(correlation.HIERARCHY_METHOD_NCO)),
    "edges": ("edge.EstimateEdge", edges),
}
"""A service and method, and a request that iterates."""


def asked(client: Client, name: str, universe: str, matrix_id: str) -> "grpc.aio.UnaryUnaryCall":
    path, request = LONG[name]
    service, _, method = path.partition(".")
    return getattr(getattr(client, service), method)(request(universe, matrix_id), timeout=600.0)


@pytest.mark.parametrize("name", LONG)
async def test_it_ends_where_its_time_is_over_between_two_iterations(
    name: str, client: Client, universe: str, matrix_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third look of the work finds the time over: one is before it begins."""
    looks = 0

    def limit(left_s: Callable[[], float], is_cancelled: Callable[[], bool]) -> TimeLimit:
        del left_s
        mine = 0

        def over() -> float:
            nonlocal looks, mine
            looks, mine = looks + 1, mine + 1
            return 1.0 if mine < 4 else 0.0

        return TimeLimit(over, is_cancelled)

    monkeypatch.setattr(long_work, "TimeLimit", limit)
    refused = await refusal(asked(client, name, universe, matrix_id))
    assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert looks >= 4


async def test_it_ends_where_its_caller_has_gone(
    client: Client, universe: str, matrix_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, told = threading.Event(), threading.Event()

    def limit(left_s: Callable[[], float], is_cancelled: Callable[[], bool]) -> TimeLimit:
        del left_s
        looks = 0

        def waits() -> bool:
            nonlocal looks
            looks += 1
            if looks < 20:
                return False
            begun.set()
            while not is_cancelled():
                time.sleep(0.01)
            told.set()
            return True

        return TimeLimit(is_cancelled=waits)

    monkeypatch.setattr(long_work, "TimeLimit", limit)
    call = asked(client, "DCC", universe, matrix_id)
    waiting = asyncio.ensure_future(call)
    assert await asyncio.to_thread(begun.wait, 600)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.to_thread(told.wait, 600)


async def test_alike_instruments_are_side_by_side_however_many(client: Client) -> None:
    """Beyond 250 in the order of the tree: the optimal one would hold the whole service up."""
    n, pairs = 252, 126
    values = np.full((n, n), 0.1)
    for i in range(pairs):
        values[i, i + pairs] = values[i + pairs, i] = 0.9
    np.fill_diagonal(values, 1.0)
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MATRIX_KIND_CORRELATION,
        as_of_time=Timestamp(seconds=THEN),
        instrument_ids=[f"W{i}" for i in range(n)],
        dense=market_service_pb2.DenseMatrix(values=values.ravel()),
    )
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    found = await client.correlation.ClusterInstruments(
        correlation.ClusterInstrumentsRequest(matrix_id=matrix.matrix_id, cluster_count=pairs)
    )
    order = [int(name[1:]) for name in found.instrument_ids]
    assert sorted(order) == list(range(n))
    assert all(abs(a - b) == pairs for a, b in zip(order[::2], order[1::2], strict=True))
    assert list(found.cluster) == [1 + i // 2 for i in range(n)]

"""Books at rest beyond limits on clusters: told as events, and listed when asked."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import (
    correlation_service_pb2,
    limits_pb2,
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    types_pb2,
)

from tests.server.limits.test_breach_events import app_dsn, breach_events, hold
from tests.server.support.service_client import INSTRUMENTS, Client, new_id, sizing_request

__all__ = ["app_dsn"]

N = len(INSTRUMENTS)
GROSS, NET = types_pb2.LIMIT_KIND_GROUP_GROSS_MAX, types_pb2.LIMIT_KIND_GROUP_NET_MAX
ALIKE = {"I1": 5_000.0, "I3": 1_500.0, "I5": 500.0}
"""100,000, 150,000 and 100,000 of a million, of which I1 and I3 move together."""


def correlation(*pairs: tuple[int, int, float]) -> np.ndarray:
    out = np.eye(N)
    for i, j, rho in pairs:
        out[i, j] = out[j, i] = rho
    return out


PAIR = correlation((1, 3, 0.9))


async def put_correlation(
    client: Client, universe: str, values: np.ndarray, kind: str = "CORRELATION", n: int = N
) -> None:
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MatrixKind.Value(f"MATRIX_KIND_{kind}"),
        instrument_ids=INSTRUMENTS[:n],
        universe_id=universe,
        dense={"values": values[:n, :n].ravel()},
    )
    matrix.as_of_time.FromDatetime(datetime.now(UTC))
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))


async def set_universe(client: Client, universe: str, **scope: str) -> None:
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            parameters=parameter_service_pb2.SizingParameters(covariance_universe=universe), **scope
        )
    )


def alike(**given: Any) -> limits_pb2.ClusterLimit:
    return limits_pb2.ClusterLimit(
        name="alike", linkage=correlation_service_pb2.LINKAGE_SINGLE, distance_max=0.4, **given
    )


async def book(client: Client, limit: limits_pb2.ClusterLimit, universe: str = "") -> str:
    """A portfolio that holds `ALIKE`, under a limit on clusters that came last."""
    portfolio_id = await client.ready(weight_max=0.5, leverage_max=1.0)
    if universe:
        await set_universe(client, universe, portfolio_id=portfolio_id)
    await hold(client, portfolio_id, 650_000.0, ALIKE)
    await client.set_limits(
        portfolio_service_pb2.Scope(portfolio_id=portfolio_id),
        weight_max=0.5,
        leverage_max=1.0,
        clusters=[limit],
    )
    return portfolio_id


async def breaches(client: Client, portfolio_id: str) -> portfolio_service_pb2.GetBreachesResponse:
    return await client.portfolio.GetBreaches(
        portfolio_service_pb2.GetBreachesRequest(portfolio_id=portfolio_id)
    )


@pytest.mark.parametrize("kind", ["CORRELATION", "COVARIANCE"])
async def test_new_limits_on_clusters_tell_and_are_listed(
    client: Client, app_dsn: str, kind: str
) -> None:
    universe = new_id("universe")
    await put_correlation(client, universe, PAIR if kind == "CORRELATION" else 4e-4 * PAIR, kind)
    portfolio_id = await book(client, alike(gross_weight_max=0.2, net_weight_max=0.22), universe)
    told = await breach_events(app_dsn, portfolio_id)
    assert [(e.kind, e.limit, list(e.instrument_ids), e.bound) for e in told] == [
        (GROSS, "alike 1", ["I1", "I3"], 0.2),
        (NET, "alike 1", ["I1", "I3"], 0.22),
    ]
    assert [e.value for e in told] == pytest.approx([0.25, 0.25], rel=1e-12)
    assert {e.found_by for e in told} == {"limits"}
    found = await breaches(client, portfolio_id)
    assert [
        (b.kind, b.limit, list(b.instrument_ids), b.bound, b.value) for b in found.breaches
    ] == [(e.kind, e.limit, list(e.instrument_ids), e.bound, e.value) for e in told]
    assert all(b.HasField("begin_time") for b in found.breaches)
    assert not found.not_checked


async def test_an_episode_is_told_once_though_clusters_are_numbered_anew(
    client: Client, app_dsn: str
) -> None:
    universe = new_id("universe")
    await put_correlation(client, universe, PAIR)
    portfolio_id = await book(client, alike(gross_weight_max=0.2), universe)
    assert len(await breach_events(app_dsn, portfolio_id)) == 1
    # I0 comes first, so that the cluster of I1 is the second now: the same episode.
    await hold(client, portfolio_id, 550_000.0, {"I0": 10_000.0} | ALIKE)
    assert len(await breach_events(app_dsn, portfolio_id)) == 1
    [listed] = (await breaches(client, portfolio_id)).breaches
    assert (listed.limit, list(listed.instrument_ids)) == ("alike 2", ["I1", "I3"])
    # Another is told by itself, and one of one instrument by its limit too.
    await hold(client, portfolio_id, 350_000.0, {"I0": 30_000.0} | ALIKE)
    told = await breach_events(app_dsn, portfolio_id)
    assert [(e.limit, list(e.instrument_ids), e.found_by) for e in told[1:]] == [
        ("alike 1", ["I0"], "holdings")
    ]
    # Kept, then passed again: a new episode.
    await hold(client, portfolio_id, 900_000.0, {"I1": 5_000.0})
    assert not (await breaches(client, portfolio_id)).breaches
    await hold(client, portfolio_id, 650_000.0, ALIKE)
    assert len(await breach_events(app_dsn, portfolio_id)) == 3


async def test_a_decision_tells_what_its_own_matrix_does_not_say(
    client: Client, app_dsn: str
) -> None:
    """The book is clustered by the portfolio's universe, the decision by its request's matrix."""
    universe, other = new_id("universe"), new_id("universe")
    await put_correlation(client, universe, np.eye(N))
    await put_correlation(client, other, np.eye(N))
    portfolio_id = await book(client, alike(gross_weight_max=0.2), universe)
    await set_universe(client, other, portfolio_id=portfolio_id, strategy_id="apart")
    assert await breach_events(app_dsn, portfolio_id) == []
    await put_correlation(client, universe, PAIR)
    listed = (await breaches(client, portfolio_id)).breaches
    assert [(b.limit, b.HasField("begin_time")) for b in listed] == [("alike 1", False)]
    small = {"win_probability": [0.51]}
    request = sizing_request(portfolio_id, ["I0"], small, strategy_id="apart")
    decision = await client.size(request)
    assert [list(c.instrument_ids) for c in decision.clusters] == [["I0"], ["I1"], ["I3"], ["I5"]]
    [told] = await breach_events(app_dsn, portfolio_id)
    assert (told.kind, list(told.instrument_ids)) == (GROSS, ["I1", "I3"])
    assert told.found_by == f"decision:{decision.decision_id}"
    assert told.value == pytest.approx(0.25, rel=1e-12)
    await client.size(sizing_request(portfolio_id, ["I0"], small, strategy_id="apart"))
    assert len(await breach_events(app_dsn, portfolio_id)) == 1


async def test_what_cannot_be_looked_at_is_said_and_stays_as_it_was(
    client: Client, app_dsn: str
) -> None:
    portfolio_id = await book(client, alike(gross_weight_max=0.2))
    found = await breaches(client, portfolio_id)
    assert (len(found.breaches), len(found.not_checked)) == (0, 1)
    assert "'alike'" in found.not_checked[0]
    assert "covariance_universe" in found.not_checked[0]
    universe = new_id("universe")
    await set_universe(client, universe, portfolio_id=portfolio_id)
    await put_correlation(client, universe, PAIR)
    await hold(client, portfolio_id, 650_000.0, ALIKE)
    assert len(await breach_events(app_dsn, portfolio_id)) == 1
    # A matrix without an instrument of the book: other limits are looked at, this one is not.
    await put_correlation(client, universe, PAIR, n=4)
    await hold(client, portfolio_id, 100_000.0, ALIKE | {"I7": 6_875.0})
    told = await breach_events(app_dsn, portfolio_id)
    assert [(e.kind, e.limit) for e in told[1:]] == [(types_pb2.LIMIT_KIND_WEIGHT_MAX, "I7")]
    found = await breaches(client, portfolio_id)
    assert [(b.kind, b.limit) for b in found.breaches] == [(types_pb2.LIMIT_KIND_WEIGHT_MAX, "I7")]
    assert "'I5'" in found.not_checked[0]
    await put_correlation(client, universe, PAIR)
    await hold(client, portfolio_id, 650_000.0, ALIKE)
    assert len(await breach_events(app_dsn, portfolio_id)) == 2, "the episode was never over"


async def test_other_limits_are_listed_with_the_prices_of_the_look(client: Client) -> None:
    portfolio_id = await client.ready(weight_max=0.5, leverage_max=1.0)
    empty = await breaches(client, portfolio_id)
    assert not empty.breaches
    await hold(client, portfolio_id, 700_000.0, {"I1": 10_000.0, "I5": 500.0})
    await client.set_limits(
        portfolio_service_pb2.Scope(portfolio_id=portfolio_id), weight_max=0.15, leverage_max=0.2
    )
    found = await breaches(client, portfolio_id)
    expected = [
        (types_pb2.LIMIT_KIND_WEIGHT_MAX, "I1", 0.15, 0.2),
        (types_pb2.LIMIT_KIND_LEVERAGE_MAX, "portfolio", 0.2, 0.3),
    ]
    for breach, want in zip(found.breaches, expected, strict=True):
        assert (breach.kind, breach.limit, breach.bound) == want[:3]
        assert breach.value == pytest.approx(want[3], rel=1e-12)
    assert found.market_snapshot_id

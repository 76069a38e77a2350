"""At most so many positions, on the final lots of both methods, through the RPC."""

from typing import Any

import grpc
import numpy as np
import pytest
from positionsizing.v1 import limits_pb2, portfolio_service_pb2, types_pb2

from tests.server.limits.test_limits_on_lots import bets, put_matrix
from tests.server.support.service_client import (
    INSTRUMENTS,
    PRICES,
    Client,
    refusal,
    refusal_of,
    sizing_request,
)

N = len(INSTRUMENTS)
LONG, SHORT = types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT
JOINT = types_pb2.SIZING_METHOD_JOINT
PLACES = types_pb2.LIMIT_KIND_POSITIONS_MAX


async def book(client: Client, held: dict[str, float] | None = None, **limits: Any) -> str:
    await client.put_market()
    portfolio_id = await client.put_portfolio(1e6, held or {})
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, **({"weight_max": 0.2, "leverage_max": 3.0} | limits))
    return portfolio_id


async def covariance(client: Client) -> str:
    return await put_matrix(client, "COVARIANCE", 9e-4 * np.eye(N))


@pytest.mark.parametrize("joint", [False, True])
async def test_new_positions_are_the_best_ones(joint_client: Client, joint: bool) -> None:
    portfolio_id = await book(joint_client, positions_max=2)
    given = {"method": JOINT, "covariance_matrix_id": await covariance(joint_client)}
    request = bets(
        INSTRUMENTS[:5],
        [0.51, 0.6, 0.52, 0.58, 0.45],
        [LONG] * 5,
        portfolio_id=portfolio_id,
        **(given if joint else {}),
    )
    decision = await joint_client.size(request)
    sizes = decision.sizes
    assert [lots > 0 for lots in sizes.lots] == [False, True, False, True, False]
    assert (sizes.binding[0], sizes.binding_bound[0]) == (PLACES, 2.0)
    assert sizes.binding[2] == PLACES
    if joint:
        assert any("2 places" in note for note in decision.notes)
        assert decision.certificate.duality_gap_relative < 1e-8


async def test_what_is_held_comes_first_and_what_closes_frees_its_place(client: Client) -> None:
    # I0 has no edge and is closed; I1 has little and keeps its place; one is left for the best.
    portfolio_id = await book(client, {"I0": 100.0, "I1": 100.0}, positions_max=2)
    request = bets(INSTRUMENTS[:4], [0.4, 0.505, 0.6, 0.65], [LONG] * 4, portfolio_id=portfolio_id)
    sizes = (await client.size(request)).sizes
    assert [lots > 0 for lots in sizes.lots] == [False, True, False, True]
    # The sale may still fail: until it is filled there is no place for another.
    request = bets(INSTRUMENTS[4:5], [0.7], [LONG], portfolio_id=portfolio_id)
    sizes = (await client.size(request)).sizes
    assert list(sizes.lots) == [0]


async def test_what_is_not_asked_for_keeps_its_place(client: Client) -> None:
    portfolio_id = await book(client, {"I6": 100.0, "I7": 10.0}, positions_max=3)
    request = bets(INSTRUMENTS[:3], [0.6, 0.7, 0.65], [LONG] * 3, portfolio_id=portfolio_id)
    sizes = (await client.size(request)).sizes
    assert [lots > 0 for lots in sizes.lots] == [False, True, False]


async def test_a_book_with_too_many_comes_down_to_the_best(client: Client) -> None:
    portfolio_id = await book(client, dict.fromkeys(INSTRUMENTS[:4], 100.0), positions_max=2)
    request = bets(
        INSTRUMENTS[:5], [0.55, 0.6, 0.52, 0.58, 0.9], [LONG] * 5, portfolio_id=portfolio_id
    )
    decision = await client.size(request)
    assert [lots > 0 for lots in decision.sizes.lots] == [False, True, False, True, False]
    assert list(decision.sizes.trade_lots)[::2] == [-100, -100, 0]
    assert not decision.limits_exceeded


async def test_a_book_with_too_many_says_so(client: Client) -> None:
    portfolio_id = await book(client, dict.fromkeys(INSTRUMENTS[:4], 100.0), positions_max=2)
    decision = await client.size(bets(["I4"], [0.7], [LONG], portfolio_id=portfolio_id))
    (only,) = decision.limits_exceeded
    assert (only.kind, only.name, only.bound, only.value) == (PLACES, "portfolio", 2.0, 4.0)
    assert list(decision.sizes.lots) == [0]
    assert decision.status == types_pb2.SIZING_STATUS_LIMIT_EXCEEDED


async def test_a_narrower_scope_only_takes_places_away(client: Client) -> None:
    portfolio_id = await book(client, positions_max=2)
    for most, opened in ((1, 1), (5, 2)):
        request = sizing_request(portfolio_id, INSTRUMENTS[:4], validate_only=True)
        request.limits.positions_max = most
        assert sum(lots > 0 for lots in (await client.size(request)).sizes.lots) == opened


async def test_counts_below_zero_are_refused(client: Client) -> None:
    scope = portfolio_service_pb2.Scope(portfolio_id=await book(client))
    found = await refusal(client.set_limits(scope, positions_max=-1))
    assert found.fields == {"limits.positions_max": "OUT_OF_RANGE"}


@pytest.mark.parametrize("seed", range(12))
async def test_never_more_than_so_many_on_random_books(joint_client: Client, seed: int) -> None:
    rng = np.random.default_rng([11, seed])
    held = np.trunc(rng.uniform(-0.1, 0.2, N) * 1e6 / np.array(PRICES)) * (rng.random(N) < 0.4)
    most = int(rng.integers(0, 6))
    limits: dict[str, Any] = {"allow_short": True, "positions_max": most}
    if rng.random() < 0.5:
        limits["turnover_max"] = float(rng.uniform(0.1, 1.0))
    if rng.random() < 0.5:
        limits["net_weight_max"] = float(rng.uniform(0.1, 0.5))
    if rng.random() < 0.3:
        limits["joint"] = limits_pb2.JointLimits(volatility_max=float(rng.uniform(0.002, 0.02)))
    by_name = {n: float(q) for n, q in zip(INSTRUMENTS, held, strict=True) if q}
    portfolio_id = await book(joint_client, by_name, **limits)
    matrix = await covariance(joint_client)
    open_names = set(by_name)
    for _ in range(3):
        chosen = rng.permutation(N)[: int(rng.integers(1, N + 1))]
        names = [INSTRUMENTS[i] for i in chosen]
        given: dict[str, Any] = {"method": JOINT} if rng.random() < 0.5 else {}
        request = bets(
            names,
            rng.uniform(0.45, 0.7, len(chosen)).tolist(),
            [LONG if rng.random() < 0.6 else SHORT for _ in chosen],
            portfolio_id=portfolio_id,
            covariance_matrix_id=matrix,
            **given,
        )
        before = len(open_names)
        try:
            decision = await joint_client.size(request)
        except grpc.aio.AioRpcError as error:
            assert refusal_of(error).reason == "INFEASIBLE_LIMITS"
            continue
        after = set(by_name) - set(names)
        after |= {n for n, lots in zip(names, decision.sizes.lots, strict=True) if lots}
        assert len(after) <= max(most, before)
        open_names |= after  # a sale may fail: until it is filled its name counts
        by_name = dict.fromkeys(after, 1.0)

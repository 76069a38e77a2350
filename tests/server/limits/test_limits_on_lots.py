"""Every stored limit on the final lots, through the RPC, for random books and both methods."""

import os
from typing import Any
from uuid import uuid4

import grpc
import numpy as np
import pytest
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.support.service_client import (
    INSTRUMENTS,
    PRICES,
    Client,
    new_id,
    refusal,
    refusal_of,
)

CASES = int(os.environ.get("BOOKS_BY_RPC", "25"))
PRICE, N = np.array(PRICES), len(PRICES)
SIDES = types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT
METHODS = types_pb2.SIZING_METHOD_CLOSED_FORM, types_pb2.SIZING_METHOD_JOINT
Joint = limits_pb2.JointLimits


async def put_matrix(client: Client, kind: str, values: np.ndarray) -> str:
    """Stores a matrix of the test instruments."""
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MatrixKind.Value(f"MATRIX_KIND_{kind}"),
        instrument_ids=INSTRUMENTS[: values.shape[1]],
        dense={"values": values.ravel()},
    )
    matrix.as_of_time.GetCurrentTime()
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    return matrix.matrix_id


def bets(ids: list[str], probability: list[float], side: list[int], **given: Any) -> Any:
    """Even-money bets, or expected returns where the joint method is asked."""
    n = len(ids)
    if given.get("method") == types_pb2.SIZING_METHOD_JOINT:
        signals = sizing_pb2.SignalBatch(
            instrument_ids=ids,
            side=side,
            edge_source=[sizing_pb2.EDGE_SOURCE_RETURN_VOLATILITY] * n,
            expected_return=[0.02 * (2 * p - 1) for p in probability],
            volatility=[0.03] * n,
        )
    else:
        signals = sizing_pb2.SignalBatch(
            instrument_ids=ids,
            side=side,
            win_probability=probability,
            payoff=[1.0] * n,
            loss_fraction=[1.0] * n,
        )
    return sizing_service_pb2.SizePositionsRequest(
        request_id=str(uuid4()), signals=signals, **given
    )


def measures(weight: np.ndarray, scenarios: np.ndarray | None, covariance: np.ndarray) -> dict:
    """Each measure at its default level, straight from its definition."""
    if scenarios is None:
        volatility = float(np.sqrt(weight @ covariance @ weight))
        return {"volatility_max": volatility, "var_max": 1.6448536269514722 * volatility}
    x = scenarios @ weight
    worst = np.sort(-x)[::-1][: len(x) // 20]
    path = np.concatenate([[0.0], np.cumsum(x)])
    depth = np.sort((np.maximum.accumulate(path) - path)[1:])[::-1][: len(x) // 20]
    volatility = float(x.std(ddof=1))
    return {
        "volatility_max": volatility,
        "var_max": 1.6448536269514722 * volatility - float(x.mean()),
        "cvar_max": float(worst.mean()),
        "cdar_max": float(depth.mean()),
    }


class Random:
    """A random portfolio with limits, some absent, and what its decisions are checked against."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng([7, seed])
        self.joint = bool(rng.random() < 0.5)
        self.scenarios = 0.02 * rng.standard_normal((40, N)) + 0.001
        self.has_scenarios = bool(rng.random() < 0.7)
        root = 0.01 * rng.standard_normal((N, N))
        self.covariance = root @ root.T
        kinds = {"volatility_max": (0.001, 0.02), "var_max": (0.002, 0.03)}
        if self.has_scenarios:
            kinds |= {"cvar_max": (0.002, 0.03), "cdar_max": (0.01, 0.1)}
        self.bounds = {k: float(rng.uniform(*v)) for k, v in kinds.items() if rng.random() < 0.5}
        self.row = rng.normal(0.0, 1.0, N) if rng.random() < 0.5 else None
        self.row_max = float(rng.uniform(0.05, 0.3))
        self.limits: dict[str, Any] = {"allow_short": True}
        for name, low, high in (
            ("weight_max", 0.1, 0.5),
            ("leverage_max", 0.3, 2.0),
            ("turnover_max", 0.2, 2.0),
            ("net_weight_max", 0.2, 1.0),
        ):
            if rng.random() < 0.5 or (self.joint and name == "weight_max"):
                self.limits[name] = float(rng.uniform(low, high))
        if rng.random() < 0.3:
            self.limits["allow_flip"] = True
        lower = [] if self.row is None else [self.linear()]
        self.limits["joint"] = Joint(**self.bounds, linear=lower)
        held = np.trunc(rng.uniform(-0.1, 0.2, N) * 1e6 / PRICE) * (rng.random(N) < 0.3)
        self.held = dict(zip(INSTRUMENTS, held.tolist(), strict=True))

    def linear(self) -> limits_pb2.LinearLimit:
        """The row as the contract has it."""
        assert self.row is not None
        return limits_pb2.LinearLimit(
            name="row", instrument_ids=INSTRUMENTS, coefficients=self.row, upper=self.row_max
        )

    def request(self, portfolio_id: str, matrices: tuple[str, str]) -> Any:
        """A batch of some instruments."""
        chosen = self.rng.permutation(N)[: int(self.rng.integers(2, N + 1))]
        method = (
            types_pb2.SIZING_METHOD_JOINT if self.joint else types_pb2.SIZING_METHOD_CLOSED_FORM
        )
        return bets(
            [INSTRUMENTS[i] for i in chosen],
            self.rng.uniform(0.5, 0.7, len(chosen)).tolist(),
            [SIDES[int(self.rng.random() < 0.4)] for _ in chosen],
            portfolio_id=portfolio_id,
            method=method,
            scenario_matrix_id=matrices[0] if self.has_scenarios else "",
            covariance_matrix_id="" if self.has_scenarios else matrices[1],
        )

    def check(self, before: np.ndarray, after: np.ndarray, trade: np.ndarray) -> None:
        """Weights of all instruments before and after, as the answer and the ledger have them."""
        returns = self.scenarios if self.has_scenarios else None
        was, now = (measures(w, returns, self.covariance) for w in (before, after))
        for name, bound in self.bounds.items():
            assert now[name] <= max(bound, was[name]) * (1 + 1e-9) + 1e-12, (name, now, was)
        if self.row is not None:
            value, start = float(self.row @ after), float(self.row @ before)
            assert value <= max(self.row_max, start) + 1e-9, ("row", value, start)
        for name, of_book in (
            ("weight_max", lambda w: np.abs(w)),
            ("leverage_max", lambda w: np.abs(w).sum()),
            ("net_weight_max", lambda w: w.sum()),
        ):
            if name in self.limits:
                most = np.maximum(self.limits[name], of_book(before))
                assert (of_book(after) <= most + 1e-9).all(), name
        if "turnover_max" in self.limits:
            assert np.abs(trade).sum() <= self.limits["turnover_max"] + 1e-9


@pytest.mark.parametrize("seed", range(CASES))
async def test_every_limit_holds_on_the_lots_of_both_methods(
    joint_client: Client, seed: int
) -> None:
    book = Random(seed)
    snapshot_id = await joint_client.put_market()
    held = {name: q for name, q in book.held.items() if q}
    value = sum(q * p for q, p in zip(book.held.values(), PRICES, strict=True))
    portfolio_id = await joint_client.put_portfolio(cash=1e6 - value, held=held)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await joint_client.set_limits(scope, **book.limits)
    matrices = (
        await put_matrix(joint_client, "SCENARIOS", book.scenarios),
        await put_matrix(joint_client, "COVARIANCE", book.covariance),
    )
    before = np.array([book.held[name] for name in INSTRUMENTS]) * PRICE / 1e6
    for _ in range(2):  # the second counts what the first reserves
        request = book.request(portfolio_id, matrices)
        request.market_snapshot_id = snapshot_id
        try:
            decision = await joint_client.size(request)
        except grpc.aio.AioRpcError as error:
            found = refusal_of(error)
            assert found.code is grpc.StatusCode.FAILED_PRECONDITION, found
            assert found.reason == "INFEASIBLE_LIMITS", found
            continue
        trade = np.zeros(N)
        for name, lots in zip(
            request.signals.instrument_ids, decision.sizes.trade_lots, strict=True
        ):
            place = INSTRUMENTS.index(name)
            trade[place] = lots * PRICE[place] / 1e6
        book.check(before, before + trade, trade)
        before = before + trade


async def test_a_stored_limit_without_its_data_refuses_the_call(joint_client: Client) -> None:
    portfolio_id = await joint_client.ready(weight_max=0.3, joint=Joint(cdar_max=0.02))
    covariance = await put_matrix(joint_client, "COVARIANCE", 1e-4 * np.eye(N))
    for method in METHODS:
        for matrix_id in ("", covariance):
            asked = bets(
                ["I0"],
                [0.6],
                [types_pb2.SIDE_LONG],
                portfolio_id=portfolio_id,
                method=method,
                covariance_matrix_id=matrix_id,
            )
            found = await refusal(joint_client.size(asked))
            assert found.code is grpc.StatusCode.FAILED_PRECONDITION
            assert found.reason == "MISSING_MATRIX"
            assert "joint.cdar_max" in found.message
            assert "scenario_matrix_id" in found.message
    assert await joint_client.counts(portfolio_id) == (0, 0)


async def test_an_instrument_held_but_not_in_the_matrix_is_named(client: Client) -> None:
    portfolio_id = await client.ready(joint=Joint(volatility_max=0.02))
    request = portfolio_service_pb2.SetHoldingsRequest(portfolio_id=portfolio_id, cash=9e5)
    request.holdings.instrument_ids.append("I7")
    request.holdings.quantity.append(100.0)
    await client.portfolio.SetHoldings(request)
    small = await put_matrix(client, "COVARIANCE", 1e-4 * np.eye(2))
    asked = bets(
        ["I0"],
        [0.6],
        [types_pb2.SIDE_LONG],
        portfolio_id=portfolio_id,
        covariance_matrix_id=small,
    )
    found = await refusal(client.size(asked))
    assert found.reason == "MISSING_MATRIX_ENTRY"
    assert "'I7'" in found.message
    assert "joint.volatility_max" in found.message


async def test_limits_that_no_book_keeps_are_named(client: Client) -> None:
    portfolio_id = await client.ready(net_weight_min=0.9, leverage_max=0.5, weight_max=0.3)
    asked = bets(["I0"], [0.6], [types_pb2.SIDE_LONG], portfolio_id=portfolio_id)
    found = await refusal(client.size(asked))
    assert (found.code, found.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "INFEASIBLE_LIMITS",
    )
    assert "net_weight_min 0.9" in found.message
    assert "leverage_max 0.5" in found.message
    assert "weight_max 0.3" not in found.message
    assert await client.counts(portfolio_id) == (0, 0)


async def test_a_step_that_does_not_reach_a_limit_says_what_is_left(client: Client) -> None:
    """Half of equity in one name that may be a tenth, and a turnover of 0.2 a decision."""
    await client.put_market()
    portfolio_id = await client.put_portfolio(cash=5e5, held={"I3": 5000.0})
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=0.1, turnover_max=0.2)
    left = []
    for _ in range(3):
        asked = bets(["I3"], [0.6], [types_pb2.SIDE_LONG], portfolio_id=portfolio_id)
        decision = await client.size(asked)
        left.append(
            [(e.kind, e.name, e.bound, round(e.value, 9)) for e in decision.limits_exceeded]
        )
    kind = types_pb2.LIMIT_KIND_WEIGHT_MAX
    assert left == [[(kind, "I3", 0.1, 0.3)], [], []]


async def test_a_net_minimum_beyond_what_signals_ask_for_is_said(client: Client) -> None:
    portfolio_id = await client.ready(net_weight_min=0.9, weight_max=0.3, leverage_max=1.0)
    asked = bets(["I0"], [0.6], [types_pb2.SIDE_LONG], portfolio_id=portfolio_id)
    decision = await client.size(asked)
    (only,) = decision.limits_exceeded
    assert (only.kind, only.name, only.bound) == (types_pb2.LIMIT_KIND_NET_MIN, "portfolio", 0.9)
    assert only.value == pytest.approx(decision.summary.net_weight_after)
    assert decision.status == types_pb2.SIZING_STATUS_LIMIT_EXCEEDED


async def test_half_a_wealth_floor_is_refused(client: Client) -> None:
    portfolio_id = await client.ready()
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    found = await refusal(client.set_limits(scope, joint=Joint(wealth_floor=0.8)))
    assert found.fields == {"limits.joint.wealth_floor_probability": "MISSING"}
    found = await refusal(client.set_limits(scope, joint=Joint(wealth_floor_probability=0.1)))
    assert found.fields == {"limits.joint.wealth_floor": "MISSING"}


async def test_a_risk_budget_is_not_spent_by_every_call(client: Client) -> None:
    """At a volatility of 0.3 a budget of 0.03 is a weight of 0.1, for both calls together."""
    portfolio_id = await client.ready(weight_max=0.5)
    parameters = parameter_service_pb2.SizingParameters(risk_budget=0.03)
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=parameters)
    )
    spent = []
    for name in ("I0", "I1"):
        asked = bets([name], [0.7], [types_pb2.SIDE_LONG], portfolio_id=portfolio_id)
        sizes = (await client.size(asked)).sizes
        spent.append(0.3 * sizes.weight[0])
        assert sizes.binding[0] == types_pb2.LIMIT_KIND_RISK_BUDGET
    assert spent == [pytest.approx(0.03, rel=1e-3), 0.0]


async def test_a_linear_limit_is_named_by_its_binding(client: Client) -> None:
    row = limits_pb2.LinearLimit(
        name="crash", instrument_ids=["I0", "I1"], coefficients=[0.5, 0.2], upper=0.05
    )
    portfolio_id = await client.ready(joint=Joint(linear=[row]))
    asked = bets(["I0", "I1"], [0.7, 0.6], [types_pb2.SIDE_LONG] * 2, portfolio_id=portfolio_id)
    decision = await client.size(asked)
    sizes = decision.sizes
    assert 0.999 * 0.05 < 0.5 * sizes.weight[0] + 0.2 * sizes.weight[1] <= 0.05
    assert sizes.binding[0] == types_pb2.LIMIT_KIND_LINEAR
    assert sizes.group_names[sizes.binding_group[0] - 1] == "crash"
    assert sizes.binding_bound[0] == 0.05
    stages = [stage.stage for stage in decision.waterfall.stages]
    assert types_pb2.SIZING_STAGE_BOOK_LIMIT in stages
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal


@pytest.mark.parametrize("name", ["var_max", "cvar_max", "cdar_max"])
async def test_what_a_signal_expects_buys_no_more_risk(joint_client: Client, name: str) -> None:
    """The scenarios as they are stored are what the optimum is limited by, too."""
    scenarios = 0.02 * np.random.default_rng(5).standard_normal((40, N))
    matrix = await put_matrix(joint_client, "SCENARIOS", scenarios)
    alone = np.eye(1, N)[0]
    bound = 0.2 * measures(alone, scenarios, np.eye(N))[name]
    portfolio_id = await joint_client.ready(joint=Joint(**{name: bound}))
    for expected in (0.01, 0.03):
        signals = sizing_pb2.SignalBatch(
            instrument_ids=["I0"],
            side=[types_pb2.SIDE_LONG],
            expected_return=[expected],
            volatility=[0.02],
        )
        decision = await joint_client.size(
            sizing_service_pb2.SizePositionsRequest(
                portfolio_id=portfolio_id,
                method=types_pb2.SIZING_METHOD_JOINT,
                scenario_matrix_id=matrix,
                signals=signals,
                validate_only=True,
            )
        )
        stages = {stage.stage: stage for stage in decision.waterfall.stages}
        optimum = stages[types_pb2.SIZING_STAGE_JOINT_OPTIMUM].weight[0]
        assert optimum == pytest.approx(0.2, abs=1e-7)
        assert types_pb2.SIZING_STAGE_BOOK_LIMIT not in stages
        assert decision.status == types_pb2.SIZING_STATUS_CAPPED
        kind = types_pb2.LimitKind.Value(f"LIMIT_KIND_{name.upper()}")
        assert list(decision.sizes.binding) == [kind]

"""Bad input gets a typed error with the path of the field, never INTERNAL, and leaves no trace."""

import asyncio
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    optimization_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_service_pb2,
)

from tests.server.support.seeds import seeds
from tests.server.support.service_client import (
    INSTRUMENTS,
    Client,
    new_id,
    refusal,
    refusal_of,
    sizing_request,
    snapshot_message,
)

NAN, INF = float("nan"), float("inf")
PROTOS = Path(__file__).parents[3] / "protos" / "positionsizing" / "v1"
INVALID = grpc.StatusCode.INVALID_ARGUMENT
Change = Callable[[Any], object]


def on(**columns: Any) -> Change:
    """Replaces columns of the signals."""

    def change(request: sizing_service_pb2.SizePositionsRequest) -> None:
        for name, values in columns.items():
            request.signals.ClearField(name)
            getattr(request.signals, name).extend(values)

    return change


def given(**fields: Any) -> Change:
    """Sets fields of the request."""
    return lambda request: [setattr(request, name, value) for name, value in fields.items()]


def limits(**fields: Any) -> Change:
    """Adds request limits."""
    return lambda request: request.limits.CopyFrom(limits_pb2.Limits(**fields))


WHOLE: dict[str, tuple[Change, str, str]] = {
    "no instruments": (on(instrument_ids=[], side=[], win_probability=[], payoff=[]),
                       "signals.instrument_ids", "EMPTY"),
    "twice": (on(instrument_ids=["I0", "I1", "I0", "I2"]),
              "signals.instrument_ids[2]", "DUPLICATE"),
    "nul in an id": (on(instrument_ids=["I0", "a\x00b", "I2", "I3"]),
                     "signals.instrument_ids[1]", "BAD_FORMAT"),
    "long id": (on(instrument_ids=["I0", "b" * 129, "I2", "I3"]),
                "signals.instrument_ids[1]", "BAD_FORMAT"),
    "empty id": (on(instrument_ids=["I0", "", "I2", "I3"]), "signals.instrument_ids[1]", "EMPTY"),
    "short column": (on(payoff=[1.0] * 3), "signals.payoff", "LENGTH_MISMATCH"),
    "long column": (on(payoff=[1.0] * 5), "signals.payoff", "LENGTH_MISMATCH"),
    "no sides": (on(side=[]), "signals.side", "LENGTH_MISMATCH"),
    "history": (on(history_outcome=[0.1], history_length=[1, 1, 0, 0]),
                "signals.history_length", "LENGTH_MISMATCH"),
    "negative history": (on(history_length=[1, -1, 0, 0], history_outcome=[]),
                         "signals.history_length[1]", "OUT_OF_RANGE"),
    "both errors": (on(confidence=[0.5] * 4, win_probability_error=[0.1] * 4),
                    "signals.confidence", "AMBIGUOUS"),
    "no portfolio": (given(portfolio_id=""), "portfolio_id", "MISSING"),
    "bad portfolio": (given(portfolio_id="a b"), "portfolio_id", "BAD_FORMAT"),
    "nul portfolio": (given(portfolio_id="a\x00b"), "portfolio_id", "BAD_FORMAT"),
    "bad strategy": (given(strategy_id="é"), "strategy_id", "BAD_FORMAT"),
    "no request id": (given(request_id=""), "request_id", "MISSING"),
    "bad request id": (given(request_id="17"), "request_id", "BAD_FORMAT"),
    "bad method": (given(method=99), "method", "UNKNOWN_VALUE"),
    "nan limit": (limits(weight_max=NAN), "limits.weight_max", "NOT_FINITE"),
    "infinite limit": (limits(leverage_max=INF), "limits.leverage_max", "NOT_FINITE"),
    "negative limit": (limits(notional_max=-1.0), "limits.notional_max", "OUT_OF_RANGE"),
    "buffer": (limits(cash_buffer=1.5), "limits.cash_buffer", "OUT_OF_RANGE"),
    "net range": (limits(net_weight_min=0.5, net_weight_max=-0.5),
                  "limits.net_weight_min", "EMPTY_RANGE"),
    "group": (limits(groups=[limits_pb2.GroupLimit(name="g")]),
              "limits.groups[0].instrument_ids", "AMBIGUOUS"),
    "group name": (limits(groups=[limits_pb2.GroupLimit(sector="A")]),
                   "limits.groups[0].name", "MISSING"),
    "ttl": (lambda r: r.reservation_ttl.CopyFrom(Duration(seconds=0)),
            "reservation_ttl", "OUT_OF_RANGE"),
    "ttl nanos": (lambda r: r.reservation_ttl.CopyFrom(Duration(seconds=5, nanos=2**31 - 1)),
                  "reservation_ttl", "OUT_OF_RANGE"),
    "ttl overflow": (lambda r: r.reservation_ttl.CopyFrom(Duration(seconds=2**62, nanos=-5)),
                     "reservation_ttl", "OUT_OF_RANGE"),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
async def test_a_wrong_request_names_the_field(client: Client, name: str) -> None:
    change, path, reason = WHOLE[name]
    portfolio_id = await client.ready()
    request = sizing_request(portfolio_id)
    change(request)
    refused = await refusal(client.sizing.SizePositions(request))
    assert refused.code is INVALID
    assert refused.fields.get(path) == reason, refused
    assert await client.counts(portfolio_id) == (0, 0)


LINES: dict[str, tuple[Change, str, str]] = {
    "nan": (on(win_probability=[0.6, NAN, 0.6, 0.6]), "win_probability", "NOT_FINITE"),
    "inf": (on(payoff=[1.0, INF, 1.0, 1.0]), "payoff", "NOT_FINITE"),
    "p above 1": (on(win_probability=[0.6, 1.0001, 0.6, 0.6]), "win_probability", "OUT_OF_RANGE"),
    "p below 0": (on(win_probability=[0.6, -0.1, 0.6, 0.6]), "win_probability", "OUT_OF_RANGE"),
    "payoff 0": (on(payoff=[1.0, 0.0, 1.0, 1.0]), "payoff", "OUT_OF_RANGE"),
    "loss 0": (on(loss_fraction=[1.0, 0.0, 1.0, 1.0]), "loss_fraction", "OUT_OF_RANGE"),
    "loss above 1": (on(loss_fraction=[1.0, 1.1, 1.0, 1.0]), "loss_fraction", "OUT_OF_RANGE"),
    "negative volatility": (
        on(edge_source=[1, 2, 1, 1], expected_return=[0.1] * 4, volatility=[0.2, -0.2, 0.2, 0.2]),
        "volatility", "OUT_OF_RANGE"),
    "zero volatility": (
        on(edge_source=[1, 2, 1, 1], expected_return=[0.1] * 4, volatility=[0.2, 0.0, 0.2, 0.2]),
        "volatility", "OUT_OF_RANGE"),
    "no volatility": (on(edge_source=[1, 2, 1, 1], expected_return=[0.1] * 4),
                      "volatility", "MISSING"),
    "unknown instrument": (on(instrument_ids=["I0", "nowhere", "I2", "I3"]),
                           "instrument_ids", "UNKNOWN_INSTRUMENT"),
    "no side": (on(side=[1, 0, 1, 1]), "side", "MISSING"),
    "unknown side": (on(side=[1, 7, 1, 1]), "side", "MISSING"),
    "unknown source": (on(edge_source=[1, 77, 1, 1]), "edge_source", "MISSING"),
    "no scenarios": (on(edge_source=[1, 3, 1, 1]), "edge_source", "MISSING"),
    "no history": (on(edge_source=[1, 4, 1, 1]), "history_outcome", "MISSING"),
    "empty history": (
        on(edge_source=[1, 4, 1, 1], history_outcome=[0.1, 0.2], history_length=[2, 0, 0, 0]),
        "history_length", "TOO_FEW_OUTCOMES"),
    "outcome": (
        on(edge_source=[1, 4, 1, 1], history_outcome=[0.1, -1.2], history_length=[0, 2, 0, 0]),
        "history_outcome", "OUT_OF_RANGE"),
    "confidence": (on(confidence=[1.0, 0.0, 1.0, 1.0]), "confidence", "OUT_OF_RANGE"),
    "stop": (on(stop_price=[0.0, 25.0, 0.0, 0.0]), "stop_price", "STOP_ON_WRONG_SIDE"),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
async def test_a_wrong_line_is_refused_and_the_others_sized(client: Client, name: str) -> None:
    change, column, reason = LINES[name]
    portfolio_id = await client.ready()
    request = sizing_request(portfolio_id)
    change(request)
    request.all_or_nothing = True
    refused = await refusal(client.sizing.SizePositions(request))
    assert refused.code is INVALID
    assert refused.fields.get(f"signals.{column}[1]") == reason, refused
    assert await client.counts(portfolio_id) == (0, 0)
    request.all_or_nothing = False
    decision = await client.size(request)
    assert list(decision.sizes.line_status).count(4) == 1
    found = {(item.line, item.field): item.reason for item in decision.line_errors}
    assert found[1, f"signals.{column}[1]"] == reason
    assert decision.sizes.trade_lots[1] == 0
    assert all(decision.sizes.trade_lots[i] for i in (0, 2, 3))


async def test_a_thousand_wrong_lines_still_fit_into_an_error(client: Client) -> None:
    names = [f"J{i}" for i in range(1000)]
    lines = {"win_probability": [NAN] * 1000, "payoff": [1.0] * 1000}
    portfolio_id = await client.ready()
    request = sizing_request(portfolio_id, names, lines)
    refused = await refusal(client.sizing.SizePositions(request))
    assert refused.code is INVALID
    assert refused.fields
    assert "more)" in refused.message


async def test_what_is_not_there_is_said_to_be_missing(client: Client) -> None:
    portfolio_id = await client.ready()
    for change, code, reason in (
        (given(portfolio_id="nobody"), "NOT_FOUND", "PORTFOLIO_NOT_FOUND"),
        (given(market_snapshot_id="never"), "NOT_FOUND", None),
        (given(scenario_matrix_id="never"), "NOT_FOUND", "MATRIX_NOT_FOUND"),
        (given(expected_portfolio_version=77), "ABORTED", None),
    ):
        request = sizing_request(portfolio_id)
        change(request)
        refused = await refusal(client.sizing.SizePositions(request))
        assert refused.code.name == code
        assert reason in (None, refused.reason)
    bare = await client.put_portfolio()
    assert (await refusal(client.size(sizing_request(bare)))).reason == "NO_LIMITS"
    stray = await client.put_portfolio(1e6, {"unlisted": 5.0})
    await client.set_limits(portfolio_service_pb2.Scope(portfolio_id=stray), weight_max=1.0)
    assert (await refusal(client.size(sizing_request(stray)))).reason == "MISSING_PRICE"
    for portfolio in (portfolio_id, bare, stray):
        assert await client.counts(portfolio) == (0, 0)


async def test_more_than_was_compiled_for_is_refused_by_name(client: Client) -> None:
    """Shapes beyond the largest bucket: too many groups, scenarios or outcomes."""
    portfolio_id = await client.ready()
    groups = [
        limits_pb2.GroupLimit(name=f"g{i}", instrument_ids=["I0"], gross_weight_max=1.0)
        for i in range(70)
    ]
    request = sizing_request(portfolio_id)
    request.limits.groups.extend(groups)
    assert (await refusal(client.size(request))).code is INVALID
    outcomes = [0.1, -0.1] * 5000
    request = sizing_request(
        portfolio_id, ["I0"], {"edge_source": [4], "history_outcome": outcomes,
                               "history_length": [len(outcomes)]}
    )  # fmt: skip
    assert (await refusal(client.size(request))).code is INVALID
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MATRIX_KIND_SCENARIOS,
        as_of_time=Timestamp(seconds=1_600_000_000),
        instrument_ids=["I0"],
        dense=market_service_pb2.DenseMatrix(values=[0.1, -0.1] * 3000),
    )
    put = market_service_pb2.PutMatrixRequest(matrix=matrix)
    refused = await refusal(client.market.PutMatrix(put))
    assert refused.code is INVALID


SNAPSHOTS: dict[str, tuple[dict[str, Any], str]] = {
    "nan price": ({"price": [NAN] + [1.0] * 7}, "snapshot.price[0]"),
    "zero price": ({"price": [0.0] + [1.0] * 7}, "snapshot.price[0]"),
    "short": ({"price": [1.0]}, "snapshot.price"),
    "negative volatility": ({"volatility": [0.1] * 7 + [-0.1]}, "snapshot.volatility[7]"),
    "lot 0": ({"lot_size": [0.0] * 8}, "snapshot.lot_size[0]"),
    "sectors": ({"sector": ["A"]}, "snapshot.sector"),
    "twice": ({"instrument_ids": ["I0", *INSTRUMENTS[:7]]}, "snapshot.instrument_ids[1]"),
    "id": ({"snapshot_id": "a/b"}, "snapshot.snapshot_id"),
    "time": ({"as_of_time": Timestamp(seconds=2**62)}, "snapshot.as_of_time"),
    "rate": ({"exchange_rates": [market_service_pb2.ExchangeRate(from_currency="EUR",
              to_currency="USD", rate=-1.0)]}, "snapshot.exchange_rates[0].rate"),
}  # fmt: skip


@pytest.mark.parametrize("name", SNAPSHOTS)
async def test_a_wrong_snapshot_names_the_field(client: Client, name: str) -> None:
    columns, path = SNAPSHOTS[name]
    snapshot = market_service_pb2.MarketSnapshot()
    if "as_of_time" in columns:
        snapshot.CopyFrom(snapshot_message())
        snapshot.as_of_time.CopyFrom(columns["as_of_time"])
    else:
        snapshot.CopyFrom(snapshot_message(**columns))
    request = market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot)
    refused = await refusal(client.market.PutMarketSnapshot(request))
    assert refused.code is INVALID
    assert path in refused.fields, refused


MATRICES: dict[str, tuple[list[float], str]] = {
    "not symmetric": ([1.0, 0.5, 0.4, 1.0], "NOT_SYMMETRIC"),
    "not semidefinite": ([1.0, 2.0, 2.0, 1.0], "NOT_POSITIVE_SEMIDEFINITE"),
    "nan": ([1.0, NAN, NAN, 1.0], "NOT_FINITE"),
    "short": ([1.0, 0.5, 0.5], "LENGTH_MISMATCH"),
    "none": ([], "LENGTH_MISMATCH"),
}


@pytest.mark.parametrize("name", MATRICES)
async def test_a_wrong_matrix_is_refused(client: Client, name: str) -> None:
    values, reason = MATRICES[name]
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
        as_of_time=Timestamp(seconds=1_600_000_000),
        instrument_ids=["I0", "I1"],
        dense=market_service_pb2.DenseMatrix(values=values),
    )
    put = market_service_pb2.PutMatrixRequest(matrix=matrix)
    refused = await refusal(client.market.PutMatrix(put))
    assert refused.code is INVALID
    assert reason in refused.fields.values(), refused


@pytest.mark.parametrize("kind", ["COVARIANCE", "SCENARIOS"])
async def test_a_matrix_of_no_time_is_refused(client: Client, kind: str) -> None:
    """Stored, or stated in a problem, where its time counts for nothing."""
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MatrixKind.Value(f"MATRIX_KIND_{kind}"),
        instrument_ids=["I0", "I1"],
        dense=market_service_pb2.DenseMatrix(values=[0.04, 0.01, 0.01, 0.09]),
    )
    for never in (Timestamp(seconds=2**53), Timestamp(seconds=1, nanos=-1)):
        matrix.as_of_time.CopyFrom(never)
        put = market_service_pb2.PutMatrixRequest(matrix=matrix)
        refused = await refusal(client.market.PutMatrix(put))
        assert (refused.code, refused.fields) == (INVALID, {"matrix.as_of_time": "OUT_OF_RANGE"})
        problem = optimization_service_pb2.OptimizationProblem(
            instrument_ids=["I0", "I1"],
            objective=optimization_service_pb2.Objective(
                kind=optimization_service_pb2.OBJECTIVE_KIND_MIN_VARIANCE
            ),
            **{kind.lower(): matrix},
        )
        asked = optimization_service_pb2.ExplainInfeasibilityRequest(problem=problem)
        refused = await refusal(client.optimization.ExplainInfeasibility(asked))
        path = f"problem.{kind.lower()}.as_of_time"
        assert (refused.code, refused.fields) == (INVALID, {path: "OUT_OF_RANGE"})


TOKENS = (
    "x", "////", "W10=", "WyJ4Il0=", "WyJ4IiwgInkiXQ==", "WzFlMzA4XQ==", "WzFlOTk5XQ==",
    "W251bGxd", "W251bGwsIG51bGxd", "W1tdXQ==", "Wy0xXQ==", "e30=", "WzFlMzAsIDFd", "é",
    "WzEwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDBd", "WyIyMDIwLTAxLTAxIiwgIngiXQ==",
    "WyIyMDIwLTAxLTAxIiwgIjAwMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAwMCJd",
    "WyJhXHUwMDAwYiJd",
)  # fmt: skip


@pytest.mark.parametrize("token", TOKENS)
async def test_a_token_of_no_list_is_refused(client: Client, token: str) -> None:
    portfolio_id = await client.ready()
    page: dict[str, Any] = {"page_token": token}
    calls = [
        client.market.ListMarketSnapshots(market_service_pb2.ListMarketSnapshotsRequest(**page)),
        client.sizing.ListDecisions(sizing_service_pb2.ListDecisionsRequest(**page)),
        client.portfolio.ListPortfolios(portfolio_service_pb2.ListPortfoliosRequest(**page)),
        client.portfolio.ListReservations(
            portfolio_service_pb2.ListReservationsRequest(portfolio_id=portfolio_id, **page)
        ),
        client.parameter.ListParameterVersions(
            parameter_service_pb2.ListParameterVersionsRequest(**page)
        ),
    ]
    for call in calls:
        try:
            await call  # a token may by chance be one of the list
        except grpc.aio.AioRpcError as error:
            refused = refusal_of(error)
            assert refused.code is INVALID, refused
            assert refused.fields == {"page_token": "BAD_FORMAT"}


async def test_a_negative_page_size_is_refused(client: Client) -> None:
    for call in (
        client.market.ListMarketSnapshots(
            market_service_pb2.ListMarketSnapshotsRequest(page_size=-1)
        ),
        client.sizing.ListDecisions(sizing_service_pb2.ListDecisionsRequest(page_size=-1)),
    ):
        assert (await refusal(call)).fields == {"page_size": "OUT_OF_RANGE"}


NUL, LONG = "a\x00b", "x" * 5000
STRINGS: dict[str, Callable[[Client, str, str], Any]] = {
    "display name": lambda client, _, text: client.put_portfolio(display_name=text),
    "holding": lambda client, _, text: client.put_portfolio(1e6, {text: 1.0}),
    "currency": lambda client, _, text: client.portfolio.CreatePortfolio(
        portfolio_service_pb2.CreatePortfolioRequest(
            portfolio=portfolio_service_pb2.Portfolio(portfolio_id="z", base_currency=text)
        )
    ),
    "instrument": lambda client, _, text: client.put_market(
        instrument_ids=[*INSTRUMENTS[:7], text]
    ),
    "sector": lambda client, _, text: client.put_market(sector=[*INSTRUMENTS[:7], text]),
    "restricted": lambda client, id, text: client.set_limits(
        portfolio_service_pb2.Scope(portfolio_id=id), restricted_instrument_ids=[text]
    ),
    "group": lambda client, id, text: client.set_limits(
        portfolio_service_pb2.Scope(portfolio_id=id),
        groups=[limits_pb2.GroupLimit(name=text, sector="A")],
    ),
    "reason": lambda client, id, text: client.portfolio.SetLimits(
        portfolio_service_pb2.SetLimitsRequest(
            scope=portfolio_service_pb2.Scope(portfolio_id=id), reason=text
        )
    ),
    "halt reason": lambda client, id, text: client.portfolio.SetTradingState(
        portfolio_service_pb2.SetTradingStateRequest(
            scope=portfolio_service_pb2.Scope(portfolio_id=id), trading_state=1, reason=text
        )
    ),
    "parameter reason": lambda client, id, text: client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=id, reason=text)
    ),
    "trace": lambda client, id, text: client.sizing.SizePositions(
        sizing_request(id), metadata=(("traceparent", text.replace("\x00", "?")),)
    ),
}


@pytest.mark.parametrize("text", [NUL, LONG], ids=["nul", "long"])
@pytest.mark.parametrize("where", STRINGS)
async def test_text_that_storage_cannot_hold_is_refused_or_kept(
    client: Client, where: str, text: str
) -> None:
    portfolio_id = await client.ready()
    try:
        await STRINGS[where](client, portfolio_id, text)
    except grpc.aio.AioRpcError as error:
        assert refusal_of(error).code is INVALID, refusal_of(error)
    decision = await client.size(sizing_request(portfolio_id, ["I0"], validate_only=True))
    assert decision.sizes.instrument_ids == ["I0"]


HUGE = 2**63 - 1
NUMBERS: dict[str, Callable[[Client, str], Any]] = {
    "limits version": lambda client, id: client.portfolio.GetLimits(
        portfolio_service_pb2.GetLimitsRequest(
            scope=portfolio_service_pb2.Scope(portfolio_id=id), version=HUGE
        )
    ),
    "expected version": lambda client, id: client.portfolio.SetHoldings(
        portfolio_service_pb2.SetHoldingsRequest(portfolio_id=id, expected_version=-HUGE)
    ),
    "parameter version": lambda client, id: client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=id, expected_version=HUGE)
    ),
    "time": lambda client, id: client.parameter.GetParameters(
        parameter_service_pb2.GetParametersRequest(
            portfolio_id=id, as_of_time=Timestamp(seconds=-(2**60))
        )
    ),
    "nanos": lambda client, id: client.sizing.ListDecisions(
        sizing_service_pb2.ListDecisionsRequest(
            portfolio_id=id, create_time_from=Timestamp(seconds=1, nanos=-(2**31))
        )
    ),
    "first year": lambda client, id: client.sizing.ListDecisions(
        sizing_service_pb2.ListDecisionsRequest(
            portfolio_id=id, create_time_from=Timestamp(seconds=-62135596800)
        )
    ),
    "last year": lambda client, id: client.sizing.ListDecisions(
        sizing_service_pb2.ListDecisionsRequest(
            portfolio_id=id, create_time_to=Timestamp(seconds=253402300799)
        )
    ),
    "huge book": lambda client, id: client.portfolio.SetHoldings(
        portfolio_service_pb2.SetHoldingsRequest(
            portfolio_id=id,
            cash=1e308,
            holdings=portfolio_service_pb2.Holdings(instrument_ids=["I0"], quantity=[1e308]),
        )
    ),
    "trading state": lambda client, id: client.portfolio.SetTradingState(
        portfolio_service_pb2.SetTradingStateRequest(trading_state=44)
    ),
}


@pytest.mark.parametrize("where", NUMBERS)
async def test_numbers_at_the_edge_never_surprise(client: Client, where: str) -> None:
    portfolio_id = await client.ready()
    try:
        await NUMBERS[where](client, portfolio_id)
    except grpc.aio.AioRpcError as error:
        refused = refusal_of(error)
        assert refused.code in (INVALID, grpc.StatusCode.ABORTED, grpc.StatusCode.NOT_FOUND)
    try:
        await client.size(sizing_request(portfolio_id))
    except grpc.aio.AioRpcError as error:
        assert refusal_of(error).code is grpc.StatusCode.FAILED_PRECONDITION


async def test_bad_fills_are_refused(client: Client) -> None:
    portfolio_id = await client.ready()
    decision = await client.size(sizing_request(portfolio_id))
    for fills, code in (
        ({"instrument_ids": ["I0"], "lots": [1], "price": [NAN]}, "INVALID_ARGUMENT"),
        ({"instrument_ids": ["I0"], "lots": [1], "price": [-1.0]}, "INVALID_ARGUMENT"),
        ({"instrument_ids": ["I0"], "lots": [0], "price": [1.0]}, "INVALID_ARGUMENT"),
        ({"instrument_ids": ["I0"], "lots": [], "price": [1.0]}, "INVALID_ARGUMENT"),
        ({"instrument_ids": ["I0", "I0"], "lots": [1, 1], "price": [1.0, 1.0]}, "INVALID_ARGUMENT"),
        ({"instrument_ids": [], "lots": [], "price": []}, "INVALID_ARGUMENT"),
        ({"instrument_ids": ["I0"], "lots": [-1], "price": [10.0]}, "FAILED_PRECONDITION"),
        ({"instrument_ids": ["I0"], "lots": [2**62], "price": [1e300]}, "INVALID_ARGUMENT"),
        ({"instrument_ids": ["I0"], "lots": [2**52], "price": [1e12]}, "INVALID_ARGUMENT"),
        ({"instrument_ids": ["I0"], "lots": [2**52], "price": [10.0]}, "FAILED_PRECONDITION"),
        ({"instrument_ids": ["I7"], "lots": [1], "price": [80.0]}, "FAILED_PRECONDITION"),
        ({"instrument_ids": ["I7"], "lots": [1], "price": [1.0]}, "FAILED_PRECONDITION"),
        ({"instrument_ids": [NUL], "lots": [1], "price": [1.0]}, "INVALID_ARGUMENT"),
        ({"instrument_ids": ["I0"], "lots": [1], "price": [1.0], "fee": [INF]},
         "INVALID_ARGUMENT"),
    ):  # fmt: skip
        request = sizing_service_pb2.SettleDecisionRequest(
            request_id=str(uuid4()),
            decision_id=decision.decision_id,
            fills=sizing_service_pb2.Fills(**fills),
        )
        refused = await refusal(client.sizing.SettleDecision(request))
        assert refused.code.name == code, (fills, refused)
    unknown = sizing_service_pb2.SettleDecisionRequest(
        request_id=str(uuid4()), decision_id=str(uuid4()), close=True
    )
    assert (await refusal(client.sizing.SettleDecision(unknown))).code.name == "NOT_FOUND"
    assert await client.counts(portfolio_id) == (1, 1)


SERVICES = [
    importlib.import_module(f"positionsizing.v1.{path.stem}_pb2")
    for path in sorted(PROTOS.glob("*_service.proto"))
]
METHODS = [
    (service.full_name, method.name)
    for module in SERVICES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def test_every_method_has_a_request_to_be_broken() -> None:
    in_processes = ("SimulationService", "LearningService")
    methods = {method for service, method in METHODS if not service.endswith(in_processes)}
    methods -= {"StartJob", "WatchJob"}  # another process, and a stream (`test_jobs.py`)
    assert methods == set(seeds("p", "d")), "add it to seeds.py"


@pytest.mark.parametrize(("service", "method"), METHODS)
async def test_bytes_that_are_no_message(client: Client, service: str, method: str) -> None:
    call = client.channel.unary_unary(f"/{service}/{method}")
    for data in (b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x00"):
        refused = await refusal(call(data))
        assert (refused.code, refused.reason) == (INVALID, "UNDECODABLE")
    try:
        await call(b"")  # an empty request is a message, and mostly a wrong one
    except grpc.aio.AioRpcError as error:
        refused = refusal_of(error)
        assert refused.code in (INVALID, grpc.StatusCode.NOT_FOUND), refused


async def test_what_ifs_are_checked_as_well(client: Client) -> None:
    portfolio_id = await client.ready()
    base = sizing_request(portfolio_id)
    vary = sizing_service_pb2.Variation
    for variation, path in (
        (vary(price_multiplier=0.0), "variations[0].price_multiplier"),
        (vary(price_multiplier=1e300), "variations[0].price_multiplier"),
        (vary(edge_multiplier=NAN), "variations[0].edge_multiplier"),
        (vary(equity_multiplier=-1.0), "variations[0].equity_multiplier"),
        (vary(limits=limits_pb2.Limits(weight_max=NAN)), "variations[0].limits.weight_max"),
        (
            vary(parameters=parameter_service_pb2.SizingParameters(kelly_fraction=2.0)),
            "variations[0].parameters.kelly_fraction",
        ),
    ):
        request = sizing_service_pb2.WhatIfRequest(base=base, variations=[variation])
        refused = await refusal(client.sizing.WhatIf(request))
        assert path in refused.fields, refused
    none: Message = sizing_service_pb2.WhatIfRequest(base=base)
    assert "variations" in (await refusal(client.sizing.WhatIf(none))).fields
    extreme = [vary(price_multiplier=1e6), vary(price_multiplier=1e-6),
               vary(equity_multiplier=1e6), vary(volatility_multiplier=1e6)]  # fmt: skip
    answer = await client.sizing.WhatIf(
        sizing_service_pb2.WhatIfRequest(base=base, variations=extreme)
    )
    assert len(answer.results) == 4


async def test_a_deadline_that_is_over_is_said_so(client: Client) -> None:
    portfolio_id = await client.ready()
    calls = [client.sizing.SizePositions(sizing_request(portfolio_id), timeout=1e-4)
             for _ in range(20)]  # fmt: skip
    answers = await asyncio.gather(*calls, return_exceptions=True)
    codes = {error.code() for error in answers if isinstance(error, grpc.aio.AioRpcError)}
    assert codes <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
    assert await client.size(sizing_request(portfolio_id))

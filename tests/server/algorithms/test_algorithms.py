"""Sizes by algorithms of a user's own: asked, checked, limited, recorded; and what if they fail."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from positionsizing.v1 import (
    algorithm_service_pb2,
    limits_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    risk_service_pb2,
    simulation_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from compute.algorithm import COLUMNS
from compute.shapes import KernelRegistry
from server.algorithms.trusted import code_hash
from server.app import App
from server.config import ConfigError
from storage import embedded
from tests.server.support import hostile_algorithms as hostile
from tests.server.support.service_client import Client, refusal, sizing_request, started

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples" / "algorithms"
CUSTOM = types_pb2.SIZING_METHOD_CUSTOM
WIDE = {"weight_max": 1.0, "leverage_max": 3.0, "allow_short": True}
PATIENT = "deadline_ms = 10000"
LONG_S = 600.0
"""For work in a process of its own, on a machine that has much else to do."""


def python_table(name: str, function: str, folder: Path, more: str = PATIENT) -> str:
    pinned = code_hash(f"{function}", folder)
    return (
        f'[{name}]\nentry_point = "{function}"\nfolder = "{folder}"\nsha256 = "{pinned}"\n{more}\n'
    )


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the example program listens."""
    return tmp_path_factory.mktemp("socket") / "a.sock"


@pytest_asyncio.fixture(scope="module")
async def program(socket_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The example of a program of its own, running."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLES / "root_kelly.py"), f"unix:{socket_path}"
    )
    async with grpc.aio.insecure_channel(f"unix:{socket_path}") as channel:
        await asyncio.wait_for(channel.channel_ready(), 60.0)
    yield process
    if process.returncode is None:
        process.kill()
    await process.wait()


@pytest_asyncio.fixture(scope="module")
async def algorithms_app(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path_factory: pytest.TempPathFactory,
    program: asyncio.subprocess.Process,
    socket_path: Path,
) -> AsyncIterator[App]:
    """An app with the examples and with algorithms that misbehave."""
    folder = tmp_path_factory.mktemp("algorithms")
    here = Path(hostile.__file__).parent
    settings = folder / "algorithms.toml"
    settings.write_text(
        python_table("inverse-volatility", "inverse_volatility:size", EXAMPLES)
        + python_table("hostile", "hostile_algorithms:size", here)
        + python_table("hasty", "hostile_algorithms:size", here, "deadline_ms = 1")
        + python_table("echo", "hostile_algorithms:echo", here, f"{PATIENT}\nweight_max = 4096")
        + f'[root-kelly]\naddress = "unix:{socket_path}"\n{PATIENT}\n'
        + f'[other]\naddress = "unix:{socket_path}"\nversion = "2.0"\n{PATIENT}\n'
        + '[nobody]\naddress = "unix:/nowhere/at/all.sock"\n'
    )
    async with started(postgres_server, kernels, folder, algorithms_file=settings) as app:
        yield app


@pytest_asyncio.fixture(scope="module")
async def firm(algorithms_app: App) -> AsyncIterator[Client]:
    async with Client.connected(algorithms_app.port) as connected:
        yield connected


def choice(name: str, **numbers: float) -> parameter_service_pb2.AlgorithmChoice:
    parameters = [
        parameter_service_pb2.AlgorithmParameter(name=key, value=value)
        for key, value in numbers.items()
    ]
    return parameter_service_pb2.AlgorithmChoice(name=name, parameters=parameters)


def asked(portfolio_id: str, name: str, numbers: dict[str, float] | None = None, **more: Any):
    edges = {"expected_return": [0.002, 0.001, 0.003], "volatility": [0.02, 0.01, 0.04]}
    edges |= {"win_probability": [], "payoff": []}
    request = sizing_request(portfolio_id, ["I0", "I1", "I2"], edges)
    request.method = CUSTOM
    request.algorithm.CopyFrom(choice(name, **(numbers or {})))
    for key, value in more.items():
        setattr(request, key, value)
    return request


def stage(decision: sizing_pb2.SizingDecision, number: int) -> list[float]:
    return next(list(s.weight) for s in decision.waterfall.stages if s.stage == number)


async def replayed(client: Client, decision: sizing_pb2.SizingDecision) -> Any:
    return await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )


async def test_python_code_sizes_inside_the_limits_and_is_recorded(firm: Client) -> None:
    portfolio_id = await firm.ready(weight_max=0.25, leverage_max=3.0)
    decision = await firm.size(asked(portfolio_id, "inverse-volatility", {"gross": 0.7}))
    # 1/0.02, 1/0.01, 1/0.04 are 2 : 4 : 1 of 0.7; the limit cuts the largest.
    assert list(decision.algorithm.weight) == pytest.approx([0.2, 0.4, 0.1], abs=1e-15)
    assert stage(decision, types_pb2.SIZING_STAGE_ALGORITHM) == pytest.approx([0.2, 0.4, 0.1])
    assert list(decision.sizes.weight) == pytest.approx([0.2, 0.25, 0.1], abs=1e-4)
    assert decision.sizes.binding[1] == types_pb2.LIMIT_KIND_WEIGHT_MAX
    assert decision.status == types_pb2.SIZING_STATUS_CAPPED
    assert decision.method == CUSTOM
    used = decision.algorithm
    assert (used.name, used.version, used.tier) == (
        "inverse-volatility",
        "1.0",
        sizing_pb2.ALGORITHM_TIER_PYTHON,
    )
    assert used.sha256 == code_hash("inverse_volatility:size", EXAMPLES)
    stored = await firm.sizing.GetDecision(
        sizing_service_pb2.GetDecisionRequest(decision_id=decision.decision_id)
    )
    assert stored.decision == decision


async def test_a_program_sizes_and_a_replay_needs_it_no_more(
    firm: Client, program: asyncio.subprocess.Process
) -> None:
    portfolio_id = await firm.ready(**WIDE)
    await firm.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameter_service_pb2.SizingParameters(
                method=CUSTOM, algorithm=choice("root-kelly", scale=0.05, most=0.12)
            ),
        )
    )
    request = asked(portfolio_id, "root-kelly")
    request.ClearField("algorithm")
    request.ClearField("method")
    decision = await firm.size(request)
    kelly = np.array(stage(decision, types_pb2.SIZING_STAGE_RAW_KELLY))
    expected = np.minimum(0.05 * np.sqrt(kelly), 0.12)
    assert list(decision.algorithm.weight) == pytest.approx(expected, rel=1e-12)
    assert decision.algorithm.tier == sizing_pb2.ALGORITHM_TIER_PROCESS
    got = await firm.parameter.GetParameters(
        parameter_service_pb2.GetParametersRequest(portfolio_id=portfolio_id)
    )
    assert got.parameters.algorithm == choice("root-kelly", scale=0.05, most=0.12)

    program.kill()
    await program.wait()
    replay = await replayed(firm, decision)
    assert replay.lots_equal
    assert replay.weight_difference_max == 0.0
    assert replay.replayed.algorithm == decision.algorithm
    after = await firm.size(sizing_request(portfolio_id, ["I3"], {"win_probability": [0.6],
                                                                  "payoff": [1.0]}))  # fmt: skip
    assert after.algorithm.failure == "UNAVAILABLE"
    assert list(after.sizes.trade_lots) == [0]


FAILURES = {
    "raise": "ALGORITHM_ERROR",
    "exit": "ALGORITHM_ERROR",
    "write": "ALGORITHM_ERROR",
    "text": "ALGORITHM_ERROR",
    "short": "ALGORITHM_INVALID_ANSWER",
    "matrix": "ALGORITHM_INVALID_ANSWER",
}


@pytest.mark.parametrize("mode", FAILURES)
async def test_a_failure_keeps_every_position(firm: Client, algorithms_app: App, mode: str) -> None:
    algorithms_app._algorithms._entries["hostile"].breaker.succeeded()
    await firm.put_market()
    portfolio_id = await firm.put_portfolio(1e6, {"I0": 1_000.0})
    await firm.set_limits(portfolio_service_pb2.Scope(portfolio_id=portfolio_id), **WIDE)
    request = asked(portfolio_id, "hostile", {"mode": hostile.MODES.index(mode)})
    decision = await firm.size(request)
    assert decision.status == types_pb2.SIZING_STATUS_FALLBACK
    assert [step.method for step in decision.fallback_chain] == [
        "algorithm hostile",
        "keep positions",
    ]
    assert [(e.line, e.reason) for e in decision.line_errors] == [
        (line, FAILURES[mode]) for line in range(3)
    ]
    assert "'hostile'" in decision.line_errors[0].message
    assert not any(decision.sizes.trade_lots)
    assert decision.sizes.quantity[0] == 1_000.0
    assert set(decision.sizes.line_status) == {types_pb2.LINE_STATUS_REFUSED}
    assert (await replayed(firm, decision)).lots_equal

    request = asked(
        portfolio_id, "hostile", {"mode": hostile.MODES.index(mode)}, all_or_nothing=True
    )
    refused = await refusal(firm.sizing.SizePositions(request))
    assert refused.reason == FAILURES[mode]


LINES = {
    "nan": "ALGORITHM_REFUSED",
    "infinite": "ALGORITHM_OUT_OF_BOUNDS",
    "huge": "ALGORITHM_OUT_OF_BOUNDS",
    "other side": "ALGORITHM_WRONG_SIDE",
}


@pytest.mark.parametrize("mode", LINES)
async def test_a_wrong_size_keeps_its_position_alone(
    firm: Client, algorithms_app: App, mode: str
) -> None:
    algorithms_app._algorithms._entries["hostile"].breaker.succeeded()
    portfolio_id = await firm.ready(**WIDE)
    request = asked(portfolio_id, "hostile", {"mode": hostile.MODES.index(mode)})
    decision = await firm.size(request)
    assert [(e.line, e.reason) for e in decision.line_errors] == [(0, LINES[mode])]
    assert list(decision.sizes.weight) == pytest.approx([0.0, 0.05, 0.05])
    assert not decision.algorithm.failure
    replay = await replayed(firm, decision)
    assert replay.lots_equal
    assert list(replay.replayed.line_errors) == list(decision.line_errors)
    request = asked(
        portfolio_id, "hostile", {"mode": hostile.MODES.index(mode)}, all_or_nothing=True
    )
    refused = await refusal(firm.sizing.SizePositions(request))
    assert refused.fields == {"signals.instrument_ids[0]": LINES[mode]}


async def test_what_fails_again_and_again_is_left_alone(firm: Client, algorithms_app: App) -> None:
    entry = algorithms_app._algorithms._entries["hostile"]
    entry.breaker.succeeded()
    portfolio_id = await firm.ready(**WIDE)
    for _ in range(5):
        await firm.size(asked(portfolio_id, "hostile", {"mode": 1}, validate_only=True))
    before = hostile_module().asked["n"]
    decision = await firm.size(asked(portfolio_id, "hostile", validate_only=True))
    assert decision.algorithm.failure == "RESTING"
    assert hostile_module().asked["n"] == before, "it was not asked"
    listed = await firm.algorithms.ListAlgorithms(algorithm_service_pb2.ListAlgorithmsRequest())
    state = {item.name: item.state for item in listed.algorithms}
    assert state["hostile"] == algorithm_service_pb2.ALGORITHM_STATE_RESTING
    entry.breaker.succeeded()
    decision = await firm.size(asked(portfolio_id, "hostile", validate_only=True))
    assert not decision.algorithm.failure


def hostile_module() -> Any:
    """The module as the service has loaded it: under its own name, like ours."""
    return sys.modules["hostile_algorithms"]


async def test_who_answers_late_is_not_waited_for(firm: Client) -> None:
    portfolio_id = await firm.ready(**WIDE)
    hostile_module().release.clear()
    slow = {"mode": hostile.MODES.index("slow")}
    decision = await firm.size(asked(portfolio_id, "hasty", slow))
    hostile_module().release.set()
    assert {e.reason for e in decision.line_errors} == {"ALGORITHM_TIMEOUT"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nobody", "ALGORITHM_UNAVAILABLE"), ("other", "ALGORITHM_NOT_THE_PINNED_ONE")],
)
async def test_nobody_or_another_program_keeps_every_position(
    firm: Client, name: str, reason: str, algorithms_app: App
) -> None:
    portfolio_id = await firm.ready(**WIDE)
    decision = await firm.size(asked(portfolio_id, name))
    found = {e.reason for e in decision.line_errors}
    # The program of `other` may have been ended by a test before.
    assert found <= {reason, "ALGORITHM_UNAVAILABLE"}
    assert not any(decision.sizes.trade_lots)


async def test_an_algorithm_is_told_what_is_known(firm: Client) -> None:
    portfolio_id = await firm.ready(**WIDE)
    request = sizing_request(
        portfolio_id,
        ["I0", "I1"],
        {"win_probability": [0.6, 0.0], "payoff": [1.0, 0.0], "expected_return": [0.0, 0.01],
         "volatility": [0.0, 0.1]},
    )  # fmt: skip
    request.signals.edge_source[:] = [1, 2]
    request.method = CUSTOM
    told = {}
    for place, name in enumerate(COLUMNS):
        request.algorithm.CopyFrom(choice("echo", column=place))
        request.validate_only = True
        told[name] = [1e3 * w for w in (await firm.size(request)).algorithm.weight]
    assert told["win_probability"] == pytest.approx([0.6, 1.0])  # NaN is told as 1
    assert told["loss_fraction"] == pytest.approx([1.0, 1.0])
    assert told["expected_return"] == pytest.approx([0.2, 0.01])
    assert told["volatility"] == pytest.approx([0.24**0.5 * 2.0, 0.1])
    assert told["raw_kelly"] == pytest.approx([0.2, 1.0])
    assert told["price"] == pytest.approx([10.0, 20.0])
    assert told["weight_max"] == pytest.approx([1.0, 1.0])


async def test_rules_that_only_tighten_hold_for_it_too(firm: Client) -> None:
    portfolio_id = await firm.ready(**WIDE)
    row = parameter_service_pb2.ScheduleRow(name="half", time_zone="UTC", multiplier=0.5)
    await firm.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameter_service_pb2.SizingParameters(
                schedule=parameter_service_pb2.Schedule(rows=[row]), stop_risk_max=0.01
            ),
        )
    )
    request = asked(portfolio_id, "inverse-volatility", {"gross": 0.7})
    request.signals.stop_price[:] = [5.0, 10.0, 49.0]  # half is lost, half, a fiftieth
    decision = await firm.size(request)
    assert list(decision.algorithm.weight) == pytest.approx([0.2, 0.4, 0.1])
    assert stage(decision, types_pb2.SIZING_STAGE_ALGORITHM) == pytest.approx([0.02, 0.02, 0.05])
    assert list(decision.sizes.binding[:2]) == [types_pb2.LIMIT_KIND_STOP_RISK] * 2


async def test_what_ifs_ask_it_for_each_variation(firm: Client) -> None:
    portfolio_id = await firm.ready(**WIDE)
    variations = [
        sizing_service_pb2.Variation(
            name=str(gross),
            parameters=parameter_service_pb2.SizingParameters(
                algorithm=choice("inverse-volatility", gross=gross)
            ),
        )
        for gross in (0.35, 0.875)
    ]
    kelly = parameter_service_pb2.SizingParameters(method=types_pb2.SIZING_METHOD_CLOSED_FORM)
    variations.append(sizing_service_pb2.Variation(name="kelly", parameters=kelly))
    unknown = parameter_service_pb2.SizingParameters(algorithm=choice("unheard-of"))
    variations.append(sizing_service_pb2.Variation(name="unknown", parameters=unknown))
    answer = await firm.sizing.WhatIf(
        sizing_service_pb2.WhatIfRequest(
            base=asked(portfolio_id, "inverse-volatility", {"gross": 0.7}), variations=variations
        )
    )
    assert list(answer.base.sizes.weight) == pytest.approx([0.2, 0.4, 0.1], abs=1e-4)
    weights = {item.name: list(item.sizes.weight) for item in answer.results}
    assert weights["0.35"] == pytest.approx([0.1, 0.2, 0.05], abs=1e-4)
    assert weights["0.875"] == pytest.approx([0.25, 0.5, 0.125], abs=1e-4)
    plain = asked(portfolio_id, "inverse-volatility", validate_only=True)
    plain.ClearField("algorithm")
    plain.method = types_pb2.SIZING_METHOD_CLOSED_FORM
    assert weights["kelly"] == list((await firm.size(plain)).sizes.weight)
    assert answer.results[3].status == types_pb2.SIZING_STATUS_REFUSED
    assert "inverse-volatility" in answer.results[3].message


async def test_what_is_not_there_is_refused_by_name(firm: Client) -> None:
    portfolio_id = await firm.ready(**WIDE)
    refused = await refusal(firm.sizing.SizePositions(asked(portfolio_id, "unheard-of")))
    assert refused.fields == {"algorithm.name": "UNKNOWN_ALGORITHM"}
    assert "inverse-volatility" in refused.message
    request = asked(portfolio_id, "hostile")
    request.ClearField("algorithm")
    assert (await refusal(firm.sizing.SizePositions(request))).reason == "NO_ALGORITHM"
    request = asked(portfolio_id, "hostile", method=types_pb2.SIZING_METHOD_JOINT)
    assert (await refusal(firm.sizing.SizePositions(request))).fields == {
        "algorithm": "NOT_APPLICABLE"
    }
    request = asked(portfolio_id, "hostile", {"a": np.inf})
    assert (await refusal(firm.sizing.SizePositions(request))).fields == {
        "algorithm.parameters[0].value": "NOT_FINITE"
    }
    request = asked(portfolio_id, "hostile")
    request.algorithm.parameters.add(name="a")
    request.algorithm.parameters.add(name="a")
    request.algorithm.parameters.add(name="b c")
    assert (await refusal(firm.sizing.SizePositions(request))).fields == {
        "algorithm.parameters[1].name": "DUPLICATE",
        "algorithm.parameters[2].name": "BAD_FORMAT",
    }


def backtest(name: str, **numbers: float) -> simulation_service_pb2.RunBacktestRequest:
    """Two instruments over four sessions, the second of twice the volatility; decided once."""
    dates = [f"2024-01-0{day}" for day in range(2, 6)]
    setting = simulation_service_pb2.BacktestSetting(
        given=simulation_service_pb2.GivenSignals(
            dates=[dates[1]] * 2,
            signals=sizing_pb2.SignalBatch(
                instrument_ids=["A", "B"],
                side=[types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT],
                expected_return=[0.002, 0.002],
                volatility=[0.01, 0.02],
            ),
        ),
        parameters=parameter_service_pb2.SizingParameters(
            method=CUSTOM, algorithm=choice(name, **numbers)
        ),
        limits=limits_pb2.Limits(weight_max=0.5, allow_short=True),
    )
    prices = simulation_service_pb2.PriceTable(
        dates=dates, instrument_ids=["A", "B"], close=[100.0, 10.0] * 4
    )
    return simulation_service_pb2.RunBacktestRequest(prices=prices, settings=[setting])


async def test_a_backtest_asks_the_algorithm(firm: Client) -> None:
    """Shares of 2/3 and 1/3 of 0.9, the first cut by the limit: 5,000 of A, 30,000 of B short."""
    request = backtest("inverse-volatility", gross=0.9)
    answer = await firm.simulation.RunBacktest(request, timeout=LONG_S)
    (result,) = answer.results
    assert list(result.gross_weight) == pytest.approx([0.0, 0.0, 0.8, 0.8], abs=1e-9)
    assert (result.decisions, result.trades) == (1, 2)
    assert result.cash[-1] == pytest.approx(1e6 - 5e5 + 3e5)


async def test_an_algorithm_loses_no_more_in_a_scenario(firm: Client) -> None:
    """Of 0.2, 0.4 and 0.1 the second is cut to where half of it is a tenth; in a backtest too."""
    shock = risk_service_pb2.ShockEvent(instrument_ids=["I1"], returns=[-0.5])
    crash = risk_service_pb2.StressScenario(scenario_id="halved", shock=shock)
    await firm.risk.PutStressScenario(risk_service_pb2.PutStressScenarioRequest(scenario=crash))
    stress = [limits_pb2.StressLimit(scenario_id="halved", loss_max=0.1)]
    portfolio_id = await firm.ready(**WIDE, joint=limits_pb2.JointLimits(stress=stress))
    decision = await firm.size(asked(portfolio_id, "inverse-volatility", {"gross": 0.7}))
    assert decision.method == CUSTOM
    assert list(decision.sizes.weight) == pytest.approx([0.2, 0.2, 0.1], abs=1e-4)
    assert 0.5 * decision.sizes.weight[1] <= 0.1
    assert decision.sizes.binding[1] == types_pb2.LIMIT_KIND_STRESS_LOSS_MAX
    assert (await replayed(firm, decision)).lots_equal

    request = backtest("inverse-volatility", gross=0.9)
    request.settings[0].limits.joint.stress.extend(stress)
    crash.shock.instrument_ids[:] = ["A"]
    request.stress_scenarios.append(crash)
    (result,) = (await firm.simulation.RunBacktest(request)).results
    assert list(result.gross_weight) == pytest.approx([0.0, 0.0, 0.5, 0.5], abs=1e-4)


async def test_a_backtest_ends_where_the_algorithm_is_unknown_or_fails(firm: Client) -> None:
    refused = await refusal(firm.simulation.RunBacktest(backtest("missing"), timeout=LONG_S))
    field = "settings[0].parameters.algorithm.name"
    assert refused.fields == {field: "UNKNOWN_ALGORITHM"}
    refused = await refusal(firm.simulation.RunBacktest(backtest("nobody"), timeout=LONG_S))
    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.reason == "ALGORITHM_UNAVAILABLE"


async def test_several_portfolios_and_no_equity(firm: Client) -> None:
    ids = [await firm.ready(**WIDE), await firm.ready(**WIDE)]
    parts = [asked(id, "inverse-volatility", {"gross": 0.7}) for id in ids]
    for part in parts:
        part.request_id = ""
    answer = await firm.sizing.SizePortfolios(
        sizing_service_pb2.SizePortfoliosRequest(
            request_id=asked(ids[0], "hostile").request_id, requests=parts
        )
    )
    for decision in answer.decisions:
        assert list(decision.sizes.weight) == pytest.approx([0.2, 0.4, 0.1], abs=1e-4)
    broke = await firm.put_portfolio(-1e6, {"I0": 1_000.0})
    await firm.set_limits(portfolio_service_pb2.Scope(portfolio_id=broke), **WIDE)
    decision = await firm.size(asked(broke, "inverse-volatility"))
    # Without equity what stays held is beyond every limit on weights; a note says what sized it.
    assert decision.status == types_pb2.SIZING_STATUS_LIMIT_EXCEEDED
    assert any(note.startswith("FALLBACK") for note in decision.notes)
    assert decision.sizes.quantity[0] <= 1_000.0
    assert not decision.HasField("algorithm")


async def test_questions_are_counted(firm: Client, algorithms_app: App) -> None:
    portfolio_id = await firm.ready(**WIDE)
    await firm.size(asked(portfolio_id, "inverse-volatility", validate_only=True))
    value = algorithms_app.telemetry.registry.get_sample_value(
        "sizing_algorithm_questions_total", {"algorithm": "inverse-volatility", "outcome": "OK"}
    )
    assert value is not None
    assert value >= 1.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[a]\n", "give entry_point, address or wasm"),
        ('[a]\nentry_point = "x:y"\n', "needs sha256"),
        ('[a]\naddress = "example.com:80"\n', "loopback"),
        ('[a]\naddress = "unix:relative"\n', "loopback"),
        ('[a]\naddress = "127.0.0.1:1"\nsecret = 1\n', "secret"),
        ('["a b"]\naddress = "127.0.0.1:1"\n', "a name is"),
        (f'[a]\nentry_point = "nowhere_at_all:size"\nsha256 = "{"0" * 64}"\n', "no module"),
        (f'[a]\nentry_point = "json:dumps"\nsha256 = "{"0" * 64}"\n', "SHA-256"),
        ("a = [", "algorithms.toml"),
    ],
)
def test_wrong_settings_stop_the_server(tmp_path: Path, text: str, words: str) -> None:
    from server.algorithms.registry import Algorithms

    path = tmp_path / "algorithms.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        Algorithms.of(path)


def test_changed_code_is_not_loaded(tmp_path: Path) -> None:
    from server.algorithms.registry import Algorithms

    code = tmp_path / "changing_algorithm.py"
    code.write_text('VERSION = "1"\n\n\ndef size(c, p, f):\n    return 0 * c["side"]\n')
    settings = tmp_path / "algorithms.toml"
    settings.write_text(python_table("a", "changing_algorithm:size", tmp_path))
    assert Algorithms.of(settings).names == ("a",)
    code.write_text(code.read_text() + "# more\n")
    with pytest.raises(ConfigError, match="SHA-256"):
        Algorithms.of(settings)

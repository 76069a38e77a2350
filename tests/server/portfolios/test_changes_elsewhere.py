"""A change that comes while a decision is computed: sized anew where it concerns it, else not."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from positionsizing.v1 import (
    condition_service_pb2,
    corporate_action_pb2,
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    types_pb2,
    volatility_service_pb2,
)

from compute.shapes import KernelRegistry
from server.sizing.engine import SizingEngine
from storage import embedded
from tests.server.support.service_client import Client, refusal, sizing_request, started

Change = Callable[[Client, str], Awaitable[object]]
"""Made by a client for the portfolio that is being sized."""

CONDITION, MODEL = "stress-index", "own-model"


@pytest_asyncio.fixture(scope="module")
async def client(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Client]:
    """A service of these tests' own: a split of I0 makes the markets of others stale."""
    async with (
        started(postgres_server, kernels, tmp_path_factory.mktemp("elsewhere")) as app,
        Client.connected(app.port) as connected,
    ):
        yield connected


def strategy_of(portfolio_id: str) -> str:
    """The strategy that a portfolio is sized for."""
    return f"of-{portfolio_id}"


def limits(weight_max: float, **scope: str) -> Change:
    async def change(client: Client, portfolio_id: str) -> object:
        mine = {"portfolio_id": portfolio_id, "strategy_id": strategy_of(portfolio_id)}
        of = {name: value or mine[name] for name, value in scope.items()}
        return await client.set_limits(portfolio_service_pb2.Scope(**of), weight_max=weight_max)

    return change


def parameters(strategy_id: str = "", *, is_mine: bool) -> Change:
    async def change(client: Client, portfolio_id: str) -> object:
        request = parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id if is_mine else await client.put_portfolio(),
            strategy_id=strategy_id,
            parameters=_parameters(0.02),
        )
        return await client.parameter.SetParameters(request)

    return change


def _parameters(kelly_fraction: float) -> parameter_service_pb2.SizingParameters:
    rule = parameter_service_pb2.ConditionRule(
        name="calm", condition_id=CONDITION, enter=0.9, leave=0.8, multiplier=0.5
    )
    return parameter_service_pb2.SizingParameters(
        kelly_fraction=kelly_fraction,
        volatility_model=MODEL,
        condition_rules=parameter_service_pb2.ConditionRules(rules=[rule]),
    )


def condition(condition_id: str, **owner: str) -> Change:
    async def change(client: Client, portfolio_id: str) -> object:
        del portfolio_id
        seen = condition_service_pb2.Condition(condition_id=condition_id, value=0.1, **owner)
        return await client.condition.PutCondition(
            condition_service_pb2.PutConditionRequest(condition=seen)
        )

    return change


def model(model_id: str) -> Change:
    async def change(client: Client, portfolio_id: str) -> object:
        del portfolio_id
        return await put_model(client, model_id)

    return change


async def put_model(client: Client, model_id: str) -> object:
    return await client.volatility.PutVolatilityModel(
        volatility_service_pb2.PutVolatilityModelRequest(
            model=volatility_service_pb2.VolatilityModel(
                model_id=model_id, sampling_period=Duration(seconds=3600)
            )
        )
    )


async def condition_of_another(client: Client, portfolio_id: str) -> object:
    another = await client.put_portfolio()
    return await condition(CONDITION, portfolio_id=another)(client, portfolio_id)


async def state_of_another(client: Client, portfolio_id: str) -> object:
    del portfolio_id
    scope = portfolio_service_pb2.Scope(portfolio_id=await client.put_portfolio())
    return await client.portfolio.SetTradingState(
        portfolio_service_pb2.SetTradingStateRequest(
            scope=scope, trading_state=types_pb2.TRADING_STATE_HALTED
        )
    )


def split(instrument_id: str) -> Change:
    async def change(client: Client, portfolio_id: str) -> object:
        del portfolio_id
        action = corporate_action_pb2.CorporateAction(
            instrument_id=instrument_id,
            # Of whoever holds it: other tests may have left odd lots in other portfolios.
            split=corporate_action_pb2.Split(
                new_units=2,
                old_units=1,
                fraction_policy=corporate_action_pb2.FRACTION_POLICY_KEEP,
            ),
        )
        return await client.market.ApplyCorporateAction(
            market_service_pb2.ApplyCorporateActionRequest(
                request_id=sizing_request("any").request_id, action=action, reason="split"
            )
        )

    return change


ELSEWHERE: dict[str, Change] = {
    "limits of another strategy": limits(0.5, strategy_id="another"),
    "parameters of another portfolio": parameters(is_mine=False),
    "trading state of another portfolio": state_of_another,
    "a condition that no rule reads": condition("another"),
    "the condition of another portfolio": condition_of_another,
    "another volatility model": model("another-model"),
    "a split of what is not traded": split("I7"),
}

HERE: dict[str, Change] = {
    "limits of the strategy": limits(0.05, strategy_id=""),
    "limits of the portfolio": limits(0.05, portfolio_id=""),
    "parameters of the portfolio": parameters(is_mine=True),
    "a condition that a rule reads": condition(CONDITION),
    "the volatility model": model(MODEL),
}


async def _sized(
    client: Client, changes: list[Change], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, list[float]]:
    """How often a request is computed while each change comes during one, and its weights."""
    await put_model(client, MODEL)
    await condition(CONDITION)(client, "")
    portfolio_id = await client.ready(weight_max=0.9, leverage_max=1.0)
    request = parameter_service_pb2.SetParametersRequest(
        portfolio_id=portfolio_id, parameters=_parameters(0.5)
    )
    await client.parameter.SetParameters(request)
    solve, n_solves, left = SizingEngine.solve, 0, list(changes)

    async def slow(engine: SizingEngine, *args: object, **given: object) -> object:
        nonlocal n_solves
        n_solves += 1
        solved = await solve(engine, *args, **given)  # type: ignore[arg-type]
        if left:
            await left.pop(0)(client, portfolio_id)
        return solved

    monkeypatch.setattr(SizingEngine, "solve", slow)
    try:
        asked = sizing_request(portfolio_id, ["I0"], strategy_id=strategy_of(portfolio_id))
        decision = await client.size(asked)
    finally:
        monkeypatch.undo()
    return n_solves, list(decision.sizes.weight)


@pytest.mark.parametrize("name", ELSEWHERE)
async def test_what_changes_elsewhere_makes_no_decision_stale(
    name: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_solves, weights = await _sized(client, [ELSEWHERE[name]], monkeypatch)
    assert n_solves == 1
    assert weights == [pytest.approx(0.1)]  # half of 0.6 - 0.4


@pytest.mark.parametrize("name", HERE)
async def test_what_concerns_it_does(
    name: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_solves, weights = await _sized(client, [HERE[name]], monkeypatch)
    assert n_solves == 2
    assert weights[0] == pytest.approx(
        {"limits": 0.05, "parameters": 0.004}.get(name.split()[0], 0.1)
    )


async def test_one_of_many_changes_is_enough(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def several(client: Client, portfolio_id: str) -> None:
        for change in (*ELSEWHERE.values(), HERE["limits of the strategy"], *ELSEWHERE.values()):
            if change is not ELSEWHERE["a split of what is not traded"]:
                await change(client, portfolio_id)

    assert await _sized(client, [several], monkeypatch) == (2, [pytest.approx(0.05)])


@pytest.mark.parametrize("kind", ["firm", "strategy", "portfolio"])
async def test_a_halt_of_whatever_is_over_it_is_seen(
    kind: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    scopes: list[portfolio_service_pb2.Scope] = []

    async def put(state: types_pb2.TradingState.ValueType) -> None:
        await client.portfolio.SetTradingState(
            portfolio_service_pb2.SetTradingStateRequest(scope=scopes[0], trading_state=state)
        )

    async def halt(client: Client, portfolio_id: str) -> None:
        del client
        mine = {"portfolio_id": portfolio_id, "strategy_id": strategy_of(portfolio_id)}
        named = {name: id for name, id in mine.items() if name.startswith(kind)}
        scopes.append(portfolio_service_pb2.Scope(**named))
        await put(types_pb2.TRADING_STATE_HALTED)

    try:
        refused = await refusal(_sized(client, [halt], monkeypatch))
    finally:
        await put(types_pb2.TRADING_STATE_ACTIVE)
    assert refused.reason == "TRADING_HALTED"


async def test_a_split_of_what_is_asked_for_is_seen(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kept snapshot is older than the split, so its price is refused; the latest is 5."""
    n_solves, weights = await _sized(client, [split("I0")], monkeypatch)
    assert n_solves == 2
    assert weights == [pytest.approx(0.1)]
    latest = await client.market.GetMarketSnapshot(market_service_pb2.GetMarketSnapshotRequest())
    assert latest.snapshot.price[0] == 5.0
    await client.put_market()  # for the tests after this one


async def test_what_keeps_changing_is_given_up_in_true_words(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [limits(0.5 + i / 1000, portfolio_id="") for i in range(20)]
    refused = await refusal(_sized(client, changes, monkeypatch))
    assert refused.reason == "CONTENDED"
    assert "what the decision is computed from kept changing" in refused.message

"""Limits, trading states, parameters: histories that only grow, and versions that tell of them."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from storage.errors import InvalidContent, NotFound, VersionConflict
from storage.postgres import (
    groups,
    limits,
    parameters,
    portfolios,
    snapshots,
    tenants,
    trading_state,
)
from storage.postgres.scopes import TENANT_SCOPE, Scope, ScopeKind
from storage.postgres.trading_state import TradingState
from tests.fixtures_postgres import TENANT

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
BOOK = Scope(ScopeKind.PORTFOLIO, "book")
AUTHOR = {"author": "risk officer", "reason": "policy 7"}


@pytest.fixture(autouse=True)
async def _book(connection: asyncpg.Connection) -> None:
    await groups.create(connection, TENANT, "firm", "The firm")
    await portfolios.create(
        connection,
        TENANT,
        "book",
        display_name="Book",
        base_currency="USD",
        as_of_time=NOON,
        group_id="firm",
    )


async def test_limits_keep_their_history_and_the_newest_is_in_force(
    connection: asyncpg.Connection,
) -> None:
    first = await limits.put(connection, TENANT, BOOK, {"gross_max": 1.5}, **AUTHOR)
    second = await limits.put(connection, TENANT, BOOK, {"gross_max": 0.1}, **AUTHOR)
    assert (first.version, second.version) == (1, 2)
    assert await limits.current(connection, TENANT, [BOOK]) == [second]
    assert await limits.history(connection, TENANT, BOOK) == [second, first]
    assert await limits.history(connection, TENANT, BOOK, before_version=2) == [first]


async def test_limits_of_several_scopes_come_in_the_order_asked_for(
    connection: asyncpg.Connection,
) -> None:
    for scope in (TENANT_SCOPE, BOOK):
        await limits.put(connection, TENANT, scope, {"of": scope.kind}, **AUTHOR)
    unset = Scope(ScopeKind.STRATEGY, "trend")
    found = await limits.current(connection, TENANT, [BOOK, unset, TENANT_SCOPE])
    assert [limit.document["of"] for limit in found] == ["PORTFOLIO", "TENANT"]


async def test_limits_refuse_a_stale_version_and_an_unknown_scope(
    connection: asyncpg.Connection,
) -> None:
    await limits.put(connection, TENANT, BOOK, {}, **AUTHOR, expected_version=0)
    with pytest.raises(VersionConflict) as conflict:
        await limits.put(connection, TENANT, BOOK, {}, **AUTHOR, expected_version=0)
    assert (conflict.value.expected, conflict.value.actual) == (0, 1)
    with pytest.raises(NotFound):
        await limits.put(connection, TENANT, Scope(ScopeKind.PORTFOLIO, "nowhere"), {}, **AUTHOR)


@pytest.mark.parametrize(
    ("scope", "changed"),
    [
        (TENANT_SCOPE, (1, 0, 0)),
        (Scope(ScopeKind.STRATEGY, "trend"), (1, 0, 0)),
        (Scope(ScopeKind.GROUP, "firm"), (0, 1, 0)),
        (BOOK, (0, 0, 1)),
    ],
)
async def test_a_change_of_policy_raises_the_version_that_decisions_compare(
    connection: asyncpg.Connection, scope: Scope, changed: tuple[int, int, int]
) -> None:
    before = await _versions(connection)
    await limits.put(connection, TENANT, scope, {}, **AUTHOR)
    await trading_state.put(connection, TENANT, scope, TradingState.HALTED, **AUTHOR)
    after = await _versions(connection)
    # A trading state always has a number of the tenant, as every decision carries one.
    expected = (2 if changed[0] else 1, 2 * changed[1], 2 * changed[2])
    assert tuple(b - a for a, b in zip(before, after, strict=True)) == expected


async def _versions(connection: asyncpg.Connection) -> tuple[int, int, int]:
    return (
        (await tenants.get(connection, TENANT)).version,
        (await groups.get(connection, TENANT, "firm")).version,
        (await portfolios.get(connection, TENANT, "book")).version,
    )


async def test_the_strictest_trading_state_of_all_scopes_holds(
    connection: asyncpg.Connection,
) -> None:
    scopes = [TENANT_SCOPE, BOOK, Scope(ScopeKind.STRATEGY, "trend")]
    assert await trading_state.effective(connection, TENANT, scopes) is TradingState.ACTIVE
    await trading_state.put(connection, TENANT, scopes[2], TradingState.HALTED, **AUTHOR)
    await trading_state.put(connection, TENANT, TENANT_SCOPE, TradingState.REDUCING, **AUTHOR)
    assert await trading_state.effective(connection, TENANT, scopes) is TradingState.HALTED
    assert await trading_state.effective(connection, TENANT, [BOOK]) is TradingState.ACTIVE
    await trading_state.put(connection, TENANT, scopes[2], TradingState.ACTIVE, **AUTHOR)
    assert await trading_state.effective(connection, TENANT, scopes) is TradingState.REDUCING
    states = [s.state for s in await trading_state.history(connection, TENANT, scopes[2])]
    assert states == [TradingState.ACTIVE, TradingState.HALTED]


async def test_the_most_specific_parameters_in_force_come_first(
    connection: asyncpg.Connection,
) -> None:
    async def put(name: str, portfolio_id: str, strategy_id: str, hours: int) -> None:
        await parameters.put(
            connection,
            TENANT,
            {"name": name},
            portfolio_id=portfolio_id,
            strategy_id=strategy_id,
            effective_time=NOON + timedelta(hours=hours),
            **AUTHOR,
        )

    await put("default", "", "", 0)
    await put("strategy", "", "trend", 0)
    await put("both", "book", "trend", 2)
    await put("portfolio", "book", "", 1)
    await put("portfolio, corrected", "book", "", 1)

    async def names(hours: int, strategy_id: str = "trend") -> list[str]:
        time = NOON + timedelta(hours=hours)
        layers = await parameters.layers(
            connection, TENANT, portfolio_id="book", strategy_id=strategy_id, time=time
        )
        return [layer.document["name"] for layer in layers]

    assert await names(-1) == []
    assert await names(0) == ["strategy", "default"]
    assert await names(1) == ["portfolio, corrected", "strategy", "default"]
    assert await names(2) == ["both", "portfolio, corrected", "strategy", "default"]
    assert await names(2, strategy_id="") == ["portfolio, corrected", "default"]
    assert await names(2, strategy_id="value") == ["portfolio, corrected", "default"]


async def test_parameters_refuse_a_stale_version_and_an_unknown_portfolio(
    connection: asyncpg.Connection,
) -> None:
    once = {"effective_time": NOON, "expected_version": 0, **AUTHOR}
    await parameters.put(connection, TENANT, {"fraction": 0.5}, **once)
    with pytest.raises(VersionConflict):
        await parameters.put(connection, TENANT, {"fraction": 0.6}, **once)
    with pytest.raises(NotFound):
        await parameters.put(connection, TENANT, {}, portfolio_id="nowhere", **once)
    assert len(await parameters.history(connection, TENANT)) == 1


@pytest.mark.parametrize(
    "table",
    [
        "trading_state",
        "limit_set",
        "parameter_set",
        "request",
        "decision",
        "settlement",
        "history_part",
        "stress_scenario",
    ],
)
@pytest.mark.parametrize("change", ["DELETE FROM {}", "TRUNCATE {} CASCADE"])
async def test_history_cannot_be_rewritten(
    connection: asyncpg.Connection, table: str, change: str
) -> None:
    await connection.execute("SET ROLE NONE")  # the owner: the service may not even try
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="append-only"):
        await connection.execute(change.format(table))


async def test_history_cannot_be_updated(connection: asyncpg.Connection) -> None:
    await limits.put(connection, TENANT, BOOK, {}, **AUTHOR)
    await connection.execute("SET ROLE NONE")
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="append-only"):
        await connection.execute("UPDATE limit_set SET document = '{}'")


async def test_nan_in_a_document_is_refused_before_it_is_sent(
    connection: asyncpg.Connection,
) -> None:
    with pytest.raises(InvalidContent, match="not JSON compliant"):
        await limits.put(connection, TENANT, BOOK, {"gross_max": float("nan")}, **AUTHOR)


async def test_a_look_at_versions_finds_what_a_state_would_be_read_at(
    connection: asyncpg.Connection,
) -> None:
    await portfolios.create(
        connection, TENANT, "loner", display_name="", base_currency="USD", as_of_time=NOON
    )
    for portfolio_id, strategy_id, effective in (
        ("", "", NOON),
        ("book", "trend", NOON),
        ("book", "trend", NOON + timedelta(hours=2)),
        ("", "trend", NOON + timedelta(hours=1)),
    ):
        await parameters.put(
            connection,
            TENANT,
            {},
            portfolio_id=portfolio_id,
            strategy_id=strategy_id,
            effective_time=effective,
            **AUTHOR,
        )
    keys = [(TENANT, *pair) for pair in (("loner", ""), ("book", "trend"), ("nowhere", ""))]
    for hours, expected in (
        (-1, [(None, None, None, None), (None, None, None, None)]),
        (0, [(None, None, 1, 1), (1, None, None, 1)]),
        (1, [(None, None, 1, 1), (1, None, 1, 1)]),
        (3, [(None, None, 1, 1), (2, None, 1, 1)]),
    ):
        time = NOON + timedelta(hours=hours)
        found = await snapshots.versions(connection, keys, time)
        assert [found[key].parameters for key in keys[:2]] == expected
        assert keys[2] not in found
        for key in keys[:2]:
            snapshot = await snapshots.read(connection, TENANT, key[1])
            layers = await parameters.layers(
                connection, TENANT, portfolio_id=key[1], strategy_id=key[2], time=time
            )
            assert found[key] == (
                snapshot.portfolio.version,
                snapshot.tenant_version,
                snapshot.group_version,
                parameters.versions_of(layers, *key[1:]),
            )

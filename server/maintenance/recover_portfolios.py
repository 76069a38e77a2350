"""Portfolios that a restored database doesn't have, or has as they were before.

Their events tell them whole. One that is not there is made as it was; of one that is there the part
that a change was about is set to what was told, at its place among decisions and fills.
"""

import asyncpg

from server.convert.portfolio_changed import PortfolioChange, ToldPortfolio, portfolio_of
from storage.postgres import (
    cash,
    closing,
    groups,
    high_water_marks,
    portfolios,
    recovery,
    requests,
    universes,
)
from storage.postgres.scopes import Scope, ScopeKind, bump

CHANGED = "PortfolioChanged"


def is_creation(payload: bytes) -> bool:
    """Whether a PortfolioChanged tells of a new portfolio."""
    return portfolio_of(payload).kind is PortfolioChange.CREATED


def is_closing(payload: bytes) -> bool:
    """Whether a PortfolioChanged tells of the end of one."""
    return portfolio_of(payload).kind is PortfolioChange.CLOSED


async def enter(connection: asyncpg.Connection, tenant_id: str, payload: bytes) -> str:
    """Enters what a PortfolioChanged tells; why it isn't all, or ''.

    Errors: `NotFound`, `AlreadyExists`, `FailedPrecondition` (it is closed, or can't be yet).
    """
    told = portfolio_of(payload)
    key = (tenant_id, told.portfolio_id)
    named = {"author": told.author, "reason": told.reason}
    scope = Scope(ScopeKind.PORTFOLIO, told.portfolio_id)
    match told.kind:
        case PortfolioChange.CREATED:
            await _create(connection, tenant_id, told)
        case PortfolioChange.RENAMED:
            await portfolios.update_details(
                connection,
                *key,
                display_name=told.display_name,
                group_id=told.group_id or None,
            )
        case PortfolioChange.HOLDINGS_SET:
            await portfolios.replace_state(
                connection,
                *key,
                cash=told.cash,
                holdings=told.holdings,
                as_of_time=told.as_of_time,
                balances=told.balances,
            )
        case PortfolioChange.CASH_ADJUSTED:
            await bump(connection, tenant_id, scope)
            await cash.set_to(connection, *key, told.cash, told.balances)
            if told.request is not None:
                await requests.put(connection, tenant_id, told.request)
        case PortfolioChange.TIME_ZONE_SET:
            await bump(connection, tenant_id, scope)
            await portfolios.set_time_zone(connection, *key, told.time_zone)
        case PortfolioChange.UNIVERSE_SET:
            await universes.set_universe(connection, *key, told.universe_id, **named)
        case PortfolioChange.EQUITY_CONFIRMED:
            await bump(connection, tenant_id, scope)
        case PortfolioChange.HIGH_WATER_MARK_REBASED:
            await bump(connection, tenant_id, scope)
            mark = told.high_water_mark
            assert mark is not None, "it was set"
            await high_water_marks.rebase(connection, *key, mark, **named)
        case PortfolioChange.CLOSED:
            await closing.close(connection, *key, close_time=told.close_time)
        case None:
            return "a newer release told it"
    await portfolios.set_equity_accepted(connection, *key, told.equity_accepted)
    if told.high_water_mark is not None:
        await high_water_marks.set_to(connection, *key, told.high_water_mark)
    await recovery.version_at_least(connection, *key, told.version)
    return ""


async def _create(connection: asyncpg.Connection, tenant_id: str, told: ToldPortfolio) -> None:
    if told.group_id:
        await groups.ensure(connection, tenant_id, told.group_id)
    await portfolios.create(
        connection,
        tenant_id,
        told.portfolio_id,
        display_name=told.display_name,
        base_currency=told.base_currency,
        as_of_time=told.as_of_time,
        cash=told.cash,
        holdings=told.holdings,
        group_id=told.group_id or None,
        balances=told.balances,
        time_zone=told.time_zone,
        universe_id=told.universe_id,
        create_time=told.create_time,
    )
    if told.universe_id:
        await universes.note(
            connection,
            tenant_id,
            told.portfolio_id,
            told.universe_id,
            author=told.author,
            reason="created with it",
        )

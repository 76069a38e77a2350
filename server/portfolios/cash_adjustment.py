"""AdjustCash: payments, income and conversions of a portfolio, each booked once."""

import hashlib
from collections.abc import Iterator, Mapping

from positionsizing.v1 import portfolio_service_pb2 as pb

from compute.money.currency import to_base
from compute.money.text import money
from server.calls.errors import FieldViolation, invalid, invalid_fields, precondition
from server.calls.request_context import Call
from server.convert.market import rates_of
from server.convert.names import checked_id, text_violations, uuid
from server.convert.portfolio import balance_violations
from server.convert.portfolio_changed import PortfolioChange
from server.convert.ranges import number_violations
from server.portfolios.high_water_mark import follows_payments, scale
from server.portfolios.limit_monitor import BreachWatch
from server.portfolios.state import States
from server.portfolios.told import read_portfolio, tell_changed
from server.portfolios.valuation import last_equity
from storage.postgres import (
    cash,
    closing,
    locks,
    portfolios,
    requests,
)
from storage.postgres.pool import Database
from storage.postgres.requests import Request
from storage.postgres.scopes import Scope, ScopeKind, bump

METHOD = "AdjustCash"
CONVERSION_LOSS_MAX = 0.5
"""Relative. What is further from the newest rates is a slipped digit, as for fills."""


async def adjust(
    database: Database, states: States, call: Call, request: pb.AdjustCashRequest
) -> bytes:
    """Books it, or answers as before. Raises `Refusal`."""
    request_id = uuid(request.request_id, "request_id")
    portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
    if found := list(_violations(request)):
        raise invalid_fields(found)
    content = request.SerializeToString(deterministic=True)
    digest = hashlib.sha256(content).digest()
    key = (call.tenant_id, portfolio_id)
    async with database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
        await requests.lock(connection, call.tenant_id, request_id)
        known = await requests.find(connection, call.tenant_id, request_id)
        if known is not None:
            return known.answer_to(METHOD, digest)
        await closing.check_open(connection, *key)
        locked = await locks.lock_portfolio(connection, *key)
        if locked.group_id is not None:
            await locks.bump_groups(connection, {(call.tenant_id, locked.group_id)})
        portfolio = await portfolios.get(connection, *key)
        base = portfolio.base_currency
        market = await states.newest_within(connection, call.tenant_id, portfolio.universe_id)
        before = await last_equity(connection, states, *key, market)
        if request.kind == pb.CASH_FLOW_KIND_CONVERSION and market is not None:
            _check_conversion(request, to_base(rates_of(market.message), base))
        changes = {
            "" if item.currency == base else item.currency: item.amount for item in request.changes
        }
        await cash.add(connection, *key, changes)
        after = await last_equity(connection, states, *key, market)
        is_payment = request.kind == pb.CASH_FLOW_KIND_PAYMENT
        if is_payment and before is None and await follows_payments(connection, *key):
            text = (
                "no market snapshot of late values what the portfolio holds, so that its "
                "high-water mark and trading day can't follow the payment: store one first"
            )
            raise precondition("MISSING_PRICE", text)
        if is_payment and before is not None and after is not None and before > 0.0 and after > 0.0:
            await scale(connection, *key, after / before)
            await portfolios.scale_equity(connection, *key, after / before)
        await bump(connection, call.tenant_id, Scope(ScopeKind.PORTFOLIO, portfolio_id))
        stored = await read_portfolio(connection, *key)
        answer = pb.AdjustCashResponse(portfolio=stored).SerializeToString(deterministic=True)
        made = Request(request_id, METHOD, digest, content, answer)
        await requests.put(connection, call.tenant_id, made)
        kind = PortfolioChange.CASH_ADJUSTED
        await tell_changed(connection, call, kind, stored, reason=request.reason, request=made)
        await BreachWatch(states).look(connection, call, [portfolio_id], "holdings")
    states.changed(call.tenant_id)
    return answer


def _check_conversion(request: pb.AdjustCashRequest, rates: Mapping[str, float]) -> None:
    """Raises `Refusal` where what is had is not near what is given up, at the newest rates."""
    if any(item.currency not in rates for item in request.changes):
        return
    worth = [item.amount * rates[item.currency] for item in request.changes]
    given, had = -min(worth), max(worth)
    if abs(had - given) > CONVERSION_LOSS_MAX * given:
        text = (
            f"are worth {money(given)} given up and {money(had)} had, at the newest "
            "rates, in the base currency: a conversion moves no value; book the rest as INCOME or "
            "PAYMENT"
        )
        raise invalid("changes", "CONTRADICTORY", text)


def _violations(request: pb.AdjustCashRequest) -> Iterator[FieldViolation]:
    yield from number_violations(request)
    yield from balance_violations(request.changes, "changes")
    yield from text_violations(request.reason, "reason")
    if not request.changes:
        yield FieldViolation("changes", "MISSING", "needs at least one currency")
    if request.kind not in pb.CashFlowKind.values() or not request.kind:
        yield FieldViolation("kind", "MISSING", "must be PAYMENT, INCOME or CONVERSION")
    elif request.kind == pb.CASH_FLOW_KIND_CONVERSION:
        amounts = sorted(item.amount for item in request.changes)
        if len(amounts) != 2 or not amounts[0] < 0.0 < amounts[1]:
            text = "of a conversion are one amount below 0 and one above, of two currencies"
            yield FieldViolation("changes", "OUT_OF_RANGE", text)

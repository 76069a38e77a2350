"""The drill of docs/operations.md: a database restored to before takes in what was told since."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from positionsizing.v1 import (
    audit_service_pb2,
    corporate_action_pb2,
    market_service_pb2,
    parameter_service_pb2,
    types_pb2,
)
from positionsizing.v1 import portfolio_service_pb2 as pb_portfolio
from positionsizing.v1 import sizing_service_pb2 as pb

from compute.shapes import KernelRegistry
from server.cli.recover import halt_all
from server.maintenance.recover import Outcome, Report, recover
from storage import embedded
from storage.events.ports import InMessage
from storage.events.shard import message_of
from storage.postgres import backup
from storage.postgres.outbox import OutboxEvent
from storage.postgres.pool import Database, PoolOptions
from tests.fixtures_postgres import create_database
from tests.server.support.service_client import Client, refusal, same, sizing_request, started

TENANT = "local"
SPLIT = corporate_action_pb2.CorporateAction(
    instrument_id="I0",
    split=corporate_action_pb2.Split(
        new_units=2, old_units=1, fraction_policy=corporate_action_pb2.FRACTION_POLICY_KEEP
    ),
)
DIVIDEND = corporate_action_pb2.CorporateAction(
    instrument_id="I0", cash_dividend=corporate_action_pb2.CashDividend(amount=0.125)
)
KEPT = {
    "decision": "decision_id, request_id, kind, portfolio_id, strategy_id, portfolio_sequence, "
    "create_time, status, versions, instrument_id, lots, weight, notional, price, line_status",
    "reservation": "decision_id, portfolio_id, strategy_id, state, expire_time, instrument_id, "
    "trade_lots_open, lot_size, price, cash_open",
    "settlement": "request_id, decision_id, portfolio_id, outcome, cash_change, instrument_id, "
    "lots, price, balances_change",
    "request": "request_id, method, request_hash, response",
    "holding": "portfolio_id, instrument_id, quantity, average_price::text",
    "limit_set": "scope_kind || scope_id || version, document, author, approver, reason",
    "parameter_set": "portfolio_id || strategy_id || version, effective_time, document, author, "
    "reason",
    "trading_state": "scope_kind || scope_id || version, state, author, reason",
    "corporate_action": "request_id, instrument_id, kind, effective_time, price_factor, payment, "
    "payload, author, reason",
    "portfolio": "portfolio_id, group_id, display_name, base_currency, cash, cash_balances, "
    "version, event_sequence, equity_accepted, time_zone, universe_id, as_of_time, create_time, "
    "close_time",
    "high_water_mark": "portfolio_id, equity",
    "high_water_mark_rebase": "portfolio_id || version, equity_before, equity_after, author, "
    "reason",
    "portfolio_universe": "portfolio_id || version, universe_id, author, reason",
}
"""By table: the columns that are as before once all is recovered."""


async def tables(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    owner = await asyncpg.connect(dsn)
    found = {
        name: [
            tuple(row)
            for row in await owner.fetch(f"SELECT {names} FROM {name} ORDER BY {key}")
            if row[0] != "TENANT1"  # the halt of a database that was restored
        ]
        for name, names in KEPT.items()
        for key in (names.split(",")[0] + (", instrument_id" if name == "holding" else ""),)
    }
    await owner.close()
    return found


async def published(dsn: str) -> list[InMessage]:
    """All events as the relay publishes them; there is no broker, so all are in the outbox."""
    owner = await asyncpg.connect(dsn)
    rows = await owner.fetch(
        """SELECT position, event_id, tenant_id, topic, portfolio_id, portfolio_sequence, type,
            schema_version, payload, trace_id, create_time FROM outbox ORDER BY random()"""
    )
    await owner.close()
    messages = []
    for row in rows:
        event = OutboxEvent(**row)
        sent = message_of(event)
        at = sent.event_time_ms
        messages.append(
            InMessage(event.topic, sent.key, sent.payload, sent.properties, "1", publish_time_ms=at)
        )
    return messages


def settlement(
    decision_id: str, lots: int = 0, close: bool = False, price: float = 10.5
) -> pb.SettleDecisionRequest:
    fills = pb.Fills(instrument_ids=["I0"], lots=[lots], price=[price], fee=[3.0])
    return pb.SettleDecisionRequest(
        request_id=str(uuid4()), decision_id=decision_id, close=close, fills=fills if lots else None
    )


async def recovered(dsn: str, messages: list[InMessage], write: bool = True) -> Report:
    database = await Database.open(dsn, PoolOptions(application_name="sizing-recover"))

    def read(take: Callable[[InMessage], None]) -> None:
        for message in messages:
            take(message)

    try:
        report = await recover(database, read, write=write)
        if write:
            await halt_all(database)
        return report
    finally:
        await database.aclose()


async def test_what_was_told_is_there_again_and_numbers_go_on(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    restored, folder = create_database(postgres_server), tmp_path / "backup"
    answers: list[tuple[Any, Any]] = []

    async with (
        started(postgres_server, kernels, tmp_path / "a", dsn=dsn) as app,
        Client.connected(app.port) as client,
    ):
        book, *more, left, right = [await client.ready() for _ in range(5)]
        kept = await client.size(sizing_request(book))
        await backup.backup(dsn, folder, release="1")
        # From here on nothing is in the backup.
        for name in more:
            request = sizing_request(name)
            answers.append((request, await client.size(request)))
        filled, open_ = (answer.decision_id for _, answer in answers)
        parts = [sizing_request(name, request_id="") for name in (left, right)]
        together = pb.SizePortfoliosRequest(request_id=str(uuid4()), requests=parts)
        answers.append((together, await client.sizing.SizePortfolios(together)))
        for ask in (
            settlement(kept.decision_id, 100),
            settlement(filled, 50),
            settlement(filled, close=True),
        ):
            answers.append((ask, await client.sizing.SettleDecision(ask)))
        await change(client, book)
        before = await tables(dsn)
        messages = await published(dsn)

    await backup.restore(restored, folder)
    found = await recovered(restored, messages, write=False)
    assert len((await tables(restored))["decision"]) == 1, "only looked at"
    report = await recovered(restored, messages)
    by_type = [
        (item.event.type, item.outcome)
        for item in report.findings
        if item.outcome is not Outcome.TOLD_ONLY
    ]
    assert sorted(by_type) == [
        *[("DecisionSettled", Outcome.ENTERED)] * 3,
        *[("LimitsChanged", Outcome.ENTERED)] * 3,
        ("ParametersChanged", Outcome.ENTERED),
        *[("PositionSized", Outcome.ENTERED)] * 4,
        *[("TradingStateChanged", Outcome.ENTERED)] * 3,
    ]
    assert [item.event for item in found.findings] == [item.event for item in report.findings]
    assert report.gaps == ()
    after = await tables(restored)
    for name, rows in before.items():
        assert after[name] == rows, name
    assert (await recovered(restored, messages)).findings == (), "again there is nothing"

    numbers = {(m.key, m.properties["portfolio_sequence"]) for m in messages}
    async with (
        started(postgres_server, kernels, tmp_path / "b", dsn=restored) as app,
        Client.connected(app.port) as client,
    ):
        for ask, answer in answers:  # every caller that comes again gets what it was told
            calls = {
                pb.SizePositionsRequest: client.size,
                pb.SizePortfoliosRequest: client.sizing.SizePortfolios,
                pb.SettleDecisionRequest: client.sizing.SettleDecision,
            }
            assert same(await calls[type(ask)](ask), answer)
        got = await client.sizing.GetDecision(pb.GetDecisionRequest(decision_id=open_))
        assert same(got.decision, answers[1][1])
        replay = pb.ReplayDecisionRequest(decision_id=open_)
        assert (await refusal(client.sizing.ReplayDecision(replay))).reason == "INPUTS_LOST"
        halted = await refusal(client.size(sizing_request(book)))
        assert (halted.code.name, halted.reason) == ("FAILED_PRECONDITION", "TRADING_HALTED")
        assert "restored" in halted.message
        await client.portfolio.SetTradingState(
            pb_portfolio.SetTradingStateRequest(
                trading_state=types_pb2.TRADING_STATE_ACTIVE,
                scope=pb_portfolio.Scope(),
                reason="looked at",
            )
        )
        await client.sizing.SettleDecision(settlement(open_, 20))
        await client.size(sizing_request(book))
        checked = await client.audit.VerifyAudit(audit_service_pb2.VerifyAuditRequest())
        assert not checked.faults
        old = {m.event_id for m in messages}
        new = [m for m in await published(restored) if m.event_id not in old]
        assert {m.properties["event_type"] for m in new} >= {"PositionSized", "DecisionSettled"}
        for message in new:
            assert (message.key, message.properties["portfolio_sequence"]) not in numbers
        alerts = b"".join(m.payload for m in new if m.topic == "alerts")
        assert b"DATABASE_RECOVERED" in alerts


async def change(client: Client, book: str) -> None:
    """Limits, parameters and trading states of several scopes."""
    scope = pb_portfolio.Scope
    await client.set_limits(scope(strategy_id="carry"), weight_max=0.05)
    await client.set_limits(scope(strategy_id="carry"), weight_max=0.04)
    await client.set_limits(scope(portfolio_id=book), weight_max=0.03)
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=book,
            parameters=parameter_service_pb2.SizingParameters(kelly_fraction=0.1),
            reason="smaller",
        )
    )
    for name, state in (("carry", "HALTED"), ("carry", "ACTIVE"), ("trend", "REDUCING")):
        await client.portfolio.SetTradingState(
            pb_portfolio.SetTradingStateRequest(
                scope=scope(strategy_id=name),
                trading_state=types_pb2.TradingState.Value(f"TRADING_STATE_{state}"),
                reason=f"{name} {state}",
            )
        )


async def test_actions_between_decisions_are_applied_at_their_place(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    restored, folder = create_database(postgres_server), tmp_path / "backup"
    async with (
        started(postgres_server, kernels, tmp_path / "a", dsn=dsn) as app,
        Client.connected(app.port) as client,
    ):
        book, other = [await client.ready() for _ in range(2)]
        await backup.backup(dsn, folder, release="1")
        # From here on nothing is in the backup: trades in old units, in new ones, fills of both.
        earlier = await client.size(sizing_request(book))
        await client.size(sizing_request(other))
        await client.sizing.SettleDecision(settlement(earlier.decision_id, 50))
        for action in (SPLIT, DIVIDEND):
            asked = market_service_pb2.ApplyCorporateActionRequest(
                request_id=str(uuid4()), action=action, reason="announced"
            )
            await client.market.ApplyCorporateAction(asked)
        await client.sizing.SettleDecision(settlement(earlier.decision_id, 40, price=5.0))
        await client.sizing.SettleDecision(settlement(earlier.decision_id, close=True))
        later = await client.size(sizing_request(book))
        await client.sizing.SettleDecision(settlement(later.decision_id, 10, price=5.0))
        before = await tables(dsn)
        messages = await published(dsn)
        market = await client.market.GetMarketSnapshot(
            market_service_pb2.GetMarketSnapshotRequest()
        )
    assert len(before["corporate_action"]) == 2

    await backup.restore(restored, folder)
    report = await recovered(restored, messages)
    by_hand = [item for item in report.findings if item.outcome is Outcome.BY_HAND]
    assert by_hand == []
    after = await tables(restored)
    for name, rows in before.items():
        kept = [row for row in after[name] if "ApplyCorporateAction (partly lost)" not in row]
        assert kept == [row for row in rows if "ApplyCorporateAction" not in row], name
    async with (
        started(postgres_server, kernels, tmp_path / "b", dsn=restored) as app,
        Client.connected(app.port) as client,
    ):
        got = await client.market.GetMarketSnapshot(market_service_pb2.GetMarketSnapshotRequest())
        assert got.snapshot.price == market.snapshot.price, "halved, less the dividend"
        checked = await client.audit.VerifyAudit(audit_service_pb2.VerifyAuditRequest())
        assert not checked.faults
        again = await refusal(client.market.ApplyCorporateAction(asked))
        assert again.reason == "REQUEST_ID_REUSED", "not applied twice"


async def test_a_holding_that_is_another_is_said_and_trades_are_in_new_units(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    restored, folder = create_database(postgres_server), tmp_path / "backup"
    async with (
        started(postgres_server, kernels, tmp_path / "a", dsn=dsn) as app,
        Client.connected(app.port) as client,
    ):
        book = await client.ready()
        made = await client.size(sizing_request(book))
        await backup.backup(dsn, folder, release="1")
        await client.portfolio.SetHoldings(  # its event is lost
            pb_portfolio.SetHoldingsRequest(
                portfolio_id=book,
                cash=1e6,
                holdings=pb_portfolio.Holdings(instrument_ids=["I0"], quantity=[70.0]),
            )
        )
        asked = market_service_pb2.ApplyCorporateActionRequest(
            request_id=str(uuid4()), action=SPLIT, reason="announced"
        )
        await client.market.ApplyCorporateAction(asked)
        before = await tables(dsn)
        messages = [m for m in await published(dsn) if not is_of(m, book, "PortfolioChanged")]
    await backup.restore(restored, folder)
    report = await recovered(restored, messages)
    (left,) = [item for item in report.findings if item.outcome is Outcome.BY_HAND]
    assert (left.event.portfolio_id, left.event.type) == (book, "CorporateActionApplied")
    assert left.why == ("it held 70 units of I0 before the action, 0 here: set holdings and cash")
    assert made.sizes.trade_lots[0]
    assert (await tables(restored))["reservation"] == before["reservation"]


def is_of(message: InMessage, book: str, kind: str) -> bool:
    return (message.key, message.event_type) == (book, kind)


async def test_portfolios_are_as_they_were_changed_and_new_ones_are_there(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    restored, folder = create_database(postgres_server), tmp_path / "backup"
    new = "new-book"
    async with (
        started(postgres_server, kernels, tmp_path / "a", dsn=dsn) as app,
        Client.connected(app.port) as client,
    ):
        book, ended = [await client.ready() for _ in range(2)]
        floor = parameter_service_pb2.SizingParameters(drawdown_floor=0.8)
        await client.parameter.SetParameters(
            parameter_service_pb2.SetParametersRequest(portfolio_id=book, parameters=floor)
        )
        await client.size(sizing_request(book))
        await backup.backup(dsn, folder, release="1")
        # From here on nothing is in the backup.
        created = pb_portfolio.Portfolio(
            portfolio_id=new,
            display_name="Neu",
            base_currency="USD",
            group_id="fresh-group",
            cash=2.5e6,
            cash_balances=[pb_portfolio.CashBalance(currency="EUR", amount=-12.34)],
            holdings=pb_portfolio.Holdings(
                instrument_ids=["I1", "I0"], quantity=[1 / 3, -7.0], average_price=[9.5, 0.0]
            ),
            time_zone="Asia/Tokyo",
        )
        ask = pb_portfolio.CreatePortfolioRequest(portfolio=created)
        await client.portfolio.CreatePortfolio(ask)
        scope = pb_portfolio.Scope(portfolio_id=new)
        await client.set_limits(scope, weight_max=0.1, leverage_max=1.0)
        rates = [market_service_pb2.ExchangeRate(from_currency="EUR", to_currency="USD", rate=1.1)]
        await client.put_market(exchange_rates=rates)
        sized = await client.size(sizing_request(new))
        await client.sizing.SettleDecision(settlement(sized.decision_id, close=True))
        paid = pb_portfolio.AdjustCashRequest(
            request_id=str(uuid4()),
            portfolio_id=new,
            kind=pb_portfolio.CASH_FLOW_KIND_INCOME,
            changes=[pb_portfolio.CashBalance(currency="EUR", amount=12.34)],
            reason="interest",
        )
        booked = await client.portfolio.AdjustCash(paid)
        await change_portfolio(client, book)
        close = pb_portfolio.ClosePortfolioRequest(portfolio_id=ended, reason="for good")
        await client.portfolio.ClosePortfolio(close)
        before = await tables(dsn)
        assert before["high_water_mark"]
        assert before["high_water_mark_rebase"]
        messages = await published(dsn)

    await backup.restore(restored, folder)
    report = await recovered(restored, messages)
    assert [item for item in report.findings if item.outcome is Outcome.BY_HAND] == []
    assert report.gaps == ()
    after = await tables(restored)
    for name, rows in before.items():
        assert after[name] == rows, name
    assert (await recovered(restored, messages)).findings == (), "again there is nothing"
    async with (
        started(postgres_server, kernels, tmp_path / "b", dsn=restored) as app,
        Client.connected(app.port) as client,
    ):
        assert await client.portfolio.AdjustCash(paid) == booked, "not booked twice"
        get = pb_portfolio.GetPortfolioRequest(portfolio_id=new)
        stored = (await client.portfolio.GetPortfolio(get)).portfolio
        assert stored.cash_balances[0].amount == 0.0
        assert stored.holdings.quantity == booked.portfolio.holdings.quantity
        again = await client.portfolio.ClosePortfolio(close)
        assert again.portfolio.close_time.ToMicroseconds() > 0
        checked = await client.audit.VerifyAudit(audit_service_pb2.VerifyAuditRequest())
        assert not checked.faults


async def change_portfolio(client: Client, book: str) -> None:
    """Each change of a portfolio that is there."""
    portfolio = client.portfolio
    await portfolio.RenamePortfolio(
        pb_portfolio.RenamePortfolioRequest(portfolio_id=book, display_name="Renamed")
    )
    await portfolio.SetTimeZone(
        pb_portfolio.SetTimeZoneRequest(portfolio_id=book, time_zone="Europe/Zurich")
    )
    await portfolio.SetHoldings(
        pb_portfolio.SetHoldingsRequest(
            portfolio_id=book,
            cash=3e5,
            holdings=pb_portfolio.Holdings(instrument_ids=["I2"], quantity=[70.5]),
        )
    )
    payment = pb_portfolio.AdjustCashRequest(
        request_id=str(uuid4()),
        portfolio_id=book,
        kind=pb_portfolio.CASH_FLOW_KIND_PAYMENT,
        changes=[pb_portfolio.CashBalance(currency="USD", amount=-1e5)],
        reason="paid out",
    )
    await portfolio.AdjustCash(payment)
    await portfolio.RebaseHighWaterMark(
        pb_portfolio.RebaseHighWaterMarkRequest(portfolio_id=book, reason="a new mandate")
    )
    await portfolio.ConfirmEquity(
        pb_portfolio.ConfirmEquityRequest(portfolio_id=book, reason="books were wrong")
    )
    await portfolio.SetUniverse(
        pb_portfolio.SetUniverseRequest(portfolio_id=book, universe_id="crypto", reason="moved")
    )


async def test_events_of_a_tenant_that_is_not_there_are_counted(
    postgres_server: embedded.EmbeddedServer,
) -> None:
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    messages = [
        InMessage(
            "alerts",
            "elsewhere",
            b"",
            {
                "tenant_id": "elsewhere",
                "event_id": str(uuid4()),
                "event_type": "Alert",
                "portfolio_sequence": str(number),
            },
            "1",
        )
        for number in (1, 2)
    ]
    report = await recovered(dsn, [*messages, messages[0]], write=False)
    assert (report.findings, report.event_counts) == ((), {"elsewhere": 2})


async def test_what_is_not_there_whole_is_said_and_refused(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    restored, folder = create_database(postgres_server), tmp_path / "backup"
    async with (
        started(postgres_server, kernels, tmp_path / "a", dsn=dsn) as app,
        Client.connected(app.port) as client,
    ):
        first, second, closed = [await client.ready() for _ in range(3)]
        await backup.backup(dsn, folder, release="1")
        parts = [sizing_request(name, request_id="") for name in (first, second)]
        together = pb.SizePortfoliosRequest(request_id=str(uuid4()), requests=parts)
        made = (await client.sizing.SizePortfolios(together)).decisions
        await client.sizing.SettleDecision(settlement(made[0].decision_id, 10))
        await client.portfolio.ClosePortfolio(
            pb_portfolio.ClosePortfolioRequest(portfolio_id=closed, reason="for good")
        )
        scope = pb_portfolio.Scope(strategy_id="carry")
        for bound in (0.1, 0.2):
            await client.set_limits(scope, weight_max=bound)
        stranger = await client.ready()
        await client.size(sizing_request(stranger))
        messages = await published(dsn)
    await backup.restore(restored, folder)
    messages = [m for m in messages if not is_of(m, first, "PositionSized")]
    # A release before this one did not tell of portfolios.
    messages = [m for m in messages if m.event_type != "PortfolioChanged"]
    lost = min(
        (m for m in messages if b"carry" in m.payload and m.event_type == "LimitsChanged"),
        key=lambda m: int(m.properties["portfolio_sequence"]),
    )
    messages.remove(lost)
    report = await recovered(restored, messages)
    firms, gap, *untold = report.gaps
    assert {item.portfolio_id for item in untold} == {stranger}
    assert (firms.portfolio_id, str(firms.first)) == ("", lost.properties["portfolio_sequence"])
    assert (gap.tenant_id, gap.portfolio_id, gap.first) == (TENANT, first, gap.last)
    why = {
        (item.event.portfolio_id, item.event.type): (item.outcome, item.why)
        for item in report.findings
    }
    outcome, text = why[first, "DecisionSettled"]
    assert (outcome, "does not exist" in text) == (Outcome.BY_HAND, True)
    assert why[second, "PositionSized"][0] is Outcome.ENTERED
    outcome, text = why[closed, "TradingStateChanged"]
    assert (outcome, "was closed: close it" in text) == (Outcome.BY_HAND, True)
    outcome, text = why["", "LimitsChanged"]
    assert (outcome, "is at version 0, expected version 1" in text) == (Outcome.BY_HAND, True)
    outcome, text = why[stranger, "PositionSized"]
    assert (outcome, text) == (Outcome.BY_HAND, "the portfolio is not in the database")
    async with (
        started(postgres_server, kernels, tmp_path / "b", dsn=restored) as app,
        Client.connected(app.port) as client,
    ):
        again = await refusal(client.sizing.SizePortfolios(together))
        assert again.reason == "REQUEST_ID_REUSED", "half an answer is none"
        kept = pb.GetDecisionRequest(decision_id=made[1].decision_id)
        assert same((await client.sizing.GetDecision(kept)).decision, made[1])


async def test_servers_that_are_there_are_in_the_way(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from server.cli import app as cli

    def run() -> int:
        with pytest.raises(SystemExit) as end:
            cli(["recover"])
        return int(end.value.code or 0)

    dsn = create_database(postgres_server, template=embedded.DATABASE)
    monkeypatch.setenv("SIZING_DSN", dsn)
    assert await asyncio.to_thread(run) == 1
    assert "no broker is configured" in capsys.readouterr().err
    monkeypatch.setenv("SIZING_PULSAR_URL", "pulsar://127.0.0.1:1")
    async with started(postgres_server, kernels, tmp_path, dsn=dsn):
        assert await asyncio.to_thread(run) == 1
    assert "sessions on the database" in capsys.readouterr().err

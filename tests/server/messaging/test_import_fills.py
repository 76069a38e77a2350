"""Fills of other systems: tables and FIX drop copies, each execution booked once."""

import csv
from pathlib import Path
from uuid import uuid4

import pytest
from positionsizing.v1 import (
    corporate_action_pb2,
    market_service_pb2,
    portfolio_service_pb2,
    sizing_service_pb2,
)
from typer.testing import CliRunner

from server.app import App
from server.cli import app as sizing
from server.messaging.executions import Execution, Unbooked
from server.messaging.fix import read_reports
from tests.server.support.service_client import Client, new_id, sizing_request


def report(sep: str = "\x01", **fields: object) -> bytes:
    """A FIX 4.4 message with its length and checksum."""
    body = sep.join(f"{tag.removeprefix('t')}={value}" for tag, value in fields.items()) + sep
    text = f"8=FIX.4.4{sep}9={len(body.encode())}{sep}{body}"
    total = sum(text.replace(sep, "\x01").encode()) % 256
    return f"{text}10={total:03d}{sep}".encode()


def trade(decision_id: str, execution_id: str = "E1", **changed: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "t35": "8",
        "t17": execution_id,
        "t150": "F",
        "t11": f"{decision_id}/1",
        "t55": "I0",
        "t54": "1",
        "t32": "100",
        "t31": "10.5",
    }
    return {**fields, **changed}


def one(data: bytes) -> Execution | Unbooked:
    (found,) = read_reports(data)
    return found


def test_a_trade_is_a_fill_with_the_sign_of_its_side() -> None:
    id = str(uuid4())
    found = one(report(**trade(id, t13="3", t12="1.25")))
    assert found == Execution("message 1", "E1", id, "I0", 100.0, 10.5, 1.25)
    assert one(report("|", **trade(id, t54="2"))).quantity == -100.0  # type: ignore[union-attr]
    assert one(report(**trade(id, t54="5"))).quantity == -100.0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        *(("t32", "1e3"), ("t32", "-100"), ("t32", "inf"), ("t31", "NaN"), ("t31", "1_0")),
        *(("t32", "9" * 400), ("t31", "٣")),  # beyond doubles; three, in Arabic
    ],
)
def test_a_number_that_fix_has_not_is_told(tag: str, text: str) -> None:
    found = one(report(**trade(str(uuid4()), **{tag: text})))
    assert isinstance(found, Unbooked)
    assert found.reason == "BAD_NUMBER"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("9=7\x01", "its length is"),
        ("", "not its length"),
        ("9=x\x01", "not its length"),
        (f"9={'7' * 5000}\x01", "not its length"),
    ],
)
def test_a_message_of_another_length_than_it_says_is_told(fields: str, words: str) -> None:
    body = "".join(f"{tag[1:]}={value}\x01" for tag, value in trade(str(uuid4())).items())
    text = f"8=FIX.4.4\x01{fields}{body}"
    found = one(f"{text}10={sum(text.encode()) % 256:03d}\x01".encode())
    assert isinstance(found, Unbooked)
    assert (found.reason, words in found.message) == ("BROKEN_MESSAGE", True)


def test_many_messages_stand_one_after_the_other() -> None:
    id = str(uuid4())
    parts = [report(**trade(id, f"E{n}")) for n in range(3)]
    heartbeat = report(t35="0")
    new = report(**trade(id, "N", t150="0"))
    data = heartbeat + parts[0] + b"\n" + new + parts[1] + b"\r\n" + parts[2]
    assert [item.execution_id for item in read_reports(data)] == ["E0", "E1", "E2"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"t150": "H", "t19": "E0"}, "TRADE_CHANGED"),
        ({"t150": "G", "t19": "E0"}, "TRADE_CHANGED"),
        ({"t11": "my-order"}, "NO_DECISION"),
        ({"t32": "many"}, "BAD_NUMBER"),
        ({"t54": "7"}, "MISSING"),
        ({"t17": ""}, "BROKEN_MESSAGE"),
    ],
)
def test_what_is_no_fill_says_why(changed: dict[str, object], reason: str) -> None:
    found = one(report(**trade(str(uuid4()), **changed)))
    assert isinstance(found, Unbooked)
    assert found.reason == reason


def test_a_damaged_message_is_not_booked() -> None:
    good = report(**trade(str(uuid4())))
    for bad in (good.replace(b"32=100", b"32=900"), good[:-8]):
        found = one(bad)
        assert isinstance(found, Unbooked)
        assert found.reason == "BROKEN_MESSAGE"


async def run(app: App, *words: str) -> tuple[int, str]:
    import asyncio

    def call() -> tuple[int, str]:
        done = CliRunner().invoke(
            sizing, ["import", "fills", *words, "--address", f"127.0.0.1:{app.port}"]
        )
        return done.exit_code, done.output

    return await asyncio.to_thread(call)


async def decided(client: Client) -> tuple[str, str]:
    """A portfolio and a decision to buy 10,000 of I0 at 10."""
    portfolio_id = await client.ready()
    decision = await client.size(sizing_request(portfolio_id, ["I0"]))
    assert list(decision.sizes.trade_lots) == [10_000]
    return portfolio_id, decision.decision_id


async def held(client: Client, portfolio_id: str) -> dict[str, float]:
    answer = await client.portfolio.GetPortfolio(
        portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id)
    )
    holdings = answer.portfolio.holdings
    return dict(zip(holdings.instrument_ids, holdings.quantity, strict=True))


async def test_a_table_is_booked_once_and_what_is_wrong_put_aside(
    client: Client, app: App, tmp_path: Path
) -> None:
    portfolio_id, decision_id = await decided(client)
    file = tmp_path / "fills.csv"
    file.write_text(
        "execution_id,decision_id,instrument_id,quantity,price,fee\n"
        f"a,{decision_id},I0,4000,10.01,2\n"
        f"b,{decision_id},I0,1000,10.02,\n"
        f"c,{decision_id},I9,1000,10.02,\n"
        f"d,{decision_id},I0,-1000,10.02,\n"
        f"e,{uuid4()},I0,1000,10.02,\n"
    )
    for _ in range(2):  # the second time changes nothing
        code, output = await run(app, str(file))
        assert code == 1
        assert "2 executions booked" in output
        assert await held(client, portfolio_id) == {"I0": 5_000.0}
    with (tmp_path / "fills.csv.refused.csv").open() as refused:
        rows = list(csv.DictReader(refused))
    assert [(row["execution_id"], row["reason"]) for row in rows] == [
        ("c", "NOT_OF_THE_DECISION"),
        ("d", "FILL_NOT_OPEN"),
        ("e", "DECISION_NOT_FOUND"),
    ]
    assert "line 4" in rows[0]["where"]


async def test_units_are_booked_in_the_lots_that_there_are_by_now(
    client: Client, app: App, tmp_path: Path
) -> None:
    """Lots of 100 become lots of 10 between two executions of 300 units; both come twice."""
    name = new_id("traded")
    await client.put_market(
        instrument_ids=[name],
        price=[10.0],
        lot_size=[100.0],
        sector=[],
        volatility=[],
        average_daily_volume=[],
    )
    portfolio_id = await client.put_portfolio(1e6)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=0.1)
    decision = await client.size(sizing_request(portfolio_id, [name]))
    assert list(decision.sizes.trade_lots) == [100]
    rows = [f"{execution},{decision.decision_id},{name},300,10\n" for execution in "ab"]
    file = tmp_path / "fills.csv"
    header = "execution_id,decision_id,instrument_id,quantity,price\n"
    file.write_text(header + rows[0])
    assert (await run(app, str(file)))[0] == 0
    action = corporate_action_pb2.CorporateAction(
        instrument_id=name, lot_size_change=corporate_action_pb2.LotSizeChange(lot_size=10.0)
    )
    await client.market.ApplyCorporateAction(
        market_service_pb2.ApplyCorporateActionRequest(request_id=str(uuid4()), action=action)
    )
    file.write_text(header + "".join(rows))
    for _ in range(2):
        code, output = await run(app, str(file))
        assert (code, "2 executions booked" in output) == (0, True), output
        assert await held(client, portfolio_id) == {name: 600.0}
        await client.sizing.SettleDecision(
            sizing_service_pb2.SettleDecisionRequest(
                request_id=str(uuid4()), decision_id=decision.decision_id, close=True
            )
        )


async def test_a_drop_copy_is_booked_once(client: Client, app: App, tmp_path: Path) -> None:
    portfolio_id, decision_id = await decided(client)
    file = tmp_path / "drop-copy.fix"
    first = report(**trade(decision_id, "X1", t32="3000", t31="10.1"))
    file.write_bytes(first + first + report(**trade(decision_id, "X2", t32="2000", t31="10")))
    code, output = await run(app, str(file))
    assert (code, "3 executions booked" in output) == (0, True), output
    assert await held(client, portfolio_id) == {"I0": 5_000.0}

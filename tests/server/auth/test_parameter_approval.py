"""Sizing parameters that may make stakes larger need a second person, whatever way they take."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from positionsizing.v1 import approval_service_pb2 as approval
from positionsizing.v1 import audit_service_pb2, events_pb2, types_pb2
from positionsizing.v1 import parameter_service_pb2 as pb

from server.cli import app as cli
from server.portfolios.state import States
from server.services.parameter import ParameterService
from storage.events.ports import InMessage
from storage.postgres.pool import Database
from tests.server.auth.test_four_eyes import Firm, approving, firm
from tests.server.support.intakes import intake_of
from tests.server.support.service_client import Client, new_id, refusal

__all__ = ["firm"]
NONE = pb.CONFIDENCE_SHRINKAGE_NONE
Given = dict[str, Any]


def asked(
    book: str = "",
    strategy: str = "",
    hours: float | None = None,
    expected: int | None = None,
    **given: Any,
) -> pb.SetParametersRequest:
    request = pb.SetParametersRequest(
        portfolio_id=book,
        strategy_id=strategy,
        parameters=pb.SizingParameters(**given),
        reason="a test",
        expected_version=expected,
    )
    if hours is not None:
        request.effective_time.FromDatetime(datetime.now(UTC) + timedelta(hours=hours))
    return request


async def in_force(client: Client, book: str, strategy: str = "") -> pb.SizingParameters:
    request = pb.GetParametersRequest(portfolio_id=book, strategy_id=strategy)
    return (await client.parameter.GetParameters(request)).parameters


async def loosened(firm: Firm, request: pb.SetParametersRequest) -> list[str]:
    """By what a change needs somebody else; [] where it is made."""
    version = await newest(firm, request)
    try:
        await firm.ann.parameter.SetParameters(request)
    except grpc.aio.AioRpcError:
        found = await firm.proposal(await refusal(firm.ann.parameter.SetParameters(request)))
        assert await newest(firm, request) == version, "nothing is stored yet"
        return [name.removeprefix("parameters.") for name in found.loosened]
    assert await newest(firm, request) == version + 1
    return []


async def newest(firm: Firm, request: pb.SetParametersRequest) -> int:
    listed = await firm.ann.parameter.ListParameterVersions(
        pb.ListParameterVersionsRequest(
            portfolio_id=request.portfolio_id, strategy_id=request.strategy_id
        )
    )
    return int(listed.versions[0].change.version) if listed.versions else 0


async def test_larger_stakes_wait_for_somebody_else_and_smaller_ones_do_not(firm: Firm) -> None:
    book = firm.portfolios[0]
    assert await loosened(firm, asked(book, kelly_fraction=0.25, stop_risk_max=0.01)) == []
    request = asked(book, kelly_fraction=0.4, confidence_shrinkage=NONE)
    refused = await refusal(firm.ann.parameter.SetParameters(request))
    found = await firm.proposal(refused)
    assert list(found.loosened) == [
        *("parameters.kelly_fraction", "parameters.confidence_shrinkage"),
        "parameters.stop_risk_max",
    ]
    assert (found.set_parameters, found.author, found.base_version) == (request, "user:ann", 1)
    own = await refusal(firm.ann.approvals.ApproveProposal(approving(found)))
    assert own.reason == "OWN_PROPOSAL"
    assert (await in_force(firm.bob, book)).kelly_fraction == 0.25
    await firm.bob.approvals.ApproveProposal(approving(found))
    now = await in_force(firm.bob, book)
    assert (now.kelly_fraction, now.confidence_shrinkage) == (0.4, NONE)
    listed = await firm.bob.parameter.ListParameterVersions(
        pb.ListParameterVersionsRequest(portfolio_id=book)
    )
    change = listed.versions[0].change
    assert (change.version, change.author, change.approver) == (2, "user:ann", "user:bob")
    assert listed.versions[1].change.approver == ""
    report = await firm.bob.audit.VerifyAudit(audit_service_pb2.VerifyAuditRequest())
    assert not report.faults


async def test_what_has_changed_meanwhile_is_proposed_anew(firm: Firm) -> None:
    book = firm.portfolios[1]
    request = asked(book, kelly_fraction=0.9)
    found = await firm.proposal(await refusal(firm.ann.parameter.SetParameters(request)))
    assert await loosened(firm, asked(book, kelly_fraction=0.1)) == []
    stale = await refusal(firm.bob.approvals.ApproveProposal(approving(found)))
    assert stale.reason == "PROPOSAL_SUPERSEDED"
    conflict = await refusal(
        firm.ann.parameter.SetParameters(asked(book, expected=7, kelly_fraction=0.05))
    )
    assert (conflict.code.name, conflict.metadata["actual"]) == ("ABORTED", "1")
    assert (await in_force(firm.bob, book)).kelly_fraction == 0.1


async def test_other_scopes_count_as_they_lie_over_each_other(firm: Firm) -> None:
    book, strategy = firm.portfolios[2], new_id("momentum")
    assert await loosened(firm, asked(strategy=strategy, kelly_fraction=0.1)) == []
    # Of the portfolio, so over that of the strategy: half of what is there without, five times it.
    assert await loosened(firm, asked(book, kelly_fraction=0.3)) == ["kelly_fraction"]
    assert await loosened(firm, asked(book, kelly_fraction=0.1)) == []
    assert await loosened(firm, asked(book, strategy, kelly_fraction=0.05)) == []
    assert await loosened(firm, asked(book, cost_rate=0.01, kelly_fraction=0.08)) == []
    # No longer said, and so 0.5, or 0.1 under the strategy, as before and by default.
    assert await loosened(firm, asked(book, cost_rate=0.01)) == ["kelly_fraction"]
    assert await loosened(firm, asked(strategy=strategy)) == ["kelly_fraction"]
    assert await loosened(firm, asked(book, strategy, method=types_pb2.SIZING_METHOD_JOINT)) == [
        "method",
        "kelly_fraction",
    ]


async def test_no_time_is_a_way_around(firm: Firm) -> None:
    book, strategy = firm.portfolios[3], new_id("carry")
    # Tight from now on; one that says it begins before that would count under the strategy.
    assert await loosened(firm, asked(strategy=strategy, kelly_fraction=0.2)) == []
    past = asked(book, strategy, hours=-24, kelly_fraction=0.4)
    assert await loosened(firm, past) == ["kelly_fraction"]
    # Tighter in a day: what would lie over it is no way around, at once or later.
    assert await loosened(firm, asked(strategy=strategy, hours=24, kelly_fraction=0.1)) == []
    for hours in (None, 1, 25):
        early = asked(book, strategy, hours=hours, kelly_fraction=0.2)
        assert await loosened(firm, early) == ["kelly_fraction"]
    assert await loosened(firm, asked(book, strategy, kelly_fraction=0.1)) == []
    # One that begins before another of its scope which is there already ends with that one.
    assert await loosened(firm, asked(book, strategy, hours=48, kelly_fraction=0.05)) == []
    assert await loosened(firm, asked(book, strategy, hours=24, kelly_fraction=0.08)) == []
    assert await loosened(firm, asked(book, strategy, hours=72, kelly_fraction=0.08)) == [
        "kelly_fraction"
    ]


async def test_risk_budgets_by_topic_become_a_proposal(firm: Firm) -> None:
    database = await Database.open(firm.dsn)
    service = ParameterService(database, States(database, 5.0))
    request, event_id = asked(firm.portfolios[4], kelly_fraction=0.9), str(uuid4())

    names = {"event_id": event_id, "event_type": "RiskBudgetUpdated", "tenant_id": "local"}
    payload = events_pb2.RiskBudgetUpdated(request=request).SerializeToString()
    message = InMessage("risk-budgets", "local", payload, names, "1")
    await intake_of(database, "local", service).handlers["risk-budgets"](message)
    await database.aclose()
    listed = await firm.bob.approvals.ListProposals(approval.ListProposalsRequest(page_size=1))
    found = listed.proposals[0]
    assert (found.author, found.set_parameters) == ("topic:risk-budgets", request)
    assert (await in_force(firm.bob, firm.portfolios[4])).kelly_fraction == 0.5


async def test_the_command_line_says_whose_parameters_wait(
    firm: Firm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strategy = new_id("value")
    request = asked(strategy=strategy, kelly_fraction=1.0)
    found = await firm.proposal(await refusal(firm.ann.parameter.SetParameters(request)))
    token = tmp_path / "token"
    token.write_text(firm.token("bob"))
    where = ("--address", f"127.0.0.1:{firm.app.port}", "--token-file", str(token))

    def run(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            cli(["approvals", *words, found.proposal_id, *where])
        assert not end.value.code
        return capsys.readouterr().out

    assert "parameters.kelly_fraction" in await asyncio.to_thread(run, "show")
    said = await asyncio.to_thread(run, "approve")
    assert f"sizing parameters of strategy {strategy}: parameters.kelly_fraction" in said
    assert (await in_force(firm.ann, firm.portfolios[4], strategy)).kelly_fraction == 1.0

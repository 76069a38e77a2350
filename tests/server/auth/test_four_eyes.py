"""What allows more needs a second person, whichever way it is asked for; the rest does not."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
import pytest_asyncio
from positionsizing.v1 import approval_service_pb2 as approval
from positionsizing.v1 import (
    corporate_action_pb2,
    events_pb2,
    limits_pb2,
    market_service_pb2,
    types_pb2,
)
from positionsizing.v1 import portfolio_service_pb2 as portfolio

from compute.shapes import KernelRegistry
from server.app import App
from server.auth.access import SCOPES
from server.auth.identity import topic
from server.calls.request_context import Call
from server.cli import app as cli
from server.portfolios.state import States
from server.services.portfolio import PortfolioService
from storage import embedded
from storage.errors import DuplicateEvent
from storage.events.ports import InMessage
from storage.postgres.pool import Database
from tests.fixtures_postgres import create_database
from tests.server.auth.test_denials import client_of
from tests.server.support.credentials import AUDIENCE, ISSUER, Issuer
from tests.server.support.intakes import intake_of
from tests.server.support.service_client import (
    INSTRUMENTS,
    PRICES,
    Client,
    Refused,
    new_id,
    refusal,
    sizing_request,
    snapshot_message,
    started,
)

EVERYTHING = " ".join(SCOPES.values())
HALTED, REDUCING, ACTIVE = (
    types_pb2.TRADING_STATE_HALTED,
    types_pb2.TRADING_STATE_REDUCING,
    types_pb2.TRADING_STATE_ACTIVE,
)


class Firm:
    """A service that tells callers apart, and portfolios from before four eyes were asked for."""

    def __init__(self, app: App, issuer: Issuer, dsn: str, portfolios: list[str]) -> None:
        self.app, self.issuer, self.dsn, self.portfolios = app, issuer, dsn, portfolios
        self.ann, self.bob = self.person("ann"), self.person("bob")

    def person(self, name: str, **claims: Any) -> Client:
        return client_of(self.app, self.token(name, **claims))

    def token(self, name: str, **claims: Any) -> str:
        return self.issuer.token(**{"sub": name, "scope": EVERYTHING, **claims})

    async def ask(self, required: bool, who: Client | None = None) -> Any:
        policy = approval.ApprovalPolicy(required=required)
        request = approval.SetApprovalPolicyRequest(policy=policy, reason="policy 7")
        return await (who or self.ann).approvals.SetApprovalPolicy(request)

    async def proposal(self, refused: Refused) -> approval.Proposal:
        """The proposal that a refused change has become."""
        assert (refused.code.name, refused.reason) == ("FAILED_PRECONDITION", "APPROVAL_REQUIRED")
        listed = await self.bob.approvals.ListProposals(approval.ListProposalsRequest())
        return next(p for p in listed.proposals if p.proposal_id == refused.metadata["proposal_id"])


def approving(found: approval.Proposal, reason: str = "seen") -> approval.ApproveProposalRequest:
    return approval.ApproveProposalRequest(
        proposal_id=found.proposal_id, digest=found.digest, reason=reason
    )


def limits_of(portfolio_id: str, reason: str = "", **given: Any) -> portfolio.SetLimitsRequest:
    limits = limits_pb2.Limits(**{"weight_max": 0.1, "leverage_max": 1.0, **given})
    scope = portfolio.Scope(portfolio_id=portfolio_id)
    return portfolio.SetLimitsRequest(scope=scope, limits=limits, reason=reason)


def state_of(portfolio_id: str, state: Any) -> portfolio.SetTradingStateRequest:
    scope = portfolio.Scope(portfolio_id=portfolio_id)
    return portfolio.SetTradingStateRequest(scope=scope, trading_state=state, reason="test")


async def limits_in_force(client: Client, portfolio_id: str) -> portfolio.GetLimitsResponse:
    scope = portfolio.Scope(portfolio_id=portfolio_id)
    return await client.portfolio.GetLimits(portfolio.GetLimitsRequest(scope=scope))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def firm(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Firm]:
    folder, issuer = tmp_path_factory.mktemp("firm"), Issuer()
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    async with started(
        postgres_server,
        kernels,
        folder,
        dsn=dsn,
        auth="required",
        jwks=str(issuer.write(folder / "keys.json")),
        jwt_issuer=ISSUER,
        jwt_audience=AUDIENCE,
    ) as app:
        made = Firm(app, issuer, dsn, [])
        made.portfolios += [await made.ann.ready() for _ in range(5)]
        await made.ann.portfolio.SetLimits(limits_of(made.portfolios[0], weight_max=0.11))
        await made.ask(True)
        yield made


async def test_looser_limits_wait_for_somebody_else(firm: Firm) -> None:
    book = firm.portfolios[0]
    looser = limits_of(book, "a larger mandate", weight_max=0.2, allow_short=True)
    refused = await refusal(firm.ann.portfolio.SetLimits(looser))
    found = await firm.proposal(refused)
    assert list(found.loosened) == ["limits.weight_max", "limits.allow_short"]
    assert (found.author, found.reason, found.base_version) == ("user:ann", looser.reason, 2)
    assert found.set_limits == looser
    again = await refusal(firm.ann.portfolio.SetLimits(looser))
    assert again.metadata["proposal_id"] == found.proposal_id, "the same is proposed once"
    assert (await limits_in_force(firm.bob, book)).limits.weight_max == 0.11

    own = await refusal(firm.ann.approvals.ApproveProposal(approving(found)))
    assert own.reason == "OWN_PROPOSAL"
    other = approval.ApproveProposalRequest(proposal_id=found.proposal_id, digest=b"x" * 32)
    assert (await refusal(firm.bob.approvals.ApproveProposal(other))).reason == "DIGEST_MISMATCH"
    unseen = approval.ApproveProposalRequest(proposal_id=found.proposal_id)
    missing = await refusal(firm.bob.approvals.ApproveProposal(unseen))
    assert (missing.code.name, missing.reason) == ("INVALID_ARGUMENT", "MISSING")
    assert (await limits_in_force(firm.bob, book)).limits.weight_max == 0.11

    done = (await firm.bob.approvals.ApproveProposal(approving(found))).proposal
    assert done.state == approval.PROPOSAL_STATE_APPROVED
    assert (done.decision.author, done.decision.reason) == ("user:bob", "seen")
    now = await limits_in_force(firm.ann, book)
    assert (now.limits.weight_max, now.limits.allow_short) == (0.2, True)
    assert (now.change.author, now.change.approver, now.change.version) == (
        *("user:ann", "user:bob"),
        3,
    )
    twice = await refusal(firm.bob.approvals.ApproveProposal(approving(found)))
    assert twice.reason == "PROPOSAL_DECIDED"


async def test_tightening_is_immediate_and_supersedes_what_was_proposed(firm: Firm) -> None:
    book = firm.portfolios[1]
    found = await firm.proposal(
        await refusal(firm.ann.portfolio.SetLimits(limits_of(book, weight_max=0.3)))
    )
    tighter = await firm.ann.portfolio.SetLimits(limits_of(book, weight_max=0.05))
    assert (tighter.change.version, tighter.change.approver) == (2, "")
    stale = await refusal(firm.bob.approvals.ApproveProposal(approving(found)))
    assert (stale.code.name, stale.reason) == ("FAILED_PRECONDITION", "PROPOSAL_SUPERSEDED")
    assert (await limits_in_force(firm.bob, book)).limits.weight_max == 0.05
    dropped = await refusal(
        firm.ann.portfolio.SetLimits(
            portfolio.SetLimitsRequest(
                scope=portfolio.Scope(portfolio_id=book), limits=limits_pb2.Limits()
            )
        )
    )
    assert set((await firm.proposal(dropped)).loosened) == {
        *("limits.weight_max", "limits.leverage_max")
    }


async def test_limits_that_a_group_shares_and_those_of_the_firm(firm: Firm) -> None:
    first = portfolio.SetLimitsRequest(
        scope=portfolio.Scope(), limits=limits_pb2.Limits(leverage_max=3.0)
    )
    begin = await firm.proposal(await refusal(firm.ann.portfolio.SetLimits(first)))
    assert list(begin.loosened) == ["limits"], "the first of the firm let sizing begin"
    await firm.bob.approvals.ApproveProposal(approving(begin))
    group = portfolio.Scope(group_id=new_id("desk"))
    shared = portfolio.SharedLimits(gross_notional_max=1e6)
    added = portfolio.SetLimitsRequest(scope=group, shared=shared, limits=limits_pb2.Limits())
    await firm.ann.portfolio.SetLimits(added)  # adds to what the firm has
    for wider in (portfolio.SharedLimits(gross_notional_max=2e6), None):
        asked = portfolio.SetLimitsRequest(scope=group, shared=wider, limits=limits_pb2.Limits())
        found = await firm.proposal(await refusal(firm.ann.portfolio.SetLimits(asked)))
        assert list(found.loosened) == ["shared.gross_notional_max"]


async def test_halting_takes_one_and_resuming_two(firm: Firm) -> None:
    book = firm.portfolios[2]
    put = firm.ann.portfolio.SetTradingState
    await put(state_of(book, REDUCING))
    await put(state_of(book, HALTED))
    for looser in (REDUCING, ACTIVE):
        found = await firm.proposal(await refusal(put(state_of(book, looser))))
        assert list(found.loosened) == ["trading_state"]
    refused = await refusal(firm.bob.sizing.SizePositions(sizing_request(book)))
    assert refused.reason == "TRADING_HALTED"
    await firm.bob.approvals.ApproveProposal(approving(found))
    now = await firm.ann.portfolio.GetTradingState(
        portfolio.GetTradingStateRequest(scope=portfolio.Scope(portfolio_id=book))
    )
    assert now.trading_state == ACTIVE
    assert (now.change.author, now.change.approver) == ("user:ann", "user:bob")
    assert await firm.bob.size(sizing_request(book))
    await put(state_of(book, HALTED))


async def test_a_rejected_or_expired_proposal_is_never_made(firm: Firm) -> None:
    book = firm.portfolios[3]
    found = await firm.proposal(
        await refusal(firm.ann.portfolio.SetLimits(limits_of(book, weight_max=0.4)))
    )
    request = approval.RejectProposalRequest(proposal_id=found.proposal_id, reason="no")
    done = (await firm.ann.approvals.RejectProposal(request)).proposal
    assert done.state == approval.PROPOSAL_STATE_REJECTED
    refused = await refusal(firm.bob.approvals.ApproveProposal(approving(found)))
    assert refused.reason == "PROPOSAL_DECIDED"

    owner = await asyncpg.connect(firm.dsn)
    late = uuid4()
    await owner.execute(
        """INSERT INTO proposal SELECT tenant_id, $1, kind, portfolio_id, request, digest,
            base_version, loosened, author, reason, create_time, now() - interval '1 second'
        FROM proposal WHERE proposal_id = $2""",
        late,
        found.proposal_id,
    )
    with pytest.raises(asyncpg.CheckViolationError):  # nor does the database take one's own
        await owner.execute(
            """INSERT INTO proposal_decision (tenant_id, proposal_id, proposer, approved, author,
                reason) VALUES ('local', $1, 'user:ann', true, 'user:ann', '')""",
            late,
        )
    await owner.close()
    found.proposal_id = str(late)
    refused = await refusal(firm.bob.approvals.ApproveProposal(approving(found)))
    assert refused.reason == "PROPOSAL_EXPIRED"
    state = approval.PROPOSAL_STATE_EXPIRED
    listed = await firm.bob.approvals.ListProposals(approval.ListProposalsRequest(state=state))
    assert [item.proposal_id for item in listed.proposals] == [str(late)]
    assert (await limits_in_force(firm.bob, book)).limits.weight_max == 0.1


async def test_who_may_not_approve(firm: Firm) -> None:
    book, other = firm.portfolios[3], firm.portfolios[4]
    found = await firm.proposal(
        await refusal(firm.ann.portfolio.SetLimits(limits_of(book, weight_max=0.5)))
    )
    service = firm.person("robot", client_id="robot")
    refused = await refusal(service.approvals.ApproveProposal(approving(found)))
    assert refused.reason == "NO_SECOND_PERSON"
    reader = firm.person("eve", scope="sizing.read sizing.limits.propose")
    with pytest.raises(grpc.aio.AioRpcError) as denied:
        await reader.approvals.ApproveProposal(approving(found))
    assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED
    some = firm.person("dan", portfolios=[other])
    hidden = await refusal(some.approvals.ApproveProposal(approving(found)))
    unknown = approving(found)
    unknown.proposal_id = str(uuid4())
    absent = await refusal(some.approvals.ApproveProposal(unknown))
    assert (hidden.code, hidden.reason) == (absent.code, absent.reason)
    assert hidden.reason == "PROPOSAL_NOT_FOUND"
    listed = await some.approvals.ListProposals(approval.ListProposalsRequest())
    assert all(p.set_limits.scope.portfolio_id == other for p in listed.proposals)


async def test_a_split_raises_no_limit_by_one_person(firm: Firm) -> None:
    """100 units are allowed; two for one would make 200 of them."""
    name = new_id("SPLIT")
    snapshot = snapshot_message(
        instrument_ids=[*INSTRUMENTS, name],
        **{
            column: [*values, values[-1]]
            for column, values in (("price", PRICES), ("volatility", [0.3] * len(PRICES)))
        },
        average_daily_volume=[],
        sector=[],
    )
    await firm.ann.market.PutMarketSnapshot(
        market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot)
    )
    book = firm.portfolios[4]
    bound = limits_pb2.InstrumentLimit(instrument_id=name, quantity_max=100.0)
    await firm.ann.portfolio.SetLimits(limits_of(book, instruments=[bound]))
    action = corporate_action_pb2.CorporateAction(
        instrument_id=name,
        split=corporate_action_pb2.Split(new_units=2, old_units=1),
    )
    answer = await firm.ann.market.ApplyCorporateAction(
        market_service_pb2.ApplyCorporateActionRequest(
            request_id=str(uuid4()), action=action, reason="2:1"
        )
    )
    assert (answer.limits_changed, len(answer.proposal_ids)) == (0, 1)
    now = await limits_in_force(firm.bob, book)
    assert now.limits.instruments[0].quantity_max == 100.0
    listed = await firm.bob.approvals.ListProposals(approval.ListProposalsRequest())
    found = next(p for p in listed.proposals if p.proposal_id == answer.proposal_ids[0])
    await firm.bob.approvals.ApproveProposal(approving(found))
    now = await limits_in_force(firm.bob, book)
    assert now.limits.instruments[0].quantity_max == 200.0


async def test_looser_limits_by_topic_become_a_proposal_and_are_done_with(firm: Firm) -> None:
    database = await Database.open(firm.dsn)
    service = PortfolioService(database, States(database, 5.0))
    request = limits_of(firm.portfolios[3], weight_max=0.9)
    event_id = str(uuid4())

    def call() -> Call:
        return Call(topic("local", "limits"), time.monotonic() + 60, event=("limits", event_id))

    event = events_pb2.LimitsUpdated(request=request)
    message = InMessage(
        topic="limits",
        key="local",
        payload=event.SerializeToString(),
        properties={"event_id": event_id, "event_type": "LimitsUpdated", "tenant_id": "local"},
        message_id="1",
    )
    await intake_of(database, "local", service).handlers["limits"](message)
    with pytest.raises(DuplicateEvent):
        await service.set_limits(call(), request)
    await database.aclose()
    state = approval.PROPOSAL_STATE_OPEN
    listed = await firm.bob.approvals.ListProposals(approval.ListProposalsRequest(state=state))
    found = listed.proposals[0]
    assert (found.author, found.set_limits) == ("topic:limits", request)
    assert (await limits_in_force(firm.bob, firm.portfolios[3])).limits.weight_max == 0.1


async def test_the_end_of_four_eyes_takes_two(firm: Firm) -> None:
    found = await firm.proposal(await refusal(firm.ask(False)))
    assert list(found.loosened) == ["policy.required"]
    assert (await refusal(firm.ann.approvals.ApproveProposal(approving(found)))).reason == (
        "OWN_PROPOSAL"
    )
    await firm.bob.approvals.ApproveProposal(approving(found))
    book = firm.portfolios[1]
    await firm.ann.portfolio.SetLimits(limits_of(book, weight_max=0.6))
    assert (await limits_in_force(firm.bob, book)).limits.weight_max == 0.6
    again = await firm.ask(True)
    assert again.change.version == 3
    longer = approval.ApprovalPolicy(required=True, proposal_hours_max=100)
    request = approval.SetApprovalPolicyRequest(policy=longer)
    found = await firm.proposal(await refusal(firm.ann.approvals.SetApprovalPolicy(request)))
    assert list(found.loosened) == ["policy.proposal_hours_max"]


async def test_from_the_command_line(
    firm: Firm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = firm.portfolios[3]
    refused = await refusal(firm.ann.portfolio.SetLimits(limits_of(book, weight_max=0.7)))
    wanted = refused.metadata["proposal_id"]

    async def sizing(who: str, *words: str) -> tuple[int, str, str]:
        file = tmp_path / who
        file.write_text(firm.token(who))
        where = ("--address", f"127.0.0.1:{firm.app.port}", "--token-file", str(file))

        def run() -> int:
            try:
                cli([*words, *where])
            except SystemExit as end:
                return int(end.code or 0)
            return 0

        return await asyncio.to_thread(run), *capsys.readouterr()

    code, out, _ = await sizing("bob", "approvals", "list")
    assert code == 0
    assert wanted in out
    assert f"limits of portfolio {book}" in out
    assert "four eyes are asked for" in (await sizing("bob", "approvals", "policy"))[1]
    code, _, err = await sizing("ann", "approvals", "approve", wanted)
    assert code == 1
    assert "somebody else has to approve" in err
    assert wanted in (await sizing("bob", "approvals", "show", wanted))[1]
    code, out, err = await sizing("bob", "approvals", "approve", wanted, "--reason", "fine")
    assert (code, err) == (0, "")
    assert "approved by user:bob" in out
    assert (await limits_in_force(firm.bob, book)).limits.weight_max == 0.7
    refused = await refusal(firm.ann.portfolio.SetLimits(limits_of(book, weight_max=0.8)))
    wanted = refused.metadata["proposal_id"]
    assert "rejected by user:ann" in (await sizing("ann", "approvals", "reject", wanted))[1]


async def test_without_authentication_there_is_no_second_person(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    async with (
        started(postgres_server, kernels, tmp_path) as app,
        Client.connected(app.port) as client,
    ):
        stub = client.approvals
        policy = approval.ApprovalPolicy(required=True)
        refused = await refusal(
            stub.SetApprovalPolicy(approval.SetApprovalPolicyRequest(policy=policy))
        )
        assert refused.reason == "NO_SECOND_PERSON"
        answer = await stub.GetApprovalPolicy(approval.GetApprovalPolicyRequest())
        assert not answer.policy.required
        assert answer.policy.proposal_hours_max == 24

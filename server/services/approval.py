"""ApprovalService: four eyes for what allows more than before."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import grpc
from positionsizing.v1 import approval_service_pb2 as pb
from positionsizing.v1 import parameter_service_pb2, portfolio_service_pb2

from server.auth.certificates import SPIFFE
from server.auth.identity import Kind
from server.calls.errors import Refusal, invalid, invalid_fields, precondition
from server.calls.request_context import Call
from server.convert.change_record import change_record
from server.convert.names import page_size, page_start, page_token, text_violations, timestamp, uuid
from server.convert.ranges import number_violations
from server.portfolios import four_eyes
from server.portfolios.four_eyes import Approval
from server.services.parameter import ParameterService
from server.services.portfolio import PortfolioService
from storage.errors import NotFound
from storage.postgres import proposals
from storage.postgres.pool import Database
from storage.postgres.proposals import HOURS_DEFAULT, Proposal, ProposalState

_Change = Callable[[Call, Any, Approval | None], Awaitable[Any]]


class ApprovalService:
    """See `protos/positionsizing/v1/approval_service.proto`."""

    def __init__(
        self, database: Database, portfolio: PortfolioService, parameter: ParameterService
    ) -> None:
        self._database = database
        self._changes: dict[str, tuple[type[Any], _Change]] = {
            "set_limits": (portfolio_service_pb2.SetLimitsRequest, portfolio.set_limits),
            "set_trading_state": (
                portfolio_service_pb2.SetTradingStateRequest,
                portfolio.set_trading_state,
            ),
            "rebase_high_water_mark": (
                portfolio_service_pb2.RebaseHighWaterMarkRequest,
                portfolio.rebase_high_water_mark,
            ),
            "set_parameters": (
                parameter_service_pb2.SetParametersRequest,
                parameter.set_parameters,
            ),
            "set_approval_policy": (pb.SetApprovalPolicyRequest, self.set_approval_policy),
        }

    async def set_approval_policy(
        self, call: Call, request: pb.SetApprovalPolicyRequest, approval: Approval | None = None
    ) -> pb.SetApprovalPolicyResponse:
        """Asks for four eyes at once; asking for less of them becomes a proposal."""
        found = list(number_violations(request))
        if found := found + list(text_violations(request.reason, "reason")):
            raise invalid_fields(found)
        if not request.HasField("policy"):
            raise invalid("policy", "MISSING", "must be given")
        if not call.identity.has_all_portfolios:
            text = "the policy is of the whole firm: it needs a grant of all portfolios"
            raise Refusal(grpc.StatusCode.PERMISSION_DENIED, "PORTFOLIO_NOT_GRANTED", text)
        wanted = request.policy
        if wanted.required:
            _check_person(call)
        hours = wanted.proposal_hours_max or HOURS_DEFAULT
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            now = await proposals.policy(connection, call.tenant_id)
            more = [
                *(["policy.required"] if now.required and not wanted.required else []),
                *(["policy.proposal_hours_max"] if hours > now.proposal_hours_max else []),
            ]
            proposal = await four_eyes.proposed(
                connection, call, request, version=now.version, loosened=more, approval=approval
            )
            if proposal is None:
                stored = await proposals.put_policy(
                    connection,
                    call.tenant_id,
                    required=wanted.required,
                    proposal_hours_max=hours,
                    author=call.author,
                    approver=four_eyes.approver(approval),
                    reason=request.reason,
                    expected_version=now.version,
                )
        if proposal is not None:
            raise four_eyes.required(proposal)
        return pb.SetApprovalPolicyResponse(change=change_record(stored))

    async def get_approval_policy(
        self, call: Call, request: pb.GetApprovalPolicyRequest
    ) -> pb.GetApprovalPolicyResponse:
        """The policy in force."""
        del request
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            stored = await proposals.policy(connection, call.tenant_id)
        response = pb.GetApprovalPolicyResponse()
        response.policy.required = stored.required
        response.policy.proposal_hours_max = stored.proposal_hours_max
        if stored.version:
            response.change.CopyFrom(change_record(stored))
        return response

    async def list_proposals(
        self, call: Call, request: pb.ListProposalsRequest
    ) -> pb.ListProposalsResponse:
        """Proposals, newest first."""
        size = page_size(request.page_size)
        start = page_start(request, lambda text: uuid(text, "page_token"))
        state = None
        if request.state:
            if request.state not in pb.ProposalState.values():
                raise invalid("state", "UNKNOWN_VALUE", "is no state of this release")
            name = pb.ProposalState.Name(request.state).removeprefix("PROPOSAL_STATE_")
            state = ProposalState(name)
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            rows = await proposals.list_page(
                connection,
                call.tenant_id,
                state=state,
                granted=call.identity.granted,
                before=None if start is None else start[0],
                limit=size + 1,
            )
        response = pb.ListProposalsResponse(proposals=map(_message, rows[:size]))
        if len(rows) > size:
            response.next_page_token = page_token(request, str(rows[size - 1].proposal_id))
        return response

    async def approve_proposal(
        self, call: Call, request: pb.ApproveProposalRequest
    ) -> pb.ApproveProposalResponse:
        """Makes the change, in one transaction with the approval."""
        proposal = await self._open(call, request.proposal_id, request.reason)
        if not request.digest:
            raise invalid("digest", "MISSING", "must be given: the digest of what was shown")
        if request.digest != proposal.digest:
            text = "the digest is not that of the proposal: look at it again"
            raise precondition("DIGEST_MISMATCH", text, proposal_id=str(proposal.proposal_id))
        if proposal.author == call.author:
            text = f"{call.author} proposed it: somebody else has to approve"
            raise precondition("OWN_PROPOSAL", text, proposal_id=str(proposal.proposal_id))
        _check_person(call)
        kind, change = self._changes[proposal.kind]
        # As the proposer's: histories have who asked, and beside it who approved.
        identity = replace(call.identity, subject=proposal.author)
        approval = Approval(proposal, call.author, request.reason)
        await change(replace(call, identity=identity), kind.FromString(proposal.request), approval)
        return pb.ApproveProposalResponse(proposal=await self._read(call, proposal))

    async def reject_proposal(
        self, call: Call, request: pb.RejectProposalRequest
    ) -> pb.RejectProposalResponse:
        """Ends a proposal; nothing is changed."""
        proposal = await self._open(call, request.proposal_id, request.reason)
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            await proposals.decide(
                connection,
                call.tenant_id,
                proposal,
                approved=False,
                author=call.author,
                reason=request.reason,
            )
        return pb.RejectProposalResponse(proposal=await self._read(call, proposal))

    async def _open(self, call: Call, proposal_id: str, reason: str) -> Proposal:
        """A proposal that can be decided. What isn't granted does not exist. Raises `Refusal`."""
        if found := list(text_violations(reason, "reason")):
            raise invalid_fields(found)
        wanted = uuid(proposal_id, "proposal_id")
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            proposal = await proposals.get(connection, call.tenant_id, wanted)
        if not call.identity.is_granted(proposal.portfolio_id):
            raise NotFound("proposal", str(wanted))
        if proposal.state is not ProposalState.OPEN:
            raise proposals.not_open(proposal)
        return proposal

    async def _read(self, call: Call, proposal: Proposal) -> pb.Proposal:
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            return _message(await proposals.get(connection, call.tenant_id, proposal.proposal_id))


def _check_person(call: Call) -> None:
    """Raises `Refusal` for callers who can't be told from others, and for services' own tokens."""
    if call.identity.kind is Kind.LOCAL:
        text = "without authentication all callers are the same; set SIZING_AUTH=required"
        raise precondition("NO_SECOND_PERSON", text)
    if call.author.startswith(("service:", SPIFFE)):
        text = f"{call.author} is a service: a person has to approve"
        raise precondition("NO_SECOND_PERSON", text)


def _message(row: Proposal) -> pb.Proposal:
    message = pb.Proposal(
        proposal_id=str(row.proposal_id),
        digest=row.digest,
        base_version=row.base_version,
        loosened=row.loosened,
        author=row.author,
        reason=row.reason,
        create_time=timestamp(row.create_time),
        expire_time=timestamp(row.expire_time),
        state=pb.ProposalState.Value(f"PROPOSAL_STATE_{row.state}"),
    )
    getattr(message, row.kind).MergeFromString(row.request)
    getattr(message, row.kind).SetInParent()
    if row.decide_time is not None:
        message.decision.author = row.decider or ""
        message.decision.reason = row.decide_reason or ""
        message.decision.create_time.CopyFrom(timestamp(row.decide_time))
    return message

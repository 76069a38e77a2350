"""Four eyes: what allows more than before becomes a proposal, where the firm's policy asks for it.

Whoever makes such a change asks `proposed` in its transaction. The answer is the proposal that the
change has become, and then nothing else is done; or None, and the change is made. When a second
person approves, the same change is made again, with an `Approval`, and its transaction also writes
who approved. The version that was proposed on is compared: what has changed since is proposed anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
from google.protobuf.message import Message
from positionsizing.v1 import approval_service_pb2 as pb

from server.calls.errors import Refusal, precondition
from server.calls.request_context import Call
from server.observability.alerts import WARNING, alert
from storage.postgres import outbox, proposals
from storage.postgres.proposals import Proposal

REQUIRED = "APPROVAL_REQUIRED"
_KINDS: dict[str, str] = {
    field.message_type.full_name: field.name
    for field in pb.Proposal.DESCRIPTOR.oneofs_by_name["change"].fields
    if field.message_type is not None
}
"""Names of `Proposal.change` by the request's type."""


@dataclass(frozen=True)
class Approval:
    """A second person's consent, to be written with the change."""

    proposal: Proposal
    author: str
    reason: str


def approver(approval: Approval | None) -> str:
    """Who approved, for histories."""
    return "" if approval is None else approval.author


async def proposed(
    connection: asyncpg.Connection,
    call: Call,
    request: Message,
    *,
    version: int,
    loosened: Sequence[str],
    approval: Approval | None,
    portfolio_id: str = "",
) -> Proposal | None:
    """What a change becomes; None where it is to be made now, on `version` and no other.

    version: of what it changes, as it is now. loosened: how it allows more. portfolio_id: that it
    concerns alone. Raises `Refusal` where an approved change is of another version.
    """
    if approval is not None:
        if version != approval.proposal.base_version:
            raise superseded(approval.proposal, version)
        await proposals.decide(
            connection,
            call.tenant_id,
            approval.proposal,
            approved=True,
            author=approval.author,
            reason=approval.reason,
        )
        return None
    policy = await proposals.policy(connection, call.tenant_id)
    if not loosened or not policy.required:
        return None
    made = await proposals.create(
        connection,
        call.tenant_id,
        kind=_KINDS[request.DESCRIPTOR.full_name],
        portfolio_id=portfolio_id,
        request=request.SerializeToString(deterministic=True),
        base_version=version,
        loosened=tuple(loosened),
        author=call.author,
        reason=getattr(request, "reason", ""),
        hours_max=policy.proposal_hours_max,
    )
    text = f"{made.author} proposes a change that allows more ({', '.join(loosened[:5])})"
    subject = f"proposal:{made.proposal_id}"
    event = alert(WARNING, REQUIRED, text, subject, call.trace_id)
    await outbox.append(connection, call.tenant_id, "", [event])
    return made


def required(proposal: Proposal) -> Refusal:
    """What the caller is told of a change that has become a proposal."""
    fields = ", ".join(proposal.loosened[:5])
    return precondition(
        REQUIRED,
        f"allows more than before ({fields}): somebody else has to approve proposal "
        f"{proposal.proposal_id}",
        proposal_id=str(proposal.proposal_id),
        digest=proposal.digest.hex(),
        expire_time=f"{proposal.expire_time:%Y-%m-%dT%H:%M:%SZ}",
    )


def superseded(proposal: Proposal, version: int) -> Refusal:
    """What it would change has changed since it was proposed."""
    return precondition(
        "PROPOSAL_SUPERSEDED",
        f"proposal {proposal.proposal_id} is of version {proposal.base_version}, now it is "
        f"{version}: propose it anew",
        proposal_id=str(proposal.proposal_id),
        base_version=str(proposal.base_version),
        version=str(version),
    )

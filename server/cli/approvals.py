"""Commands on four eyes: what waits for a second person, and whether the firm asks for one."""

from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    Reason,
    connect,
    console,
    print_json,
    say,
    scope_words,
)
from server.cli.errors import CommandError

if TYPE_CHECKING:
    from positionsizing.v1.approval_service_pb2 import Proposal

    from server.client import Client

approvals = typer.Typer(
    no_args_is_help=True, help="Four eyes: changes that wait for a second person."
)
ProposalId = Annotated[str, typer.Argument(help="Id of a proposal: sizing approvals list.")]
_SHOWN = 1000


@approvals.command("list")
def list_(
    state: Annotated[str, typer.Option(help="open, approved, rejected, expired or all.")] = "open",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Lists proposals, the newest first."""
    from positionsizing.v1 import approval_service_pb2 as pb

    from server.cli.render import table

    names = {"all": "UNSPECIFIED", **{word: word.upper() for word in _states()}}
    if state not in names:
        raise CommandError(f"{state!r} is no state", f"one of {', '.join(names)}")
    wanted = pb.ProposalState.Value(f"PROPOSAL_STATE_{names[state]}")
    request = pb.ListProposalsRequest(state=wanted, page_size=_SHOWN)
    with connect(address) as client:
        answer = client.approvals.ListProposals(request)
    if as_json:
        print_json(answer)
        return
    left = ("proposal", "what", "allows more by", "by", "until", "state")
    out = table("Proposals", *left, left=left)
    for item in answer.proposals:
        until = f"{item.expire_time.ToDatetime():%Y-%m-%d %H:%M}"
        more = ", ".join(item.loosened)
        out.add_row(item.proposal_id, words(item), more, item.author, until, _state(item))
    console().print(out)


@approvals.command()
def show(proposal_id: ProposalId, address: Address = DEFAULT_ADDRESS) -> None:
    """Shows a proposal whole, as it would be made."""
    with connect(address) as client:
        print_json(_found(client, proposal_id))


@approvals.command()
def approve(
    proposal_id: ProposalId,
    digest: Annotated[
        str, typer.Option(help="As `show` gave it (hexadecimal); default: what is shown now.")
    ] = "",
    reason: Reason = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Makes the proposed change. Not for whoever proposed it."""
    from positionsizing.v1 import approval_service_pb2 as pb

    with connect(address) as client:
        found = _found(client, proposal_id)
        if not as_json:
            say(f"{found.author} proposes {words(found)}: {', '.join(found.loosened)}")
        try:
            given = bytes.fromhex(digest) if digest else found.digest
        except ValueError as error:
            raise CommandError(f"--digest {digest!r} is not hexadecimal") from error
        request = pb.ApproveProposalRequest(proposal_id=proposal_id, digest=given, reason=reason)
        answer = client.approvals.ApproveProposal(request)
    if as_json:
        print_json(answer)
    else:
        say(f"approved by {answer.proposal.decision.author}; it holds from now on")


@approvals.command()
def reject(
    proposal_id: ProposalId,
    reason: Reason = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Ends a proposal; nothing is changed. Who proposed it withdraws it so."""
    from positionsizing.v1 import approval_service_pb2 as pb

    with connect(address) as client:
        request = pb.RejectProposalRequest(proposal_id=proposal_id, reason=reason)
        answer = client.approvals.RejectProposal(request)
    if as_json:
        print_json(answer)
    else:
        say(f"rejected by {answer.proposal.decision.author}")


@approvals.command()
def policy(
    required: Annotated[
        bool | None, typer.Option("--on/--off", help="Ask for four eyes, or no longer.")
    ] = None,
    hours: Annotated[int, typer.Option(min=1, max=168, help="To approve a proposal in.")] = 24,
    reason: Reason = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Shows whether the firm asks for a second person, or sets it."""
    from positionsizing.v1 import approval_service_pb2 as pb

    with connect(address) as client:
        if required is not None:
            wanted = pb.ApprovalPolicy(required=required, proposal_hours_max=hours)
            request = pb.SetApprovalPolicyRequest(policy=wanted, reason=reason)
            client.approvals.SetApprovalPolicy(request)
        answer = client.approvals.GetApprovalPolicy(pb.GetApprovalPolicyRequest())
    if as_json:
        print_json(answer)
    elif answer.policy.required:
        say(f"four eyes are asked for; a proposal ends after {answer.policy.proposal_hours_max} h")
    else:
        say("one person may loosen limits and parameters, and resume trading")


def words(proposal: "Proposal") -> str:
    """What would be changed."""
    match proposal.WhichOneof("change"):
        case "set_limits":
            return f"limits of {scope_words(proposal.set_limits.scope)}"
        case "set_trading_state":
            from positionsizing.v1 import types_pb2

            request = proposal.set_trading_state
            state = types_pb2.TradingState.Name(request.trading_state)
            name = state.removeprefix("TRADING_STATE_").lower()
            return f"trading of {scope_words(request.scope)} {name}"
        case "rebase_high_water_mark":
            return f"high-water mark of {proposal.rebase_high_water_mark.portfolio_id}"
        case "set_parameters":
            asked = proposal.set_parameters
            of = [f"portfolio {asked.portfolio_id}"] if asked.portfolio_id else []
            of += [f"strategy {asked.strategy_id}"] if asked.strategy_id else []
            return f"sizing parameters of {', '.join(of) or 'the firm'}"
    return "an end of four eyes, or more time for proposals"


def _found(client: "Client", proposal_id: str) -> "Proposal":
    from positionsizing.v1 import approval_service_pb2 as pb

    request = pb.ListProposalsRequest(page_size=_SHOWN)
    while True:
        answer = client.approvals.ListProposals(request)
        for item in answer.proposals:
            if item.proposal_id == proposal_id:
                return item
        if not answer.next_page_token:
            raise CommandError(f"there is no proposal {proposal_id}", "sizing approvals list")
        request.page_token = answer.next_page_token


def _states() -> list[str]:
    from positionsizing.v1 import approval_service_pb2 as pb

    names = [name.removeprefix("PROPOSAL_STATE_").lower() for name, _ in pb.ProposalState.items()]
    return [name for name in names if name != "unspecified"]


def _state(proposal: "Proposal") -> str:
    from positionsizing.v1 import approval_service_pb2 as pb

    state = pb.ProposalState.Name(proposal.state).removeprefix("PROPOSAL_STATE_").lower()
    return f"{state} by {proposal.decision.author}" if proposal.decision.author else state

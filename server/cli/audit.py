"""Commands on the chain of changes: read it, verify it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    connect,
    console,
    file_to_write,
    print_json,
    say,
)
from server.cli.errors import CommandError

if TYPE_CHECKING:
    from positionsizing.v1.audit_service_pb2 import AuditEvent, AuditHead

audit = typer.Typer(no_args_is_help=True, help="The chain of changes, and whether it is whole.")


@audit.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most events shown.")] = 50,
    after: Annotated[int, typer.Option(min=0, help="Those after this one.")] = 0,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Lists events, oldest first."""
    from positionsizing.v1 import audit_service_pb2 as pb

    from server.cli.render import table

    request, events = pb.ListAuditEventsRequest(page_size=1000), list["AuditEvent"]()
    with connect(address) as client:
        while len(events) < limit:
            answer = client.audit.ListAuditEvents(request)
            events += [event for event in answer.events if event.sequence > after]
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
    shown = pb.ListAuditEventsResponse(events=events[:limit])
    if as_json:
        print_json(shown)
        return
    left = ("", "when", "what", "which", "by", "why")
    out = table("Changes", *left, left=left)
    for event in shown.events:
        said = json.loads(event.document)
        who, why = said.get("author", ""), said.get("reason", "")
        out.add_row(
            str(event.sequence), event.create_time, event.table_name, event.row_key, who, why
        )
    console().print(out)


@audit.command()
def verify(
    noted: Annotated[
        Path | None,
        file_to_write("File that keeps the newest hash for the next time; made where missing."),
    ] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Recomputes the chain and compares it with what is recorded; exit code 1 if anything is wrong.

    What was cut off the end is found by a hash from before: keep --noted FILE on another machine.
    """
    from positionsizing.v1 import audit_service_pb2 as pb

    request = pb.VerifyAuditRequest()
    if noted is not None and noted.exists():
        request.noted.CopyFrom(_read(noted))
    with connect(address) as client:
        answer = client.audit.VerifyAudit(request)
    head = f"{answer.head.sequence}:{answer.head.hash.hex()}"
    if noted is not None and not answer.faults:
        noted.write_text(head + "\n")
    if as_json:
        print_json(answer)
    else:
        for fault in answer.faults:
            say(f"event {fault.sequence}: {fault.text}" if fault.sequence else fault.text)
        if not answer.faults:
            say(f"{answer.head.sequence} events, each as it was written; the last is {head}")
    if answer.faults:
        raise typer.Exit(1)


@audit.command()
def seals(
    after: Annotated[int, typer.Option(min=0, help="Only the seals after this one.")] = 0,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Recomputes the seals over decisions and settlements; exit code 1 if one doesn't hold.

    The seals are in the chain: `sizing audit verify` says whether they are as they were made.
    """
    from positionsizing.v1 import audit_service_pb2 as pb

    report = pb.VerifySealsResponse(last=after)
    with connect(address) as client:
        while not report.is_last:
            part = client.audit.VerifySeals(pb.VerifySealsRequest(after=report.last))
            part.records += report.records
            part.last = part.last or report.last
            part.faults.extend(report.faults)
            report = part
    if as_json:
        print_json(report)
    else:
        for fault in report.faults:
            say(f"seal {fault.sequence}: {fault.text}")
        until = report.sealed_until.ToDatetime()
        if not report.HasField("sealed_until"):
            say("nothing is sealed yet: it is an hour or two after it was decided")
        elif not report.faults:
            say(f"{report.records:,} records until {until:%Y-%m-%d %H:%M} UTC, each as it was")
    if report.faults:
        raise typer.Exit(1)


def _read(file: Path) -> "AuditHead":
    from positionsizing.v1.audit_service_pb2 import AuditHead

    try:
        sequence, _, digest = file.read_text().strip().partition(":")
        return AuditHead(sequence=int(sequence), hash=bytes.fromhex(digest))
    except ValueError as error:
        raise CommandError(f"{file} does not hold SEQUENCE:HASH", "name another file") from error

"""`sizing tune`: a search of parameters, judged walk-forward, that ends in a proposal."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    Report,
    Tables,
    connect,
    console,
    file_to_write,
    print_json,
)
from server.cli.page import Output
from server.cli.past import Past, over_the_past

if TYPE_CHECKING:
    from positionsizing.v1 import simulation_service_pb2 as pb


@over_the_past
def tune(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="TOML or JSON of a TuneParametersRequest."
        ),
    ],
    past: Past,
    proposal: Annotated[Path | None, file_to_write("Write the proposed parameters (JSON).")] = None,
    propose_anyway: Annotated[
        bool,
        typer.Option("--propose-anyway", help="Propose also what its own evidence speaks against."),
    ] = False,
    report: Report = None,
    tables: Tables = None,
    job: Annotated[
        bool, typer.Option("--job", help="Only start it, and say the job's id; see sizing jobs.")
    ] = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Searches parameters on past prices and proposes some; sets nothing.

    Every trial is counted, the choice is judged walk-forward, and the last part of the history is
    looked at once, by the choice alone. What that evidence speaks against is not proposed.
    """
    from google.protobuf.json_format import MessageToDict
    from positionsizing.v1 import simulation_service_pb2 as pb

    from server.cli import files
    from server.cli.long_work import followed, start
    from server.cli.tuned import show_tuned

    request = files.read_message(file, pb.TuneParametersRequest())
    past.put_into(request, "search on")
    if job:
        from positionsizing.v1 import job_service_pb2

        job_request = job_service_pb2.StartJobRequest(tune_parameters=request, about=file.name)
        with connect(address) as client:
            start(client, job_request, as_json=as_json)
        return
    work = pb.FollowSimulationRequest(tune_parameters=request)
    with connect(address) as client:
        answer = followed(client, work).tune_parameters
    output = Output(report, tables)
    if output:
        from server.cli.tune_page import write_tuned

        write_tuned(output, answer)
    proposed = is_proposed(answer, anyway=propose_anyway)
    if proposal and proposed:
        told = MessageToDict(answer.proposal, preserving_proto_field_name=True)
        proposal.write_text(json.dumps(told, indent=2) + "\n")
    if as_json:
        print_json(answer)
        return
    out = console()
    show_tuned(out, answer)
    for line in output.lines():
        out.print(line, markup=False)
    if proposed:
        where = str(proposal) if proposal else "FILE (write one with --proposal FILE)"
        for line in how_to_apply(answer, where):
            out.print(line)
    elif proposal and answer.chosen:
        out.print(f"{proposal} was not written; --propose-anyway writes it all the same")


def is_proposed(answer: "pb.TuneParametersResponse", *, anyway: bool) -> bool:
    """Whether the chosen trial is to be given to a person."""
    return bool(answer.chosen) and (answer.is_recommended or anyway)


def how_to_apply(answer: "pb.TuneParametersResponse", where: str) -> Iterator[str]:
    """The command that sets the proposal, and what was chosen with it that is no parameter."""
    yield (
        "to apply, for one strategy or for one --portfolio: "
        f'sizing parameters set {where} --merge --strategy STRATEGY --reason "tuned"'
    )
    chosen = zip(answer.fields, answer.trials[answer.chosen].values, strict=True)
    if others := [item for item in chosen if not item[0].startswith("parameters.")]:
        told = ", ".join(f"{name} {value:.6g}" for name, value in others)
        yield f"chosen with it, and in no file of parameters: {told}; set that as well, or neither"
